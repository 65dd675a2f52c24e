"""The contract of trackers: programs that show the curves of many experiments, such as TensorBoard.

A tracker is a component of the registry's group "trackers" (a plug-in's entry point is in `collapse_sim.trackers`),
named with `run --track NAME`. What is sent, and when, is the same for all (run/tracking.py); one file each says how.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple, Protocol, runtime_checkable

from collapse_sim.core.component import Component, missing_members
from collapse_sim.core.errors import MissingError, RecipeError
from collapse_sim.core.registry import UnknownNameError, load

Axis = Literal["generation", "update"]
Outcome = Literal["finished", "unfinished", "interrupted", "failed"]


class TrackedCurve(NamedTuple):
    """What the points of a curve have in common."""

    name: str  # "test_loss"
    of: tuple[str, ...]  # ("replace", "seed 0")
    axis: Axis = "generation"  # what its steps count

    @property
    def path(self) -> str:
        """ "test_loss/replace/seed 0", for programs that have one list of curves."""
        return "/".join((self.name, *self.of))


class TrackedPoint(NamedTuple):
    curve: TrackedCurve
    step: int
    value: float  # may be nan: the chain diverged


class TrackedPicture(NamedTuple):
    name: str
    step: int  # the generation
    path: Path  # of a PNG file


class TrackedText(NamedTuple):
    name: str
    step: int  # the generation
    markdown: str


@dataclass(frozen=True)
class TrackedBatch:
    """What is sent at once. If the process is killed while it is sent, or the connection fails, the next session sends
    it again, with the same number, time and points: a tracker must not show them twice."""

    number: int  # 0, 1, ...
    time_s: float  # since 1970
    again: bool = False  # it was begun before
    points: Sequence[TrackedPoint] = ()
    pictures: Sequence[TrackedPicture] = ()
    texts: Sequence[TrackedText] = ()
    recipe: TrackedRecipe | None = None  # in the first batch, and when it has changed


@dataclass(frozen=True)
class TrackedRecipe:
    """The recipe, for the tracker's list of settings."""

    yaml: str
    settings: Mapping[str, Any]  # {"train.learning_rate": 0.001}: numbers, texts, truth values
    by_arm: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # settings in which arms differ
    metrics: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # metric -> what follows an arm in its curve


@dataclass(frozen=True)
class TrackedRun:
    """The run that is tracked."""

    name: str  # of the recipe
    project: str  # --track-project; default: the recipe's name
    folder: Path  # the run directory
    id: str  # the same in every session of this run: hexadecimal digits
    fresh: bool  # no session has sent anything yet under this id


def rows_of(batch: TrackedBatch) -> list[tuple[Axis, int, dict[str, float]]]:
    """The points as (axis, step, {curve: value}), in order, for programs that log what belongs to one step at once."""
    rows: dict[tuple[Axis, int], dict[str, float]] = {}
    for point in sorted(batch.points, key=lambda point: (point.curve.axis, point.step)):
        rows.setdefault((point.curve.axis, point.step), {})[point.curve.path] = point.value
    return [(axis, step, values) for (axis, step), values in rows.items()]


class Sender(Protocol):
    """An open connection to a tracker. Whatever it raises ends it, with one warning, and not the run."""

    where: str  # for people: a folder, an address

    def send(self, batch: TrackedBatch) -> None:
        """Return when the batch would survive a kill of this process."""
        ...

    def finish(self, outcome: Outcome) -> None:
        """The session ends: close everything, leave no process."""
        ...


@runtime_checkable
class Tracker(Protocol):
    """A tracker's settings."""

    package: ClassVar[str]  # the module that it needs
    extra: ClassVar[str]  # what to install, for messages: "collapse-sim[wandb]"

    def place(self, run: TrackedRun) -> str:
        """Where the run is shown. What was sent to one place is sent to another one anew. Nothing is opened."""
        ...

    def open(self, run: TrackedRun) -> Sender:
        """Begin, or go on where an earlier session of the run ended."""
        ...


def trackers_of(names: Sequence[str]) -> dict[str, Tracker]:
    """{name: tracker} for the names on the command line, each once.

    Raises RecipeError for one that is none, MissingError for one whose package is not installed.
    """
    chosen: dict[str, Tracker] = {}
    for name in names:
        try:
            cls: type[Component] = load("trackers", name)
        except UnknownNameError as error:
            raise RecipeError(f"--track: {error}") from error
        if lacking := missing_members(cls, Tracker):
            raise RecipeError(f"--track: {name!r} is no tracker: it has no {', '.join(lacking)}")
        tracker = cls()
        assert isinstance(tracker, Tracker)
        if not _installed(tracker.package):
            raise MissingError(
                f"--track {name}: the package {tracker.package} is not installed: pip install '{tracker.extra}', or "
                "leave this option out"
            )
        chosen[name] = tracker
    return chosen


def _installed(package: str) -> bool:
    try:
        return importlib.util.find_spec(package) is not None
    except (ImportError, ValueError):
        return False
