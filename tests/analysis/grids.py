"""Hand-made runs of grids whose scores are a known function of the settings."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tests.analysis.conftest import WriteRun

SEEDS = (0, 1, 2, 3)
NOISE = (-0.003, -0.001, 0.001, 0.003)  # of the seeds, the same in all arms and generations


def arm(share: float | None = None, weight: object = None, **more: Any) -> dict[str, Any]:
    """An arm as run.json has it: a share of real rows, a teacher's weight."""
    data = {"use": "replace"} if share is None else {"use": "mix", "real": share}
    teacher = None if weight is None else {"generation": 0, "weights": {"output": weight}}
    return {"data": data, "teacher": teacher, **more}


def grid_run(
    write_run: WriteRun,
    arms: dict[str, dict[str, Any]],
    value: Callable[[dict[str, Any], int], float],
    *,
    generations: int = 2,
    seeds: Sequence[int] = SEEDS,
    metric: str = "loss",
    **extra: Any,
) -> Path:
    """Each arm scores `value(arm, generation)` + the seed's noise x generation."""
    scores = {
        name: {metric: [[value(own, k) + NOISE[i % 4] * k for i in range(len(seeds))] for k in range(generations + 1)]}
        for name, own in arms.items()
    }
    return write_run(scores, seeds=seeds, settings={"arms": arms}, **extra)


def map_arms(shares: Sequence[float], weights: Sequence[object]) -> dict[str, dict[str, Any]]:
    """The points of a grid of shares and weights."""
    return {f"mix real={s} output={w}": arm(s, w) for s in shares for w in weights}


def share_of(own: dict[str, Any]) -> float:
    return float(own["data"].get("real", 0.0))


def weight_of(own: dict[str, Any]) -> float:
    return float(own["teacher"]["weights"]["output"]) if own["teacher"] else 0.0
