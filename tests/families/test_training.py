"""Settings of a fit: how long it is, and its learning rate at every step."""

from __future__ import annotations

import pytest
import torch
from pydantic import ValidationError

from collapse_sim.families.training import FitLength, ShortFit, Train, learning_rate


def train(**settings):
    return Train(**({"steps": 10} | settings))


@pytest.mark.parametrize(
    ("settings", "rows", "steps", "per_epoch", "every"),
    [
        ({"epochs": 70, "batch_size": 256}, 60_000, 16_450, 235, 235),  # the KD paper's counts
        ({"steps": 7, "batch_size": 32}, 100, 7, 4, 4),
        ({"epochs": 0.5, "batch_size": 10}, 100, 5, 10, 10),
        ({"steps": 9, "evaluate": "every 3 steps"}, 100, 9, 1, 3),
        ({"steps": 9, "evaluate": "never"}, 100, 9, 1, 0),
    ],
)
def test_length(settings, rows, steps, per_epoch, every):
    assert FitLength.of(Train(**settings), rows) == FitLength(steps, per_epoch, every)


def test_learning_rate_warms_up_from_zero_and_falls_along_half_a_cosine():
    cosine = train(steps=100, learning_rate=2.0, schedule="cosine", warmup_steps=20)
    assert [learning_rate(cosine, step, 100) for step in (0, 10, 20)] == [0.0, 1.0, 2.0]
    assert learning_rate(cosine, 60, 100) == pytest.approx(1.0)
    assert learning_rate(cosine, 100, 100) == pytest.approx(0.0)
    reference = torch.optim.lr_scheduler.CosineAnnealingLR(torch.optim.SGD([torch.zeros(1)], lr=2.0), T_max=80)
    for step in range(20, 100):
        assert learning_rate(cosine, step, 100) == pytest.approx(reference.get_last_lr()[0], abs=1e-9)
        reference.optimizer.step()
        reference.step()
    constant = train(steps=100, learning_rate=2.0)
    assert {learning_rate(constant, step, 100) for step in range(100)} == {2.0}


@pytest.mark.parametrize("warmup", [{}, {"warmup_steps": 9}, {"warmup_ratio": 0.05}])
@pytest.mark.parametrize("steps", [177, 1])
def test_a_linear_schedule_is_transformers_own(warmup, steps):
    """With five updates of a hundred to warm up in: 9 of 177."""
    from transformers import get_linear_schedule_with_warmup

    linear = Train(steps=steps, learning_rate=2.0, schedule="linear", **warmup)
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=2.0)
    before = 0 if "warmup_ratio" in warmup and steps == 1 else 9 * bool(warmup)
    theirs = get_linear_schedule_with_warmup(optimizer, before, steps)
    for step in range(steps):
        assert learning_rate(linear, step, steps) == pytest.approx(theirs.get_last_lr()[0], abs=1e-12)
        optimizer.step()
        theirs.step()


def test_two_ways_to_say_how_long_the_warm_up_is():
    with pytest.raises(ValueError, match="`warmup_steps` and `warmup_ratio` say the same thing in two ways: set one"):
        train(warmup_steps=3, warmup_ratio=0.1)
    assert train(warmup_steps=0, warmup_ratio=0.1).warmup_ratio == 0.1


def test_a_short_fit_is_laid_over_an_arms_settings():
    """A length replaces one in the other unit, a warm-up in steps one as a share; the rest is the arm's."""
    arm = Train(epochs=10, batch_size=7, learning_rate=0.5, warmup_ratio=0.1, keep="best", patience=3, ema=0.9)
    short = ShortFit(steps=5, warmup_steps=2).over(arm)
    assert (short.steps, short.epochs, short.warmup_steps, short.warmup_ratio) == (5, None, 2, 0.0)
    assert (short.batch_size, short.learning_rate, short.ema) == (7, 0.5, 0.9)
    assert (short.keep, short.patience, short.evaluate) == ("last", None, "never")
    assert ShortFit().over(arm).epochs == 10
    with pytest.raises(ValidationError, match="the same thing in two ways"):
        ShortFit(steps=5, epochs=1)
