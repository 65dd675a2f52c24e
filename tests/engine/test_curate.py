from __future__ import annotations

import json
from typing import ClassVar

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from collapse_sim.core.component import Component
from collapse_sim.core.errors import PluginError, RecipeError
from collapse_sim.core.machine import open_device
from collapse_sim.core.randomness import Draws
from collapse_sim.engine import artefacts
from collapse_sim.engine.curate import Candidates, check_choice, read_report
from collapse_sim.engine.work import JobContext, Stop
from collapse_sim.plan.experiment import prepare
from collapse_sim.recipe.loader import load
from collapse_sim.remedies.base import Choice
from collapse_sim.store.store import Store

DIGITS = """
data: {{use: digits, rows: 60, held_out_rows: 20}}
model: {{use: vae, hidden: 8, latent: 2}}
train: {{steps: 3, batch_size: 32, evaluate: never}}
samples: 50
sampling: {{shard: 30}}
generations: {generations}
seeds: [3]
arms: {arms}
metrics: [test_loss]
"""
TOY = """
data: {{use: gaussian, dimensions: 2, rows: 40, held_out_rows: 10}}
model: gaussian
generations: {generations}
seeds: [3, 4]
arms: {arms}
metrics: [variance_ratio]
"""
STORIES = """
data: {{use: grammar, rows: 40, held_out_rows: 12}}
model: {{use: causal_lm, preset: tiny, width: 16, layers: 1}}
train: {{steps: 3, batch_size: 16, evaluate: never}}
sampling: {{shard: 25}}
generations: {generations}
seeds: [3]
arms: {arms}
metrics: [test_loss]
"""
PAIRS = """
data: {{use: grammar_pairs, rows: 30, held_out_rows: 12}}
model: {{use: seq2seq, preset: tiny, width: 16, layers: 1, decoding: sample}}
train: {{steps: 3, batch_size: 16, evaluate: never}}
generations: {generations}
seeds: [3]
arms: {arms}
metrics: [test_loss]
"""
HERE = __name__


class Reversed(Component):
    """Twice as many candidates; the last ones, negated, so that rows are changed."""

    pool: str = "generation"

    def candidates(self, rows):
        return 2 * rows if self.pool == "generation" else rows

    def check(self, data, info, family):
        pass

    def choose(self, pool, rows, draws):
        index = torch.arange(len(pool) - 1, len(pool) - 1 - rows, -1)
        return Choice(index, columns={"x": -pool.columns["x"][index]}, report={"candidates_seen": float(len(pool))})


class Watched(Component):
    """Notes what it is shown, and keeps the first rows."""

    judge: str = "origin"
    loss_draws: int = 1
    pool: str = "generation"
    seen: ClassVar[list] = []

    def candidates(self, rows):
        return rows + 7 if self.pool == "generation" else rows

    def check(self, data, info, family):
        pass

    def choose(self, pool, rows, draws):
        targets = pool.targets() if pool.targets else None
        self.seen.append((pool, pool.losses(self.judge), pool.real(), targets))
        return Choice(torch.arange(rows))


class Weighted(Component):
    """The first rows, with their numbers as weights."""

    pool: str = "generation"

    def candidates(self, rows):
        return rows

    def check(self, data, info, family):
        pass

    def choose(self, pool, rows, draws):
        return Choice(torch.arange(rows), torch.arange(rows).float())


class Few(Component):
    """Asks for fewer candidates than rows."""

    pool: str = "generation"

    def candidates(self, rows):
        return rows - 1

    def check(self, data, info, family):
        pass

    def choose(self, pool, rows, draws):
        return Choice(torch.arange(rows))


@pytest.fixture
def curated(sandbox):
    """Run a recipe of some arms -> (their plans by name, the store)."""

    def run(recipe, generations=1, **arms):
        sandbox.root.mkdir(exist_ok=True)
        text = recipe.format(generations=generations, arms=json.dumps(arms))
        sandbox.run(text)
        experiment = prepare(load(sandbox.recipe(text)), sandbox.root / "data")
        store = Store(sandbox.root / ".store", Stop().check)
        return {plan.name: plan.generations for plan in experiment.arm_plans}, store

    return run


def candidates_of(store, spec, seed):
    return [artefacts.columns(store, draw, seed, "samples")[1] for draw in spec.draws]


