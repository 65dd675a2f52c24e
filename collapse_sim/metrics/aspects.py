"""What a metric measures of a model's collapse, as its class declares it; without torch, since analysis reads it.

An aspect is what a definition of collapse speaks of (docs/definitions.md; arXiv 2503.03150 collects the definitions in
use). A metric without an aspect takes no part in verdicts by definition.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, get_args

Aspect = Literal["risk", "variance", "tail", "modes", "drift"]
ASPECTS: tuple[Aspect, ...] = get_args(Aspect)


def checked(measures: Any) -> tuple[Aspect, ...]:
    """The declared aspects. Raises ValueError with what is allowed."""
    if not isinstance(measures, Sequence) or isinstance(measures, str) or not set(measures) <= set(ASPECTS):
        raise ValueError(f"`measures` is {measures!r}; allowed: a tuple of {', '.join(map(repr, ASPECTS))}")
    return tuple(measures)
