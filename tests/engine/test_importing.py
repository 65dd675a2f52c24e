"""Samples that were exported and are imported again have the scores of the run that they come from, to the byte."""

from __future__ import annotations

import json

import numpy as np
import pytest

from collapse_sim.core.errors import MissingError
from collapse_sim.core.events import Note
from collapse_sim.core.machine import open_device
from collapse_sim.engine.build import builder
from collapse_sim.engine.work import JobContext
from collapse_sim.plan.experiment import prepare
from collapse_sim.recipe.loader import load
from collapse_sim.run.export import export_all
from collapse_sim.run.saved_run import ModelChoice, SavedRun
from collapse_sim.store.jobs import Request
from collapse_sim.store.rowfile import RowFile
from collapse_sim.store.store import Store
from tests.conftest import TINY, changed
from tests.words import TEXT

PLACES = "exported/{arm}/generation-{{generation:03d}}/seed-{{seed}}"
IMAGES = changed(
    TINY,
    ("metrics: [test_loss]", "metrics: [{use: fid, features: pixels}, {use: vendi, features: pixels}]"),
    (", validation_rows: 40", ""), (", evaluate: every 5 steps, keep: best", ""),
)  # fmt: skip
MODEL = "model: {use: vae, hidden: 16, latent: 2}\ntrain: {steps: 20, batch_size: 32}\n"
TOYS = """
name: toys
data: {use: eight_gaussians, rows: 40, held_out_rows: 30}
model: {use: gmm, components: 3}
generations: 2
samples: 35
seeds: [5, 3]
arms:
  replace: {data: replace}
  accumulate: {data: accumulate}
metrics: [sliced_w2, mmd, mode_coverage, sample_nll]
"""
NETWORK = """model: {use: flow_matching, network: {widths: [8, 8]}, sampling_steps: 3}
train: {steps: 5, batch_size: 16, evaluate: never}"""
FLOWS = changed(TOYS, ("model: {use: gmm, components: 3}", NETWORK))


def imported(text: str, *others: str) -> str:
    """The recipe with exported rows in place of samples, of `replace` and of other arms; as it is otherwise."""
    head, tail = text.split("arms:\n")
    places = {arm: PLACES.format(arm=f"{i:02d}-{arm}") for i, arm in enumerate(("replace", *others))}
    arms = "".join(f'  {arm}: {{data: replace, rows_from: "{place}"}}\n' for arm, place in places.items())
    return f"{head}arms:\n{arms}{tail[tail.index('metrics:') :]}"


def scores(sandbox, run: str) -> dict:
    """{(generation, arm, seed): {metric: value}}, as the journal has them."""
    lines = sandbox.journal(run, event="scores")
    return {
        (line["generation"], line["arm"], seed): {name: values[i] for name, values in line["metrics"].items()}
        for line in lines
        for i, seed in enumerate(line["seeds"])
    }


def exported(sandbox, samples: str) -> None:
    run = SavedRun.open(sandbox.root / "run", sandbox.root / "data", plugins=True)
    models, absent = run.models(ModelChoice())
    assert not absent
    (sandbox.root / "data").mkdir(exist_ok=True)
    assert list(export_all(models, sandbox.root / "data" / "exported", samples))


def kinds_in(sandbox, run: str) -> set[str]:
    """The kinds of artefacts that a run has made or found."""
    lines = sandbox.journal(run, event="generation")
    return {kind for line in lines for what in ("made", "reused") for kind, count in line[what].items() if count}


@pytest.mark.parametrize(
    ("text", "second", "without", "samples"),
    [
        (IMAGES, "accumulate+distill", MODEL, "npz"),
        (IMAGES, "accumulate+distill", MODEL, "png"),
        (TOYS, "accumulate", "model: {use: gmm, components: 3}\n", "npz"),
        (TOYS, "accumulate", "model: {use: gmm, components: 3}\n", "dataset"),
        (FLOWS, "accumulate", "", "npz"),
    ],
    ids=["images, without a model", "images as png", "toys, without a model", "toys as a dataset", "a network, named"],
)
def test_scores_of_imported_samples_are_those_of_the_run_that_they_come_from(sandbox, text, second, without, samples):
    sandbox.run(text)
    exported(sandbox, samples)
    again = imported(changed(text, (without, "")) if without else text, second)
    if without:
        again = again.replace("samples: 150\n", "").replace("samples: 35\n", "")
    sandbox.run(again, run="again")
    expected = scores(sandbox, "run")
    assert len(expected) == 2 * 2 * 3
    assert scores(sandbox, "again") == expected
    assert {"fit", "curation"}.isdisjoint(kinds_in(sandbox, "again"))
    assert {"samples", "scores"} <= kinds_in(sandbox, "again")


