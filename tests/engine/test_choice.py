"""Which rows fits take: samples answer other conditions than the real rows beside them, as far as there are others."""

from __future__ import annotations

import math
from typing import ClassVar

import numpy as np
import pytest
import torch

from collapse_sim.core.component import Component
from collapse_sim.data.base import Info
from collapse_sim.data.data_files import ArrayRows
from collapse_sim.engine import artefacts, choice
from collapse_sim.plan.experiment import prepare
from collapse_sim.recipe.loader import load as load_recipe
from collapse_sim.testing import CPU
from tests.words import ROWS

ARMS = """
arms:
  mix: {data: {use: mix, real: 0.5, synthetic: 0.5}}
  mix redraw: {data: {use: mix, real: 0.5, synthetic: 0.5, redraw: true}}
  mix few: {data: {use: mix, real: 0.1, synthetic: 0.5, redraw: true}}
  mix all: {data: {use: mix, real: 1.0, synthetic: 0.5, redraw: true}}
  subsample: {data: accumulate-subsample}
"""
CONDITIONS = {"mix": 24, "mix redraw": 24, "mix few": 14, "mix all": 24, "subsample": 24}  # of 24 real rows


@pytest.fixture
def made(sandbox):
    """Run a recipe -> (the experiment, its store)."""

    def make(recipe):
        _, store = sandbox.loop(recipe)
        return prepare(load_recipe(sandbox.recipe(recipe)), sandbox.root), store

    return make


def errors(how, seeds=1000, rows=24, d=10, generations=5):
    """E[squared error of the weights] at each generation of chains of least squares, x ~ N(0, I), noise 1.

    `how` gives which real rows and which samples (made for the same x, one a real row) a generation is fitted to.
    """
    rng = np.random.default_rng(0)
    true = np.full(d, 1 / math.sqrt(d))
    x = rng.normal(size=(seeds, rows, d))
    y = x @ true + rng.normal(size=(seeds, rows))
    weights = np.linalg.pinv(x) @ y[..., None]
    found = []
    for _ in range(generations):
        labels = (x @ weights)[..., 0] + rng.normal(size=(seeds, rows))
        real, samples = how(rows)
        x_now = np.concatenate([x[:, real], x[:, samples]], axis=1)
        y_now = np.concatenate([y[:, real], labels[:, samples]], axis=1)
        weights = np.linalg.pinv(x_now) @ y_now[..., None]
        found.append(((weights[..., 0] - true) ** 2).sum(-1))
    return np.array(found)


