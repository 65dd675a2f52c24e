"""The length of the fits of an arm, from a run directory."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from statistics import fmean
from typing import Any


@dataclass(frozen=True)
class Training:
    """The length of the fits of an arm, by generation."""

    protocol: str  # updates, epochs, converged
    rows: tuple[int, ...]
    updates: tuple[float, ...]  # means over seeds if fits end on convergence
    epochs: tuple[float, ...]  # how often a fit sees each of its rows

    @classmethod
    def of(cls, entry: Mapping[str, Any], taken: Mapping[int, Mapping[int, int]] | None = None) -> Training:
        """From run.json's entry of an arm; `taken`: {generation: {seed: updates}} of fits that ended early."""
        updates = list(map(float, entry["updates"]))
        epochs = list(map(float, entry["epochs"]))
        for k, by_seed in (taken or {}).items():
            if by_seed and k < len(updates):
                mean = fmean(by_seed.values())
                epochs[k] *= mean / updates[k]
                updates[k] = mean
        return cls(str(entry["protocol"]), tuple(map(int, entry["rows"])), tuple(updates), tuple(epochs))


def trainings(run: Mapping[str, Any], lines: Iterable[Mapping[str, Any]]) -> dict[str, Training]:
    """{arm: training} of the trained arms, from run.json and the journal's lines; {} if they are not recorded."""
    taken: dict[str, dict[int, dict[int, int]]] = {}
    for line in lines:
        for seed, updates in zip(line["seeds"], line["updates"], strict=True) if "updates" in line else ():
            if updates is not None:
                taken.setdefault(line["arm"], {}).setdefault(line["generation"], {})[seed] = updates
    return {arm: Training.of(entry, taken.get(arm)) for arm, entry in run.get("training", {}).items()}
