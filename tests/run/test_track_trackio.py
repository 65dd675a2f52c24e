"""Trackio's local database, read back by its own reader."""

from __future__ import annotations

import math
import sys

import pytest

from collapse_sim.run import tracking
from collapse_sim.run.track_trackio import Trackio
from collapse_sim.run.trackers import TrackedBatch, TrackedCurve, TrackedPoint, TrackedRun, TrackedText
from tests.conftest import TINY
from tests.run.tracked import Points, journal_scores

pytest.importorskip("trackio", reason="trackio needs pillow < 13, which constraints.txt does not have")
pytest.importorskip("trackio.sqlite_storage")


@pytest.fixture(autouse=True)
def _local(tmp_path, monkeypatch) -> None:
    """Trackio reads its folder once, when it is imported."""
    monkeypatch.setattr(tracking, "EVERY_S", 0.0)
    folder = tmp_path / "trackio"
    monkeypatch.setenv("TRACKIO_DIR", str(folder))
    for module in [module for name, module in sys.modules.items() if name.partition(".")[0] == "trackio"]:
        for name, at in (("TRACKIO_DIR", folder), ("MEDIA_DIR", folder / "media")):
            if hasattr(module, name):
                monkeypatch.setattr(module, name, at)


def points_in(project: str) -> Points:
    """By curve; no point may be there twice."""
    from trackio import Api
    from trackio.sqlite_storage import SQLiteStorage

    points: Points = {}
    (run,) = Api().runs(project)
    for row in SQLiteStorage.get_logs(project, run.name):
        for name, value in row.items():
            if name not in ("step", "timestamp") and not isinstance(value, dict):
                assert row["step"] not in points.setdefault(name, {}), f"{name} has a point twice"
                points[name][row["step"]] = value
    return points


def test_its_scores_are_the_journals(sandbox, capsys):
    sandbox.run(TINY, generations=1, trackers={"trackio": Trackio()})
    sandbox.run(TINY, trackers={"trackio": Trackio()})
    sandbox.run(TINY, trackers={"trackio": Trackio()})
    done = capsys.readouterr()
    assert (done.out, "trackio" in done.err) == ("", False), done.err
    from trackio import context_vars

    assert context_vars.current_run.get() is None, "it would print when Python ends"
    points = points_in("tiny")
    scores = {path: curve for path, curve in points.items() if path.startswith("test_loss")}
    assert scores == journal_scores(sandbox.root / "run")
    assert list(points["train_loss/generation 002/replace/seed 1"]) == [5, 10, 15, 20]
    assert list((sandbox.root / "trackio" / "media").rglob("*.png"))


def test_a_batch_that_is_sent_again_adds_what_is_missing(tmp_path):
    run = TrackedRun("toy", "toy", tmp_path, "ab12", True)
    curve = TrackedCurve("fid", ("accumulate+distill, \u65e5", "seed 0"))
    points = [TrackedPoint(curve, k, value) for k, value in enumerate([1.5, math.nan, 2.5])]
    Trackio().open(run).send(TrackedBatch(0, 5.0, False, points[:2], texts=[TrackedText("texts", 0, "# a")]))
    Trackio().open(run).send(TrackedBatch(0, 5.0, True, points))
    found = points_in("toy")[curve.path]
    assert (found[0], found[2], str(found[1])) == (1.5, 2.5, "nan")


def test_nothing_is_sent_to_a_server_twice(tmp_path, monkeypatch):
    monkeypatch.setenv("TRACKIO_SERVER_URL", "http://127.0.0.1:9")
    from collapse_sim.run.track_trackio import TrackioSender

    TrackioSender("toy", "toy").send(TrackedBatch(0, 5.0, True))


def test_a_server_that_refuses_ends_nothing(sandbox, monkeypatch, capsys):
    """It asks for a token."""
    monkeypatch.setenv("TRACKIO_SERVER_URL", "http://127.0.0.1:9")
    sandbox.run(TINY, generations=1, seeds=[0], trackers={"trackio": Trackio()})
    assert capsys.readouterr().err.count("warning: trackio cannot be reached: ValueError: Self-hosted") == 1
