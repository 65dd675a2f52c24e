"""What a run says can fail; the run does not."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
GAUSS = """
data: {use: gaussian, rows: 50}
model: {use: gaussian}
generations: 2
seeds: 3
arms: {replace: {data: replace}}
metrics: [variance_ratio]
"""
COMMAND = [sys.executable, "-m", "collapse_sim"]
FULL = Path("/dev/full")
needs_full = pytest.mark.skipif(not FULL.exists(), reason="needs /dev/full")


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with a recipe; the program is told where the package is, and takes one thread."""
    (tmp_path / "gauss.yaml").write_text(GAUSS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    return tmp_path


def sh(script: str) -> subprocess.CompletedProcess[str]:
    """A line of shell in which $cs is the program."""
    env = os.environ | {"cs": " ".join(COMMAND)}
    return subprocess.run(["bash", "-c", script], env=env, capture_output=True, text=True, timeout=300)


def finished(folder: Path) -> bool:
    """Whether a run is whole: every generation is in its journal, and its last word is that it has finished."""
    lines = [json.loads(line) for line in (folder / "journal.jsonl").read_text().splitlines()]
    live = json.loads((folder / "live.json").read_text())
    return [line["generation"] for line in lines if line["event"] == "generation"] == [0, 1, 2] and (
        live["outcome"] == "finished"
    )


@pytest.mark.parametrize(
    "redirection",
    [
        pytest.param("2>/dev/full >&-", marks=needs_full),
        "<&- >&- 2>&-",
        pytest.param("-v 2>&1 | head -1; exit ${PIPESTATUS[0]}", marks=pytest.mark.slow),
    ],
)
def test_a_run_goes_on_when_nothing_can_be_said(place, redirection):
    done = sh(f"$cs run gauss.yaml {redirection}")
    assert done.returncode == 0, done.stderr
    assert finished(place / "runs" / "gauss")
    assert done.stderr == ""
    status = sh("$cs status gauss").stdout  # where it can be told
    if "/dev/full" in redirection:
        assert "standard error could not be written to (No space left on device)" in status


@needs_full
@pytest.mark.slow
def test_what_could_not_be_said_is_told_where_it_can_be(place):
    done = sh("$cs run gauss.yaml >/dev/full")
    assert done.returncode == 0
    assert done.stderr.splitlines()[-1] == "note: standard output could not be written to: No space left on device"
    assert finished(place / "runs" / "gauss")


def test_no_file_of_ours_gets_the_number_of_a_closed_stream(place):
    """A library that writes to number 2 would write into it."""
    (place / "library.py").write_text(
        "import os, sys\nfrom collapse_sim.ui.streams import ignore_write_errors\nignore_write_errors()\n"
        "file = open('artefact', 'w')\nassert file.fileno() > 2, file.fileno()\nos.write(2, b'x')\nos.write(1, b'x')\n"
    )
    assert sh(f"{sys.executable} library.py <&- >&- 2>&-").returncode == 0
    assert (place / "artefact").read_text() == ""


@needs_full
def test_a_command_that_only_prints_fails_when_its_disk_is_full_and_not_when_its_reader_has_read_enough(place, shell):
    shell("run", "gauss.yaml", "-q")
    for words in ("status", "compare gauss --csv"):
        done = sh(f"$cs {words} >/dev/full")
        assert done.returncode == 5
        assert done.stderr == "error: standard output could not be written to: No space left on device\n"
        assert sh(f"$cs {words} >&-").returncode == 5
        done = sh(f"set -o pipefail; $cs {words} | true")
        assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("term", [pytest.param("dumb", marks=pytest.mark.slow), "xterm"])
def test_the_terminal_is_closed_while_hangups_are_ignored(place, term):
    leader, follower = pty.openpty()
    process = subprocess.Popen(
        [*COMMAND, "run", "gauss.yaml", "--set", "data.rows=4000", "--seed", "0"], stdin=follower, stdout=follower,
        stderr=follower, env=os.environ | {"TERM": term}, start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN),
    )  # fmt: skip
    os.close(follower)
    assert os.read(leader, 10)  # it has said something
    os.close(leader)
    assert process.wait(timeout=300) == 0
    assert finished(place / "runs" / "gauss")


@pytest.mark.slow
def test_an_encoding_without_the_sign_is_no_traceback(place, shell):
    (place / "gauss.yaml").write_text(GAUSS.replace("replace:", '"ersetzené":'))
    shell("run", "gauss.yaml", "-q")
    for words in ("status gauss", "compare gauss", "compare gauss --csv", "watch gauss --once"):
        done = sh(f"PYTHONUTF8=0 PYTHONIOENCODING=ascii:strict $cs {words}")
        assert done.returncode == 0, done.stderr
        assert done.stdout.isascii()
        assert done.stderr.isascii()
        assert "Traceback" not in done.stderr
    document = json.loads(sh("PYTHONIOENCODING=ascii $cs compare gauss --json").stdout)
    assert list(document["arms"]) == ["ersetzené"]


def test_a_line_at_once_and_status_says_starting(place):
    """Before torch is imported, which is made to take long here."""
    slow = place / "slow"
    slow.mkdir()
    (slow / "torch.py").write_text("import time, pathlib\npathlib.Path('importing').touch()\ntime.sleep(60)\n")
    env = os.environ | {"PYTHONPATH": f"{slow}:{ROOT}"}
    process = subprocess.Popen(
        [*COMMAND, "run", "gauss.yaml"], env=env, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL
    )
    try:
        assert process.stderr is not None
        assert process.stderr.readline() == b"reading gauss.yaml ...\n"
        deadline = time.monotonic() + 60
        while not (place / "importing").exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        status = sh("$cs status gauss")
        assert (status.returncode, status.stderr) == (0, "")
        assert f"starting: process {process.pid} on " in status.stdout
        document = json.loads(sh("$cs status gauss --json").stdout)
        assert (document["status"], document["process"]["running"]) == ("starting", True)
        assert [word for line in sh("$cs status").stdout.splitlines()[1:] for word in line.split()[:2]] == [
            "gauss", "starting",
        ]  # fmt: skip
        assert sh("$cs compare gauss").returncode == 2  # there is nothing to compare yet
    finally:
        process.kill()
        process.wait()
        process.stderr.close()
    status = sh("$cs status gauss")
    assert status.returncode == 2
    assert "no run here" in status.stderr
