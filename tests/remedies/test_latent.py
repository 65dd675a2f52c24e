"""Latent-space filtering on digits: wrong and noisy rows have low scores."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from collapse_sim.families.causal_lm import CausalLM
from collapse_sim.families.ddpm import DDPM
from collapse_sim.families.edm import EDM
from collapse_sim.families.flow_matching import FlowMatching
from collapse_sim.families.gmm import GMM
from collapse_sim.families.network import Network
from collapse_sim.families.vae import VAE
from collapse_sim.remedies.latent import Latent
from tests.families.small_rows import IMAGES, POINTS
from tests.families.wording import TEXT, built
from tests.remedies.candidate_pools import curation_draws, evaluated_by, images

SMALL = Network(widths=(8, 16), layers=1, attention="none")
FAMILIES = [DDPM(network=SMALL), FlowMatching(network=SMALL), VAE(hidden=32, latent=8), EDM(network=SMALL)]


def digits():
    from sklearn.datasets import load_digits

    data = load_digits()
    pixels = torch.from_numpy(np.minimum(data.images * 16, 255).astype(np.uint8))[:, None]
    return pixels[:600], torch.from_numpy(data.target[:600]).long()


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: type(family).__name__)
def test_wrong_labels_have_low_scores(family):
    """Untrained encoders suffice for a probe: candidates are other real rows, a half of them with a wrong label."""
    pixels, labels = digits()
    pool = images(
        pixels[400:], pixels[:400], labels[:400], family=family, evaluated=evaluated_by(built(family, IMAGES))
    )
    own = labels[400:].clone()
    own[:100] = (own[:100] + 3) % 10
    pool = dataclasses.replace(pool, columns={**pool.columns, "label": own})
    choice = Latent(time=0.05).choose(pool, 100, curation_draws())
    assert int((choice.index >= 100).sum()) > 65
    assert choice.report["score_of_kept"] > choice.report["score_of_all"]
    assert 0.3 < choice.report["probe_accuracy"] <= 1


def test_without_own_labels_noise_is_left_out():
    pixels, labels = digits()
    generator = torch.Generator().manual_seed(0)
    noise = torch.randint(0, 256, (100, 1, 8, 8), generator=generator, dtype=torch.uint8)
    candidates = torch.cat([pixels[400:500], noise])
    model = built(FAMILIES[0], IMAGES)
    pool = images(candidates, pixels[:400], labels[:400], family=FAMILIES[0], evaluated=evaluated_by(model))
    choice = Latent(time=0.05).choose(pool, 100, curation_draws())
    assert int((choice.index < 100).sum()) > 65
    assert choice.report["label_accuracy"] > 0.95
    assert choice.index.equal(Latent(time=0.05).choose(pool, 100, curation_draws()).index)


def test_checks_before_anything_runs():
    Latent().check(None, IMAGES, DDPM())
    with pytest.raises(ValueError, match=r"this data is without labels of two classes\. Use `detector`"):
        Latent().check(None, dataclasses.replace(IMAGES, classes=0), DDPM())
    with pytest.raises(ValueError, match="this data is of the kind points"):
        Latent().check(None, POINTS, DDPM())
    with pytest.raises(ValueError, match="which GMM models do not have: use ddpm"):
        Latent().check(None, IMAGES, GMM())
    with pytest.raises(ValueError, match="this data is of the kind text"):
        Latent().check(None, TEXT, CausalLM(preset="tiny"))


def test_labels_that_no_real_row_has():
    pixels, labels = digits()
    few = labels[:400].clamp(max=8)
    model = built(FAMILIES[2], IMAGES)
    pool = images(pixels[400:450], pixels[:400], few, family=FAMILIES[2], evaluated=evaluated_by(model))
    pool = dataclasses.replace(pool, columns={**pool.columns, "label": labels[400:450].clamp(min=9)})
    with pytest.raises(ValueError, match="the label 9, which no real row has"):
        Latent().choose(pool, 20, curation_draws())
    single = images(pixels[400:450], pixels[:20], torch.full((20,), 3), family=FAMILIES[2])
    with pytest.raises(ValueError, match="have the same label: raise"):
        Latent().choose(single, 20, curation_draws())
