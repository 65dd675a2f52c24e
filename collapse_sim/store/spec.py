"""Specification of one artefact, as far as the store needs it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from collapse_sim.core.events import Kind
from collapse_sim.core.hashing import digest_of

FORMAT = 1  # raised when the layout of stored artefacts changes


@dataclass(frozen=True, eq=False)
class Spec:
    """One artefact for each seed; `stacked`: all seeds are made in one computation and stored as one block."""

    kind: Kind
    generation: int
    description: Mapping[str, Any]  # what determines the bytes, parents by digest
    seeded: bool = True  # False: the same for every seed
    stacked: bool = False
    digest: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "digest", digest_of({"format": FORMAT, "kind": self.kind, **self.description}))

    @property
    def parents(self) -> tuple[Spec, ...]:
        """What it is made from."""
        return ()

    def seeds(self, seeds: tuple[int, ...]) -> tuple[int, ...]:
        """The seeds that address it: () when it is the same for all."""
        return seeds if self.seeded else ()
