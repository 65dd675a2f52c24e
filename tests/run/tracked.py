"""What a tracker must have of a run, from its journal and the store's files alone; and a tracker that keeps it all."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from statistics import fmean

from collapse_sim.run.trackers import TrackedBatch, TrackedRun

Points = dict[str, dict[int, float]]  # curve -> step -> value


def journal_scores(folder: Path) -> Points:
    """Scores of each seed, and means over those seeds that have one."""
    points: Points = {}
    for line in map(json.loads, (folder / "journal.jsonl").read_text().splitlines()):
        for metric, values in line["metrics"].items() if line["event"] == "scores" else ():
            for seed, value in zip(line["seeds"], values, strict=True):
                points.setdefault(f"{metric}/{line['arm']}/seed {seed}", {})[line["generation"]] = value
            if len(values) > 1:
                points.setdefault(f"{metric}/{line['arm']}/mean of {len(values)} seeds", {})[line["generation"]] = (
                    fmean(values)
                )
    return points


def histories(store: Path) -> list[list[dict[str, float]]]:
    """The evaluations of all fits of a store."""
    return [json.loads(path.read_text())["evaluations"] for path in store.glob("objects/*/*/*/history.json")]


class Recorder:
    """A tracker, and its own connection. `fails`: the number of the batch at which it raises; -1: when it is opened."""

    package, extra = "json", "nothing"

    def __init__(self, place: str = "here", fails: int | None = None) -> None:
        self.where, self.fails = place, fails
        self.batches: list[TrackedBatch] = []
        self.opened: list[TrackedRun] = []
        self.outcomes: list[str] = []

    def place(self, run: TrackedRun) -> str:
        return self.where

    def open(self, run: TrackedRun) -> Recorder:
        self.opened.append(run)
        if self.fails == -1:
            raise ConnectionError("no route")
        return self

    def send(self, batch: TrackedBatch) -> None:
        if self.fails is not None and len(self.batches) >= self.fails:
            raise ConnectionError("no route\nto the host")
        self.batches.append(batch)

    def finish(self, outcome: str) -> None:
        self.outcomes.append(outcome)

    def sent(self) -> Iterator[tuple[str, int, float]]:
        """(curve, step, value) of everything that was sent, however often."""
        for batch in self.batches:
            yield from ((point.curve.path, point.step, point.value) for point in batch.points)

    def points(self) -> Points:
        """The same by curve. No point may have been sent twice."""
        points: Points = {}
        for curve, step, value in self.sent():
            assert step not in points.setdefault(curve, {}), f"{curve} at {step} was sent twice"
            points[curve][step] = value
        return points
