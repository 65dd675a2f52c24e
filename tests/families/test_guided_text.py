"""Two language models as one: its distribution, and that its cache changes nothing."""

from __future__ import annotations

import pytest
import torch

from collapse_sim.families.base import Conditions
from collapse_sim.families.causal_lm import CausalLM
from collapse_sim.families.decoding import TokenSampling
from tests.families.wording import TEXT, built, draws, unlike

W = 0.7


def models(architecture="tiny"):
    family = CausalLM(preset=architecture, width=32, layers=2, heads=2, decoding="greedy", stop="length")
    model, other = (unlike(built(family, TEXT)).requires_grad_(False) for _ in range(2))
    for parameter in other.parameters():
        parameter.add_(0.5 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    return family, model, other


def test_log_probabilities_are_combined_and_renormalised_before_the_temperature():
    family, model, other = models()
    tokens = torch.randint(1, 31, (4, 6), generator=torch.Generator().manual_seed(0))
    own, auxiliary = (m.network(tokens).logits[:, -1].double().log_softmax(-1) for m in (model, other))
    combined = ((1 + W) * own - W * auxiliary).log_softmax(-1)
    logits = family.guided(model, other, W).eval().network(input_ids=tokens).logits[:, -1]
    torch.testing.assert_close(logits.double().log_softmax(-1), combined, rtol=1e-4, atol=1e-4)
    cold = TokenSampling(temperature=0.5).probabilities(logits).double()
    torch.testing.assert_close(cold, (combined / 0.5).softmax(-1), rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("architecture", ["tiny", "llama-12m"])
def test_decoding_with_caches_is_decoding_without(architecture):
    """Greedy rows against the likeliest token after all tokens before it, each time anew."""
    family, model, other = models(architecture)
    guided = family.guided(model, other, W).eval()
    rows = family.sample(guided, Conditions(3, {}), draws())["tokens"].long()
    for length in range(1, rows.shape[1]):
        logits = guided.network(input_ids=rows[:, :length]).logits[:, -1]
        assert torch.equal(rows[:, length], logits.argmax(-1))
    assert not torch.equal(rows, family.sample(model, Conditions(3, {}), draws())["tokens"].long())


def test_rows_that_end_leave_both_caches():
    """Texts of unequal length: each row alone is what it is in the batch."""
    _, model, other = models()
    family = CausalLM(preset="tiny", width=32, layers=2, heads=2, decoding="greedy", stop="end", prompt=2)
    guided = family.guided(model, other, W).eval()
    prompts = torch.randint(1, 31, (30, 20), generator=torch.Generator().manual_seed(1))
    prompts[:, 0] = model.begin
    written = family.sample(guided, Conditions(30, {"tokens": prompts}), draws())["tokens"]
    guided.end = int(written[:, 6].mode().values)  # a token that these models write
    rows = family.sample(guided, Conditions(30, {"tokens": prompts}), draws())["tokens"]
    alone = [family.sample(guided, Conditions(1, {"tokens": p[None]}), draws())["tokens"][0] for p in prompts]
    assert torch.equal(rows, torch.stack(alone))
    assert len({int((row >= 0).sum()) for row in rows}) > 1, "all rows ended together"


def test_the_model_itself_stays_as_it_is():
    family, model, other = models()
    network = model.network
    family.guided(model, other, W)
    assert model.network is network
