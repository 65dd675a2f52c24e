"""Events that a run emits. Plain frozen records: no torch, no terminal, JSON-able with `dataclasses.asdict`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

Kind = Literal[
    "data", "import", "fit", "own samples", "own fit", "merge", "samples", "verifier", "curation", "features", "scores"
]  # fmt: skip


@dataclass(frozen=True)
class RunStarted:
    name: str
    arms: tuple[str, ...]
    seeds: tuple[int, ...]
    generations: int  # the last generation's number; there are generations + 1
    metrics: tuple[str, ...]
    lower_is_better: dict[str, bool | None]
    device: str
    precision: str
    run_dir: str
    show: str | None = None  # the metric to draw; None: the first
    fit_units: dict[str, tuple[int, ...]] = field(default_factory=dict)  # {arm: the updates of each generation's fit}


@dataclass(frozen=True)
class JobStarted:
    """A missing artefact is being made. One artefact may serve several arms: `arms` names them all."""

    kind: Kind
    digest: str
    generation: int
    arms: tuple[str, ...]
    seeds: tuple[int, ...]


@dataclass(frozen=True)
class JobProgress:
    """At most a few per second. `unit` is "steps" for a fit, "rows" for sampling, "seeds" for batched toys."""

    kind: Kind
    digest: str
    generation: int
    arms: tuple[str, ...]
    seeds: tuple[int, ...]
    done: int
    total: int
    unit: str
    rows_per_s: float | None = None
    loss: float | None = None


@dataclass(frozen=True)
class JobFinished:
    """The artefact is available: made now, or found in the store (`reused`)."""

    kind: Kind
    digest: str
    generation: int
    arms: tuple[str, ...]
    seeds: tuple[int, ...]
    reused: bool
    wall_s: float


@dataclass(frozen=True)
class JobFailed:
    """The artefact cannot be made for these seeds, nor anything that depends on it; everything else continues.

    `diverged`: the fit or its samples became non-finite, and scores are nan from this generation on.
    """

    kind: Kind
    digest: str
    generation: int
    arms: tuple[str, ...]
    seeds: tuple[int, ...]
    message: str
    diverged: bool


@dataclass(frozen=True)
class Waiting:
    """Another process is making this artefact; this one waits for it or does other work first."""

    kind: Kind
    digest: str
    generation: int


@dataclass(frozen=True)
class Scored:
    """One arm's scores of one generation: {metric: values in the order of `seeds`}."""

    generation: int
    arm: str
    seeds: tuple[int, ...]
    values: dict[str, tuple[float, ...]]
    complete: bool = True  # False: some metric could not be computed for these seeds


@dataclass(frozen=True)
class TextSamples:
    """The first few texts that one arm's model of a generation wrote, for the first seed, shortened for display."""

    generation: int
    arm: str
    texts: tuple[str, ...]


@dataclass(frozen=True)
class GenerationFinished:
    """All arms and seeds of generation k are scored and recorded in the journal."""

    generation: int
    made: dict[str, int]  # artefacts made now, by kind (one per seed)
    reused: dict[str, int]
    wall_s: float
    pictures: tuple[str, ...] = ()


@dataclass(frozen=True)
class Note:
    """A message for the user: a damaged artefact that is made again, a setting without effect ..."""

    message: str
    level: Literal["info", "warning"] = "warning"


@dataclass(frozen=True)
class OnNode:
    """An event of a job that a process on another node makes for this run."""

    node: str  # its name, for display
    process: int
    event: JobStarted | JobProgress | JobFinished | JobFailed | Waiting | Note


@dataclass(frozen=True)
class RunFinished:
    name: str
    run_dir: str
    wall_s: float
    outcome: Literal["finished", "unfinished", "interrupted", "failed"]  # unfinished: the rest is under way elsewhere
    message: str = ""


Event = (
    RunStarted
    | JobStarted
    | JobProgress
    | JobFinished
    | JobFailed
    | Waiting
    | Scored
    | TextSamples
    | GenerationFinished
    | Note
    | OnNode
    | RunFinished
)
Emit = Callable[[Event], None]
