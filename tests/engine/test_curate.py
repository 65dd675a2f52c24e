from __future__ import annotations

import numpy as np
import pytest
import torch

from collapse_sim.core.errors import PluginError, RecipeError
from collapse_sim.core.machine import open_device
from collapse_sim.core.randomness import Draws
from collapse_sim.engine import artefacts
from collapse_sim.engine.curate import check_choice, read_report
from collapse_sim.remedies.base import Choice
from tests.engine.curations import DIGITS, HERE, PAIRS, STORIES, TOY, Watched


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
