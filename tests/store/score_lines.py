"""Lines of a journal, as a run writes them."""

from __future__ import annotations

from typing import Any


def line(k: int = 0, arm: str = "a", seeds: tuple[int, ...] = (0, 1), **metrics: list[float]) -> dict[str, Any]:
    return {
        "event": "scores",
        "generation": k,
        "arm": arm,
        "seeds": list(seeds),
        "metrics": metrics or {"m": [1.0, 2.0]},
    }