@pytest.mark.parametrize(
    ("recipe", "column", "rows", "rule"),
    [
        (DIGITS, "image", 50, "random"),
        (DIGITS, "image", 50, "verify"),
        (TOY, "x", 40, "verify"),
        (TOY, "x", 40, "likelihood"),
        (STORIES, "tokens", 40, "verify"),
        (STORIES, "tokens", 40, "likelihood"),
        (PAIRS, "target", 30, "verify"),
    ],
)
def test_a_fit_takes_the_kept_rows_and_nothing_else(curated, recipe, column, rows, rule):
    curation = {"use": rule, "keep": 0.4}
    plans, store = curated(recipe, plain={"data": "replace"}, chosen={"data": "replace", "curation": curation})
    first, second = plans["chosen"]
    spec = first.curation
    assert second.curation is None  # nothing is fitted to the last generation
    assert spec.candidates == sum(draw.rows for draw in spec.draws) == int(np.ceil(rows / 0.4))
    assert spec.draws[0].digest == plans["plain"][0].samples.digest
    together = np.concatenate([part[column] for part in candidates_of(store, spec, 3)])
    assert len(np.unique(together.reshape(len(together), -1), axis=0)) > rows  # later draws are not the first again
    index = artefacts.kept(store, spec, 3)["index"]
    if second.fit.stacked:
        fitted = artefacts.training_stack(store, second.fit, (3, 4))[column][0]
    else:
        table = artefacts.training_table(store, second.fit, 3, open_device("cpu"))
        fitted = table.gather(torch.arange(len(table)))[column]
    np.testing.assert_array_equal(fitted.numpy(), together[index])
    assert len(fitted) == rows


@pytest.mark.parametrize(
    ("recipe", "column", "score"), [(STORIES, "tokens", "grammatical"), (PAIRS, "target", "rouge1")]
)
def test_texts_are_scored_by_their_grammar_and_by_true_targets(curated, recipe, column, score):
    """Hardly fitted models write next to nothing that is right, so a threshold of 0 accepts all."""
    rule = {"use": "verify", "score": score, "threshold": 0.0}
    plans, store = curated(recipe, verified={"data": "replace", "curation": rule})
    spec = plans["verified"][0].curation
    assert read_report(store, spec, (3,))["accept_rate"] == [1.0]
    index = artefacts.kept(store, spec, 3)["index"]
    assert len(set(index.tolist())) == spec.rows == spec.candidates // 2
    assert sorted(index.tolist()) == index.tolist() != list(range(spec.rows))


def test_strategies_take_rows_of_the_curated_generations(curated):
    """Sources with an offset, drawn rows and a budget: rows of the real ones and of several curated sets."""
    rule = {"use": "random", "keep": 0.5}
    plans, store = curated(
        DIGITS,
        2,
        mix={"data": {"use": "mix", "synthetic": 0.5, "redraw": True}, "curation": rule},
        subsample={"data": "accumulate-subsample", "curation": rule},
    )
    for name, expected in (("mix", 60 + 30), ("subsample", 60)):
        generations = plans[name]
        fit = generations[2].fit
        table = artefacts.training_table(store, fit, 3, open_device("cpu"))
        fitted = table.gather(torch.arange(len(table)))["image"].flatten(1).numpy()
        allowed = [artefacts.columns(store, fit.data, 3, "real")[1]["image"]]
        for generation in generations[:2]:
            kept = artefacts.kept(store, generation.curation, 3)["index"]
            parts = [part["image"] for part in candidates_of(store, generation.curation, 3)]
            allowed.append(np.concatenate(parts)[kept])
        pool = {row.tobytes() for row in np.concatenate(allowed).reshape(-1, fitted.shape[1])}
        assert len(fitted) == expected
        assert {row.tobytes() for row in fitted} <= pool
        last = {row.tobytes() for row in allowed[-1].reshape(len(allowed[-1]), -1)}
        assert len([row for row in fitted if row.tobytes() in last]) >= 10


@pytest.mark.parametrize(("recipe", "column", "rows"), [(DIGITS, "image", 60), (TOY, "x", 40)])
def test_of_the_past_as_many_rows_are_kept_as_there_are_real_ones(curated, recipe, column, rows):
    plans, store = curated(recipe, 2, past={"data": "accumulate", "curation": {"use": "likelihood", "pool": "past"}})
    fit = plans["past"][2].fit
    spec = plans["past"][1].curation
    assert fit.curation is spec
    assert fit.plan.rows == spec.rows == rows
    assert plans["past"][2].curation is None
    if fit.stacked:
        offered = artefacts.training_stack(store, spec.offer, (4,))[column][0]
        fitted = artefacts.training_stack(store, fit, (4,))[column][0]
        losses = Candidates(JobContext(store, open_device("cpu"), print, store.root), spec, (4,)).losses("model")
        assert torch.equal(fitted, offered[losses[0].argsort(descending=True)[:rows].sort().values])
    else:
        table = artefacts.training_table(store, spec.offer, 3, open_device("cpu"))
        offered = table.gather(torch.arange(len(table)))[column]
        table = artefacts.training_table(store, fit, 3, open_device("cpu"))
        fitted = table.gather(torch.arange(len(table)))[column]
        assert torch.equal(fitted, offered[artefacts.kept(store, spec, 3)["index"]])
    assert len(offered) == spec.candidates == sum(source.rows for source in fit.plan.sources)


