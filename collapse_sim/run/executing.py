"""Who computes what the generation loop asks for: this process, or others (ray_executor.py)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import partial
from typing import Protocol

from collapse_sim.engine.build import builder
from collapse_sim.engine.groups import grouping
from collapse_sim.engine.work import JobContext
from collapse_sim.store.jobs import Request


class Executor(Protocol):
    """Afterwards, failures are in the store's `failures`, and everything else that was asked for is in the store."""

    def make_all(self, requests: Sequence[Request]) -> Counter[str]:
        """Make what is missing, and tell events of it. Returns counts of artefacts, "made" and "reused"."""


class Here:
    """This process."""

    def __init__(self, context: JobContext) -> None:
        self._context = context
        self._build, self._group = builder(context), partial(grouping, context=context)

    def make_all(self, requests: Sequence[Request]) -> Counter[str]:
        context = self._context
        return context.store.make_all(requests, self._build, context.emit, self._group)
