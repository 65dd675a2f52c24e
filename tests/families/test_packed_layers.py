"""Packed weights, against the layers' own products and against decoding without them."""

from __future__ import annotations

import contextlib
import gc
import weakref
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from torch.func import functional_call
from transformers.pytorch_utils import Conv1D

from collapse_sim.core.machine import converted_weights, open_machine
from collapse_sim.families import packed_layers as module
from collapse_sim.families.causal_lm import CausalLM
from collapse_sim.families.packed_layers import FEWEST, packed_layers
from collapse_sim.families.seq2seq import Seq2Seq
from collapse_sim.families.text_network import Head
from tests.families.wording import PAIRS, TEXT, built, draws, pairs, texts

pytestmark = pytest.mark.skipif(
    not hasattr(torch.ops.mkldnn, "_linear_pointwise"), reason="this torch has no products of packed weights"
)

GPT2 = CausalLM(preset="tiny")
FAMILIES = {
    "gpt2": GPT2,
    "llama": CausalLM(preset="llama-12m", width=48, layers=2, heads=2),
    "t5": Seq2Seq(preset="tiny", decoding="greedy"),
}


@pytest.fixture
def used(monkeypatch):
    """The layers that were packed, in the order in which they were."""
    made = []
    pack = module._packed
    monkeypatch.setattr(module, "_packed", lambda layer, dtype: made.append(layer) or pack(layer, dtype))
    return made


def precisions():
    return ["fp32", "bf16"] if torch.ops.mkldnn._is_mkldnn_bf16_supported() else ["fp32"]


def predictions(model, tokens):
    return model.network(input_ids=tokens).logits


def machine(precision="fp32"):
    return open_machine("cpu", precision)


def replaced(model):
    return [layer for layer in model.network.modules() if "forward" in layer.__dict__]


@pytest.mark.parametrize("precision", precisions())
@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_predictions_are_the_same_and_a_row_does_not_depend_on_others(name, precision, used):
    model = built(FAMILIES[name], TEXT)
    tokens = texts()["tokens"][:, :1].clamp(min=0).long()
    with machine(precision).inference(model):
        expected = predictions(model, tokens)
        with packed_layers(model.network, FEWEST):
            packed = predictions(model, tokens)
            one = predictions(model, tokens[:1])
            assert len(replaced(model)) == len(used) > 8
        assert replaced(model) == []
        assert torch.equal(predictions(model, tokens), expected)  # the layers' own again
    assert packed.dtype == torch.float32
    tolerance = 1e-6 if precision == "fp32" else 0.01
    torch.testing.assert_close(packed[:1], one, rtol=tolerance, atol=tolerance)
    torch.testing.assert_close(packed, expected, rtol=1e-5, atol=1e-5 if precision == "fp32" else 0.01)


@pytest.mark.parametrize("rows", [(1,), (1, 1), (2,), (3, 5), (1, 0)])
@pytest.mark.parametrize("kind", ["linear", "no bias", "head", "conv1d"])
@torch.no_grad()
def test_a_layers_product(kind, rows):
    layer = Conv1D(7, 24) if kind == "conv1d" else torch.nn.Linear(24, 7, bias=kind != "no bias")
    torch.nn.init.normal_(layer.weight)
    if kind == "head":
        layer.__class__ = Head
    x = torch.randn(*rows, 24, generator=torch.Generator().manual_seed(0))
    out = module._packed(layer, torch.float32)(x)
    assert out.shape == (*rows, 7)
    torch.testing.assert_close(out, layer.eval()(x), rtol=1e-5, atol=1e-5)


def written(family, model, new=FEWEST, **settings):
    if family.encoder_decoder:
        inputs = {"input_ids": pairs()["source"].clamp(min=0).long()}
        inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
    else:
        inputs = {"input_ids": torch.arange(5)[:, None] + 3}
    with machine().inference(model):
        return family._generate(model, inputs, new, draws(), stop=False, **settings)


@pytest.mark.parametrize("name", FAMILIES)
def test_greedy_texts_are_the_same_without(name, used, monkeypatch):
    family = FAMILIES[name].model_copy(update={"bucket": 8})
    longer = {name: ((64,), dtype) for name, (_, dtype) in (PAIRS if family.encoder_decoder else TEXT).columns.items()}
    model = built(family, replace(PAIRS if family.encoder_decoder else TEXT, columns=longer))
    packed = written(family, model, greedy=True)
    assert used
    monkeypatch.setattr(module, "_possible", lambda *args: False)
    assert torch.equal(written(family, model, greedy=True), packed)


