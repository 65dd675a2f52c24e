"""Weights & Biases offline: its own file, read back record by record."""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from collapse_sim.run import track_wandb, tracking
from collapse_sim.run.track_wandb import WandB
from collapse_sim.run.trackers import TrackedBatch, TrackedCurve, TrackedPoint, TrackedRun, TrackedText
from tests.conftest import TINY
from tests.run.tracked import Points, journal_scores

wandb = pytest.importorskip("wandb", reason="wandb is in the extra dev")
BLOCK, HEADER = 32768, 7  # of a file of wandb, which is a log of LevelDB with a header of its own


@pytest.fixture(autouse=True)
def _offline(tmp_path, monkeypatch) -> Iterator[None]:
    """Nothing is written elsewhere, and wandb's own process ends with the test."""
    monkeypatch.setattr(tracking, "EVERY_S", 0.0)
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("WANDB_MODE", "offline")
    for name in ("HOME", "WANDB_CONFIG_DIR", "WANDB_CACHE_DIR", "WANDB_DATA_DIR", "WANDB_ARTIFACT_DIR"):
        monkeypatch.setenv(name, str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    yield
    wandb.teardown()


def records(path: Path) -> Iterator[Any]:
    """The records of a file, whole ones only."""
    from wandb.proto.wandb_internal_pb2 import Record

    content, at, whole = path.read_bytes(), HEADER, b""
    while at + HEADER <= len(content):
        if BLOCK - at % BLOCK < HEADER:
            at += BLOCK - at % BLOCK
            continue
        length, kind = struct.unpack("<HB", content[at + 4 : at + HEADER])
        whole += content[at + HEADER : at + HEADER + length]
        at += HEADER + length
        if kind in (1, 4):  # the whole record, or its last piece
            record = Record()
            record.ParseFromString(whole)
            yield record
            whole = b""


def rows(folder: Path) -> list[dict[str, Any]]:
    """The history's rows of all sessions, in their order."""
    wandb.teardown()  # its process has written everything when it has ended
    files = sorted(folder.glob("wandb/offline-run-*/*.wandb"))
    history = [record.history for file in files for record in records(file) if record.HasField("history")]
    return [
        {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in each.item} for each in history
    ]


def points_in(folder: Path) -> Points:
    """By curve; no point may be there twice."""
    points: Points = {}
    for row in rows(folder):
        for axis in ("generation", "update"):
            for name, value in row.items() if axis in row else ():
                if not name.startswith("_") and name != axis and not isinstance(value, dict):
                    assert row[axis] not in points.setdefault(name, {}), f"{name} has a point twice"
                    points[name][row[axis]] = value
    return points


def test_its_scores_are_the_journals(sandbox):
    sandbox.run(TINY, generations=1, trackers={"wandb": WandB()})
    sandbox.run(TINY, trackers={"wandb": WandB()})
    sandbox.run(TINY, trackers={"wandb": WandB()})
    points = points_in(sandbox.root / "run")
    scores = {path: curve for path, curve in points.items() if path.startswith("test_loss")}
    assert scores == journal_scores(sandbox.root / "run")
    assert list(points["train_loss/generation 002/replace/seed 1"]) == [5, 10, 15, 20]
    pictures = [row for row in rows(sandbox.root / "run") if "pictures/comparison/path" in row]
    assert [row["generation"] for row in pictures] == [1, 2]
    first, *_ = sorted((sandbox.root / "run").glob("wandb/offline-run-*/*.wandb"))
    settings = {item.key: item.value_json for r in records(first) for item in r.config.update}
    settings |= {item.key: item.value_json for r in records(first) for item in r.run.config.update}
    assert settings["train.batch_size"] == "32"
    assert {path.name for path in sandbox.root.iterdir()} <= {"run", ".store", "data", "home", "recipe.yaml"}


def test_rows_that_the_server_has_are_left_out(tmp_path, monkeypatch):
    """Of a batch that is sent again: the numbers of its rows are those of the first time."""
    run = TrackedRun("toy", "toy", tmp_path, "ab12", True)
    curve = TrackedCurve("fid", ("replace", "seed 0"))
    batch = TrackedBatch(2, 5.0, False, [TrackedPoint(curve, k, float(k)) for k in range(4)])
    text = TrackedText("texts", 3, "<script>")
    sender = WandB().open(run)
    sender._first = 2 * track_wandb.ROWS + 3
    sender.send(batch)
    sender.send(TrackedBatch(3, 6.0, texts=[text]))
    sender.finish("interrupted")
    assert points_in(tmp_path)["fid/replace/seed 0"] == {3: 3.0}
    assert rows(tmp_path)[0]["_step"] == 2 * track_wandb.ROWS + 3
    (page,) = tmp_path.glob("wandb/offline-run-*/files/media/html/*.html")
    assert "&lt;script&gt;" in page.read_text()


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({}, "no account: run `wandb login`, or set WANDB_MODE=offline"),
        ({"WANDB_API_KEY": "a" * 40, "WANDB_BASE_URL": "http://127.0.0.1:9"}, "CommError"),
    ],
    ids=["no account", "no server"],
)
@pytest.mark.slow
def test_what_cannot_be_reached_ends_nothing(sandbox, monkeypatch, capsys, settings, reason):
    monkeypatch.setattr(track_wandb, "TIMEOUT_S", 3.0)
    for name, value in {"WANDB_MODE": "online", **settings}.items():
        monkeypatch.setenv(name, value)
    sandbox.run(TINY, generations=1, seeds=[0], trackers={"wandb": WandB()})
    assert capsys.readouterr().err.count(f"warning: wandb cannot be reached: {reason}") == 1
