"""The git revision of a checkout, and when a process began."""

from __future__ import annotations

import os
import shutil
import subprocess
import time

import psutil
import pytest

from collapse_sim.store.process import environment, revision, started


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


def test_when_a_process_began():
    """The same until it ends, other than that of its child; nothing once it has ended, even before it is waited for."""
    child = subprocess.Popen(["sleep", "60"])
    ours, begun = started(os.getpid()), started(child.pid)
    assert ours == started(os.getpid())
    assert int(begun) >= int(ours) > 0
    assert int(ours) == pytest.approx(psutil_start(os.getpid()), abs=2)
    child.kill()
    deadline = time.monotonic() + 30
    while started(child.pid) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert started(child.pid) == ""
    child.wait()
    assert started(child.pid) == ""


def psutil_start(pid: int) -> float:
    """The start of a process as psutil has it, in ticks since the kernel's start."""
    return (psutil.Process(pid).create_time() - psutil.boot_time()) * os.sysconf("SC_CLK_TCK")
