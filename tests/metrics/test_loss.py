"""Held-out loss and perplexity: sums over batches, against transformers' loss and known probabilities."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch

from collapse_sim.core.machine import open_machine
from collapse_sim.data.text.tokens import PAD_TOKEN_ID
from collapse_sim.families.causal_lm import CausalLM
from collapse_sim.families.held_out_loss import BATCH_ROWS
from collapse_sim.families.linear import LinearRegression
from collapse_sim.families.seq2seq import Seq2Seq
from collapse_sim.families.vae import VAE
from collapse_sim.metrics.loss import Perplexity, SamplePerplexity, TestLoss
from tests.metrics import word_rows


def test_metric_of_regression_is_the_mean_squared_error(evaluation):
    x, y = torch.randn(2, 30, 4, dtype=torch.float64), torch.randn(2, 30, dtype=torch.float64)
    model = LinearRegression().solve(type("Info", (), {"constants": {}})(), {"x": x, "y": y}, None, {}, None)
    given = {"model": model, "held_out rows": {"x": x, "y": y}}
    seen = evaluation(given, family=LinearRegression(), stacked=True, seeds=(0, 1))
    expected = [((x[s] @ model.weights[s] - y[s]) ** 2).mean() for s in range(2)]
    torch.testing.assert_close(TestLoss().score(seen), torch.stack(expected))
    assert seen.asked == set(TestLoss().needs)


def test_metric_of_a_vae_is_a_float_and_repeats(evaluation, digits_info):
    torch.manual_seed(0)
    images = torch.randint(0, 256, (BATCH_ROWS + 200, 1, 8, 8), dtype=torch.uint8)
    family = VAE(hidden=8, latent=2)
    given = {"model": family.build(digits_info).eval(), "held_out rows": {"image": images, "label": torch.zeros(1200)}}
    seen = evaluation(given, family=family)
    loss = TestLoss().score(seen)
    assert isinstance(loss, float)
    assert 0.5 < loss < 0.9  # about log 2 nats per pixel before any training
    seen.generation = 4
    assert TestLoss().score(seen) == loss


def test_check_wants_held_out_rows(digits_info):
    TestLoss().check(digits_info, None, 10)
    with pytest.raises(ValueError, match="needs held-out rows"):
        TestLoss().check(dataclasses.replace(digits_info, held_out=0), None, 10)


TEXTS = ["a b c d e", "f", "", "g h i", "a a a a a a a a a a", "z y"]


class Uniform:
    """Every token has the probability of its model, 1 / model."""

    def nats(self, model, rows):
        assert not torch.is_grad_enabled()
        tokens = (rows["tokens"][:, 1:] != PAD_TOKEN_ID).sum(1)
        return tokens.double() * math.log(model), tokens


def seen_by(evaluation, family, model, rows, **more):
    given = {"model": model, "origin": model, "held_out rows": rows, "samples rows": rows}
    return evaluation(given, family=family, **more)


def test_known_probabilities(evaluation):
    rows = {"tokens": word_rows.rows(TEXTS)}
    seen = seen_by(evaluation, Uniform(), 7, rows)
    assert Perplexity().score(seen) == pytest.approx(7, rel=1e-12)
    assert seen.asked == {"model", "held_out"}
    seen = seen_by(evaluation, Uniform(), 7, rows)
    assert SamplePerplexity().score(seen) == pytest.approx(7, rel=1e-12)
    assert seen.asked == {"origin", "samples"} == set(SamplePerplexity().needs)
    assert seen.machine.entered == 1  # in the run's precision


def test_sums_up_by_tokens_and_draws_rows():
    """Two rows of 1 and 3 tokens, and one of none: the score weighs tokens, the histogram has a figure a row."""
    columns = {
        "nats": torch.tensor([math.log(2), 3 * math.log(8), 0.0], dtype=torch.float64),
        "tokens": torch.tensor([1, 3, 0]),
    }
    metric = SamplePerplexity()
    assert metric.sum_up(columns) == pytest.approx((2 * 8**3) ** (1 / 4), rel=1e-12)
    label, drawn = metric.histogram(columns)
    assert drawn.tolist() == pytest.approx([2, 8], rel=1e-12)
    assert "generation 0" in label


def test_nothing_to_predict_and_too_much():
    none = {"nats": torch.zeros(2, dtype=torch.float64), "tokens": torch.zeros(2, dtype=torch.int64)}
    assert math.isnan(SamplePerplexity().sum_up(none))
    assert len(SamplePerplexity().histogram(none)[1]) == 0
    much = {"nats": torch.tensor([1e4], dtype=torch.float64), "tokens": torch.tensor([1])}
    assert SamplePerplexity().sum_up(much) == math.inf


@pytest.fixture
def decoder():
    family, info = CausalLM(preset="tiny", width=16, layers=1), word_rows.info(length=24)  # as many positions
    torch.manual_seed(0)
    model = family.build(info).eval()
    for weights in model.parameters():
        torch.nn.init.normal_(weights, std=0.4)  # far from uniform
    return family, info, model


def test_is_transformers_loss(evaluation, decoder):
    """Of every text by itself, unpadded, by the network's own loss; weighed by tokens."""
    family, info, model = decoder
    rows = word_rows.rows(TEXTS, 14)
    total, count, each = 0.0, 0, []
    for row in rows.long():
        ids = row[row != PAD_TOKEN_ID].unsqueeze(0)
        with torch.no_grad():
            loss = float(model.network(input_ids=ids, labels=ids).loss)
        each.append(math.exp(loss))
        total, count = total + loss * (ids.shape[1] - 1), count + ids.shape[1] - 1
    seen = seen_by(evaluation, family, model, {"tokens": rows}, info=info, machine=open_machine("cpu"))
    assert Perplexity().score(seen) == pytest.approx(math.exp(total / count), rel=1e-5)
    assert SamplePerplexity().score(seen) == pytest.approx(math.exp(total / count), rel=1e-5)
    drawn = SamplePerplexity().histogram(SamplePerplexity().score_rows(seen))[1]
    assert drawn.tolist() == pytest.approx(each, rel=1e-5)


