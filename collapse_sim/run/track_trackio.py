"""Trackio: a run in its local database (TRACKIO_DIR), or on the Space of TRACKIO_SPACE_ID or the server of
TRACKIO_SERVER_URL.

Trackio writes in threads and has no call that waits for them but the run's end, so each batch opens the run and ends
it. Of a batch that is sent again, the rows that the local database has are left out; to a Space or server it is not
sent again, since Trackio keeps what it could not send and sends it by itself.
"""

from __future__ import annotations

import contextlib
import io
import os
import warnings
from collections.abc import Iterator
from typing import Any, ClassVar

from collapse_sim.core.component import Component
from collapse_sim.run.trackers import Outcome, TrackedBatch, TrackedRun, rows_of

REMOTE = ("TRACKIO_SPACE_ID", "TRACKIO_SERVER_URL")


class Trackio(Component):
    """A run in a project of Trackio: `trackio show --project NAME`."""

    package: ClassVar[str] = "trackio"
    extra: ClassVar[str] = "collapse-sim[trackio]"

    def place(self, run: TrackedRun) -> str:
        return " ".join((run.project, *(os.environ.get(name, "-") for name in ("TRACKIO_DIR", *REMOTE))))

    def open(self, run: TrackedRun) -> TrackioSender:
        sender = TrackioSender(run.project, f"{run.name}-{run.id[:8]}")
        with sender.running({}):
            return sender


class TrackioSender:
    """Writes to a run of Trackio. Between batches nothing is open."""

    def __init__(self, project: str, name: str) -> None:
        self._project, self._name = project, name
        self._remote = next((os.environ[place] for place in REMOTE if os.environ.get(place)), None)
        self.where = f"{self._remote or 'trackio'}, project {project}, run {name}"

    @contextlib.contextmanager
    def running(self, config: dict[str, Any]) -> Iterator[Any]:
        """The run, open. Raises RuntimeError for what Trackio only warns of."""
        import trackio

        with warnings.catch_warnings(record=True) as said, contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("always")
            run = trackio.init(
                self._project,
                self._name,
                config=config,
                resume="allow",
                embed=False,
                auto_log_gpu=False,
                auto_log_cpu=False,
            )
            try:
                yield run
            finally:
                trackio.finish()  # and forgets it: what the run's own call leaves open prints when Python ends
        if problems := [str(each.message) for each in said if issubclass(each.category, UserWarning)]:
            raise RuntimeError(problems[0])

    def send(self, batch: TrackedBatch) -> None:
        import trackio

        if batch.again and self._remote:
            return
        known = self._known() if batch.again else {}
        config = {**batch.recipe.settings, "recipe": batch.recipe.yaml} if batch.recipe else {}
        with self.running(config) as run:
            for _, step, values in rows_of(batch):
                new = {path: value for path, value in values.items() if step not in known.get(path, ())}
                if new:
                    run.log(new, step=step)
            for picture in batch.pictures:
                run.log({picture.name: trackio.Image(str(picture.path))}, step=picture.step)
            for text in batch.texts:
                run.log({text.name: trackio.Markdown(text.markdown)}, step=text.step)

    def finish(self, outcome: Outcome) -> None:
        """Nothing is open. Trackio has no place for a run's outcome."""

    def _known(self) -> dict[str, set[int]]:
        """The steps of each curve in the local database."""
        from trackio.sqlite_storage import SQLiteStorage

        steps: dict[str, set[int]] = {}
        for row in SQLiteStorage.get_logs(self._project, self._name):
            for path in row:
                steps.setdefault(path, set()).add(row["step"])
        return steps
