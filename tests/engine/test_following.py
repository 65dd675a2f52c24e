"""Runs of two ranks: their numbers are those of one process, and all of it ends together."""

from __future__ import annotations

import json
import signal
from collections import Counter

import pytest
import torch

from collapse_sim.core.errors import PluginError, RecipeError, StoreError, code_of
from collapse_sim.core.ranks import Ranks
from collapse_sim.engine import build, fit
from collapse_sim.engine.following import SharedStore, check_ranks
from collapse_sim.engine.member import Member
from collapse_sim.metrics.loss import TestLoss
from collapse_sim.plan.experiment import prepare
from collapse_sim.recipe.loader import load
from tests.conftest import artefacts
from tests.engine.ranked_fits import FAMILIES, TRAIN, fits, recipe, stopped
from tests.rank_pool import changed_method, run_together, spoilt

SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in ("ddpm", "causal_lm", "seq2seq")]


@pytest.mark.parametrize("name", ["vae", *SLOW])
def test_half_a_batch_on_each_of_two_ranks_is_a_batch_on_one(name, sandbox, ranked):
    """With a teacher, micro-batches, moving averages, clipping, and a smaller last batch of an epoch:
    weights and losses after 20 updates differ by rounding. What two ranks made has the keys of one process."""
    text = recipe(FAMILIES[name])
    codes, root = ranked(text)
    assert codes == [0, 0]
    sandbox.run(text)
    alone, together = fits(sandbox.root), fits(root)
    assert len(alone) == 2
    assert alone.keys() == together.keys()
    for digest, (weights, history, manifest) in alone.items():
        other_weights, other_history, other_manifest = together[digest]
        for tensor, other in zip(weights.values(), other_weights.values(), strict=True):
            torch.testing.assert_close(other, tensor, rtol=0, atol=1e-5)
        assert history["updates"] == other_history["updates"] == 20
        for one, other in zip(history["evaluations"], other_history["evaluations"], strict=True):
            assert other == pytest.approx(one, rel=1e-5, abs=1e-5)
        assert "ranks" not in manifest["machine"]
        assert other_manifest["machine"]["ranks"] == 2
    assert artefacts(sandbox.root / ".store").keys() == artefacts(root / ".store").keys()


def test_pieces_that_ranks_share_have_the_bytes_of_one_process(sandbox, ranked):
    """Decoded rows, and samples in five pieces of a model with the same bytes: after one step of rows that are the
    first rank's alone, nothing was rounded differently."""
    text = recipe(train="steps: 1, batch_size: 14, evaluate: never, learning_rate: 1e-30")
    _, root = ranked(text)
    sandbox.run(text)
    alone, together = artefacts(sandbox.root / ".store"), artefacts(root / ".store")
    files = {name for content in alone.values() for name in content}
    assert {"real.safetensors", "samples.safetensors"} <= files
    for place, content in alone.items():
        for name in content.keys() & {"real.safetensors", "held_out.safetensors", "samples.safetensors"}:
            assert together[place][name] == content[name], name


SHARED_OUT = """
name: shared-out
data: {use: gaussian, dimensions: 2, rows: 40, held_out_rows: 20}
model: {use: ddpm, network: {widths: [8, 8]}, timesteps: 30, sampler: ddim, sampling_steps: 2}
train: {steps: 1, batch_size: 14, evaluate: never, learning_rate: 1.0e-60}
samples: 30
generations: 1
seeds: [3, 4]
arms: {replace: {data: replace}, random: {data: replace, curation: {use: random, keep: 0.5}}}
metrics: [test_loss, LAST]
"""


def counted(ranks, path, root):
    """A run -> (this rank's exit code, the kinds and seeds of what it made of the jobs that are shared out)."""
    kinds = []

    def noted(before):
        def make(job, folder, context):
            if context.ranks is not ranks and job.spec.kind in ("scores", "curation"):
                kinds.append((job.spec.kind, job.seeds))
            before(job, folder, context)

        return make

    with changed_method(build, "make", noted):
        return run_together(ranks, path, root), kinds


def test_scores_and_curations_are_shared_out_and_have_the_bytes_of_one_process(sandbox, ranked):
    text = SHARED_OUT.replace("LAST", "mmd")
    (first, second), root = ranked(text, "ranks", counted)
    assert first[0] == second[0] == 0
    for _, kinds in (first, second):
        assert {kind for kind, _ in kinds} == {"scores", "curation"}
    assert {seeds for _, seeds in first[1]} == {(3,)}
    assert {seeds for _, seeds in second[1]} == {(4,)}
    sandbox.run(text)
    assert artefacts(root / ".store") == artefacts(sandbox.root / ".store")


def failing(ranks, path, root):
    """A run in which a score of seed 4, which rank 1 computes, fails."""

    def broken(before):
        def make(job, folder, context):
            if job.spec.kind == "scores" and job.seeds == (4,) and isinstance(job.spec.metric, TestLoss):
                raise PluginError(f"no loss on rank {ranks.rank}")
            before(job, folder, context)

        return make

    with changed_method(build, "make", broken):
        return run_together(ranks, path, root)


@pytest.mark.slow
def test_a_score_that_fails_on_one_rank_ends_no_other(ranked):
    codes, root = ranked(SHARED_OUT.replace("LAST", "mmd"), "failing", failing)
    assert codes == [code_of(PluginError(""))] * 2
    made = [json.loads(path.read_text()) for path in (root / ".store").glob("objects/*/*/*/manifest.json")]
    scores = Counter(
        (manifest["seeds"][0], manifest["generation"]) for manifest in made if manifest["kind"] == "scores"
    )
    assert scores == {(3, 0): 2, (4, 0): 1, (3, 1): 4, (4, 1): 2}


