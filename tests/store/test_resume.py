"""Nothing computed is ever lost: kills at every commit boundary, mid-fit and mid-sampling, two processes, Ctrl-C."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import TINY

DRIVER = Path(__file__).with_name("kill_driver.py")

KILLED = """
name: killed
data: {use: digits, rows: 60, held_out_rows: 20, validation_rows: 20}
model: {use: vae, hidden: 4, latent: 2}
train: {steps: 4, batch_size: 32, evaluate: every 2 steps, keep: best, ema: 0.9}
samples: 60
sampling: {shard: 25}
generations: 1
seeds: [0]
arms:
  accumulate: {data: accumulate}
metrics: [test_loss]
"""


CURATED = """
name: curated
data: {use: digits, rows: 40, held_out_rows: 10}
model: {use: vae, hidden: 4, latent: 2}
train: {steps: 2, batch_size: 32, evaluate: never}
samples: 40
sampling: {shard: 25}
generations: 1
seeds: [0]
arms:
  verified: {data: accumulate, curation: {use: verify, keep: 0.6}}
metrics: [test_loss]
"""


DIFFUSION = """
name: diffusion
data: {use: digits, rows: 60, held_out_rows: 20}
model: {use: ddpm, network: {widths: [4, 8], attention: none}, timesteps: 30, schedule: cosine}
train: {steps: 3, batch_size: 16, evaluate: never, ema: 0.9}
samples: 60
sampling: {shard: 25}
generations: 1
seeds: [0]
arms:
  distill: {data: replace, teacher: {generation: 0, weights: {output: 0.5, encoder: 0.5}}}
metrics: [{use: fid, features: pixels}]
"""


def drive(mode: str, folder: Path, recipe: str) -> dict:
    path = folder / "recipe.yaml"
    path.write_text(recipe)
    command = [sys.executable, str(DRIVER), mode, str(folder), str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_a_kill_at_every_boundary_loses_and_repeats_nothing(tmp_path):
    """SIGKILL at the n-th boundary for every n, then the same command: the same bytes, finished work not repeated."""
    report = drive("boundaries", tmp_path, KILLED)
    kinds = set(report["boundaries"])
    assert {"built", "manifest", "committed", "cleaned", "checkpoint", "checkpoint tensors", "shard"} <= kinds
    assert report["kills"] == len(report["boundaries"]) > 40
    assert report["differing"] == []
    assert report["repeated"] == []
    assert report["leftovers"] == []


@pytest.mark.slow
@pytest.mark.parametrize("score", ["loss", "classifier"])
def test_a_kill_at_every_boundary_of_a_curated_run_loses_and_repeats_nothing(tmp_path, score):
    """Further draws in shards, a verifier, and the choice among candidates."""
    report = drive("boundaries", tmp_path, CURATED.replace("keep: 0.6", f"score: {score}, keep: 0.6"))
    assert report["kills"] == len(report["boundaries"]) > 30
    assert report["differing"] == []
    assert report["repeated"] == []
    assert report["leftovers"] == []


REMEDIES = """
name: remedies
data: {use: digits, rows: 40, held_out_rows: 20}
model: {use: ddpm, network: {widths: [4, 4], attention: none}, timesteps: 4, schedule: cosine}
train: {steps: 2, batch_size: 16, evaluate: never}
samples: 20
sampling: {shard: 12}
generations: 1
seeds: [0]
arms:
  both: {data: replace, merge: {use: neon, w: 0.5}, guidance: {use: sims, w: 0.5, train: {steps: 1}}}
