"""What `--compile auto` has found out by measuring, kept in the store: what is begun later, or by another process, is
computed as if one process had made it all."""

from __future__ import annotations

from pathlib import Path

from collapse_sim.core.files import explain_write_errors, write_atomic
from collapse_sim.store import sealed

FOLDER = "compiled"


class Decisions:
    """Whether steps, or pieces of rows, are computed by a program, by its key. The first decision stays."""

    def __init__(self, store: Path | None = None) -> None:
        """`store`: its folder; None: decisions are those of this process."""
        self._folder = None if store is None else store / FOLDER
        self._known: dict[str, bool] = {}

    def of(self, key: str) -> bool | None:
        """None: nothing has been decided, or the record is damaged."""
        if key not in self._known and self._folder is not None:
            try:
                self._known[key] = bool(sealed.read(self._folder / f"{key}.json")["pays"])
            except (OSError, ValueError, KeyError):
                return None
        return self._known.get(key)

    def keep(self, key: str, *, pays: bool) -> bool:
        """Record a decision, unless there is one. Returns the one that holds."""
        decided = self.of(key)
        if decided is not None:
            return decided
        self._known[key] = pays
        if self._folder is not None:
            with explain_write_errors(self._folder):
                self._folder.mkdir(exist_ok=True)
            write_atomic(self._folder / f"{key}.json", sealed.text({"pays": pays}))
        return pays
