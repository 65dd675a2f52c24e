"""Measuring an experiment: which kinds are measured, and that nothing stays behind."""

from __future__ import annotations

import os
import signal
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from collapse_sim.core.errors import InterruptedRunError
from collapse_sim.core.machine import open_device
from collapse_sim.engine import fit, stacked
from collapse_sim.metrics import features
from collapse_sim.plan.costs import kind_of_spec, predict
from collapse_sim.plan.experiment import prepare
from collapse_sim.recipe.loader import load
from collapse_sim.run.bench import Bench, named
from collapse_sim.store.spec import Spec
from tests.conftest import TINY, Sandbox, changed

FID = changed(TINY, ("[test_loss]", "[test_loss, {use: fid, features: classifier}]"))
POINTS = """
name: points
data: {use: gaussian, dimensions: 2, rows: 30}
model: {use: gaussian}
generations: 2
seeds: 40
arms:
  replace: {data: replace}
  distill: {data: replace, teacher: {generation: previous, weights: {output: 1.0}}}
metrics: [variance_ratio]
"""
REMEDIED = """
name: remedied
data: {use: gaussian, dimensions: 2, rows: 30}
model: {use: gaussian}
generations: 1
seeds: 2
arms:
  merged:
    data: replace
    curation: {use: random, keep: 0.5}
    merge: {use: neon, w: 0.5}
    guidance: {use: temperature, b: 0.9}
metrics: [variance_ratio]
"""


@pytest.fixture
def measured(sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Bench]:
    """measured(recipe) is its Bench, run; its scratch store lies in tmp_path/scratch meanwhile."""
    (tmp_path / "scratch").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "scratch"))
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "inductor"))  # torch's own, made when it is imported

    def run(recipe: str, missing: Callable[[Spec], int] | None = None, ensemble: str = "auto") -> Bench:
        experiment = prepare(load(sandbox.recipe(recipe)), sandbox.root)
        every = len(experiment.recipe.seeds)
        bench = Bench(
            experiment,
            open_device("cpu"),
            sandbox.root,
            missing or (lambda spec: every if spec.seeded else 1),
            0.05,
            ensemble,
        )
        bench.rates = bench.run()
        assert list((tmp_path / "scratch").iterdir()) == []
        return bench

    return run


@pytest.mark.parametrize("recipe", [FID, POINTS], ids=["network", "closed form"])
def test_every_kind_of_artefact_gets_a_rate(measured: Callable[..., Bench], recipe: str) -> None:
    bench = measured(recipe)
    kinds = {kind_of_spec(spec) for spec in bench.experiment.specs()}
    assert (bench.rates.keys(), bench.problems) == (kinds, [])
    assert all(rate.unit_s > 0 and rate.each_s > 0 for rate in bench.rates.values())
    found = predict(bench.experiment, bench.missing, bench.rates)
    assert found.unknown == {}
    assert all(own_s > 0 for own_s in found.cells_s["replace"])
    assert bench.peak_bytes() >= bench.start_bytes > 10**7


def test_what_remedies_need_besides_fits_and_samples_is_named(measured: Callable[..., Bench]) -> None:
    """Fits to own samples and guided samples are measured as all others; curations and merges are not."""
    bench = measured(REMEDIED)
    assert bench.problems == ["merge: gaussian: only a run makes it", "curation: random: only a run makes it"]
    assert predict(bench.experiment, bench.missing, bench.rates).unknown == {"curation": 2, "merge": 4}
    drawn = [named(one.spec, bench.experiment) for one in bench.measured.values() if "samples" in one.spec.kind]
    assert drawn == ["samples: gaussian, temperature"]


def test_evaluations_are_a_part_of_a_fit(measured: Callable[..., Bench]) -> None:
    rates = {named(one.spec, None): one.rate for one in measured(TINY).measured.values() if one.spec.kind == "fit"}
    assert sorted(rates) == ["fit: vae, batches of 32", "fit: vae, batches of 32, taught"]
    assert all(rate.evaluation_s > 0 for rate in rates.values())


def test_only_what_is_missing_is_measured(measured: Callable[..., Bench]) -> None:
    """With all fits and samples in the store, a score is measured on short ones, whose rates are not given."""
    bench = measured(FID, lambda spec: 2 * (spec.kind == "scores"))
    assert sorted(one.spec.kind for one in bench.measured.values()) == ["scores", "scores"]
    assert measured(FID, lambda spec: 0).measured == {}


