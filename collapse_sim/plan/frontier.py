"""Which jobs of a graph may be handed to a scheduler that itself starts a job once those that it waits for are done."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence

from collapse_sim.plan.job_graph import JobNode


class Frontier:
    """Nodes by generation and number, the first ones first. A node may be submitted when all that it waits for are
    submitted or finished; one that is `alone`, and those that wait for it, when they are finished."""

    def __init__(self, nodes: Sequence[JobNode], alone: Callable[[JobNode], bool]) -> None:
        """`nodes` may grow: `extend` takes in the further ones."""
        self._nodes, self._alone = nodes, alone
        self._followers: dict[int, list[int]] = {}
        self._held: dict[int, set[int]] = {}  # node -> those that it has to wait for before it is submitted
        self._ready: list[tuple[int, int]] = []  # (generation, number): nodes that are added later come in their turn
        self._submitted: set[int] = set()
        self.finished: set[int] = set()
        self._known = 0
        self.extend()

    def extend(self) -> None:
        """Take in the nodes that were added since the last call."""
        for number in range(self._known, len(self._nodes)):
            open_ = [parent for parent in self._nodes[number].after if parent not in self.finished]
            for parent in open_:
                self._followers.setdefault(parent, []).append(number)
            held = {parent for parent in open_ if parent not in self._submitted or self._apart(parent, number)}
            self._held[number] = held
            if not held:
                self._push(number)
        self._known = len(self._nodes)

    def pop(self, last_generation: int | None = None) -> int | None:
        """The next node to submit, which counts as submitted from now on; None: there is none up to this generation."""
        if not self._ready or (last_generation is not None and self._ready[0][0] > last_generation):
            return None
        _, number = heapq.heappop(self._ready)
        self._submitted.add(number)
        self._release(number, finished=False)
        return number

    def finish(self, number: int) -> None:
        """A node is finished, however it went."""
        self.finished.add(number)
        self._submitted.discard(number)
        self._release(number, finished=True)
        self._followers.pop(number, None)

    def _apart(self, parent: int, number: int) -> bool:
        return self._alone(self._nodes[parent]) or self._alone(self._nodes[number])

    def _release(self, number: int, *, finished: bool) -> None:
        for follower in self._followers.get(number, ()):
            held = self._held[follower]
            if number in held and (finished or not self._apart(number, follower)):
                held.discard(number)
                if not held:
                    self._push(follower)

    def _push(self, number: int) -> None:
        heapq.heappush(self._ready, (self._nodes[number].generation, number))