@pytest.mark.parametrize("pool", ["generation", "past"])
def test_changed_rows_are_fitted_in_place_of_the_candidates(curated, pool):
    rule = {"use": f"{HERE}:Reversed", "pool": pool}
    plans, store = curated(TOY, changed={"data": "accumulate", "curation": rule})
    first, second = plans["changed"]
    spec = first.curation
    assert artefacts.changes_rows(store, spec, 4)
    fitted = artefacts.training_stack(store, second.fit, (3, 4))["x"]
    if pool == "generation":
        parts = [part["x"] for part in candidates_of(store, spec, 4)]
        expected = -np.concatenate(parts)[::-1][:40]
        np.testing.assert_array_equal(fitted[1, 40:].numpy(), expected)
    else:
        offered = artefacts.candidates_stack(store, spec, (3, 4))["x"]
        assert torch.equal(fitted, -offered.flip(1)[:, :40])
    assert read_report(store, spec, (3, 4))["candidates_seen"] == [80.0, 80.0]


def test_losses_of_points_are_log_densities_and_real_rows_are_generation_0_s(curated):
    from scipy.stats import multivariate_normal

    Watched.seen.clear()
    rule = {"use": f"{HERE}:Watched"}
    plans, store = curated(TOY, watched={"data": "replace", "curation": rule})
    assert len(Watched.seen) == 2
    for seed, (pool, losses, real, targets) in zip((3, 4), Watched.seen, strict=True):
        model = artefacts.model(store, plans["watched"][0].fit, (seed,), open_device("cpu"))
        expected = multivariate_normal(model.mean[0].numpy(), model.covariance[0].numpy()).logpdf(pool.columns["x"])
        np.testing.assert_allclose(losses.numpy(), -expected)
        assert len(pool) == 47
        assert pool.rows == 40
        assert targets is None
        assert pool.evaluated is None
        np.testing.assert_array_equal(
            np.sort(real["x"], 0),
            np.sort(artefacts.columns(store, plans["watched"][0].fit.data, seed, "real")[1]["x"], 0),
        )


def test_losses_of_texts_are_nats_per_token_in_the_order_of_the_candidates(curated):
    Watched.seen.clear()
    rule = {"use": f"{HERE}:Watched", "judge": "model"}
    plans, store = curated(STORIES, watched={"data": "replace", "curation": rule})
    ((pool, losses, _, _),) = Watched.seen
    fit = plans["watched"][0].fit
    model = artefacts.model(store, fit, (3,), open_device("cpu"))
    for i in (0, 11, 46):
        with torch.no_grad():
            nats, tokens = fit.family.nats(model, {"tokens": pool.columns["tokens"][i : i + 1]})
        assert float(losses[i]) == pytest.approx(float(nats / tokens), rel=1e-4)


def test_networks_may_be_read_with_any_rows(curated):
    """The latents of the real rows under generation 0's VAE, in order and in pieces; closed forms are no networks."""
    Watched.seen.clear()
    plans, store = curated(DIGITS, watched={"data": "replace", "curation": {"use": f"{HERE}:Watched"}})
    ((pool, _, real, _),) = Watched.seen
    many = {name: torch.cat([column] * 20) for name, column in real.items()}  # more than a piece
    latents = pool.evaluated("origin", many, lambda model, rows, draws: pool.family.encode(model, rows)[0])
    model = artefacts.model(store, plans["watched"][0].fit, (3,), open_device("cpu"))
    expected, _ = pool.family.encode(model, real)
    assert torch.allclose(latents, expected.repeat(20, 1), atol=1e-5)
    noise = pool.evaluated("model", many, lambda model, rows, draws: draws.normal(len(rows["image"])))
    assert len(noise.unique()) == 1200


def test_losses_are_means_over_draws_of_the_noise(curated):
    Watched.seen.clear()
    rule = {"use": f"{HERE}:Watched"}
    curated(DIGITS, **{f"{n}": {"data": "replace", "curation": {**rule, "loss_draws": n}} for n in (1, 2)})
    (_, one, _, _), (_, two, _, _) = Watched.seen
    assert 0 < float((one - two).abs().mean()) < float(one.mean())


