"""Pictures and pages that may fail. What cannot be drawn is said once, with the reason, and ends nothing.

A run is there for its scores. A font that is missing, a full disk, a folder without permission, samples that are
damaged or a plug-in's own histogram must not take hours of work with them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from typing import TypeVar
from weakref import WeakKeyDictionary

from collapse_sim.core.errors import CollapseSimError, InterruptedRunError
from collapse_sim.core.events import Emit, Note
from collapse_sim.store.store import Store
from collapse_sim.ui import formatting

T = TypeVar("T")
_LONGEST = 300  # characters of a reason


class Attempts:
    """What could not be drawn in one sitting at a run, by its kind."""

    def __init__(self) -> None:
        self.failed: Counter[str] = Counter()
        self._told: set[str] = set()

    def make(self, emit: Emit, what: str, draw: Callable[[], Iterable[T]]) -> list[T]:
        """What `draw` gives; nothing when it fails, which is told the first time for each `what`.

        A wish to stop (InterruptedRunError, KeyboardInterrupt) passes.
        """
        try:
            return list(draw())
        except InterruptedRunError:
            raise
        except (Exception, SystemExit) as error:  # a plug-in that draws may end the program
            self.failed[what] += 1
            if self.failed[what] == 1:
                emit(Note(f"{what} cannot be drawn: {_reason(error)}; the run goes on without"))
            return []

    def tell(self, emit: Emit, message: str) -> None:
        """Something to know of the pictures, once."""
        if message and message not in self._told:
            self._told.add(message)
            emit(Note(message, "info"))

    @property
    def summary(self) -> str:
        """One line: what could not be drawn, and how often; "" when all could."""
        kinds = (f"{what} ({formatting.plural(n, 'time')})" for what, n in self.failed.items())
        return f"could not be drawn: {', '.join(kinds)}; scores are not affected" if self.failed else ""


_ATTEMPTS: WeakKeyDictionary[Store, Attempts] = WeakKeyDictionary()


def attempts_of(store: Store) -> Attempts:
    """Those of a sitting, which has one Store."""
    return _ATTEMPTS.setdefault(store, Attempts())


def _reason(error: BaseException) -> str:
    text = str(error) if isinstance(error, CollapseSimError) else f"{type(error).__name__}: {error}".rstrip(": ")
    line = formatting.plain(text)
    return line if len(line) <= _LONGEST else line[:_LONGEST] + "…"
