"""The git revision of a checkout."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from collapse_sim.store.process import environment, revision


def test_without_a_checkout_there_is_none(tmp_path):
    assert revision(tmp_path) == ""


def test_a_folder_that_only_looks_like_a_checkout(tmp_path):
    (tmp_path / ".git").mkdir()
    assert revision(tmp_path) == ""


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
def test_the_commit_and_whether_files_are_changed(tmp_path):
    def git(*words: str) -> str:
        command = ["git", "-C", str(tmp_path), "-c", "user.name=n", "-c", "user.email=e", *words]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    git("init")
    (tmp_path / "file").write_text("1")
    git("add", "file")
    git("commit", "-m", "one")
    git("tag", "v1")
    commit = git("rev-parse", "HEAD")
    assert revision(tmp_path) == commit
    (tmp_path / "file").write_text("2")
    assert revision(tmp_path) == f"{commit}-dirty"


def test_no_git(tmp_path, monkeypatch):
    (tmp_path / ".git").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path))
    assert revision(tmp_path) == ""


def test_versions():
    assert {"collapse-sim", "python", "torch"} <= set(environment())
