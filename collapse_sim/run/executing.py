"""Who computes what the generation loop asks for: this process, or others (ray_executor.py)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import partial
from typing import Protocol

from collapse_sim.core.events import Emit
from collapse_sim.engine.build import builder
from collapse_sim.engine.groups import grouping
from collapse_sim.engine.work import JobContext
from collapse_sim.store.jobs import Request
from collapse_sim.store.store import Build
from collapse_sim.store.waiting import NO_WORK, Meanwhile


class Executor(Protocol):
    """Afterwards, failures are in the store's `failures`, and everything else that was asked for is in the store."""

    def make_all(self, requests: Sequence[Request], emit: Emit, meanwhile: Meanwhile | None = NO_WORK) -> Counter[str]:
        """Make what is missing, and tell events of it. Returns counts of artefacts, "made" and "reused".

        `meanwhile`: as `Store.make_all` has it.
        """


class Here:
    """This process. `build`: in place of the context's own builder."""

    def __init__(self, context: JobContext, build: Build | None = None) -> None:
        self._context = context
        self._build, self._group = build or builder(context), partial(grouping, context=context)

    def make_all(self, requests: Sequence[Request], emit: Emit, meanwhile: Meanwhile | None = NO_WORK) -> Counter[str]:
        return self._context.store.make_all(requests, self._build, emit, self._group, meanwhile)
