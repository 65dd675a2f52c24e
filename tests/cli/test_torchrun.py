"""`torchrun -m collapse_sim run` in processes of its own: what is printed, a killed rank, wrong environments."""

from __future__ import annotations

import re
import signal
import subprocess
import time
from pathlib import Path

import psutil
import pytest

from collapse_sim.ui.console import say, say_as
from tests.commands import commands
from tests.conftest import artefacts
from tests.rank_pool import free_port

ROOT = Path(__file__).parents[2]
RECIPE = """
name: ranks
data: {use: digits, rows: 60, held_out_rows: 20}
model: {use: vae, hidden: 16, latent: 2}
train: {steps: STEPS, batch_size: 32, evaluate: never}
samples: 50
sampling: {shard: 20}
generations: 1
seeds: [3]
arms: {replace: {data: replace}}
metrics: [test_loss]
"""


@pytest.fixture
def start(tmp_path):
    """Start a command line of Python in the test's folder."""
    with commands(tmp_path) as start:
        yield start


def torchrun(steps: int, folder: Path) -> list[str]:
    path = folder / f"{steps}.yaml"
    path.write_text(RECIPE.replace("STEPS", str(steps)).lstrip())
    launcher = ["-m", "torch.distributed.run", "--nproc_per_node=2", f"--master_port={free_port()}"]
    return [*launcher, "-m", "collapse_sim", "run", str(path), "--checkpoint-seconds", "0.2"]


@pytest.mark.slow
def test_a_rank_that_is_killed_ends_the_others_and_the_same_command_continues(start, tmp_path):
    """To the bytes of two ranks that nothing disturbed."""
    steps = 800
    first = start(*torchrun(steps, tmp_path), "--out", "run", "--store", "store")
    deadline = time.monotonic() + 240
    while not list((tmp_path / "store").glob("partial/*/step-*.json")):
        assert time.monotonic() < deadline
        assert first.poll() is None, first.communicate()
        time.sleep(0.02)
    ranks = {}
    for child in psutil.Process(first.pid).children():
        ranks[child.environ().get("RANK")] = child
    ranks["1"].send_signal(signal.SIGKILL)
    killed = time.monotonic()
    psutil.wait_procs([ranks["0"]], timeout=60)
    assert not ranks["0"].is_running()
    assert time.monotonic() - killed < 30
    _, said = first.communicate(timeout=60)
    assert first.returncode != 0
    assert "finished work is kept, and the same command continues the run" in said, said
    assert not list((tmp_path / "store").glob("objects/*/*/*/model.safetensors"))
    again = start(*torchrun(steps, tmp_path), "--out", "run", "--store", "store")
    printed, said = again.communicate(timeout=300)
    assert again.returncode == 0, said
    assert printed == "run\n"
    assert "rank 1" not in said
    whole = start(*torchrun(steps, tmp_path), "--out", "whole", "--store", "undisturbed")
    assert whole.wait(300) == 0
    assert artefacts(tmp_path / "store") == artefacts(tmp_path / "undisturbed")


def words(folder: Path) -> list[object]:
    path = folder / "recipe.yaml"
    path.write_text(RECIPE.replace("STEPS", "2").lstrip())
    return ["-m", "collapse_sim", "run", path, "--out", "run"]


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"RANK": 2}, r"error: RANK=2: WORLD_SIZE=2 allows 0 to 1; start the run with torchrun"),
        ({"RANK": 1, "MASTER_PORT": 1}, r"error: WORLD_SIZE=2, but MASTER_ADDR, the machine of rank 0, is not set"),
    ],
)
def test_an_environment_that_contradicts_itself_is_refused_before_anything(start, tmp_path, environment, message):
    process = start(*words(tmp_path), WORLD_SIZE=2, **environment)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 2
    assert re.search(message, said)
    assert not (tmp_path / "run").exists()


def test_the_documented_scripts_are_shell_scripts():
    """bash reads them without running them; both start the command of the page."""
    page = (ROOT / "docs" / "distributed.md").read_text()
    scripts = re.findall(r"```bash\n(#!/bin/bash\n.*?)```", page, re.DOTALL)
    assert len(scripts) == 2
    for script in scripts:
        checked = subprocess.run(["bash", "-n"], input=script, capture_output=True, text=True, timeout=30)
        assert (checked.returncode, checked.stderr) == (0, "")
        assert "run mine.yaml --out runs/mine --store runs/.store" in script


def test_messages_of_another_rank_begin_with_its_name(capsys):
    say_as("rank 1 of 2 on node7")
    try:
        say("error: no data")
        say("error: rank 1 of 2 on node7: lost")
    finally:
        say_as("")
    say("done")
    assert capsys.readouterr().err.splitlines() == [
        "rank 1 of 2 on node7: error: no data", "error: rank 1 of 2 on node7: lost", "done",
    ]  # fmt: skip
