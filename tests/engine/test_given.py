"""What models are given to generate for: real rows, from the last of the seed's order, or held-out rows in theirs."""

from __future__ import annotations

from collections import Counter
from typing import ClassVar

import numpy as np
import pytest

from collapse_sim.core.component import Component
from collapse_sim.core.errors import RecipeError
from collapse_sim.data.base import Info
from collapse_sim.data.data_files import ArrayRows
from collapse_sim.engine import artefacts
from collapse_sim.engine.work import Stop
from collapse_sim.plan.experiment import prepare
from collapse_sim.recipe.loader import load as load_recipe
from collapse_sim.store.store import Store
from tests.words import HELD_OUT, TOKENIZER

X = np.arange(16.0).reshape(8, 2)


class FixedRegression(Component):
    """Eight real rows, of which five are used: the same rows for every seed, in each seed's own order."""

    kind: ClassVar[str] = "regression"
    seeded: ClassVar[bool] = False
    conditions: ClassVar[tuple[str, ...]] = ("x",)

    def inspect(self, folder):
        columns = {"x": ((2,), "float64"), "y": ((), "float64")}
        return Info("regression", columns, rows=5, pool=8, held_out=8, fingerprint="fixed")

    def open(self, folder):
        rows = ArrayRows({"x": X, "y": X.sum(1)})
        return rows, rows


RECIPE = f"""
data: {{use: "tests.words:WordPairs"}}
model: {{use: seq2seq, preset: tiny, width: 16, layers: 1}}
train: {{steps: 2, batch_size: 16, evaluate: never}}
samples: {HELD_OUT}
sampling: {{shard: 7}}
generations: 1
seeds: [3]
arms: {{replace: {{data: replace}}}}
metrics: [rouge1]
"""


@pytest.fixture
def made(sandbox):
    """Run a recipe of one arm -> (the experiment, its generations, a spec's columns)."""

    def make(recipe):
        sandbox.run(recipe)
        experiment = prepare(load_recipe(sandbox.recipe(recipe)), sandbox.root)
        store = Store(sandbox.root / ".store", Stop().check)
        return (
            experiment,
            experiment.arm_plans[0].generations,
            lambda spec, split="samples", seed=experiment.recipe.seeds[0]: artefacts.columns(store, spec, seed, split)[
                1
            ],
        )

    return make


def test_pairs_are_generated_for_real_sources_and_for_held_out_ones(made):
    """As many of the one as of the other: they are not taken for each other."""
    experiment, generations, found = made(RECIPE)
    order = artefacts.real_order(experiment.data, 3)
    assert order.tolist() != sorted(order)
    real, held_out = found(experiment.data, "real"), found(experiment.data, "held_out")
    for plan in generations:
        samples, outputs = plan.samples, plan.outputs
        np.testing.assert_array_equal(found(samples)["source"], real["source"][order[::-1][:HELD_OUT]])
        np.testing.assert_array_equal(found(outputs)["source"], held_out["source"])
        assert found(outputs)["target"].shape == (HELD_OUT, 4)


def test_texts_continue_real_ones(made):
    recipe = (
        RECIPE.replace("WordPairs", "Words")
        .replace("rouge1", "perplexity")
        .replace(f"samples: {HELD_OUT}", "samples: 30")
    )
    recipe = recipe.replace("seq2seq, ", "causal_lm, prompt: 5, keep_prompt: true, ")
    experiment, generations, found = made(recipe)
    starts = found(experiment.data, "real")["tokens"][artefacts.real_order(experiment.data, 3)[::-1][:30], :5]
    whole = (starts[:, 1:] > TOKENIZER.end).all(1)  # the others are continued from before their end
    assert whole.sum() > 15
    for plan in generations:
        np.testing.assert_array_equal(found(plan.samples)["tokens"][whole, :5], starts[whole])
    assert all(plan.outputs is None for plan in generations)


OWN = """
data: {{use: "tests.words:Words"}}
model: {{use: causal_lm, preset: tiny, width: 16, layers: 1, prompt: 3, prompts: own, keep_prompt: true, stop: length}}
train: {{steps: 2, batch_size: 16, evaluate: never}}
samples: {}
sampling: {{shard: 7}}
generations: 2
seeds: [3]
arms: {{one: {{data: {}}}}}
metrics: [perplexity]
"""


def starts(tokens):
    """The first three tokens of all rows that have no end in them: those are continued as they are."""
    return sorted(tuple(row) for row in tokens[:, :3].tolist() if min(row[1:]) > TOKENIZER.end)


@pytest.mark.parametrize("strategy", ["replace", "{use: mix, real: 0.25, synthetic: 0.75}"])
def test_own_prompts_are_the_rows_that_a_model_was_fitted_to(made, strategy):
    """Each of them once, in another order: real ones, samples of the generation before, or both."""
    experiment, generations, found = made(OWN.format(40, strategy))
    real = found(experiment.data, "real")["tokens"]
    fitted_to = [real]
    for k in (1, 2):
        plan = generations[k].rows
        taken = [
            real[artefacts.real_order(experiment.data, 3)][s.first :][: s.rows]
            if s.generation < 0
            else found(generations[s.generation].samples)["tokens"][s.first :][: s.rows]
            for s in plan.sources
        ]
        fitted_to.append(np.concatenate(taken))
    for samples, rows in zip([plan.samples for plan in generations], fitted_to, strict=True):
        written = starts(found(samples)["tokens"])
        assert len(starts(rows)) > 20
        assert not Counter(starts(rows)) - Counter(written)  # those with an end in them are continued, and may be more
        assert starts(rows) != [tuple(row) for row in found(samples)["tokens"][:, :3].tolist()]
        assert {spec.digest for spec in samples.parents} >= {spec.digest for spec in samples.model.sources}


def test_own_prompts_are_drawn_from_all_where_a_model_was_fitted_to_more(made):
    experiment, generations, found = made(OWN.format(30, "accumulate"))
    real, first = (
        found(spec, split)["tokens"] for spec, split in ((experiment.data, "real"), (generations[0].samples, "samples"))
    )
    prompts = set(starts(found(generations[1].samples)["tokens"]))
    assert prompts & (set(starts(real)) - set(starts(first)))
    assert prompts & set(starts(first))


def test_more_own_prompts_than_there_are(sandbox):
    recipe = sandbox.recipe(OWN.format(40, "{use: mix, real: 0.25, synthetic: 0.5}"))
    with pytest.raises(RecipeError) as error:
        prepare(load_recipe(recipe), sandbox.root)
    assert (
        "arms.one.data: generation 1 is fitted to 30 rows, and 40 samples are generated for the tokens of the"
        in str(error.value)
    )
    assert "lower `samples` to 30" in str(error.value)


def test_every_seed_of_an_ensemble_generates_for_its_own_real_rows(made):
    experiment, generations, found = made(f"""
    data: {{use: "{__name__}:FixedRegression"}}
    model: linear
    generations: 1
    seeds: [3, 4]
    arms: {{replace: {{data: replace}}}}
    metrics: [test_loss]
    """)
    for seed in (3, 4):
        order = artefacts.real_order(experiment.data, seed)
        np.testing.assert_array_equal(found(generations[0].samples, seed=seed)["x"], X[order[4::-1]])