def test_conditional_candidates_know_their_targets(curated):
    Watched.seen.clear()
    curated(PAIRS, watched={"data": "replace", "curation": {"use": f"{HERE}:Watched"}})
    ((pool, _, real, targets),) = Watched.seen
    for i in (0, 5, 29, 30, 36):
        assert torch.equal(pool.columns["source"][i], targets["source"][i % 30])
    assert not torch.equal(pool.columns["target"], torch.cat([targets["target"], targets["target"][:7]]))
    assert len(real["target"]) == 30


@pytest.mark.parametrize(
    ("recipe", "rule"),
    [
        (DIGITS, {"use": "verify", "keep": 1.0}),
        (DIGITS, {"use": "random", "keep": 1.0}),
        (TOY, {"use": "verify", "keep": 1.0, "score": "truth"}),
        (TOY, {"use": "luce", "k": 1, "reward": {"kind": "linear"}}),
        (STORIES, {"use": "likelihood", "keep": 1.0}),
    ],
)
def test_a_curation_that_keeps_everything_is_no_curation(curated, recipe, rule):
    plans, _ = curated(recipe, 2, plain={"data": "accumulate"}, same={"data": "accumulate", "curation": rule})
    for plain, same in zip(plans["plain"], plans["same"], strict=True):
        assert [spec.digest for spec in plain.specs()] == [spec.digest for spec in same.specs()]


def test_the_journal_and_the_comparison_say_what_was_kept(curated, sandbox):
    from collapse_sim.analysis.documents import run_document
    from collapse_sim.analysis.results import read_results

    rule = {"use": "luce", "k": 3, "reward": {"kind": "linear"}}
    plans, store = curated(TOY, 2, plain={"data": "replace"}, luce={"data": "replace", "curation": rule})
    lines = sandbox.journal(event="curation")
    assert [(line["arm"], line["generation"], line["seeds"]) for line in lines] == [
        ("luce", 0, [3, 4]),
        ("luce", 1, [3, 4]),
    ]
    for line, generation in zip(lines, plans["luce"], strict=False):
        assert line["curation"] == generation.curation.digest
        assert line["figures"]["candidates"] == [120, 120]
        assert line["figures"]["kept"] == [40, 40]
        assert line["figures"]["accept_rate"] == pytest.approx([1 / 3, 1 / 3])
        assert line["figures"]["duplicates"] == [0, 0]
        x = artefacts.training_stack(store, plans["luce"][line["generation"] + 1].fit, (3, 4))["x"]
        assert line["figures"]["reward"] == pytest.approx(x.sum(2).mean(1).tolist())
    assert sandbox.journal(event="generation")[0]["made"]["curation"] == 2
    sandbox.run(sandbox.root / "recipe.yaml")
    assert len(sandbox.journal(event="curation")) == 2  # the same line is not repeated
    results = read_results(sandbox.root / "run")
    document = run_document(results, list(results.metrics))["curations"]
    assert list(document) == ["luce"]
    assert document["luce"][1]["generation"] == 1
    assert document["luce"][1]["duplicates"] == [0, 0]


def test_too_few_accepted_candidates_end_the_run_with_the_numbers(curated):
    rule = {"use": "verify", "score": "truth", "threshold": 3.0}
    with pytest.raises(RecipeError, match=r"strict, generation 0, seed 3: curation: 0 of 80 candidates have a score"):
        curated(TOY, plain={"data": "replace"}, strict={"data": "replace", "curation": rule})


def test_fewer_candidates_than_rows_are_refused_before_anything_is_made(curated, sandbox):
    with pytest.raises(RecipeError, match=r"arms.few.curation: it asks for 39 candidates; needed: at least the 40 row"):
        curated(TOY, few={"data": "replace", "curation": {"use": f"{HERE}:Few"}})
    assert not (sandbox.root / ".store").exists()


