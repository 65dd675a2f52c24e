"""Metrics that torchmetrics has too, against it: another implementation of the same definitions."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from collapse_sim.data.text.tokens import PAD_TOKEN_ID
from collapse_sim.families.causal_lm import CausalLM
from collapse_sim.metrics.classes import InceptionScore
from collapse_sim.metrics.features import FID, KID
from tests.metrics import word_rows


def normal(rows: int, dimensions: int, seed: int, scale: float = 1.0, shift: float = 0.0) -> Tensor:
    draws = torch.randn(rows, dimensions, generator=torch.Generator().manual_seed(seed))
    return draws * scale + shift


pytestmark = pytest.mark.filterwarnings("ignore:Metric .* will save all extracted features in buffer:UserWarning")


class Same(nn.Module):
    """The features of torchmetrics' metrics: vectors as they are."""

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.num_features = num_features

    def forward(self, x: Tensor) -> Tensor:
        return x


@pytest.fixture
def sides() -> tuple[Tensor, Tensor]:
    return normal(300, 16, 1, 0.8, 0.2), normal(200, 16, 2)


def test_fid(evaluation, sides):
    from torchmetrics.image.fid import FrechetInceptionDistance

    samples, real = sides
    theirs = FrechetInceptionDistance(feature=Same(16), input_img_size=(16,)).set_dtype(torch.float64)
    theirs.update(real.double(), real=True)
    theirs.update(samples.double(), real=False)
    ours = FID().score(evaluation({"samples features": samples, "held_out features": real}))
    assert ours == pytest.approx(float(theirs.compute()), rel=1e-6)


def test_kid(evaluation):
    """With one subset of all rows torchmetrics' estimate has no draw left: ours without subsets."""
    from torchmetrics.image.kid import KernelInceptionDistance

    samples, real = normal(100, 16, 1, 0.8, 0.2), normal(100, 16, 2)
    theirs = KernelInceptionDistance(feature=Same(16), subsets=1, subset_size=100)
    theirs.update(real, real=True)
    theirs.update(samples, real=False)
    ours = KID().score(evaluation({"samples features": samples, "held_out features": real}))
    assert ours == pytest.approx(float(theirs.compute()[0]), rel=1e-4)


@pytest.mark.filterwarnings("ignore:std.+degrees of freedom:UserWarning")  # over one split
def test_inception_score(evaluation):
    """torchmetrics takes logits; one split is the score of all rows."""
    from torchmetrics.image.inception import InceptionScore as TheirScore

    logits = normal(200, 10, 3, 2.0)
    theirs = TheirScore(feature=Same(10), splits=1)
    theirs.update(logits)
    ours = InceptionScore(splits=1).score(evaluation({"samples probabilities": logits.softmax(1)}))
    assert ours == pytest.approx(float(theirs.compute()[0]), rel=1e-4)


def test_perplexity_of_a_language_model():
    from torchmetrics.text import Perplexity as TheirPerplexity

    info, family = word_rows.info(length=14), CausalLM(preset="tiny", width=16)
    torch.manual_seed(0)
    model = family.build(info).eval()
    rows = word_rows.rows(["a b c", "d e f g h", "a"], 14)
    nats, tokens = family.nats(model, {"tokens": rows})
    ids = rows.long().clamp(min=0)
    with torch.no_grad():
        logits = model.network(input_ids=ids).logits
    theirs = TheirPerplexity(ignore_index=PAD_TOKEN_ID)
    theirs.update(logits[:, :-1], rows[:, 1:].long())
    assert math.exp(float(nats.sum() / tokens.sum())) == pytest.approx(float(theirs.compute()), rel=1e-5)
