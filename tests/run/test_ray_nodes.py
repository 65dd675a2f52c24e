"""Runs on a cluster of two nodes of one CPU each."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from collapse_sim.run.ray_cluster import QUIET
from tests.commands import Start, commands
from tests.conftest import artefacts
from tests.run.ray_orders import RECIPE, journal, scores

pytest.importorskip("ray", reason="the package ray is not installed: pip install 'collapse-sim[ray]'")

ROOT = Path(__file__).parents[2]
NODE = """
import sys, time
from ray.cluster_utils import Cluster

def tried(action):
    for left in (3, 2, 1, 0):  # Ray gives a node 15 s, too few on a busy machine
        try:
            return action()
        except Exception:
            if not left:
                raise

size = {"num_cpus": 1, "object_store_memory": 80 * 2**20}
cluster = tried(lambda: Cluster(initialize_head=True, head_node_args={**size, "include_dashboard": False}))
second = tried(lambda: cluster.add_node(**size))
print(cluster.address, flush=True)
for line in sys.stdin:
    if line == "remove\\n":
        cluster.remove_node(second, allow_graceful=False)
    else:
        second = tried(lambda: cluster.add_node(**size))
    print("done", flush=True)
cluster.shutdown()
"""


class TwoNodes:
    """A cluster in a process of its own."""

    def __init__(self) -> None:
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"} | QUIET
        self._process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", NODE], env=environment, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        self.address = self._answer()

    def _answer(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    def change(self, what: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{what}\n")
        self._process.stdin.flush()
        assert self._answer() == "done"

    def close(self) -> None:
        self._process.communicate()


@pytest.fixture(scope="module")
def nodes() -> Iterator[TwoNodes]:
    cluster = TwoNodes()
    assert cluster.address, "the cluster did not start"
    yield cluster
    cluster.close()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start `collapse-sim run` in the test's folder."""
    with commands(tmp_path, "-m", "collapse_sim", "run") as start:
        yield start


def recipe(folder: Path, steps: int, text: str = RECIPE) -> Path:
    path = folder / f"{steps}.yaml"
    path.write_text(text.replace("STEPS", str(steps)).lstrip())
    return path


def made(run: Path) -> int:
    return sum(sum(line["made"].values()) for line in journal(run, "generation"))


def until_checkpoints(process: subprocess.Popen, store: Path, count: int) -> None:
    """Wait until so many fits have one."""
    deadline = time.monotonic() + 300
    while len({path.parent for path in store.glob("partial/*/step-*.json")}) < count:
        assert time.monotonic() < deadline
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)


@pytest.mark.slow
def test_numbers_and_bytes_are_those_of_a_plain_run_and_each_artefact_is_made_once(start, tmp_path, nodes):
    words = ("quickstart", "--smoke", "--seed", 0, "--seed", 1)
    process = start(*words, "--out", "ray", "--store", "store", "--on", f"ray:{nodes.address}")
    printed, said = process.communicate(timeout=500)
    assert process.returncode == 0, said
    assert printed == "ray\n"
    assert "Ray: 2 nodes, 2 CPUs" in said
    assert start(*words, "--out", "plain", "--store", "undisturbed").wait(500) == 0
    assert artefacts(tmp_path / "store") == artefacts(tmp_path / "undisturbed")
    assert scores(tmp_path / "ray") == scores(tmp_path / "plain")
    assert made(tmp_path / "ray") == made(tmp_path / "plain")
    tokens = {path.name for path in (tmp_path / "store" / "locks").iterdir()}
    assert not [name for name in tokens if not name.startswith("active-")]


@pytest.mark.slow
def test_a_node_that_is_removed_in_mid_run_loses_nothing(start, tmp_path, nodes):
    steps = recipe(tmp_path, 3000)
    process = start(
        steps, "--out", "ray", "--store", "store", "--checkpoint-seconds", 0.2, "--on", f"ray:{nodes.address}"
    )
    try:
        until_checkpoints(process, tmp_path / "store", 2)
        nodes.change("remove")
        printed, said = process.communicate(timeout=500)
    finally:
        nodes.change("add")
    assert process.returncode == 0, said
    assert printed == "ray\n"
    assert "is gone: its tasks are run on the others" in said
    assert start(steps, "--out", "plain", "--store", "undisturbed").wait(500) == 0
    assert artefacts(tmp_path / "store") == artefacts(tmp_path / "undisturbed")
    assert scores(tmp_path / "ray") == scores(tmp_path / "plain")


