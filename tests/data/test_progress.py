"""What is said while files are read: only when it takes long, and on stderr."""

from __future__ import annotations

import logging
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from collapse_sim.cli.app import run_app
from collapse_sim.data import progress
from collapse_sim.data.images.image_folder import ImageFolder

from .making import tagged, write_pictures

FILES = ImageFolder(path="pictures")


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    write_pictures(tmp_path / "pictures", tagged(9, 8, 8))
    return tmp_path


def test_progress_is_said_when_it_takes_long(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="collapse_sim")
    FILES.inspect(data_dir)
    assert not caplog.messages  # it was quick
    clock = iter(np.arange(0.0, 100.0, 0.6))
    monkeypatch.setattr(progress, "time", SimpleNamespace(perf_counter=lambda: next(clock)))
    FILES.inspect(data_dir)
    assert caplog.messages == [f"image_folder: checking {data_dir}/pictures, once: 1 of 9 files"]


@pytest.mark.parametrize("quiet", [False, True])
def test_the_command_line_says_it_on_stderr(
    quiet: bool, data_dir: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(progress, "AFTER_S", 0.0)
    recipe = data_dir / "recipe.yaml"
    recipe.write_text(
        "{name: r, data: {use: image_folder, path: pictures}, model: {use: vae, hidden: 4, latent: 2},"
        " train: {steps: 1}, generations: 1, seeds: [0], arms: {a: {data: replace}}, metrics: [test_loss]}"
    )
    words = ["run", str(recipe), "--data-dir", str(data_dir), "--out", str(data_dir / "run"), "--dry-run"]
    assert run_app([*words, *(["--quiet"] if quiet else [])]) == 0
    said = capsys.readouterr()
    assert ("checking" in said.err) == (not quiet)
    assert "checking" not in said.out


def test_it_is_said_after_one_second_and_then_every_five(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="collapse_sim")
    now = 100.0
    monkeypatch.setattr(progress, "time", SimpleNamespace(perf_counter=lambda: now))
    at = progress.Progress("reading", 20_000, "rows").at
    said: list[float] = []
    for tenth in range(200):
        now = 100.0 + tenth / 10
        before = len(caplog.messages)
        at(100 * tenth)
        said += [tenth / 10] * (len(caplog.messages) - before)
    assert said == [1.0, 6.0, 11.0, 16.0]
    assert caplog.messages[1] == "reading: 6,000 of 20,000 rows"
    now += 10
    at(20_000)
    assert len(caplog.messages) == 4  # all are done
