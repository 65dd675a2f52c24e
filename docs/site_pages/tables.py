"""Markdown tables and text of settings."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from typing import Any


def cell(text: str) -> str:
    """Text that stays within one cell."""
    return " ".join(text.split()).replace("|", "\\|")


def code(text: str) -> str:
    """Text in monospace within a cell."""
    return f"`{cell(text)}`"


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table; cells are given as they are to be."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def default_text(default: Any, *, required: bool) -> str:
    """A setting's default in a cell; nothing for None, which is what the setting's description explains."""
    if required:
        return "required"
    return "" if default is None else code(json.dumps(default, ensure_ascii=False))


def prose(text: str) -> str:
    """A docstring as Markdown: angle brackets and asterisks outside code are text, and braces stay."""
    parts = re.split(r"(`[^`]*`)", text)
    return "".join(part if part.startswith("`") else re.sub(r"([<>*_\[\]$])", r"\\\1", part) for part in parts)
