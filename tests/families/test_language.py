"""What decoders and encoder-decoders share: precision, terms of distillation, batches, repeatable samples, weights."""

from __future__ import annotations

import copy

import pytest
import torch
from safetensors.torch import load, save
from torch.optim.swa_utils import AveragedModel

from collapse_sim.core.machine import open_machine
from collapse_sim.data.text.tokens import PAD_TOKEN_ID
from collapse_sim.families.base import Conditions
from collapse_sim.families.causal_lm import CausalLM
from collapse_sim.families.text_network import Predicted
from tests.families.wording import LENGTH, PAIRS, T5, TEXT, TINY, built, draws, ids, number, pairs, texts, trained


def test_bfloat16_does_not_round_the_logits_of_a_model_in_use():
    """All logits are near -100, as GPT-2's are, where the bfloat16 numbers are half a unit apart."""
    model, generator = built(TINY, TEXT), torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weights in model.parameters():
            torch.nn.init.normal_(weights, std=0.3, generator=generator)
        model.network.transformer.ln_f.bias[0] = 100.0
        model.network.transformer.wte.weight[:, 0] = -1.0
    machine, inputs = open_machine("cpu", "bf16"), TINY.corrupt(texts(), draws())
    wanted = number(TINY.loss(TINY.predict(model, inputs), inputs) / inputs.count)
    for network in model, AveragedModel(model).module:
        with machine.autocast():
            predicted = TINY.predict(network, inputs)
        assert number(predicted.logits.float().mean()) == pytest.approx(-100, abs=3)
        assert number(TINY.loss(predicted, inputs) / inputs.count) == pytest.approx(wanted, abs=1e-3)
    with machine.autocast():
        assert TINY.predict(model.train(), inputs).logits.dtype == torch.bfloat16  # for speed


def test_terms_of_distillation_are_what_they_are_called():
    """Token by token, against formulas written out."""
    family = CausalLM(preset="tiny", kd_temperature=3.0)
    inputs = family.corrupt(texts(), draws())
    student, teacher = (family.predict(built(family, TEXT, seed), inputs) for seed in (0, 1))
    hidden = divergence = 0.0
    for i, row in enumerate(inputs["tokens"]):
        for j in range(int((row != PAD_TOKEN_ID).sum()) - 1):
            s, t = student.hidden[i, j], teacher.hidden[i, j]
            hidden += 1 - number(s @ t / (s.norm() * t.norm()))
            p, q = (logits[i, j].div(3).softmax(-1) for logits in (teacher.logits, student.logits))
            divergence += 9 * number((p * (p / q).log()).sum())
    terms = family.distillation(student, teacher, inputs)
    assert number(terms["hidden"]) == pytest.approx(hidden, rel=1e-4)
    assert number(terms["logits"]) == pytest.approx(divergence, rel=1e-3)


def test_padding_counts_in_no_term():
    inputs = TINY.corrupt({"tokens": ids([3, 12], LENGTH, begin=True)}, draws())
    student, teacher = (TINY.predict(built(TINY, TEXT, seed), inputs) for seed in (0, 1))
    behind = inputs["tokens"][:, 1 : student.logits.shape[1] + 1] == PAD_TOKEN_ID
    spoilt = Predicted(*(tensor.masked_fill(behind[..., None], 1e3) for tensor in teacher))
    before, after = (TINY.distillation(student, other, inputs) for other in (teacher, spoilt))
    assert behind.any()
    assert {name: number(term) for name, term in before.items()} == {name: number(term) for name, term in after.items()}


def test_greedy_texts_in_a_batch_are_those_one_by_one():
    family = CausalLM(preset="tiny", prompt=6, keep_prompt=True, decoding="greedy")
    model, prompts = trained(family, TEXT, texts()), texts(16)["tokens"]
    together = family.sample(model, Conditions(16, {"tokens": prompts}), draws())["tokens"]
    alone = [family.sample(model, Conditions(1, {"tokens": row[None]}), draws())["tokens"][0] for row in prompts]
    assert torch.equal(together, torch.stack(alone))
    assert len({tuple(row.tolist()) for row in together}) > 8


def test_greedy_summaries_in_a_batch_are_those_one_by_one():
    model, given = trained(T5, PAIRS, pairs()), pairs(16)
    together = T5.sample(model, Conditions(16, {"source": given["source"]}), draws())["target"]
    alone = [T5.sample(model, Conditions(1, {"source": row[None]}), draws())["target"][0] for row in given["source"]]
    assert torch.equal(together, torch.stack(alone))
    assert len({tuple(row.tolist()) for row in together}) > 4


def test_samples_are_repeatable_and_leave_the_global_generator_alone():
    model = built(TINY, TEXT)
    before = torch.random.get_rng_state()
    first, again, other = (TINY.sample(model, Conditions(9, {}), draws(seed=s))["tokens"] for s in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(before, torch.random.get_rng_state())


def test_tied_weights_are_kept_once_and_come_back():
    model, fresh = built(TINY, TEXT), built(TINY, TEXT, seed=1)
    state = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    assert not any("lm_head" in name for name in state)
    fresh.load_state_dict(load(save(state)))
    inputs = TINY.corrupt(texts(), draws())
    assert torch.equal(TINY.predict(model, inputs).logits, TINY.predict(fresh, inputs).logits)
    average = AveragedModel(model)
    average.update_parameters(fresh)
    again = AveragedModel(built(TINY, TEXT, seed=2))
    again.load_state_dict(average.state_dict())
    assert torch.equal(TINY.predict(again.module, inputs).logits, TINY.predict(average.module, inputs).logits)
    copied = copy.deepcopy(model)
    assert copied.network.lm_head.weight is copied.network.transformer.wte.weight