@pytest.mark.slow
def test_a_stop_takes_checkpoints_on_all_nodes_and_a_plain_run_continues_from_them(start, tmp_path, nodes):
    steps = recipe(tmp_path, 8000)
    on = ("--on", f"ray:{nodes.address}", "--checkpoint-seconds", 1000)
    process = start(steps, "--out", "run", "--store", "store", *on)
    deadline = time.monotonic() + 300
    live = tmp_path / "run" / "live.json"
    while not live.is_file() or len(json.loads(live.read_text()).get("on_nodes", {})) < 2:
        assert time.monotonic() < deadline
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=200)
    assert process.returncode == 143, said
    assert "interrupted; everything finished is kept; to continue:" in said
    assert len(list((tmp_path / "store").glob("partial/*/step-*.json"))) >= 2
    assert start(steps, "--out", "run", "--store", "store").wait(500) == 0
    assert start(steps, "--out", "plain", "--store", "undisturbed").wait(500) == 0
    assert artefacts(tmp_path / "store") == artefacts(tmp_path / "undisturbed")


@pytest.mark.slow
def test_a_chain_that_diverges_ends_with_code_4_and_the_others_are_finished(start, tmp_path, nodes):
    bad = "bad: {data: accumulate, train: {steps: 20, batch_size: 32, evaluate: never, learning_rate: 1.0e+30}}"
    text = RECIPE.replace("{replace: {data: replace}}", f"{{good: {{data: replace}}, {bad}}}")
    process = start(recipe(tmp_path, 20, text), "--out", "run", "--store", "store", "--on", f"ray:{nodes.address}")
    _, said = process.communicate(timeout=500)
    assert process.returncode == 4, said
    assert "diverged" in said
    values = {name: own["test_loss"] for (name, k), own in scores(tmp_path / "run").items() if k == 1}
    assert all(isinstance(value, float) for value in values["good"])


@pytest.mark.slow
def test_ranks_in_a_placement_group_make_each_fit_together(start, tmp_path, nodes):
    steps = recipe(tmp_path, 20, RECIPE.replace("[0, 1]", "[0]"))
    process = start(steps, "--out", "run", "--store", "store", "--on", f"ray:{nodes.address}", "--ranks", 2)
    _, said = process.communicate(timeout=500)
    assert process.returncode == 0, said
    manifests = [json.loads(path.read_text()) for path in (tmp_path / "store").glob("objects/*/*/*/manifest.json")]
    ranks = {(manifest["kind"], manifest["machine"].get("ranks")) for manifest in manifests}
    assert ranks == {("data", None), ("fit", 2), ("samples", None), ("scores", None)}
    assert start(steps, "--out", "plain", "--store", "undisturbed").wait(500) == 0
    ours, plain = scores(tmp_path / "run"), scores(tmp_path / "plain")
    assert {place: own["test_loss"] for place, own in ours.items()} == {
        place: pytest.approx(own["test_loss"], abs=1e-4) for place, own in plain.items()
    }


DEADLY = """
import os
from typing import ClassVar
from collapse_sim.core.component import Component

class Deadly(Component):
    kinds: ClassVar[None] = None
    needs: ClassVar[tuple[str, ...]] = ("model",)
    better: ClassVar[None] = None

    def check(self, info, family, samples):
        pass

    def score(self, evaluation):
        if evaluation.generation == 1:
            os._exit(1)
        return 1.0
"""


@pytest.mark.slow
def test_a_plugin_that_kills_its_process_ends_no_other_cell(start, tmp_path, nodes):
    (tmp_path / "deadly.py").write_text(DEADLY)
    text = RECIPE.replace("[test_loss]", "[test_loss, {use: 'deadly:Deadly', as: deadly}]").replace("[0, 1]", "[0]")
    process = start(recipe(tmp_path, 20, text), "--out", "run", "--store", "store", "--on", f"ray:{nodes.address}")
    _, said = process.communicate(timeout=500)
    assert process.returncode == 3, said
    assert "generation 1, seed 0: its process ended 4 times" in said
    known = scores(tmp_path / "run")
    assert {(k, name) for (_, k), own in known.items() for name in own} == {
        (0, "test_loss"), (0, "deadly"), (1, "test_loss"),
    }  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(
    ("more", "code", "message"),
    [
        (("--ranks", 3), 3, "this run needs 3 processes of 1 CPU each at the same time; the cluster has room for 2"),
        (("--ensemble", 2, "--ranks", 2), 2, "--ensemble 2: fits that are computed together are one process's"),
    ],
)
def test_what_the_cluster_cannot_do_is_refused_before_anything_is_made(start, tmp_path, nodes, more, code, message):
    process = start(recipe(tmp_path, 20), "--out", "run", "--store", "store", "--on", f"ray:{nodes.address}", *more)
    _, said = process.communicate(timeout=300)
    assert process.returncode == code, said
    assert message in said
    assert not (tmp_path / "run" / "run.json").exists()
