"""trackers.json of a run directory: what each tracker was sent, so that no session sends it a second time.

{"schema": 1, "trackers": {"NAME PLACE": {"id": ..., "batches": n, "pending_s": time | null,
 "pending": {CURVE: [steps]}, "points": {CURVE: [steps]}, "pictures": {NAME: {STEP: sha256}}, "recipe": DIGEST | null,
 "results": DIGEST | null}}}, sealed (store/sealed.py). A batch is recorded as pending while it is being sent, and in
`points` once the tracker has it.
"""

from __future__ import annotations

import secrets
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from collapse_sim.core.files import write_atomic
from collapse_sim.store import sealed

SENT_FILE, SENT_LOCK = "trackers.json", ".trackers.lock"
SCHEMA = 1


class NewerSentError(ValueError):
    """The file was written by a newer version of this program."""


@dataclass
class Sent:
    """What one tracker has of a run."""

    id: str = field(default_factory=lambda: secrets.token_hex(8))
    batches: int = 0
    pending_s: float | None = None  # when the next batch was begun; None: it was not
    pending: dict[str, list[int]] = field(default_factory=dict)  # its points
    points: dict[str, list[int]] = field(default_factory=dict)
    pictures: dict[str, dict[str, str]] = field(default_factory=dict)
    recipe: str | None = None
    results: str | None = None  # that the last comparison was drawn of


class SentFile:
    """The file, held in memory by the one process that sends."""

    def __init__(self, folder: Path) -> None:
        """Raises OSError when the file cannot be read, ValueError when it is damaged, NewerSentError."""
        self.path = folder / SENT_FILE
        self.by_tracker: dict[str, Sent] = {}
        try:
            content = sealed.read(self.path)
        except FileNotFoundError:
            return
        if isinstance(schema := content.get("schema"), int) and schema > SCHEMA:
            raise NewerSentError(f"it has schema {schema}, and this collapse-sim knows {SCHEMA}")
        if schema != SCHEMA:
            raise ValueError(f"schema {schema} instead of {SCHEMA}")
        try:
            self.by_tracker = {key: Sent(**entry) for key, entry in content["trackers"].items()}
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(str(error)) from error

    def of(self, key: str) -> Sent:
        return self.by_tracker.setdefault(key, Sent())

    def save(self) -> None:
        """Raises StoreError or OSError when it cannot be written."""
        content: dict[str, Any] = {key: asdict(sent) for key, sent in self.by_tracker.items()}
        write_atomic(self.path, sealed.text({"schema": SCHEMA, "trackers": content}))
