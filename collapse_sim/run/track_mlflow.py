"""MLflow: one run of an experiment, on the server or in the folder of MLFLOW_TRACKING_URI.

Curves are metrics, whose names MLflow restricts; pictures and texts are artifacts, which replace themselves. Of a batch
that is sent again, the points that the run has already are left out.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

from collapse_sim.core.component import Component
from collapse_sim.run.trackers import Outcome, TrackedBatch, TrackedRun

AT_ONCE = 1000  # metrics in a request, at most
PARAMETERS_AT_ONCE, LONGEST = 100, 500  # and parameters; characters of a value
ID_TAG = "collapse_sim.run"
STATUS = {"finished": "FINISHED", "unfinished": "KILLED", "interrupted": "KILLED", "failed": "FAILED"}
_FORBIDDEN = re.compile(r"[^\w\-. /]")


class MLflow(Component):
    """A run in an experiment of MLFLOW_TRACKING_URI."""

    package: ClassVar[str] = "mlflow"
    extra: ClassVar[str] = "collapse-sim[mlflow]"

    def place(self, run: TrackedRun) -> str:
        return f"{os.environ.get('MLFLOW_TRACKING_URI', '-')} {run.project}"

    def open(self, run: TrackedRun) -> MLflowSender:
        """Raises what MLflow raises when its server cannot be reached."""
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")  # MLflow's own defaults wait for minutes
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
        from mlflow.tracking import MlflowClient

        client = MlflowClient()
        known = client.get_experiment_by_name(run.project)
        experiment = known.experiment_id if known else client.create_experiment(run.project)
        mine = client.search_runs([experiment], f"tags.`{ID_TAG}` = '{run.id}'")
        if mine:
            run_id = mine[0].info.run_id
            client.update_run(run_id, status="RUNNING")
        else:
            run_id = client.create_run(experiment, run_name=run.name, tags={ID_TAG: run.id}).info.run_id
        return MLflowSender(client, run_id, f"{client.tracking_uri}, experiment {run.project}, run {run_id}")


class MLflowSender:
    """Writes to a run of MLflow; each call returns when the server, or the file, has it."""

    def __init__(self, client: Any, run_id: str, where: str) -> None:
        self.where = where
        self._client, self._run_id = client, run_id

    def send(self, batch: TrackedBatch) -> None:
        from mlflow.entities import Metric, Param

        if batch.recipe is not None:
            self._client.log_text(self._run_id, batch.recipe.yaml, "recipe.yaml")
            known = self._client.get_run(self._run_id).data.params  # which cannot be changed
            named = {metric_name(key): str(value)[:LONGEST] for key, value in batch.recipe.settings.items()}
            parameters = [Param(key, value) for key, value in named.items() if key not in known]
            for part in _parts(parameters, PARAMETERS_AT_ONCE):
                self._client.log_batch(self._run_id, params=part)
        present: dict[str, set[int]] = {}
        metrics = []
        for point in batch.points:
            name = metric_name(point.curve.path)
            if batch.again and name not in present:
                present[name] = {metric.step for metric in self._client.get_metric_history(self._run_id, name)}
            if point.step not in present.get(name, ()):
                metrics.append(Metric(name, point.value, int(batch.time_s * 1000), point.step))
        for part in _parts(metrics, AT_ONCE):
            self._client.log_batch(self._run_id, metrics=part)
        for picture in batch.pictures:
            place = f"{picture.name}/{picture.step:03d}"
            self._client.log_artifact(self._run_id, str(picture.path), place)
        for text in batch.texts:
            self._client.log_text(self._run_id, text.markdown, f"{text.name}-{text.step:03d}.md")

    def finish(self, outcome: Outcome) -> None:
        self._client.set_terminated(self._run_id, STATUS[outcome])


def metric_name(path: str) -> str:
    """A curve's name as MLflow allows it: letters, digits, underscores, hyphens, periods, spaces and slashes.

    A part that has other characters gets a piece of its hash, so that names stay different.
    """
    return "/".join(map(_allowed, path.split("/")))


def _allowed(part: str) -> str:
    plain = _FORBIDDEN.sub("_", part)
    if plain == part and part.strip(". ") == part and part:
        return part
    return f"{plain.strip('. ')}-{hashlib.sha256(part.encode(errors='surrogatepass')).hexdigest()[:4]}"


def _parts(items: Sequence[Any], longest: int) -> Iterator[Sequence[Any]]:
    for first in range(0, len(items), longest):
        yield items[first : first + longest]
