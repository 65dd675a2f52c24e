"""Simulated points whose true distribution is known: one file per kind of data."""
