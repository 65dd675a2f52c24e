"""Cases, and how they are measured: the ways of a case in turn, A B A B ..., within a time budget."""

from __future__ import annotations

import contextlib
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from collapse_sim.core.machine import Device

Better = Literal["higher", "lower"]
Clock = Callable[[], float]
Measure = Callable[[], float]  # one measurement, in the case's quantity
MOST_ROUNDS = 20


class CannotMeasureError(Exception):
    """A case that this machine cannot run; the message says why."""


@dataclass(frozen=True)
class Setting:
    """Where a case is measured. `folder` is empty, and removed afterwards."""

    device: Device
    folder: Path
    tiny: bool = False  # for tests: as little work as possible

    @property
    def cuda(self) -> bool:
        return self.device.device.type == "cuda"

    def sized(self, cpu: int, cuda: int, tiny: int) -> int:
        """A size for this machine."""
        return tiny if self.tiny else cuda if self.cuda else cpu


@dataclass(frozen=True)
class Ways:
    """The ways of a case, ready to be measured: ours first, then its peers, which are what a user would run instead."""

    measures: Mapping[str, Measure]
    precision: str = "fp32"  # of ours
    operations: float | None = None  # floating-point operations per unit of a rate
    facts: Mapping[str, Any] = field(default_factory=dict)  # sizes, for the record
    also: dict[str, list[float]] = field(default_factory=dict)  # what measurements of ours give besides the quantity


@dataclass(frozen=True)
class Case:
    """What is compared. Targets are by kind of device: {"cpu": 4.0, "cuda": 40.0}."""

    name: str
    compares: str  # one line
    quantity: str  # "updates/s"
    prepare: Callable[[Setting], Ways]
    better: Better = "higher"
    targets: Mapping[str, Mapping[str, float]] = field(default_factory=dict)  # peer -> how many times better ours is
    at_most: Mapping[str, float] = field(default_factory=dict)  # of our own quantity
    warm_up: bool = True  # False where every measurement is a new process, or takes minutes
    devices: tuple[str, ...] = ("cpu", "cuda")


def rotate(
    measures: Mapping[str, Measure],
    seconds: float,
    *,
    warm_up: bool = True,
    clock: Clock = time.perf_counter,
    warmed: Callable[[], None] = lambda: None,
) -> dict[str, list[float]]:
    """{way: measurements} of whole rounds, in which every way is measured once, in turn.

    The first round does not count (unless `warm_up` is False); `warmed` is called after it. There is at least one round
    that counts; another one begins only if it will end within `seconds` after the start, by the time of the last one.
    """
    begun = clock()
    if warm_up:
        for measure in measures.values():
            measure()
        warmed()
    values: dict[str, list[float]] = {way: [] for way in measures}
    for _ in range(MOST_ROUNDS):
        started = clock()
        for way, measure in measures.items():
            values[way].append(measure())
        now = clock()
        if now + (now - started) > begun + seconds:
            break
    return values


def ratios(values: Mapping[str, Sequence[float]], better: Better) -> dict[str, float]:
    """{peer: how many times better the first way is}, by medians."""
    medians = {way: statistics.median(of_way) for way, of_way in values.items()}
    ours, *peers = medians
    if better == "higher":
        return {peer: medians[ours] / medians[peer] for peer in peers}
    return {peer: medians[peer] / medians[ours] for peer in peers}


def measure(
    case: Case, device: Device, seconds: float, *, tiny: bool = False, clock: Clock = time.perf_counter
) -> dict[str, Any]:
    """A case's entry in the report. A case that cannot be measured has "missing", one that raises has "failed"."""
    kind = device.device.type
    entry: dict[str, Any] = {
        "case": case.name,
        "compares": case.compares,
        "quantity": case.quantity,
        "better": case.better,
        "targets": {peer: target[kind] for peer, target in case.targets.items() if kind in target},
        "at_most": case.at_most.get(kind),
    }
    started = clock()

    def forget() -> None:
        for values in ways.also.values():
            values.clear()

    try:
        if kind not in case.devices:
            raise CannotMeasureError(f"for {' and '.join(case.devices)} only")
        with tempfile.TemporaryDirectory(prefix="benchmark-") as folder, contextlib.redirect_stdout(sys.stderr):
            ways = case.prepare(Setting(device, Path(folder), tiny))
            values = rotate(
                ways.measures,
                0.0 if tiny else seconds - (clock() - started),
                warm_up=case.warm_up and not tiny,
                clock=clock,
                warmed=forget,
            )
    except CannotMeasureError as error:
        return {**entry, "missing": str(error)}
    except Exception as error:
        return {**entry, "failed": f"{type(error).__name__}: {error}"}
    ours = next(iter(values))
    return {
        **entry,
        "precision": ways.precision,
        "facts": dict(ways.facts),
        "ours": ours,
        "measured": {way: [rounded(value) for value in of_way] for way, of_way in values.items()},
        "medians": {way: rounded(statistics.median(of_way)) for way, of_way in values.items()},
        "ratios": {peer: rounded(ratio) for peer, ratio in ratios(values, case.better).items()},
        "also": {name: [rounded(value) for value in of] for name, of in ways.also.items()},
        "operations": ways.operations,
        "gflops": None if ways.operations is None else rounded(ways.operations * statistics.median(values[ours]) / 1e9),
        "seconds": round(clock() - started, 1),
    }


def rounded(value: float) -> float:
    """Four significant digits."""
    return float(f"{value:.4g}")
