"""Token editing: which tokens are drawn again, from what, and what stays."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from collapse_sim.core.randomness import Draws
from collapse_sim.families.gaussian import Gaussian
from collapse_sim.families.hooks import TokenPredictions
from collapse_sim.remedies.token_editing import TokenEditing
from tests.families.small_rows import POINTS
from tests.families.wording import PACKED, PAIRS, T5, TEXT, TINY, blocks, built, pairs, texts, unlike
from tests.remedies.candidate_pools import curation_draws, evaluated_by, pool_of

TOKENS = torch.tensor([[0, 4, 2, 3, 0, -1]])
P = torch.tensor([0.0, 0.1, 0.6, 0.1, 0.2])  # of tokens 0 (begins and ends texts) to 4, at every place


def fake(p):
    """A family that gives every place of TOKENS the probabilities p."""

    def token_predictions(model, rows):
        targets = rows["tokens"][:, 1:].long()
        return TokenPredictions(p.log().expand(*targets.shape, -1), targets, "tokens", 1)

    return SimpleNamespace(token_predictions=token_predictions)


def test_only_certain_tokens_are_drawn_again():
    edited = TokenEditing(threshold=0.5, choices=4).edited(fake(P), None, {"tokens": TOKENS}, curation_draws(), {0})
    assert edited[0, 1].tolist() == [0, 0, 1, 0, 0, 0]
    assert edited[0, 0, [0, 1, 3, 4, 5]].tolist() == [0, 4, 3, 0, -1]


@pytest.mark.parametrize(("choices", "beta"), [(4, 1.5), (2, 1.0), (3, 4.0)])
def test_draws_have_the_published_distribution(choices, beta):
    """softmax(log p / beta) over the most likely tokens, the token itself included: within four standard errors."""
    rows = {"tokens": torch.tensor([[0, 2]]).expand(20_000, 2)}
    editing = TokenEditing(threshold=0.5, choices=choices, beta=beta)
    drawn = editing.edited(fake(P), None, rows, curation_draws(), {0})[:, 0, 1]
    powers = P ** (1 / beta)
    kept = P.sort(descending=True, stable=True).indices[:choices]
    expected = torch.zeros(5)
    expected[kept] = powers[kept] / powers[kept].sum()
    share = drawn.bincount(minlength=5) / len(drawn)
    if choices == 3:  # tokens 1 and 3 are equally likely, and either is the third
        expected[1], share[1] = expected[[1, 3]].sum(), share[[1, 3]].sum()
        expected[3] = share[3] = 0
    assert ((share - expected).abs() < 4 * (0.25 / len(drawn)) ** 0.5).all()


@pytest.mark.parametrize(
    ("family", "info", "rows", "column"),
    [(TINY, TEXT, texts(), "tokens"), (TINY, PACKED, blocks(), "tokens"), (T5, PAIRS, pairs(), "target")],
)
def test_texts_of_networks(family, info, rows, column):
    model = unlike(built(family, info))
    pool = pool_of(rows, rows, info, family=family, evaluated=evaluated_by(model))
    choice = TokenEditing(threshold=0.05, choices=5).choose(pool, 40, curation_draws())
    assert choice.index.tolist() == list(range(40))
    old, new = rows[column], choice.columns[column]
    assert new.dtype == old.dtype
    for fixed in (-1, 0):  # padding; begin and end
        assert ((old == fixed) == (new == fixed)).all()
    count = int((old >= 0).sum())
    assert choice.report["changed"] == pytest.approx(int((old != new).sum()) / count)
    assert 0 < choice.report["changed"] <= choice.report["edited"]
    own = family.token_predictions(model, rows)
    p = own.log_p.exp().gather(2, own.targets.clamp(min=0)[..., None])[..., 0]
    there = own.targets > 0
    width = old[:, own.first :].shape[1]
    unchanged = (there & (p <= 0.05))[:, :width]
    assert (old == new)[:, own.first :][:, : unchanged.shape[1]][unchanged].all()
    again = TokenEditing(threshold=0.05, choices=5).choose(pool, 40, curation_draws())
    assert again.columns[column].equal(new)


def test_a_threshold_of_one_and_fewer_rows_than_candidates():
    assert TokenEditing(threshold=1.0).keeps_all
    assert not TokenEditing().keeps_all
    rows = texts()
    pool = pool_of(rows, rows, TEXT, family=TINY, evaluated=evaluated_by(built(TINY, TEXT)))
    choice = TokenEditing(threshold=1.0, pool="past").choose(pool, 15, curation_draws())
    assert choice.columns["tokens"].equal(rows["tokens"][choice.index])
    assert choice.report == {"edited": 0, "changed": 0}
    assert TokenEditing().candidates(7) == 7


def test_checks_before_anything_runs():
    with pytest.raises(ValueError, match="it edits texts; this data is of the kind points"):
        TokenEditing().check(None, POINTS, Gaussian())
    with pytest.raises(ValueError, match="which Gaussian models do not offer: use"):
        TokenEditing().check(None, TEXT, Gaussian())
    TokenEditing().check(None, TEXT, TINY)


def test_rows_are_not_changed_in_place():
    rows = {"tokens": TOKENS.clone()}
    TokenEditing(threshold=0.5).edited(fake(P), None, rows, Draws((1,), "edit", 0), {0})
    assert rows["tokens"].equal(TOKENS)
