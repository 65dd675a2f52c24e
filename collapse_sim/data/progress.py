"""Work before a run begins, when nothing is drawn yet: how far it has come, said by logging."""

from __future__ import annotations

import logging
import time

AFTER_S = 1.0  # what takes less is not worth a line
EVERY_S = 5.0

logger = logging.getLogger(__name__)


class Progress:
    """Says "WHAT: 12,000 of 200,000 UNIT" at the level INFO, after a second and then every five."""

    def __init__(self, what: str, total: int, unit: str) -> None:
        self._what, self._total, self._unit = what, total, unit
        self._next = time.perf_counter() + AFTER_S

    def at(self, done: int) -> None:
        """`done` of the total are done; nothing is said when all are."""
        now = time.perf_counter()
        if now >= self._next and done < self._total:
            self._next = now + EVERY_S
            logger.info("%s: %s of %s %s", self._what, f"{done:,}", f"{self._total:,}", self._unit)