@pytest.mark.parametrize("at_once", [1, 5, 10**9])
@pytest.mark.parametrize("padding", [0, 10])
def test_batches_and_padding_change_nothing(evaluation, decoder, monkeypatch, at_once, padding):
    family, info, model = decoder
    machine = open_machine("cpu")
    rows = word_rows.rows(TEXTS * 3, 14)
    expected = Perplexity().score(seen_by(evaluation, family, model, {"tokens": rows}, info=info, machine=machine))
    monkeypatch.setattr(CausalLM, "rows_at_once", lambda *args: at_once)
    wide = torch.nn.functional.pad(rows, (0, padding), value=PAD_TOKEN_ID)
    other = family.model_copy(update={"bucket": 1 if at_once == 5 else 32})
    seen = seen_by(evaluation, other, model, {"tokens": wide}, info=info, machine=machine)
    assert Perplexity().score(seen) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("kind", ["text", "packed", "pairs"])
def test_is_the_exponential_of_the_test_loss(evaluation, kind):
    info = word_rows.info("pairs" if kind == "pairs" else "text", length=8, packed=kind == "packed")
    tokens = (
        word_rows.packed("| a b c d | e f g h i j | k l m n o p", 8) if kind == "packed" else word_rows.rows(TEXTS, 8)
    )
    rows = {"tokens": tokens}
    family = CausalLM(preset="tiny", width=16)
    if kind == "pairs":
        rows = {"source": word_rows.rows(TEXTS, 8, begin=False), "target": word_rows.rows(TEXTS[::-1], 8, begin=False)}
        family = Seq2Seq(preset="tiny", width=16)
    torch.manual_seed(0)
    model = family.build(info).eval()
    seen = seen_by(evaluation, family, model, rows, info=info, machine=open_machine("cpu"))
    assert math.log(Perplexity().score(seen)) == pytest.approx(TestLoss().score(seen), rel=1e-5)


def test_perplexity_check(digits_info):
    info = word_rows.info()
    for metric in (Perplexity(), SamplePerplexity()):
        metric.check(info, Uniform(), 5)
        with pytest.raises(ValueError, match="object does not have the likelihood of texts"):
            metric.check(info, object(), 5)
    with pytest.raises(ValueError, match="needs held-out rows"):
        Perplexity().check(dataclasses.replace(info, held_out=0), Uniform(), 5)
    assert Perplexity().metric_note(info, 5, None).note == "4 held-out rows"
