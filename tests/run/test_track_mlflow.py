"""MLflow: a store of files, read back by its own client."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from collapse_sim.run import tracking
from collapse_sim.run.track_mlflow import MLflow, metric_name
from collapse_sim.run.trackers import TrackedBatch, TrackedCurve, TrackedPoint, TrackedRecipe, TrackedRun
from tests.conftest import TINY
from tests.run.tracked import Points, journal_scores

pytest.importorskip("mlflow", reason="mlflow-skinny is in the extra dev")
pytestmark = pytest.mark.filterwarnings(  # MLflow's own imports and its own store
    "ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::PendingDeprecationWarning"
)


@pytest.fixture(autouse=True)
def _in_files(tmp_path, monkeypatch) -> Iterator[None]:
    """Without a server and a database; and what MLflow sets in the environment is taken back."""
    before = dict(os.environ)
    monkeypatch.setattr(tracking, "EVERY_S", 0.0)
    for name, value in {
        "HOME": str(tmp_path),
        "MLFLOW_TRACKING_URI": (tmp_path / "mlruns").as_uri(),
        "MLFLOW_ALLOW_FILE_STORE": "true",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    }.items():
        monkeypatch.setenv(name, value)
    yield
    for name in set(os.environ) - set(before):
        monkeypatch.delenv(name)


def client():
    from mlflow.tracking import MlflowClient

    return MlflowClient()


def the_run(project: str):
    experiment = client().get_experiment_by_name(project)
    (run,) = client().search_runs([experiment.experiment_id])
    return run


def points_in(project: str) -> Points:
    """By MLflow's name; no point may be there twice."""
    run, points = the_run(project), {}
    for name in run.data.metrics:
        history = client().get_metric_history(run.info.run_id, name)
        points[name] = {metric.step: metric.value for metric in history}
        assert len(points[name]) == len(history), f"{name} has a point twice"
    return points


def expected(folder) -> Points:
    return {metric_name(path): curve for path, curve in journal_scores(folder).items()}


def test_its_scores_are_the_journals(sandbox):
    sandbox.run(TINY, generations=1, trackers={"mlflow": MLflow()})
    sandbox.run(TINY, trackers={"mlflow": MLflow()})
    sandbox.run(TINY, trackers={"mlflow": MLflow()})
    points = points_in("tiny")
    scores = {path: curve for path, curve in points.items() if path.startswith("test_loss")}
    assert scores == expected(sandbox.root / "run")
    assert list(points["train_loss/generation 002/replace/seed 1"]) == [5, 10, 15, 20]
    run = the_run("tiny")
    assert run.info.status == "FINISHED"
    assert run.data.params["train.batch_size"] == "32"
    paths = {file.path for file in client().list_artifacts(run.info.run_id)}
    assert paths == {"recipe.yaml", "pictures"}
    assert [f.path for f in client().list_artifacts(run.info.run_id, "pictures/comparison")] == [
        "pictures/comparison/001", "pictures/comparison/002",
    ]  # fmt: skip


def test_a_batch_that_is_sent_again_adds_what_is_missing(tmp_path):
    run = TrackedRun("toy", "a project", tmp_path, "ab12", True)
    curve = TrackedCurve("fid", ("accumulate+distill, \u65e5", "seed 0"))
    points = [TrackedPoint(curve, k, value) for k, value in enumerate([1.5, float("nan"), 2.5])]
    recipe = TrackedRecipe("name: toy\n", {"train.steps": 3, "arms.a+b": "x" * 9000})
    sender = MLflow().open(run)
    sender.send(TrackedBatch(0, 5.0, False, points[:2], recipe=recipe))
    sender.finish("interrupted")
    assert the_run("a project").info.status == "KILLED"
    sender = MLflow().open(run)
    assert the_run("a project").info.status == "RUNNING"
    changed = TrackedRecipe("name: toy\n", {"train.steps": 4, "seeds": 2})
    sender.send(TrackedBatch(0, 5.0, True, points, recipe=changed))
    (found,) = points_in("a project").values()
    assert (found[0], found[2], str(found[1])) == (1.5, 2.5, "nan")
    assert the_run("a project").data.params["train.steps"] == "3", "which MLflow does not let change"
    assert the_run("a project").data.params["seeds"] == "2"


def test_a_server_that_is_away_ends_nothing(sandbox, monkeypatch, capsys):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    sandbox.run(TINY, generations=1, seeds=[0], trackers={"mlflow": MLflow()})
    assert capsys.readouterr().err.count("warning: mlflow cannot be reached: MlflowException: API request") == 1


def test_names_of_metrics():
    assert metric_name("test_loss/replace/mean of 3 seeds") == "test_loss/replace/mean of 3 seeds"
    odd = ["a+b/seed 0", "a,b/seed 0", "../seed 0", "./seed 0", "/seed 0", "class_recall[3]/a"]
    names = [metric_name(name) for name in odd]
    assert len(set(names)) == len(odd)
    assert all(not set(name) & set("+,[]") and ".." not in name for name in names)