def test_fits_that_train_together_are_measured_together(
    measured: Callable[..., Bench], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As many as one generation has of them: of each kind one for each of two seeds."""
    sizes = []
    take = stacked.StackedStep.take

    def watched(self: stacked.StackedStep, members: list[object]) -> object:
        sizes.append(len(members))
        return take(self, members)

    monkeypatch.setattr(stacked.StackedStep, "take", watched)
    bench = measured(TINY, ensemble="8")
    assert set(sizes) == {2}
    assert bench.problems == []


def test_a_score_that_cannot_be_computed_from_a_part_is_reported(
    measured: Callable[..., Bench], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> float:
        raise ValueError("too few rows")

    monkeypatch.setattr(features.FID, "score", refuse)
    bench = measured(FID)
    (problem,) = bench.problems
    assert problem.startswith("scores: fid: ")
    assert "too few rows" in problem
    assert predict(bench.experiment, bench.missing, bench.rates).unknown == {"scores": 10}


REMEDIES = """
  random: {data: replace, curation: {use: random, keep: 0.5}}
  more random: {data: replace, curation: {use: random, keep: 0.6}}
  golden: {data: accumulate, weighting: golden}
  neon: {data: replace, merge: {use: neon, w: 0.5, train: {steps: 4}}}
metrics:"""


def test_remedies_are_predicted_without_curations_and_merges(measured: Callable[..., Bench]) -> None:
    """Those are named. Fits and samples of a remedy's own cost what others of their settings do."""
    bench = measured(changed(TINY, ("\nmetrics:", REMEDIES)))
    assert len(bench.problems) == 2
    assert bench.problems[0].startswith("curation: random: ")
    assert bench.problems[1].startswith("merge: ")
    found = predict(bench.experiment, bench.missing, bench.rates)
    assert found.unknown == {"curation": 8, "merge": 6}
    assert all(own_s > 0 for arm in ("random", "golden", "neon") for own_s in found.cells_s[arm][1:])


def test_samples_with_a_second_model_have_a_rate_of_their_own(measured: Callable[..., Bench]) -> None:
    sims = (
        "\n  sims: {data: replace, guidance: {use: sims, w: 0.5, train: {steps: 4}}}"
        "\n  weaker: {data: replace, guidance: {use: sims, w: 0.2, train: {steps: 4}}}\nmetrics:"
    )
    model = "{use: ddpm, timesteps: 8, schedule: cosine, network: {widths: [4, 8], attention: none}}"
    weights = ("{output: 0.5, mean: 1.0, variance: 1.0}", "{output: 0.5}")
    recipe = changed(TINY, ("{use: vae, hidden: 16, latent: 2}", model), weights, ("\nmetrics:", sims))
    bench = measured(recipe)
    drawn = [one for one in bench.measured.values() if one.spec.kind == "samples"]
    assert sorted(named(one.spec, bench.experiment) for one in drawn) == ["samples: ddpm", "samples: ddpm, sims"]
    assert bench.problems == []
    assert predict(bench.experiment, bench.missing, bench.rates).unknown == {}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_measurement_keeps_nothing(
    measured: Callable[..., Bench], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, number: int
) -> None:
    take = fit.SingleStep.take

    def interrupted(self: fit.SingleStep, members: list[object]) -> object:
        os.kill(os.getpid(), number)
        return take(self, members)

    monkeypatch.setattr(fit.SingleStep, "take", interrupted)
    with pytest.raises(InterruptedRunError) as stop:
        measured(TINY)
    assert stop.value.code == 128 + number
    assert list((tmp_path / "scratch").iterdir()) == []


def test_rows_from_files_are_not_measured(measured: Callable[..., Bench], sandbox: Sandbox) -> None:
    """Nor are their scores, so only decoding is left, and nothing at all where that is done."""
    for k in range(2):
        np.save(sandbox.root / f"{k}.npy", np.zeros((20, 2)))
    recipe = """
    data: {use: gaussian, dimensions: 2, rows: 30}
    generations: 1
    seeds: 2
    arms: {elsewhere: {rows_from: "{generation}.npy"}}
    metrics: [sliced_w2]
    """
    bench = measured(recipe)
    assert [one.spec.kind for one in bench.measured.values()] == ["data"]
    assert bench.problems == [
        "samples: from files: its rows are from files",
        "scores: sliced_w2: its rows are from files",
    ]
    assert measured(recipe, lambda spec: 0 if spec.kind == "data" else 1).measured == {}
