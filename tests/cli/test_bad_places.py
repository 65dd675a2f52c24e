"""Folders that cannot be written to, a full disk, and run directories that are not this recipe's."""

from __future__ import annotations

import errno
import json
import os
import shutil
import threading
from collections import namedtuple
from pathlib import Path

import pytest

Usage = namedtuple("Usage", "total used free")


@pytest.mark.parametrize("dry", [[], ["--dry-run"]])
@pytest.mark.parametrize(
    ("options", "place", "option"),
    [
        (["--out", "file"], "file", "--out"),
        (["--out", "file/run"], "file/run", "--out"),
        (["--out", "file/deep/run"], "file/deep/run", "--out"),
        (["--store", "file"], "file", "--store"),
        (["--store", "file/store"], "file/store", "--store"),
    ],
)
def test_a_place_below_a_file(shell, recipe, options, place, option, dry):
    (shell.root / "file").write_text("mine")
    text = shell.refused("run", recipe(), *options, *dry, code=5)
    blocking = shell.root / "file"
    assert text == (
        f"error: {place}: cannot write: {blocking} is a file, not a folder; choose another place with {option}\n"
    )


@pytest.mark.parametrize("option", ["--out", "--store"])
def test_a_place_without_permission(shell, recipe, monkeypatch, option):
    (shell.root / "theirs").mkdir()
    real = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path).name != "theirs" and real(path, mode))
    text = shell.refused("run", recipe(), option, "theirs/x", code=5)
    place = shell.root / "theirs"
    assert text == f"error: theirs/x: cannot write: no permission for {place}; choose another place with {option}\n"


@pytest.mark.parametrize(("number", "reason"), [(errno.EACCES, "Permission denied"), (errno.EROFS, "Read-only file")])
def test_a_store_that_refuses_to_be_written(shell, recipe, monkeypatch, number, reason):
    """What only trying shows."""

    def touch(path: Path, *, exist_ok: bool) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(Path, "touch", touch)
    text = shell("run", recipe(), code=5).err
    assert text.startswith(f"error: runs/.store: cannot write: {reason}")
    assert text.endswith("choose another place with --store\n")
    assert not (shell.root / "runs" / "tiny").exists()


@pytest.mark.parametrize("dry", [[], ["--dry-run"]])
def test_a_disk_too_full_for_the_run(shell, recipe, monkeypatch, dry):
    asked = []
    monkeypatch.setattr(shutil, "disk_usage", lambda path: asked.append(Path(path)) or Usage(10**9, 10**9 - 1234, 1234))
    text = shell.refused("run", recipe(), "--store", "deep/down", *dry, code=5)
    assert text == (
        "error: deep/down: the disk is too full: this run still writes up to 67 MB, 1 KB are free; free some space "
        "(`collapse-sim cache gc` lists what no run refers to) or choose another disk with --store\n"
    )
    assert asked == [shell.root], "the disk on which the store will be"


def test_what_is_there_needs_no_space(shell, recipe, monkeypatch):
    """A large run has to fit as a whole; when it is done, continuing it needs next to nothing."""
    name = recipe(("samples: 150", "samples: 20000"), ("hidden: 16", "hidden: 4"))
    plan = shell("run", name, "--dry-run", "--json").json
    assert plan["bytes_to_come"] > 3 * 20000 * 64

    def space(path):
        return Usage(0, 0, 67.2e6)  # barely more than is left for journals, pictures and checkpoints

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", space)
        assert "the disk is too full: this run still writes up to 72 MB, 67 MB are free" in shell.refused(
            "run", name, code=5
        )
    shell("run", name, "-q")
    monkeypatch.setattr(shutil, "disk_usage", space)
    assert shell("run", name, "--json", "-q").json["made"] == 0


class FullAt:
    """Lets the n-th flush to the disk by this thread fail, as on a disk that fills up."""

    def __init__(self, n: int) -> None:
        self.left, self.thread, self.real = n, threading.get_ident(), os.fsync

    def __call__(self, handle: int) -> None:
        if threading.get_ident() == self.thread:
            self.left -= 1
            if self.left < 0:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self.real(handle)


@pytest.mark.parametrize("n", [0, 1, 4, 7, 12, 19, 27])
def test_a_disk_that_fills_up(shell, recipe, monkeypatch, n):
    """Wherever it happens: finished work is kept, and the same command continues."""
    name = recipe()
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", FullAt(n))
        done = shell("run", name, "--checkpoint-seconds", "0", code=5)
    assert done.out == ""
    assert ": cannot write: No space left on device; finished work is kept: free some space (" in done.err
    assert done.err.endswith("lists what no run refers to), then run the same command again\n")
    finished = shell.artefacts()
    assert not list((shell.store / "tmp").iterdir())
    result = shell("run", name, "--checkpoint-seconds", "0.01", "--json", "-q").json
    assert result["made"] == 10 - len(finished)
    assert finished.items() <= shell.artefacts().items()
    shell("cache", "verify")


