"""The state of a run, reduced from its events; it can be saved as JSON, so that other terminals show the same."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from collapse_sim.core.events import (
    Event,
    GenerationFinished,
    JobFailed,
    JobFinished,
    JobProgress,
    JobStarted,
    Note,
    OnNode,
    RunFinished,
    RunStarted,
    Scored,
    TextSamples,
    Waiting,
)

KEPT_NOTES = 50
KEPT_LOSSES = 400
STAGES = ("fit", "samples", "scores")


@dataclass(slots=True)
class Cell:
    """One arm at one generation. `fit`, `samples`, `scores` are bit sets: bit i is set when seeds[i] is done."""

    fit: int = 0
    samples: int = 0
    scores: int = 0
    score_parts: int = 0  # scores computed so far, one per metric and seed
    made: int = 0  # artefacts made by this process, one per seed
    reused: int = 0  # artefacts that were already stored
    work_s: float = 0.0  # wall time spent on this cell
    fit_s: float = 0.0  # of it on fits


@dataclass(slots=True)
class JobUnderWay:
    """An artefact being made."""

    kind: str
    digest: str
    generation: int
    arms: list[str]
    seeds: list[int]
    started: float  # time.time()
    done: int = 0
    total: int = 0  # 0: not known yet
    unit: str = ""
    loss: float | None = None
    first_done: int = 0  # `done` and time of the first progress event, from which rates are computed
    first_time: float = 0.0
    last_time: float = 0.0

    @property
    def fraction(self) -> float:
        """The share of the job that is done, 0 to 1."""
        return min(self.done / self.total, 1.0) if self.total > 0 else 0.0

    @property
    def per_s(self) -> float | None:
        """Units per second since the first progress event; None before the second one."""
        elapsed = self.last_time - self.first_time
        return (self.done - self.first_done) / elapsed if elapsed > 0 and self.done > self.first_done else None

    @property
    def seconds_left(self) -> float | None:
        """The remaining time at the rate so far; None if that is unknown."""
        return (self.total - self.done) / self.per_s if self.per_s and self.total else None


@dataclass(slots=True)
class Curve:
    """The loss of the current fit, or of the last one."""

    digest: str
    generation: int  # -1: a network for features
    arms: list[str]
    seeds: list[int]
    total: int
    unit: str
    losses: list[list[float]] = field(default_factory=list)  # [done, loss], at most KEPT_LOSSES

    def add(self, done: int, loss: float) -> None:
        """Add a point; if there are too many, every other one is dropped."""
        self.losses.append([float(done), float(loss)])
        if len(self.losses) > KEPT_LOSSES:
            del self.losses[-2::-2]


@dataclass
class State:
    """The reduced state. `apply` takes microseconds; whatever can be derived is computed when it is drawn."""

    name: str = ""
    run_dir: str = ""
    arms: list[str] = field(default_factory=list)
    seeds: list[int] = field(default_factory=list)
    generations: int = 0  # the last generation's number
    metrics: list[str] = field(default_factory=list)
    lower_is_better: dict[str, bool | None] = field(default_factory=dict)
    show: str | None = None  # the metric to draw
    fit_units: dict[str, list[int]] = field(default_factory=dict)  # arm -> planned updates of each generation's fit
    device: str = ""
    precision: str = ""
    started: float | None = None  # time.time()
    updated: float | None = None
    outcome: str | None = None  # None while it runs
    message: str = ""
    wall_s: float | None = None  # of the whole run, once it has ended
    pid: int | None = None  # the process that wrote this
    host: str = ""
    process_started: float | None = None  # distinguishes the process from a later one with the same id
    memory_bytes: int | None = None
    gpu_bytes: int | None = None
    rows_per_s: float | None = None
    job: JobUnderWay | None = None
    on_nodes: dict[str, JobUnderWay] = field(default_factory=dict)  # "node process": what it makes for this run
    waiting: dict[str, Any] | None = None  # {"kind", "digest", "generation"} that another process is making
    made: dict[str, int] = field(default_factory=Counter)  # artefacts by kind, one per seed
    reused: dict[str, int] = field(default_factory=Counter)
    finished: dict[int, dict[str, Any]] = field(default_factory=dict)  # generation -> {"made", "reused", "wall_s"}
    notes: list[dict[str, str]] = field(default_factory=list)  # {"message", "level"}, the last ones
    scores: dict[str, dict[str, list[float | None]]] = field(default_factory=dict)  # means: [arm][metric][generation]
    cells: dict[str, list[Cell]] = field(default_factory=dict)  # arm -> one cell per generation
    texts: dict[str, dict[str, Any]] = field(default_factory=dict)  # arm -> {"generation", "texts"}, the latest
    ended: dict[str, dict[int, int]] = field(default_factory=dict)  # arm -> seed -> generation its chain diverged at
    curve: Curve | None = None
    mark: float = 0.0  # start of the work time of the next artefact

    def __post_init__(self) -> None:
        self._bits = {seed: 1 << i for i, seed in enumerate(self.seeds)}
        self.all_seeds = (1 << len(self.seeds)) - 1

    # -- reduction ------------------------------------------------------------------------------------------------

    def apply(self, event: Event, now: float | None = None) -> None:
        """Apply one event. `now` defaults to time.time()."""
        self.updated = time.time() if now is None else now
        handler: Callable[[State, Any, float], None] = _HANDLERS[type(event)]
        handler(self, event, self.updated)

    def _run_started(self, event: RunStarted, now: float) -> None:
        fresh = State(
            name=event.name,
            run_dir=event.run_dir,
            arms=list(event.arms),
            seeds=list(event.seeds),
            generations=event.generations,
            metrics=list(event.metrics),
            lower_is_better=dict(event.lower_is_better),
            show=event.show or (event.metrics[0] if event.metrics else None),
            fit_units={arm: list(units) for arm, units in event.fit_units.items()},
            device=event.device,
            precision=event.precision,
            started=now,
            updated=now,
            notes=self.notes,  # notes from before the run began stay valid
            cells={arm: [Cell() for _ in range(event.generations + 1)] for arm in event.arms},
            mark=now,
        )
        vars(self).update(vars(fresh))

    def _job_started(self, event: JobStarted, now: float) -> None:
        self.job = JobUnderWay(event.kind, event.digest, event.generation, list(event.arms), list(event.seeds), now)
        self.waiting = None

    def _job_progress(self, event: JobProgress, now: float) -> None:
        self.job = _progressed(self.job, event, now)
        if event.loss is not None and event.kind == "fit":
            self._add_loss(event, event.loss)
        if event.rows_per_s is not None:
            self.rows_per_s = event.rows_per_s

    def _on_node(self, event: OnNode, now: float) -> None:
        inner, key = event.event, f"{event.node} {event.process}"
        if isinstance(inner, JobStarted):
            self._left_by_others(inner)
            self.on_nodes[key] = JobUnderWay(
                inner.kind, inner.digest, inner.generation, list(inner.arms), list(inner.seeds), now
            )
        elif isinstance(inner, JobProgress):
            self.on_nodes[key] = _progressed(self.on_nodes.get(key), inner, now)
        elif isinstance(inner, JobFinished | JobFailed):
            _HANDLERS[type(inner)](self, inner, now)
        elif isinstance(inner, Waiting):
            self.on_nodes.pop(key, None)

    def _left_by_others(self, event: JobStarted | JobFinished | JobFailed) -> None:
        """Nobody else makes this artefact any more: who did may have died."""
        job = event.digest, list(event.seeds)
        self.on_nodes = {key: other for key, other in self.on_nodes.items() if (other.digest, other.seeds) != job}

    def _add_loss(self, event: JobProgress, loss: float) -> None:
        curve, seeds = self.curve, list(event.seeds)
        again = curve is not None and curve.losses and event.done < curve.losses[-1][0]
        if curve is None or again or (curve.digest, curve.seeds) != (event.digest, seeds):
            arms = list(event.arms)
            self.curve = curve = Curve(event.digest, event.generation, arms, seeds, event.total, event.unit)
        curve.add(event.done, loss)

    def _job_finished(self, event: JobFinished, now: float) -> None:
        kind, seeds = event.kind, len(event.seeds) or 1
        tally = self.reused if event.reused else self.made
        tally[kind] = tally.get(kind, 0) + seeds
        work_s, self.mark = now - self.mark, now
        self._left_by_others(event)
        if self.job is not None and self.job.digest == event.digest and _overlap(self.job.seeds, event.seeds):
            self.job = None  # of other seeds, another process may have made it
        if self.waiting is not None and self.waiting["digest"] == event.digest:
            self.waiting = None
        if not 0 <= event.generation <= self.generations:
            return  # real data, or a network for features
        bits = self.bits_of(event.seeds)
        for arm in event.arms:
            if arm not in self.cells:
                continue
            cell = self.cells[arm][event.generation]
            if kind in ("fit", "import"):
                cell.fit |= bits
            elif kind == "samples":
                cell.samples |= bits
            elif kind == "scores":
                cell.score_parts += len(event.seeds) or len(self.seeds)
            if event.reused:
                cell.reused += seeds
            else:
                cell.made += seeds
                cell.work_s += work_s
                cell.fit_s += work_s if kind in ("fit", "import") else 0.0

    def _job_failed(self, event: JobFailed, now: float) -> None:
        self.mark = now
        self._left_by_others(event)
        if self.job is not None and self.job.digest == event.digest:
            self.job = None
        self._note(Note(("diverged: " if event.diverged else "failed: ") + event.message), now)
        for arm in event.arms if event.diverged and event.kind not in ("features", "scores") else ():
            chains = self.ended.setdefault(arm, {})
            for seed in event.seeds or self.seeds:
                chains[seed] = min(event.generation, chains.get(seed, event.generation))

    def _waiting(self, event: Waiting, now: float) -> None:
        self.waiting = {"kind": event.kind, "digest": event.digest, "generation": event.generation}

    def _scored(self, event: Scored, now: float) -> None:
        if event.arm not in self.cells or not 0 <= event.generation <= self.generations:
            return
        if event.complete:
            self.cells[event.arm][event.generation].scores |= self.bits_of(event.seeds)
        for metric, values in event.values.items():
            series = self.scores.setdefault(event.arm, {}).setdefault(metric, [None] * (self.generations + 1))
            series[event.generation] = sum(values) / len(values) if values else None

    def _texts(self, event: TextSamples, now: float) -> None:
        if event.arm in self.cells:
            self.texts[event.arm] = {"generation": event.generation, "texts": list(event.texts)}

    def _generation_finished(self, event: GenerationFinished, now: float) -> None:
        self.finished[event.generation] = {
            "made": dict(event.made),
            "reused": dict(event.reused),
            "wall_s": event.wall_s,
        }

    def _note(self, event: Note, now: float) -> None:
        self.notes.append({"message": event.message, "level": event.level})
        del self.notes[:-KEPT_NOTES]

    def _run_finished(self, event: RunFinished, now: float) -> None:
        self.outcome, self.message, self.wall_s = event.outcome, event.message, event.wall_s
        self.job = self.waiting = None
        self.on_nodes = {}

    # -- questions ------------------------------------------------------------------------------------------------

    def bits_of(self, seeds: Sequence[int]) -> int:
        """The bit set of some seeds; () means all, for an artefact that is the same for every seed."""
        if len(seeds) == 1:
            return self._bits.get(seeds[0], 0)
        if not seeds or list(seeds) == self.seeds:
            return self.all_seeds
        bits = 0
        for seed in seeds:
            bits |= self._bits.get(seed, 0)
        return bits

    def stages(self, cell: Cell) -> tuple[int, int, int]:
        """The numbers of seeds whose fit, samples and scores are done in a cell."""
        seeds = len(self.seeds)
        parts = min(cell.score_parts // max(len(self.metrics), 1), seeds)
        scores = seeds if self.complete(cell) else max(cell.scores.bit_count(), parts)
        return cell.fit.bit_count(), cell.samples.bit_count(), scores

    def complete(self, cell: Cell) -> bool:
        """Whether a cell is finished: scored for every seed."""
        return cell.scores == self.all_seeds

    def diverged(self, arm: str, k: int) -> int:
        """The number of an arm's seeds that have diverged by generation k."""
        return sum(at <= k for at in self.ended.get(arm, {}).values())

    def generation(self) -> int:
        """The current generation: the first that some arm has not finished; the last if all have."""
        for k in range(self.generations + 1):
            if any(not self.complete(cells[k]) for cells in self.cells.values()):
                return k
        return self.generations

    def covers(self, arm: str, k: int) -> bool:
        """Whether a current job is part of this cell."""
        jobs = [*self.on_nodes.values(), *([self.job] if self.job else [])]
        return any(job.generation == k and arm in job.arms for job in jobs)

    # -- JSON -----------------------------------------------------------------------------------------------------

    def to_json(self) -> dict[str, Any]:
        """Plain JSON: non-finite numbers as strings, bit sets as "all" or the seeds that are done."""
        from collapse_sim.ui import saved_state

        return saved_state.document(self)

    @classmethod
    def from_json(cls, content: Any) -> State:
        """The state that `to_json` returned. Raises ValueError if it is not one, or of a newer schema."""
        from collapse_sim.ui import saved_state

        return saved_state.state(content)