def test_half_real_rows_and_half_samples_are_better_than_samples_alone(made):
    """24 rows of 10 dimensions at generation 5: independent halves give 2.4, samples alone 4.6. The two halves of the
    same conditions, which would be 12 rows in effect, give 9 to 14."""
    experiment, store = made("""
    data: {use: linear, dimensions: 10, rows: 24, held_out_rows: 1}
    model: {use: linear, design: fixed}
    generations: 5
    seeds: 400
    arms:
      mix: {data: {use: mix, real: 0.5, synthetic: 0.5}}
      redraw: {data: {use: mix, real: 0.5, synthetic: 0.5, redraw: true}}
      subsample: {data: accumulate-subsample}
    metrics: [excess_test_error]
    """)
    apart = errors(lambda rows: (slice(0, rows // 2), slice(rows // 2, rows)))[-1]
    same = errors(lambda rows: (slice(0, rows // 2), slice(0, rows // 2)))[-1]
    assert apart.mean() == pytest.approx(2.4, abs=0.2)
    assert same.mean() > 7
    found = {}
    for arm_plan in experiment.arm_plans:
        true = experiment.recipe.data.true_weights()
        fitted = artefacts.model(store, arm_plan.generations[5].fit, experiment.recipe.seeds, CPU).weights
        found[arm_plan.name] = (fitted - true).square().sum(1).numpy()
    error = math.hypot(apart.std() / math.sqrt(1000), found["mix"].std() / math.sqrt(400))
    assert abs(found["mix"].mean() - apart.mean()) < 4 * error
    assert error < 0.15
    assert found["redraw"].mean() < 2.4
    assert found["subsample"].mean() < 2.4


@pytest.mark.parametrize("samples", [24, 18, 12])
def test_no_condition_is_taken_twice_while_there_are_others(made, samples):
    experiment, store = made(
        f"""
    data: {{use: linear, dimensions: 2, rows: 24, fresh_rows: 36, held_out_rows: 1}}
    model: {{use: linear, design: fixed}}
    generations: 3
    seeds: 2
    samples: {samples}
    metrics: [test_loss]
    {ARMS}
      fresh: {{data: {{use: fresh, share: 0.5}}}}
      fresh redraw: {{data: {{use: fresh, share: 0.5, redraw: true}}}}
      accumulate: {{data: accumulate}}
    """.replace("\n    ", "\n")
    )
    expected = CONDITIONS | {"fresh": 24, "fresh redraw": 24, "accumulate": 24}
    labels = artefacts.stacked_columns(store, experiment.data, (0, 1), "real")["y"]
    for arm_plan in experiment.arm_plans:
        for k in (1, 2, 3):
            rows = artefacts.training_stack(store, arm_plan.generations[k].fit, (0, 1))
            assert rows["x"].shape[1] == arm_plan.generations[k].rows.rows
            for x, y, own in zip(rows["x"].numpy(), rows["y"].numpy(), labels.numpy(), strict=True):
                distinct = expected[arm_plan.name]
                if arm_plan.name == "subsample":
                    real = int(np.isin(y, own).sum())
                    distinct = real + min(24 - real, samples)  # there may be more samples than conditions
                assert len(np.unique(x, axis=0)) == distinct, (arm_plan.name, k)


def test_samples_are_labels_of_the_rows_that_are_not_taken(made):
    """What one generation of `mix` is fitted to, by hand."""
    experiment, store = made("""
    data: {use: linear, dimensions: 2, rows: 10, held_out_rows: 1}
    model: {use: linear, design: fixed}
    generations: 1
    seeds: [3]
    arms: {mix: {data: {use: mix, real: 0.4, synthetic: 0.6}}}
    metrics: [test_loss]
    """)
    arm_plan = experiment.arm_plans[0]
    real = artefacts.stacked_columns(store, experiment.data, (3,), "real")
    samples = artefacts.stacked_columns(store, arm_plan.generations[0].samples, (3,), "samples")
    np.testing.assert_array_equal(samples["x"][0], real["x"][0].flip(0))
    rows = artefacts.training_stack(store, arm_plan.generations[1].fit, (3,))
    np.testing.assert_array_equal(rows["x"][0], np.concatenate([real["x"][0, :4], real["x"][0, 4:].flip(0)]))
    np.testing.assert_array_equal(rows["y"][0], np.concatenate([real["y"][0, :4], samples["y"][0, :6]]))


def test_pairs_of_texts(made):
    """The same for a model that is trained: sources that are in a fit's table."""
    experiment, store = made("""
    data: {use: "tests.words:WordPairs"}
    model: {use: "tests.words:FirstWord"}
    train: {steps: 1, batch_size: 16, evaluate: never}
    generations: 2
    seeds: [3]
    arms:
      mix: {data: {use: mix, real: 0.5, synthetic: 0.5}}
      mix redraw: {data: {use: mix, real: 0.5, synthetic: 0.5, redraw: true}}
      subsample: {data: accumulate-subsample}
    metrics: [test_loss]
    """)
    sources = artefacts.columns(store, experiment.data, 3, "real")[1]["source"]
    for arm_plan in experiment.arm_plans:
        table = artefacts.training_table(store, arm_plan.generations[2].fit, 3, CPU)
        assert len(table) == ROWS
        taken = table.gather(torch.arange(ROWS))["source"].numpy()
        assert sorted(map(bytes, taken)) == sorted(map(bytes, np.ascontiguousarray(sources))), arm_plan.name


class Numbered(Component):
    """Points that say which row they are: 40 real rows, of which 20 are used."""

    kind: ClassVar[str] = "points"
    seeded: ClassVar[bool] = False

    def inspect(self, folder):
        return Info("points", {"x": ((1,), "float64")}, rows=20, pool=40, held_out=1, fingerprint="numbered")

    def open(self, folder):
        return ArrayRows({"x": np.arange(40.0)[:, None]}), ArrayRows({"x": np.zeros((1, 1))})


def test_shares_that_are_redrawn(sandbox):
    """Real rows of points: other ones each generation, of those there are to choose from, the same in equal arms."""
    recipe = sandbox.recipe(f"""
    data: {{use: "{__name__}:Numbered"}}
    model: gaussian
    generations: 6
    seeds: [3, 4]
    arms:
      kept: {{data: {{use: mix, real: 0.25, synthetic: 0.5}}}}
      mix: {{data: {{use: mix, real: 0.25, synthetic: 0.5, redraw: true}}}}
      again: {{data: {{use: mix, real: 0.25, synthetic: 0.5, redraw: true}}, teacher: {{weights: {{output: 1.0}}}}}}
      fresh: {{data: {{use: fresh, share: 0.5, redraw: true}}}}
    metrics: [test_loss]
    """)
    kept, *drawn, fresh = (
        [plan.fit for plan in arm.generations[1:]] for arm in prepare(load_recipe(recipe), sandbox.root).arm_plans
    )
    assert all(choice.drawn(fit, 3) == [None, None] for fit in kept)
    for seed in (3, 4):
        mix, again = ([choice.drawn(fit, seed)[0].tolist() for fit in fits] for fits in drawn)
        assert again == mix
        assert len({tuple(rows) for rows in mix}) == 6
        assert all(len(set(rows)) == 5 and set(rows) <= set(range(20)) for rows in mix)
        assert len({row for rows in mix for row in rows}) > 12  # 20 (1 - .75^6) = 16.4 are expected
        for rows, samples in (choice.drawn(fit, seed) for fit in fresh):
            assert len(set(rows)) == 10
            assert set(rows) <= set(range(20, 40))
            assert len(set(samples)) == 10
            assert set(samples) <= set(range(20))
    assert choice.drawn(fresh[1], 3)[0].tolist() != choice.drawn(fresh[1], 4)[0].tolist()
    for fit in (kept[0], fresh[1]):
        for source, rows in enumerate(choice.drawn_by_all(fit, [3, 4])):
            for seed, own in zip([3, 4], rows, strict=True):
                np.testing.assert_array_equal(own, choice.drawn(fit, seed)[source])


def test_samples_for_conditions_have_keys_of_their_own(sandbox):
    """Samples for the conditions of the last rows aren't taken for those that were made for the first ones."""
    recipe = sandbox.recipe("""
    data: {use: linear, dimensions: 1, rows: 10, held_out_rows: 1}
    model: {use: linear, design: fixed}
    generations: 1
    seeds: 1
    arms: {replace: {data: replace}}
    metrics: [test_loss]
    """)
    experiment = prepare(load_recipe(recipe), sandbox.root)
    assert "from the last" in experiment.arm_plans[0].generations[0].samples.description["conditions"]
