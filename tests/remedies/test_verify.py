from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from pydantic import ValidationError

from collapse_sim.data.base import Info
from collapse_sim.data.toys.gaussian_points import GaussianPoints
from collapse_sim.families.gaussian import Gaussian
from collapse_sim.remedies.verify import Verify

from .candidates import POINTS, draws, points, pool


def test_the_densest_rows_under_the_truth_are_kept():
    candidates = pool(points(-3, 0.2, 1, -0.1, 2), rows=2)
    assert Verify(score="truth").choose(candidates, 2, draws()).index.tolist() == [1, 3]


def test_a_biased_verifier_takes_another_place_for_the_centre():
    candidates = pool(points(-3, 0.2, 1, -0.1, 2), rows=2)
    choice = Verify(score="truth", bias={"shift": 1.6}).choose(candidates, 2, draws())
    assert choice.index.tolist() == [2, 4]


def test_a_weak_verifier_decides_partly_by_chance():
    candidates = pool(points(*torch.linspace(0, 3, 200).tolist()), rows=100)
    exact = Verify(score="truth").choose(candidates, 100, draws()).index
    weak = Verify(score="truth", bias={"noise": 1.0}).choose(candidates, 100, draws()).index
    assert exact.tolist() == list(range(100))
    assert 60 < int((weak < 100).sum()) < 95


def test_the_loss_is_that_of_generation_0():
    candidates = pool(points(0, 1, 2), losses=lambda judge: torch.tensor({"origin": [1.0, 3.0, 2.0]}[judge]))
    assert Verify().choose(candidates, 2, draws()).index.tolist() == [0, 2]


def test_a_threshold_accepts_any_number_and_keeps_some_at_random():
    candidates = pool(points(0, 0.5, 3, -0.5, 0.1, 4), rows=2)
    rule = Verify(score="truth", threshold=-1.5)  # density above that of |x| = 1.08
    chosen = {tuple(rule.choose(candidates, 2, draws(seed)).index.tolist()) for seed in range(100)}
    assert chosen == {(0, 1), (0, 3), (0, 4), (1, 3), (1, 4), (3, 4)}
    assert rule.choose(candidates, 2, draws()).report == {"accept_rate": 4 / 6}
    with pytest.raises(
        ValueError, match=r"4 of 6 candidates have a score of -1.5 or more \(the highest is -0.918939\)"
    ):
        rule.choose(candidates, 5, draws())


def test_a_verifier_that_accepts_nothing_says_so():
    with pytest.raises(ValueError, match=r"0 of 2 candidates .* and 1 are needed: lower `threshold`, or lower `keep`"):
        Verify(score="truth", threshold=5.0).choose(pool(points(0, 1)), 1, draws())


def test_classes_keep_their_shares_unless_told_otherwise():
    columns = {**points(0, 0.1, 0.2, 0.3, 1, 1.1, 1.2, 1.3), "label": torch.tensor([0, 0, 0, 0, 1, 1, 1, 1])}
    candidates = pool(columns, rows=4)
    by_class = Verify(score="truth").choose(candidates, 4, draws()).index.tolist()
    assert by_class == [0, 1, 4, 5]
    assert Verify(score="truth", per_class=False).choose(candidates, 4, draws()).index.tolist() == [0, 1, 2, 3]
    biased = Verify(score="truth", bias={"classes": {0: 1 / 3}}).choose(candidates, 4, draws())
    assert biased.index.tolist() == [0, 4, 5, 6]


def test_it_keeps_all_only_where_it_changes_nothing():
    assert Verify(keep=1.0).keeps_all
    assert not Verify(keep=1.0, threshold=0.0).keeps_all
    assert not Verify(keep=1.0, bias={"classes": {0: 2.0}}).keeps_all
    assert not Verify().keeps_all


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"score": "grammatical"}, "needs text whose grammar is known"),
        ({"score": "rouge1"}, "which only data of pairs has"),
        ({"per_class": True}, "`per_class` needs rows with labels, and Gaussian generates none here"),
        ({"bias": {"classes": {1: 0.5}}}, "`bias.classes` needs rows with labels"),
        ({"bias": {"shift": 1.0}}, "`bias.shift` moves a true centre: it needs the score `truth`"),
        ({"score": "truth", "bias": {"shift": (1.0, 2.0)}}, "`bias.shift` has 2 numbers, and x has 1"),
    ],
)
def test_what_has_no_meaning_is_refused_before_anything_is_made(settings, message):
    with pytest.raises(ValueError, match=message):
        Verify(**settings).check(GaussianPoints(), POINTS, Gaussian())


def test_the_truth_must_be_known():
    unknown = Info("points", {"x": ((1,), "float64")}, rows=4, pool=4, held_out=4)
    with pytest.raises(ValueError, match="the score `truth` needs simulated data"):
        Verify(score="truth").check(object(), unknown, Gaussian())  # type: ignore[arg-type]


def test_the_classifier_is_asked_and_its_quality_reported():
    candidates = pool(points(*torch.linspace(-2, 2, 40).tolist()), rows=20)
    rule = Verify(score="classifier")
    real = {"x": 0.1 * torch.randn(60, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(0))}
    fitted = rule.verifier.fit(replace(candidates, real=lambda: real), draws())
    choice = rule.choose(replace(candidates, verifier=lambda: fitted), 10, draws())
    assert choice.index.tolist() == list(range(15, 25))
    assert choice.report == {"classifier_auc": fitted.report["auc"]}
    accepted = Verify(score="classifier", threshold=0.0).choose(
        replace(candidates, verifier=lambda: fitted), 2, draws()
    )
    assert set(accepted.report) == {"classifier_auc", "accept_rate"}
    assert Verify().verifier is None


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"score": "truth", "loss_draws": 4}, "`loss_draws` is for the score `loss`, and the score is 'truth'"),
        ({"features": "rbf"}, "`features` is for the score `classifier`, and the score is 'loss'"),
    ],
)
def test_settings_that_would_change_nothing_are_refused(settings, message):
    with pytest.raises(ValidationError, match=message):
        Verify(**settings)