WORDS = changed(
    TEXT, ("metrics: [{use: 'tests.words:Lengths', as: words / text}, test_loss]", "metrics: [distinct_n]"),
    ("arms: {replace: {data: replace}, accumulate: {data: accumulate}}", "arms:\n  replace: {data: replace}"),
)  # fmt: skip


@pytest.mark.parametrize("samples", ["npz", "jsonl"])
def test_texts_come_back_as_token_ids_and_through_the_tokenizer(sandbox, samples):
    sandbox.run(WORDS)
    exported(sandbox, samples)
    without = changed(
        WORDS, ("model: {use: 'tests.words:Bigram'}\n", ""), ("samples: 30\n", ""),
        ("train: {steps: 20, batch_size: 8, learning_rate: 0.3}\n", ""),
    )  # fmt: skip
    sandbox.run(imported(without), run="again")
    assert scores(sandbox, "again") == scores(sandbox, "run")


@pytest.mark.parametrize("text", [FLOWS, WORDS], ids=["denoising", "prompts"])
def test_nothing_of_a_model_is_shown_where_rows_are_from_files(sandbox, text):
    """Neither how samples emerge from noise, nor answers to prompts; and nothing fails that tries to."""
    rng = np.random.default_rng(0)
    for k in range(3):
        np.savez(sandbox.root / f"{k}.npz", rng.normal(size=(35, 2)) if text is FLOWS else np.ones((30, 12), np.int16))
    pictures = sandbox.root / "run" / "pictures"
    pictures.mkdir(parents=True)
    arms = text[text.index("arms:\n") : text.index("metrics:")]
    events, _ = sandbox.loop(
        changed(text, (arms, 'arms:\n  replace: {data: replace, rows_from: "{generation}.npz"}\n'))
    )
    assert [event for event in events if isinstance(event, Note)] == []
    assert not list(pictures.glob("denoising*"))
    if text is WORDS:
        assert json.loads((pictures / "same-prompt.json").read_text())["answers"] == []


def test_fits_take_imported_rows(sandbox):
    """Generation 1 of a chain was drawn elsewhere: the next model is fitted to these rows, of which there are more."""
    x = np.random.default_rng(0).normal(size=(50, 2))
    (sandbox.root / "data").mkdir()
    np.save(sandbox.root / "data" / "one.npy", x)
    sandbox.run("""
    data: {use: gaussian, dimensions: 2, rows: 30}
    model: gaussian
    generations: 2
    samples: 40
    seeds: [0, 1]
    arms: {a: {data: replace, rows_from: {1: one.npy}}}
    metrics: [mean_error]
    """)
    experiment = prepare(load(sandbox.root / "recipe.yaml"), sandbox.root / "data")
    plans, store = experiment.arm_plans[0].generations, Store(sandbox.root / ".store")
    (block,) = {store.block(plans[1].samples, seed).folder for seed in (0, 1)}
    np.testing.assert_array_equal(RowFile(block / "samples.safetensors").columns["x"], x[:40])
    from collapse_sim.engine.artefacts import model

    mean = model(store, plans[2].fit, (0, 1), open_device("cpu").with_precision("fp32")).mean
    np.testing.assert_allclose(mean.numpy(), np.tile(x[:40].mean(0), (2, 1)))


def test_files_that_change_between_check_and_import_are_refused(sandbox):
    np.save(sandbox.root / "0.npy", np.zeros((20, 2)))
    np.save(sandbox.root / "1.npy", np.ones((20, 2)))
    recipe = """
    data: {use: gaussian, dimensions: 2, rows: 30}
    generations: 1
    seeds: [0]
    arms: {a: {rows_from: "{generation}.npy"}}
    metrics: [sample_variance_ratio]
    """
    experiment = prepare(load(sandbox.recipe(recipe)), sandbox.root)
    np.save(sandbox.root / "1.npy", np.zeros((20, 2)))
    store = Store(sandbox.root / ".store")
    context = JobContext(store, open_device("cpu"), lambda event: None, sandbox.root)
    zeroth, first = (plan.samples for plan in experiment.arm_plans[0].generations)
    store.make_all([Request(zeroth, (0,), ("a",)), Request(first, (0,), ("a",))], builder(context), context.emit)
    (failure,) = store.failures.others()
    assert isinstance(failure.error, MissingError)
    assert "1.npy: changed since it was checked" in failure.message
    assert store.has(zeroth, 0)
    assert not store.has(first, 0)