metrics: [{use: fid, features: pixels}]
"""


@pytest.mark.slow
def test_a_killed_merge_or_guided_sampling_ends_in_the_same_bytes(tmp_path):
    """SIGKILL between fits to own samples, combined weights and samples of two models."""
    report = drive("some_boundaries", tmp_path, REMEDIES)
    assert report["boundaries"].count("committed") == 1 + 2 * 8, "data; fit, 5 of remedies, samples and score twice"
    assert report["kills"] > 4
    assert report["differing"] == []
    assert report["repeated"] == []
    assert report["leftovers"] == []


PRUNED = """
name: pruned
data: {use: gaussian, rows: 20, held_out_rows: 10}
model: gaussian
generations: 2
seeds: [0]
keep_weights: last
keep_samples: none-but-generation-0
arms: {accumulate: {data: accumulate}}
metrics: [variance_ratio]
"""


@pytest.mark.slow
def test_a_kill_between_the_steps_of_pruning_loses_and_repeats_nothing(tmp_path):
    """SIGKILL after the records, after the run's reference, after each removal: what was removed is not made again."""
    report = drive("boundaries", tmp_path, PRUNED)
    kinds = {"pruning recorded", "pruning released", "pruning removed", "pruned"}
    assert kinds <= set(report["boundaries"])
    assert report["boundaries"].count("pruning removed") == 4, "fits of 0 and 1, samples of 1 and 2"
    assert report["differing"] == []
    assert report["repeated"] == []
    assert report["leftovers"] == []


@pytest.mark.slow
def test_kills_at_any_moment_end_in_the_same_bytes(tmp_path):
    """SIGKILL four times in one folder, each time some random number of training steps further."""
    report = drive("moments", tmp_path, TINY)
    assert report["kills"] == 4
    assert report["differing"] == []
    assert report["comparison_equal"]


WRITING = """
name: writing
data: {use: grammar, rows: 60, held_out_rows: 20}
model: {use: causal_lm, preset: tiny, width: 8, layers: 1, stop: length}
train: {steps: 3, batch_size: 16, evaluate: never}
samples: 60
sampling: {shard: 25}
generations: 1
seeds: [0]
arms:
  distill: {data: replace, teacher: {generation: 0, weights: {logits: 0.5, hidden: 0.5}}}
metrics: [{use: distinct_n, n: 2}]
"""


@pytest.mark.parametrize(
    ("mode", "recipe"),
    [
        pytest.param("diffusion", DIFFUSION, marks=pytest.mark.slow),
        pytest.param("writing", WRITING, marks=pytest.mark.slow),
    ],
)
def test_a_kill_in_the_middle_of_a_shard_repeats_that_shard_alone(mode, recipe, tmp_path):
    report = drive(mode, tmp_path, recipe)
    assert report["killed"]
    assert report["differing"] == []
    done = report["steps"] + 1  # the first shard, and before it the look at what the last update did
    assert report["calls_after_the_kill"] == report["calls"] - done


def test_two_processes_share_the_work(tmp_path):
    report = drive("together", tmp_path, TINY)
    assert report["exit_codes"] == [0, 0]
    assert report["differing"] == []
    assert report["made"] == report["artefacts"], "an artefact was made twice"
    assert len(report["made_by_each"]) == 2, "one process did everything"


def test_ctrl_c_takes_a_checkpoint_and_the_same_command_continues(sandbox):
    """Through the engine's own stop flag, at a step in the middle of a fit."""
    from collapse_sim.core.errors import InterruptedRunError
    from collapse_sim.engine import fit

    whole = sandbox.run(TINY, run="whole")
    reference = sandbox.artefacts()

    other = type(sandbox)(sandbox.root / "other")
    other.root.mkdir()
    steps = []
    original = fit.backward

    def interrupting(*args, **kwargs):
        steps.append(1)
        if len(steps) == 7:
            import os
            import signal

            os.kill(os.getpid(), signal.SIGINT)
        return original(*args, **kwargs)

    fit.backward = interrupting
    try:
        with pytest.raises(InterruptedRunError, match="to continue: collapse-sim") as caught:
            other.run(TINY)
    finally:
        fit.backward = original
    assert caught.value.code == 130
    checkpoints = list((other.root / ".store" / "partial").rglob("step-*.safetensors"))
    assert [path.name for path in checkpoints] == ["step-000000007.safetensors"]
    result = other.run(TINY)
    assert other.artefacts() == reference
    assert result["made"] == whole["made"] - 1, (
        "the data was decoded before the interruption, and only that was finished"
    )


def test_sigterm_exits_143(sandbox, monkeypatch):
    from collapse_sim.core.errors import InterruptedRunError
    from collapse_sim.store import store

    def boundary(name):
        if name == "committed":
            import os
            import signal

            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(store, "boundary", boundary)
    with pytest.raises(InterruptedRunError) as caught:
        sandbox.run(TINY)
    assert caught.value.code == 143
