"""What a part of a metric is called, in journals, tables and claims."""

from __future__ import annotations


def part_name(metric: str, part: str) -> str:
    """ "class_recall[3]"."""
    return f"{metric}[{part}]"


def part_of(name: str) -> tuple[str, str] | None:
    """("class_recall", "3") of "class_recall[3]"; None of what is no such name."""
    metric, bracket, part = name.partition("[")
    return (metric, part[:-1]) if bracket and part.endswith("]") else None
