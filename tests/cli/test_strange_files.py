"""Named pipes, link loops and folders in place of a run's and a store's files, and commands that only read."""

from __future__ import annotations

import os

import pytest

from tests.odd_files import put

READ = (["status", "tiny"], ["compare", "tiny"], ["cache", "list"], ["cache", "gc"])
NAMED = {  # what lies in the way of these commands: exit 5; all others go on
    "runs/tiny/run.json": ("status", "compare", "run", "sample"),
    "runs/tiny/journal.jsonl": ("status", "compare", "run", "sample"),
    "runs/tiny/recorded.json": (),
    "runs/tiny/live.json": (),
    "runs/tiny/recipe.yaml": ("sample",),
    "runs/.store/runs/*.json": (),
}


@pytest.mark.parametrize("kind", ["pipe", "loop"])
@pytest.mark.parametrize("pattern", NAMED)
def test_something_else_in_place_of_a_file(shell, recipe, pattern, kind):
    """An error that names it, or it is passed over and written anew; never a traceback or a wait."""
    name = recipe()
    shell("run", name, "-q")
    whole = shell.artefacts()
    (path,) = shell.root.glob(pattern)
    put(kind, path)
    for words in (*READ, ["sample", "tiny", "--out", "x.npz"], ["run", name, "-q"]):
        code = 5 if words[0] in NAMED[pattern] else 0
        assert code == 0 or path.name in shell(*words, code=code).err
        if code == 0:
            said = shell(*words).err
            assert words[0] != "cache" or "store/runs" not in pattern or f"{path.name}: damaged (" in said
    assert shell.artefacts() == whole
    if "run" not in NAMED[pattern]:
        assert path.is_file()
        for words in READ:
            assert "damaged" not in shell(*words).err


@pytest.mark.parametrize("pattern", NAMED)
def test_a_folder_in_place_of_a_file_is_named(shell, recipe, pattern):
    """It may hold something, so nothing but a person removes it."""
    name = recipe()
    shell("run", name, "-q")
    (path,) = shell.root.glob(pattern)
    put("folder", path)
    if path.name == "live.json":
        shell("run", name, "-q")
        return
    assert path.name in shell("run", name, "-q", code=5).err
    assert (path / "x").is_dir()


def test_what_only_reads_changes_nothing(shell, recipe, monkeypatch):
    """Neither files nor the times of folders: no lock, no probe and no tidying up, so a read-only disk will do."""
    shell("run", recipe(), "-q")
    for path in sorted(shell.root.rglob("*")):
        if os.geteuid() != 0 and path.is_dir():
            path.chmod(0o555)
    scratch = shell.root / "runs" / ".store" / "tmp"

    def state() -> dict[str, int]:
        return {str(path): path.lstat().st_mtime_ns for path in (shell.root / "runs").rglob("*")}

    before = state()
    out = shell.root.parent / "out"
    for words in (
        *READ, ["verify", "tiny"], ["watch", "tiny", "--once"], ["cache", "verify"], ["cache", "list", "--by-run"],
        ["sample", "tiny", "--out", out / "x.npz"], ["export", "tiny", "--to", out / "tiny"],
    ):  # fmt: skip
        shell(*words)
        assert state() == before, words
    assert scratch.is_dir()
    for path in shell.root.rglob("*"):
        if path.is_dir():
            path.chmod(0o755)