def _progressed(job: JobUnderWay | None, event: JobProgress, now: float) -> JobUnderWay:
    """The job that the event is about, as far as it is now."""
    if job is None or job.digest != event.digest or job.seeds != list(event.seeds):
        job = JobUnderWay(event.kind, event.digest, event.generation, list(event.arms), list(event.seeds), now)
    if job.last_time == 0.0 or event.done < job.done:
        job.first_done, job.first_time = event.done, now
    job.done, job.total, job.unit, job.loss, job.last_time = event.done, event.total, event.unit, event.loss, now
    return job


def _overlap(seeds: Sequence[int], others: Sequence[int]) -> bool:
    """Whether two artefacts of one digest have something in common; no seeds: the same for all."""
    return not seeds or not others or not set(seeds).isdisjoint(others)


_HANDLERS: dict[type, Callable[[State, Any, float], None]] = {
    RunStarted: State._run_started,
    JobStarted: State._job_started,
    JobProgress: State._job_progress,
    JobFinished: State._job_finished,
    JobFailed: State._job_failed,
    Waiting: State._waiting,
    Scored: State._scored,
    TextSamples: State._texts,
    GenerationFinished: State._generation_finished,
    Note: State._note,
    OnNode: State._on_node,
    RunFinished: State._run_finished,
}
