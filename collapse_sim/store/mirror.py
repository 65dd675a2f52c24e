"""What a store knows of its mirror, a second place with the same artefacts; and a store that has none."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

from collapse_sim.core.events import Emit
from collapse_sim.store.jobs import Request
from collapse_sim.store.spec import Spec

Missing = Callable[[Spec, Iterable[int], Emit | None], Sequence[int]]  # Store.missing


class Transferred(NamedTuple):
    """Artefacts, one per seed, and their bytes, that went one way and the other; `failed` are not in the mirror."""

    fetched: int = 0
    fetched_bytes: int = 0
    pushed: int = 0
    pushed_bytes: int = 0
    failed: int = 0


class Mirror(Protocol):
    """None of these raises an error because of the mirror, or waits for it without an end."""

    def fetch(self, requests: Sequence[Request], missing: Missing, emit: Emit, *, locked: bool = False) -> None:
        """Put what the store lacks and the mirror has into the store. `locked`: the caller has the lock of it."""
        ...

    def push(self, folders: Iterable[Path]) -> None:
        """Committed artefacts of the store: those that the mirror lacks are uploaded in the background."""
        ...

    def settled(self) -> bool:
        """Wait for the uploads. Returns whether the mirror has everything that was pushed."""
        ...

    def finish(self, emit: Emit) -> Transferred:
        """The same at the end of a run, with a last try of what failed; tells what was transferred and what was not."""
        ...


class Unmirrored:
    """The mirror of a store without one."""

    def fetch(self, requests: Sequence[Request], missing: Missing, emit: Emit, *, locked: bool = False) -> None: ...

    def push(self, folders: Iterable[Path]) -> None: ...

    def settled(self) -> bool:
        return True

    def finish(self, emit: Emit) -> Transferred:
        return Transferred()
