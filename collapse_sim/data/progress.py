"""Progress of the work before a run begins, written to the log because no display is drawn yet."""

from __future__ import annotations

import logging
import time

AFTER_S = 1.0  # shorter work is not logged
EVERY_S = 5.0

logger = logging.getLogger(__name__)


class Progress:
    """Logs "WHAT: 12,000 of 200,000 UNIT" at level INFO, first after 1 second and then every 5 seconds."""

    def __init__(self, what: str, total: int, unit: str) -> None:
        self._what, self._total, self._unit = what, total, unit
        self._next = time.perf_counter() + AFTER_S

    def at(self, done: int) -> None:
        """`done` of the total are done; nothing is logged when all are."""
        now = time.perf_counter()
        if now >= self._next and done < self._total:
            self._next = now + EVERY_S
            logger.info("%s: %s of %s %s", self._what, f"{done:,}", f"{self._total:,}", self._unit)