def test_a_run_of_a_different_recipe(shell, recipe):
    shell("run", recipe(), "-q")
    other = recipe(
        ("steps: 20", "steps: 30, clip_norm: 1"), ("hidden: 16", "hidden: 32"), ("data: replace", "data: accumulate")
    )
    text = (
        "error: runs/tiny: holds a run of a different recipe; choose another folder with --out, or undo:\n"
        "  model.hidden: 16 there, 32 here\n"
        "  train.steps: 20 there, 30 here\n"
        "  train.clip_norm: nothing there, 1.0 here\n"
        '  arms.replace.data.use: "replace" there, "accumulate" here\n'
    )
    assert shell.refused("run", other, code=2) == text
    assert shell("run", other, "--dry-run", code=2).err == text
    shell("run", other, "-q", "--out", "runs/other")


def test_a_metric_with_other_settings(shell, recipe):
    shell("run", recipe(("metrics: [test_loss]", "metrics: [{use: fid, features: pixels, rows: 20}]")), "-q")
    text = shell.refused("evaluate", "tiny", "--metric", "{use: fid, features: pixels, rows: 30}", code=2)
    assert text.endswith("undo:\n  metrics.fid.rows: 20 there, 30 here; or give it another name with `as:`\n")
    shell("evaluate", "tiny", "--metric", "{use: fid, features: pixels, rows: 30, as: fid30}", "-q")


def test_a_run_of_other_data(shell, recipe):
    import numpy as np

    name = recipe(("use: digits, rows: 200, held_out_rows: 50", "use: image_folder, path: pictures.npy"))
    (shell.root / "data").mkdir()
    np.save(shell.root / "data" / "pictures.npy", np.full((60, 8, 8), 7, np.uint8))
    shell("run", name, "-q")
    np.save(shell.root / "data" / "pictures.npy", np.full((60, 8, 8), 8, np.uint8))
    text = shell.refused("run", name, code=2)
    assert "runs/tiny: holds a run of a different recipe; choose another folder with --out, or undo:\n" in text
    assert "\n  data: the files had different content there\n" in text


def spoil_run(shell, **changes: object) -> None:
    path = shell.root / "runs" / "tiny" / "run.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize(
    "words",
    [["run", "r.yaml"], ["run", "r.yaml", "--dry-run"], ["status", "tiny"], ["compare", "tiny"], ["verify", "tiny"]],
)
def test_a_run_of_a_newer_schema(shell, recipe, words):
    recipe()
    shell("run", "r.yaml", "-q")
    spoil_run(shell, schema=9)
    assert shell.refused(*words, code=5) == (
        "error: runs/tiny/run.json: written by a newer collapse-sim (schema 9, this one knows 1): update collapse-sim\n"
    )


@pytest.mark.parametrize("content", ["", "{", "[]", '{"schema": 1}', '{"schema": "x"}', "\x00" * 10])
@pytest.mark.parametrize("words", [["run", "r.yaml"], ["status", "tiny"], ["compare", "tiny"]])
def test_a_damaged_run_directory(shell, recipe, words, content):
    recipe()
    (shell.root / "runs" / "tiny").mkdir(parents=True)
    (shell.root / "runs" / "tiny" / "run.json").write_text(content)
    text = shell.refused(*words, code=5)
    assert text.startswith("error: runs/tiny/run.json: damaged (")
    assert text.endswith(
        "; run the recipe again with another --out beside this one: finished work is found in the store\n"
    )


@pytest.mark.parametrize("words", [["run", "r.yaml"], ["status", "tiny"], ["compare", "tiny"]])
def test_a_damaged_journal(shell, recipe, words):
    """A torn last line is dropped without a word; one that no kill can have left is named, and left out."""
    recipe()
    shell("run", "r.yaml", "-q")
    path = shell.root / "runs" / "tiny" / "journal.jsonl"
    with path.open("a") as journal:
        journal.write('{"hash":"0123456789abcdef","event":"scores","gener')
    assert "damaged" not in shell(*words).err
    path.write_text(path.read_text().rpartition("\n")[0] + '\n{"event": "scores"}\n')
    number = len(path.read_text().splitlines())
    assert f"runs/tiny/journal.jsonl: 1 line is damaged and left out (line {number}); " in shell(*words).err
    shell("run", "r.yaml", "-q")
    assert "damaged" not in shell(*words).err
    assert '{"event": "scores"}' not in path.read_text()


def test_the_way_out_of_a_damaged_run_directory(shell, recipe):
    name = recipe()
    shell("run", name, "-q")
    spoil_run(shell, settings=None)
    assert "runs/tiny/run.json: damaged (" in shell.refused("run", name, code=5)
    assert shell("run", name, "--out", "runs/again", "--json", "-q").json["made"] == 0


@pytest.mark.parametrize("word", ["status", "watch", "compare", "verify"])
def test_no_such_run(shell, recipe, word):
    text = shell.refused(word, "nowhere", code=2)
    assert text.startswith("error: nowhere: no run here, neither a run directory nor the name of a run below ./runs")


@pytest.mark.parametrize("word", ["list", "gc", "verify"])
def test_no_store(shell, word):
    assert shell.refused("cache", word, code=5) == (
        "error: runs/.store: no store here; name it with --store (by default it is .store beside the run directories)\n"
    )
