"""Remedies against collapse, by the axis of an arm that they are on; base.py has the contracts."""
