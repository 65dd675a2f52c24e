"""Notes that the ranks of a run leave for each other, in a key-value store that all of them can reach.

Unlike torch.distributed's collective operations, waiting for a note has no time limit unless one is given, sees when
the run ends, and says which rank is missing.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

from collapse_sim.core.errors import InterruptedRunError, RanksError
from collapse_sim.core.launch import Launch

SHORTEST_S, LONGEST_S = 0.001, 0.5  # between two looks for a note: a twentieth of the time waited
CHECK_S = 0.5  # between two looks whether it can still come
STOPPED_S = 20.0  # how long a rank that was asked to stop waits for rank 0 to do so; torchrun kills it after 30
FAREWELL_S = 10.0  # how long rank 0, which may serve the notes, waits until the others have read the last one


class EndedError(RanksError):
    """Rank 0 has ended the run: the others end with its exit code, and say nothing."""


class Board:
    """Notes by name. Each is written once."""

    def __init__(self, launch: Launch, store: Any) -> None:
        self.launch, self.store = launch, store
        self.rank, self.world, self.name = launch.rank, launch.world, launch.name
        self.wanted: Callable[[], int] = lambda: 0  # the signal by which this rank was asked to stop
        self._asked = 0.0  # when that was first seen

    def put(self, name: str, content: bytes) -> None:
        """Leave a note. Raises RanksError when the notes cannot be reached any more."""
        try:
            self.store.set(name, content)
        except RuntimeError as error:
            raise self._lost(error) from error

    def get(self, name: str, limit_s: float | None, sender: int) -> bytes:
        """A note of rank `sender`, as soon as it is there.

        Raises EndedError when rank 0 has ended, RanksError when the sender has failed, when `limit_s` seconds are over,
        or when the notes cannot be reached any more; InterruptedRunError when this rank was asked to stop and rank 0
        does not.
        """
        started = time.monotonic()
        checked = started
        while not self.has(name):
            now = time.monotonic()
            if now - checked > CHECK_S:
                self._check(sender)
                checked = now
            if limit_s is not None and now - started > limit_s:
                raise RanksError(f"{self.name}: no answer from {self.name_of(sender)} in {limit_s:.0f} s")
            time.sleep(min(LONGEST_S, max(SHORTEST_S, (now - started) / 20)))  # torch's own `wait` prints warnings
        return bytes(self.store.get(name))

    def _check(self, sender: int) -> None:
        self.ended(0.0)
        if sender and self.has(f"failed/{sender}"):
            failed = json.loads(self.store.get(f"failed/{sender}"))
            raise RanksError(f"{self.name_of(sender)} ended: {failed['message']}", failed["code"])
        if not (signal := self.wanted()):
            return
        self._asked = self._asked or time.monotonic()
        self.put("stop", str(signal).encode())
        if time.monotonic() - self._asked > STOPPED_S:
            raise InterruptedRunError(f"{self.name}: interrupted; rank 0 does not answer", signal)

    def forget(self, *names: str) -> None:
        """Remove notes that everyone has read."""
        for name in names:
            self.store.delete_key(name)

    def signal(self) -> int:
        """The signal by which a rank that waits was asked to stop; 0: none was."""
        return int(self.store.get("stop")) if self.has("stop") else 0

    def end(self, code: int, task: int, *, wait: bool = True) -> None:
        """On rank 0: end the others with this exit code, instead of task `task`, and `wait` until they know."""
        self.put("end", str(code).encode())
        self.put(f"task/{task}", b"{}")  # which those wait for that have nothing to do
        deadline = time.monotonic() + (FAREWELL_S if wait else 0.0)
        for rank in range(1, self.world):
            while not self.has(f"ended/{rank}") and not self.has(f"failed/{rank}") and time.monotonic() < deadline:
                time.sleep(0.02)

    def ended(self, wait_s: float = 5.0) -> None:
        """Raise EndedError if rank 0 has ended, or does so within some seconds."""
        if self.rank == 0:
            return
        deadline = time.monotonic() + wait_s
        while not self.has("end"):
            if time.monotonic() > deadline:
                return
            time.sleep(0.1)
        code = int(self.store.get("end"))
        self.put(f"ended/{self.rank}", b"")
        raise EndedError("", code)

    def fail(self, code: int, message: str) -> None:
        """On the other ranks: say why this one ends."""
        self.put(f"failed/{self.rank}", json.dumps({"code": code, "message": message}).encode())

    def sign(self) -> None:
        """Say that this rank is there, and on which machine."""
        self.put(f"host/{self.rank}", self.launch.host.encode())

    def name_of(self, rank: int) -> str:
        """For messages: "rank 1 on node7"."""
        host = f" on {self.store.get(f'host/{rank}').decode()}" if self.has(f"host/{rank}") else ""
        return f"rank {rank}{host}"

    def has(self, name: str) -> bool:
        """Whether a note is there."""
        try:
            return bool(self.store.check([name]))
        except RuntimeError as error:
            raise self._lost(error) from error

    def _lost(self, error: RuntimeError) -> RanksError:
        launch = self.launch
        return RanksError(
            f"{self.name}: lost the connection to {launch.address}:{launch.port}, where rank 0's machine keeps the "
            f"ranks together; finished work is kept, and the same command continues the run "
            f"({str(error).splitlines()[0]:.200})"
        )