def test_two_ranks_give_the_same_bytes_again(ranked):
    text = recipe()
    (_, first), (_, second) = ranked(text, "first"), ranked(text, "second")
    assert artefacts(first / ".store") == artefacts(second / ".store")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_stop_that_one_rank_is_asked_for_ends_both_with_a_checkpoint(ranked, number, code):
    codes, root = ranked(recipe(), "stopped", stopped, number)
    assert codes == [code, code]
    (checkpoint,) = (root / ".store" / "partial").glob("*/step-*.json")
    assert checkpoint.stem == "step-000000005"


def test_a_run_that_was_stopped_continues_to_the_same_bytes(ranked):
    text = recipe()
    codes, root = ranked(text, "stopped", stopped, signal.SIGTERM)
    assert codes == [143, 143]
    assert ranked(text, "stopped")[0] == [0, 0]
    _, whole = ranked(text, "whole")
    assert artefacts(root / ".store") == artefacts(whole / ".store")


def spoilt_on_the_second(ranks, path, root):
    """A run in which the rows of rank 1 are not numbers at the fifth step."""

    def broken(before):
        return lambda self, step: spoilt(before(self, step)) if ranks.rank and step == 5 else before(self, step)

    with changed_method(Member, "inputs", broken):
        return run_together(ranks, path, root)


def test_what_diverges_on_one_rank_has_diverged_on_all(ranked):
    codes, root = ranked(recipe(), "diverged", spoilt_on_the_second)
    assert codes == [4, 4]
    (line,) = (line for line in (root / "run" / "journal.jsonl").read_text().splitlines() if '"diverged"' in line)
    assert "the loss became non-finite at step 6" in line


def full(ranks, path, root):
    """A run on a disk that is full when the first model is written."""

    def refused(before):
        def write(*args):
            raise OSError(28, "No space left on device", str(root / ".store" / "x"))

        return write

    with changed_method(fit, "write_model", refused):
        return run_together(ranks, path, root)


def test_a_full_disk_ends_both(ranked):
    assert ranked(recipe(), "full", full)[0] == [5, 5]


def other_recipe(ranks, path, root):
    """A run in which rank 1 has another recipe."""
    if ranks.rank:
        path = path.with_name("other.yaml")
        path.write_text(recipe(train=TRAIN.replace("steps: 20", "steps: 21")))
    return run_together(ranks, path, root)


def test_ranks_with_different_recipes_are_refused(ranked):
    codes, root = ranked(recipe(), "other", other_recipe)
    assert codes == [2, 2]
    assert not (root / "run").exists()


def test_what_several_ranks_cannot_do_is_refused_with_the_reason(sandbox):
    class Three(Ranks):
        world = 3

    experiment = prepare(load(sandbox.recipe(recipe(train="steps: 2, batch_size: 2"))), sandbox.root)
    check_ranks(experiment, Ranks(), 8, compiled=True)
    with pytest.raises(RecipeError) as refused:
        check_ranks(experiment, Three(), 8, compiled=True)
    ensemble, compiled, batch = refused.value.problems
    assert ensemble.startswith("--ensemble 8: ")
    assert compiled.startswith("--compile on: ")
    assert batch.startswith(f"{sandbox.root}/recipe.yaml:5: train.batch_size: 2 rows cannot be divided among 3 ranks")


def test_a_loss_that_needs_the_whole_batch_is_refused(sandbox):
    class Two(Ranks):
        world = 2

    text = recipe(FAMILIES["causal_lm"], train="steps: 2, batch_size: 8").replace(
        "{data: replace, ", "{data: replace, weighting: {use: tce, renormalise: true}, "
    )
    with pytest.raises(RecipeError, match=r"arms\.taught\.weighting: renormalise divides by"):
        check_ranks(prepare(load(sandbox.recipe(text)), sandbox.root), Two(), 1, compiled=False)


def test_a_rank_waits_until_its_machine_sees_what_was_committed(sandbox):
    """And reads nothing that is damaged; nothing in the store is changed."""
    text = recipe(train="steps: 1, batch_size: 14")
    sandbox.run(text)
    spec = next(s for s in prepare(load(sandbox.recipe(text)), sandbox.root).specs() if s.kind == "fit")
    shared = SharedStore(sandbox.root / ".store", lambda: None, patience_s=0.3)
    block = shared.block(spec, 3)
    with pytest.raises(StoreError, match="is missing"):
        shared.block(spec, 4)
    late = SharedStore(sandbox.root / ".store", lambda: None, patience_s=60.0)
    away = block.folder.rename(sandbox.root / "away")
    late._pause = lambda: away.exists() and away.rename(block.folder)
    assert late.block(spec, 3).folder == block.folder


def overflow(ranks):
    """A scaled step in which the gradient of rank 1 alone is infinite -> (whether it was taken, the weight)."""
    weight = torch.nn.Parameter(torch.ones(1))
    optimizer, scaler = torch.optim.SGD([weight], lr=1.0), torch.amp.GradScaler("cpu", init_scale=4.0)
    total = ranks.gradients([weight])
    taken = []
    for step in range(2):
        loss = (weight * (float("inf") if ranks.rank and not step else 0.125)).sum()
        scaler.scale(loss).backward()
        total(loss.detach())
        scaler.unscale_(optimizer)
        taken.append(fit.take_step(scaler, optimizer))
        optimizer.zero_grad()
    return taken, weight.tolist()


def test_an_overflow_on_one_rank_skips_the_step_on_all(pool):
    assert pool.both(overflow) == [([False, True], [0.75])] * 2