def test_beams_are_the_same_without(used, monkeypatch):
    family = Seq2Seq(preset="tiny", decoding="beam", beams=3)
    model = built(family, PAIRS)
    packed = written(family, model)
    assert used
    monkeypatch.setattr(module, "_possible", lambda *args: False)
    assert torch.equal(written(family, model), packed)


@pytest.mark.parametrize("optimizer", [None, "adamw"])  # fused updates do not count as changes of a tensor
def test_weights_are_packed_once_in_a_block_and_anew_in_the_next(optimizer, used):
    model, tokens = built(GPT2, TEXT), torch.tensor([[3, 4, 5]])

    def check():
        with machine().inference(model):
            expected = predictions(model, tokens)
            for _ in range(2):
                with packed_layers(model.network, FEWEST):
                    torch.testing.assert_close(predictions(model, tokens), expected, rtol=1e-5, atol=1e-5)
        return expected

    first = check()
    layers = len(used)
    assert layers == len(set(used))
    if optimizer is None:
        for parameter in model.parameters():
            parameter.data.mul_(1.5)
    else:
        update = torch.optim.AdamW(model.parameters(), 0.1, fused=True)
        predictions(model, tokens).square().sum().backward()
        update.step()
    assert not torch.allclose(check(), first, atol=0.01)
    assert len(used) == 2 * layers


def test_outside_of_a_block_for_few_tokens_or_with_little_memory_nothing_is_packed(used, monkeypatch):
    model = built(GPT2, TEXT)
    with torch.no_grad(), packed_layers(model.network, FEWEST):
        assert replaced(model) == []
    with machine().inference(model):
        with packed_layers(model.network, FEWEST - 1):
            assert replaced(model) == []
        monkeypatch.setattr(module.psutil, "virtual_memory", lambda: SimpleNamespace(total=100_000))
        with packed_layers(model.network, FEWEST):
            assert replaced(model) == []
    assert used == []


def test_what_few_tokens_give_does_not_depend_on_what_was_packed_before():
    model, tokens = built(GPT2, TEXT), torch.tensor([[3, 4, 5]])
    with machine().inference(model):
        expected = predictions(model, tokens)
        with packed_layers(model.network, FEWEST):
            pass
        with packed_layers(model.network, 1):
            assert torch.equal(predictions(model, tokens), expected)


def test_an_error_leaves_the_layers_as_they_were_and_the_model_still_learns(used):
    model, tokens = built(GPT2, TEXT), torch.tensor([[3, 4, 5]])
    own = model.network.lm_head.forward
    model.network.lm_head.forward = own  # as hooks of other libraries do
    with contextlib.suppress(KeyError), machine().inference(model), packed_layers(model.network, FEWEST):
        with packed_layers(model.network, FEWEST):
            assert model.network.lm_head.forward is not own
        raise KeyError
    assert used
    assert replaced(model) == [model.network.lm_head]
    assert model.network.lm_head.forward is own
    model.requires_grad_(True)
    with packed_layers(model.network, FEWEST):  # with gradients
        predictions(model, tokens).sum().backward()
    assert model.network.transformer.h[0].mlp.c_fc.weight.grad.abs().sum() > 0


def test_weights_that_are_not_the_modules_own_are_not_packed(used):
    """As where several models of one architecture are sampled as one program."""
    model, tokens = built(GPT2, TEXT), torch.tensor([[3, 4, 5]])
    doubled = {f"network.{name}": 2 * weight.detach() for name, weight in model.network.named_parameters()}

    class Packed(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.network = model.network

        def forward(self):
            with packed_layers(self.network, FEWEST):
                return self.network(input_ids=tokens).logits

    with machine().inference(model):
        out = functional_call(Packed(), doubled)
        assert used == []
        assert not torch.allclose(predictions(model, tokens), out)


def test_packed_weights_are_freed_with_the_block(used):
    model = built(GPT2, TEXT)
    with machine().inference(model):
        with packed_layers(model.network, FEWEST):
            kept = converted_weights()
            call = weakref.ref(kept[model.network][0])
        assert call() is not None
        del kept
    gc.collect()
    assert call() is None
    assert converted_weights() is None
