"""Pictures and pages that may fail. A failure is reported once, with its reason, and never ends a run.

A run is there for its scores. A missing font, a full disk, a folder without permission, damaged samples or a plug-in's
own histogram must not cost hours of work.
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
    """What could not be drawn in one session of a run, by kind."""

    def __init__(self) -> None:
        self.failed: Counter[str] = Counter()
        self._told: set[str] = set()

    def make(self, emit: Emit, what: str, draw: Callable[[], Iterable[T]]) -> list[T]:
        """What `draw` returns; nothing when it fails, which is reported the first time for each `what`.

        A requested stop (InterruptedRunError, KeyboardInterrupt) passes through.
        """
        try:
            return list(draw())
        except InterruptedRunError:
            raise
        except (Exception, SystemExit) as error:  # a plug-in that draws may end the program
            self.failed[what] += 1
            if self.failed[what] == 1:
                emit(Note(f"{what} cannot be drawn: {reason_line(error)}; the run goes on without"))
            return []

    def tell(self, emit: Emit, message: str) -> None:
        """Report something about the pictures, once."""
        if message and message not in self._told:
            self._told.add(message)
            emit(Note(message, "info"))

    @property
    def summary(self) -> str:
        """One line: what could not be drawn, and how often; "" when nothing failed."""
        kinds = (f"{what} ({formatting.plural(n, 'time')})" for what, n in self.failed.items())
        return f"could not be drawn: {', '.join(kinds)}; scores are not affected" if self.failed else ""


_ATTEMPTS: WeakKeyDictionary[Store, Attempts] = WeakKeyDictionary()


def attempts_of(store: Store) -> Attempts:
    """The Attempts of a session, which has one Store."""
    return _ATTEMPTS.setdefault(store, Attempts())


def reason_line(error: BaseException) -> str:
    """What an error says, in one line of at most 300 characters; of other programs' errors with their class."""
    text = str(error) if isinstance(error, CollapseSimError) else f"{type(error).__name__}: {error}".rstrip(": ")
    line = formatting.plain(text)
    return line if len(line) <= _LONGEST else line[:_LONGEST] + "…"
