"""Names of parts of metrics in journals, tables and claims."""

from __future__ import annotations


def part_name(metric: str, part: str) -> str:
    """ "class_recall[3]"."""
    return f"{metric}[{part}]"


def part_of(name: str) -> tuple[str, str] | None:
    """("class_recall", "3") for "class_recall[3]"; None for any other name."""
    metric, bracket, part = name.partition("[")
    return (metric, part[:-1]) if bracket and part.endswith("]") else None
