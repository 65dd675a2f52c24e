"""Weights & Biases: one run of its project, continued under the same id; offline below the run directory.

Each step of a batch is a row of the run's history, with a number of its own. The server says which number it has
reached; so a batch that is sent again adds what was missing.
"""

from __future__ import annotations

import html
import os
from typing import Any, ClassVar

from collapse_sim.core.component import Component
from collapse_sim.core.errors import MissingError
from collapse_sim.run.trackers import Outcome, TrackedBatch, TrackedRun, rows_of

ROWS = 1_000_000  # numbers of history's rows that a batch may use
TIMEOUT_S = 30.0


class WandB(Component):
    """A run in a project of wandb.ai, of WANDB_BASE_URL, or with WANDB_MODE=offline in RUN/wandb (`wandb sync`)."""

    package: ClassVar[str] = "wandb"
    extra: ClassVar[str] = "collapse-sim[wandb]"

    def place(self, run: TrackedRun) -> str:
        names = ("WANDB_MODE", "WANDB_BASE_URL", "WANDB_ENTITY")
        return " ".join((run.project, *(os.environ.get(name, "-") for name in names)))

    def open(self, run: TrackedRun) -> WandBSender:
        """Raises MissingError without an account, and what wandb raises when its server cannot be reached."""
        import wandb

        settings = wandb.Settings(
            silent=True,
            console="off",
            disable_code=True,
            disable_git=True,
            x_disable_stats=True,
            init_timeout=TIMEOUT_S,
        )
        online = os.environ.get("WANDB_MODE", "online") == "online"
        if online and not wandb.login(prompt=False, verify=False):
            raise MissingError("no account: run `wandb login`, or set WANDB_MODE=offline")
        opened = wandb.init(
            project=run.project,
            id=run.id,
            name=run.name,
            dir=str(run.folder),
            resume="allow" if online else None,
            reinit="create_new",
            settings=settings,
        )
        return WandBSender(opened, str(opened.url if online else opened.dir))


class WandBSender:
    """Writes to a run of wandb, whose own process has what was logged, even if this one is killed."""

    def __init__(self, run: Any, where: str) -> None:
        self.where = where
        self._run, self._first = run, int(run.starting_step)

    def send(self, batch: TrackedBatch) -> None:
        import wandb

        if batch.recipe is not None:
            config = {**batch.recipe.settings, "recipe": batch.recipe.yaml}
            self._run.config.update(config, allow_val_change=True)
        rows: list[dict[str, Any]] = []
        for axis, step, values in rows_of(batch):
            for name in dict.fromkeys(path.rpartition("/")[0] for path in values):
                self._run.define_metric(f"{name}/*", step_metric=axis)
            rows.append({**values, axis: step})
        media: list[tuple[int, str, Any]] = [(p.step, p.name, wandb.Image(str(p.path))) for p in batch.pictures]
        media += [(t.step, t.name, wandb.Html(f"<pre>{html.escape(t.markdown)}</pre>")) for t in batch.texts]
        for step, name, medium in media:
            rows.append({name: medium, "generation": step})
        first = batch.number * ROWS
        for number, row in enumerate(rows, first):
            if number >= self._first:
                self._run.log(row, step=number)

    def finish(self, outcome: Outcome) -> None:
        """Waits until the server has everything."""
        self._run.summary["outcome"] = outcome
        self._run.finish(exit_code=0 if outcome == "finished" else 1)
