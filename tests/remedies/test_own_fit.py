"""The second model of a generation: what of its settings is in which key."""

from __future__ import annotations

import pytest

from collapse_sim.families.gaussian import Gaussian
from collapse_sim.families.training import ShortFit
from collapse_sim.families.vae import VAE
from collapse_sim.remedies.own_fit import OwnFit
from collapse_sim.remedies.sims import SIMS


def test_its_samples_and_training_are_not_in_the_remedys_own_key():
    """They are in the keys of the samples and of the fit."""
    remedy = SIMS(w=0.5, samples=7, train=ShortFit(steps=3))
    assert remedy.describe() == {"use": "sims", "version": 1, "w": 0.5}
    assert remedy.own is remedy


def test_a_closed_form_has_nothing_to_train():
    OwnFit(train=ShortFit(steps=3)).check_train(VAE())
    OwnFit().check_train(Gaussian())
    with pytest.raises(ValueError, match="nothing to train; remove it"):
        OwnFit(train=ShortFit(steps=3)).check_train(Gaussian())
