"""Which rows, and with which weights, a fit takes of curated generations."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from collapse_sim.core.machine import open_device
from collapse_sim.engine import artefacts
from collapse_sim.engine.curate import Candidates, read_report
from collapse_sim.engine.work import JobContext
from tests.engine.curations import DIGITS, HERE, PAIRS, STORIES, TOY, candidates_of


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