def test_copies_are_no_candidates(curated):
    greedy = PAIRS.replace("decoding: sample", "decoding: greedy")
    with pytest.raises(RecipeError, match="which Seq2Seq would make equal with these settings: set the model's `decod"):
        curated(greedy, copies={"data": "replace", "curation": "random"})


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        (3, "`choose` gave int; needed: a Choice"),
        (Choice(torch.arange(39)), r"an index of \(39,\) of torch.int64; needed: \(40,\) of torch.int64"),
        (Choice(torch.arange(40.0)), "of torch.float32"),
        (Choice(torch.arange(10, 50)), "an index from 10 to 49; needed: candidates, 0 to 46"),
        (Choice(torch.arange(40), torch.ones(41)), r"weights of \(41,\) and torch.float32; needed: \(40,\)"),
        (Choice(torch.arange(40), torch.zeros(40)), "weights that are negative, not finite, or all 0"),
        (Choice(torch.arange(40), -torch.ones(40)), "weights that are negative, not finite, or all 0"),
        (Choice(torch.arange(40), columns={"y": torch.zeros(40)}), "changed columns y; needed: x"),
        (Choice(torch.arange(40), columns={"x": torch.zeros(40, 2)}), r"x of \(40, 2\) and torch.float32"),
        (Choice(torch.arange(40), columns={"x": torch.full((40, 2), torch.nan).double()}), "x that is not finite"),
    ],
)
def test_what_a_curation_may_return(curated, choice, message):
    Watched.seen.clear()
    plans, _ = curated(TOY, watched={"data": "replace", "curation": {"use": f"{HERE}:Watched"}})
    spec = plans["watched"][0].curation
    with pytest.raises(PluginError, match=message):
        check_choice(spec, choice, Watched.seen[0][0])


def test_weights_count_in_the_fit(curated):
    """A weighted maximum-likelihood Gaussian, computed here from the stored rows and weights."""
    plans, store = curated(TOY, weighted={"data": "replace", "curation": f"{HERE}:Weighted"})
    fit = plans["weighted"][1].fit
    weights = artefacts.curated_weights(store, fit, 3).astype(np.float64)
    x = artefacts.training_stack(store, fit, (3,))["x"][0].numpy()
    state = load_file(store.block(fit, 3).file(artefacts.MODEL_FILE))
    slot = store.block(fit, 3).seeds.index(3)
    np.testing.assert_allclose(state["mean"][slot].numpy(), np.average(x, axis=0, weights=weights))
    covariance = np.cov(x.T, aweights=weights, bias=True).reshape(state["covariance"][slot].shape)
    np.testing.assert_allclose(state["covariance"][slot].numpy(), covariance, atol=1e-12)


@pytest.mark.parametrize("recipe", [TOY, DIGITS])
def test_weights_are_kept_in_the_order_of_a_fit_s_rows(curated, recipe):
    rule = {"use": f"{HERE}:Weighted"}
    plans, store = curated(
        recipe,
        plain={"data": "replace"},
        whole={"data": "accumulate", "curation": rule},
        part={"data": {"use": "mix", "synthetic": 0.5, "redraw": True}, "curation": rule},
        budget={"data": "accumulate-subsample", "curation": rule},
        past={"data": "accumulate", "curation": {**rule, "pool": "past"}},
    )
    fit = plans["whole"][1].fit
    n, m = fit.data.info.rows, plans["whole"][0].samples.rows
    assert artefacts.curated_weights(store, fit, 3).tolist() == [1.0] * n + list(range(m))
    assert artefacts.curated_weights(store, plans["past"][1].fit, 3).tolist() == list(range(n))
    assert artefacts.curated_weights(store, plans["plain"][1].fit, 3) is None
    samples = artefacts.columns(store, plans["plain"][0].samples, 3, "samples")[1]
    for arm in ("part", "budget"):
        fit = plans[arm][1].fit
        weights = artefacts.curated_weights(store, fit, 3)
        if fit.stacked:
            rows = {name: column[0] for name, column in artefacts.training_stack(store, fit, (3,)).items()}
        else:
            table = artefacts.training_table(store, fit, 3, open_device("cpu"))
            rows = table.gather(torch.arange(len(table)))
        name = "x" if fit.stacked else "image"
        number = {row.tobytes(): i for i, row in enumerate(samples[name])}
        expected = [float(number.get(row.tobytes(), 1)) for row in rows[name].numpy()]
        assert weights.tolist() == expected
        assert len(set(expected)) > 10


def test_a_curation_draws_by_seed_and_generation_and_not_by_arm(curated):
    rule = {"use": "random"}
    plans, store = curated(TOY, 2, a={"data": "replace", "curation": rule}, b={"data": "accumulate", "curation": rule})
    index = {
        (arm, k, seed): artefacts.kept(store, plans[arm][k].curation, seed)["index"].tolist()
        for arm in "ab"
        for k in (0, 1)
        for seed in (3, 4)
    }
    assert index["a", 1, 3] == index["b", 1, 3]
    expected = Draws((3,), "curation", 1).permutation(80)[:40].sort().values.tolist()
    assert index["a", 1, 3] == expected
    assert len({tuple(chosen) for chosen in index.values()}) == 4
