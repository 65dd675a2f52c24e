"""TensorBoard's files, read back by its own reader."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from collapse_sim.run import tracking
from collapse_sim.run.sent import SENT_FILE
from collapse_sim.run.track_tensorboard import TensorBoard
from collapse_sim.run.trackers import TrackedBatch, TrackedCurve, TrackedPoint, TrackedRun
from tests.conftest import TINY
from tests.run.event_files import in_32_bits, points_in, read
from tests.run.tracked import Points, journal_scores


def expected(folder: Path) -> Points:
    """The journal's scores as TensorBoard can hold them: in 32 bits."""
    return {
        path.replace(" ", "-"): {k: in_32_bits(value) for k, value in curve.items()}
        for path, curve in journal_scores(folder).items()
    }


@pytest.fixture(autouse=True)
def _a_batch_for_each_generation(monkeypatch):
    monkeypatch.setattr(tracking, "EVERY_S", 0.0)


def scores_in(folder: Path) -> Points:
    return {path: curve for path, curve in points_in(folder).items() if path.startswith("test_loss")}


def test_its_scores_are_the_journals_to_the_digit(sandbox):
    folder = sandbox.root / "run" / "tensorboard"
    sandbox.run(TINY, generations=1, trackers={"tensorboard": TensorBoard()})
    assert scores_in(folder) == expected(sandbox.root / "run")
    sandbox.run(TINY, trackers={"tensorboard": TensorBoard()})
    sandbox.run(TINY, trackers={"tensorboard": TensorBoard()})
    assert scores_in(folder) == expected(sandbox.root / "run")
    curves = points_in(folder)
    assert list(curves["train_loss/generation 002/replace/seed-1"]) == [5, 10, 15, 20]
    assert set(curves["costs/sampling_s/replace/seed-0"]) == {0, 1, 2}


def test_pictures_recipe_and_settings(sandbox):
    folder = sandbox.root / "run" / "tensorboard"
    sandbox.run(TINY, generations=1, trackers={"tensorboard": TensorBoard()})
    root = read(folder)
    assert [event.step for event in root.Images("pictures/00-replace")] == [0, 1]
    image = root.Images("pictures/00-replace")[1]
    assert image.encoded_image_string == next((sandbox.root / "run/pictures").glob("00-replace-*001.png")).read_bytes()
    assert [event.step for event in root.Images("pictures/comparison")] == [1]
    (recipe,) = root.Tensors("recipe")
    assert "    name: tiny\n" in recipe.tensor_proto.string_val[0].decode()
    from tensorboard.plugins.hparams.metadata import SESSION_START_INFO_TAG, parse_session_start_info_plugin_data

    metadata = read(folder / "replace").SummaryMetadata(SESSION_START_INFO_TAG)
    settings = parse_session_start_info_plugin_data(metadata.plugin_data.content).hparams
    assert settings["data.use"].string_value == "replace"


def test_a_batch_that_is_sent_again_replaces_itself(tmp_path):
    run = TrackedRun("toy", "toy", tmp_path, "ab", True)
    point = TrackedPoint(TrackedCurve("fid", ("../evil\narm", "seed 0")), 0, 1.5)
    huge = TrackedPoint(TrackedCurve("fid", ("../evil\narm", "seed 0")), 1, 1e300)
    sender = TensorBoard().open(run)
    sender.send(TrackedBatch(0, 5.0, False, [point]))
    sender = TensorBoard().open(replace(run, fresh=False))
    sender.send(TrackedBatch(0, 5.0, False, [point, huge]))
    (curve,) = points_in(tmp_path / "tensorboard").values()
    assert curve == {0: 1.5, 1: float("inf")}
    assert {path.name for path in tmp_path.iterdir()} == {"tensorboard"}, "a name of an arm leads nowhere else"


def test_what_was_sent_is_lost(sandbox):
    sandbox.run(TINY, generations=1, trackers={"tensorboard": TensorBoard()})
    (sandbox.root / "run" / SENT_FILE).unlink()
    sandbox.run(TINY, generations=1, trackers={"tensorboard": TensorBoard()})
    assert scores_in(sandbox.root / "run" / "tensorboard") == expected(sandbox.root / "run")


def test_a_folder_that_cannot_be_written_ends_nothing(sandbox, capsys):
    (sandbox.root / "run").mkdir()
    (sandbox.root / "run" / "tensorboard").write_text("in the way")
    sandbox.run(TINY, generations=1, seeds=[0], trackers={"tensorboard": TensorBoard()})
    assert capsys.readouterr().err.count("warning: tensorboard cannot be reached: FileExistsError") == 1
