"""Packed weights, against the layers' own products and against decoding without them."""

from __future__ import annotations

import contextlib
import gc
import weakref
from types import SimpleNamespace

import pytest
import torch
from torch.func import functional_call

from collapse_sim.core.machine import open_machine
from collapse_sim.families import packed_layers as module
from collapse_sim.families.causal_lm import CausalLM
from collapse_sim.families.packed_layers import FEWEST, packed_layers
from collapse_sim.families.seq2seq import Seq2Seq
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
    """How many layers were packed, each time that they were."""
    made = []
    pack = module.PackedLayers.__init__

    def counted(self, layers, dtype, rows):
        made.append(len(layers))
        pack(self, layers, dtype, rows)

    monkeypatch.setattr(module.PackedLayers, "__init__", counted)
    return made


def precisions():
    return ["fp32", "bf16"] if torch.ops.mkldnn._is_mkldnn_bf16_supported() else ["fp32"]


def predictions(model, tokens):
    return model.network(input_ids=tokens).logits


@pytest.mark.parametrize("precision", precisions())
@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_products_are_the_layers_own_and_rows_do_not_change_each_other(name, precision, used):
    model = built(FAMILIES[name], TEXT)
    tokens = texts()["tokens"][:, :4].clamp(min=0).long()
    with open_machine("cpu", precision).inference(model):
        expected = predictions(model, tokens)
        with packed_layers(model.network, len(tokens), FEWEST):
            packed = predictions(model, tokens)
            one = predictions(model, tokens[:1])
        assert torch.equal(predictions(model, tokens), expected)  # the layers' own again
    assert used == [used[0]]
    assert used[0] > 8
    assert packed.dtype == torch.float32
    assert torch.equal(packed[:1], one)
    torch.testing.assert_close(packed, expected, rtol=1e-5, atol=1e-5 if precision == "fp32" else 0.01)


@torch.no_grad()
@pytest.mark.parametrize("name", FAMILIES)
def test_greedy_texts_are_the_same_without(name, used, monkeypatch):
    family = FAMILIES[name]
    model = built(family, PAIRS if family.encoder_decoder else TEXT)

    def written():
        if family.encoder_decoder:
            inputs = {"input_ids": pairs()["source"].clamp(min=0).long()}
            inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
        else:
            inputs = {"input_ids": torch.arange(5)[:, None] + 3}
        return family._generate(model, inputs, FEWEST, draws(), stop=False, greedy=True)

    packed = written()
    assert len(used) == 1
    monkeypatch.setattr(module, "_possible", lambda *args: False)
    assert torch.equal(written(), packed)
    assert len(used) == 1


@torch.no_grad()
def test_beams_are_the_same_without(used, monkeypatch):
    family = Seq2Seq(preset="tiny", decoding="beam", beams=3)
    model, source = built(family, PAIRS), pairs()["source"].clamp(min=0).long()
    inputs = {"input_ids": source, "attention_mask": torch.ones_like(source)}
    packed = family._generate(model, inputs, FEWEST, draws(), stop=True)
    assert len(used) == 1
    monkeypatch.setattr(module, "_possible", lambda *args: False)
    assert torch.equal(family._generate(model, inputs, FEWEST, draws(), stop=True), packed)


@torch.no_grad()
def test_weights_are_packed_once_and_anew_when_one_has_changed(used):
    model, tokens = built(GPT2, TEXT), torch.tensor([[3, 4, 5]])

    def packed():
        with packed_layers(model.network, 1, FEWEST):
            return predictions(model, tokens)

    first = packed()
    assert torch.equal(packed(), first)
    assert len(used) == 1
    for change in ("bias", "weight"):
        getattr(model.network.transformer.h[1].mlp.c_proj, change).mul_(3.0).add_(1.0)
        torch.testing.assert_close(packed(), predictions(model, tokens), rtol=1e-5, atol=1e-5)
    assert len(used) == 3
    with packed_layers(model.network, 1, 1):  # few tokens, but it is there
        assert "forward" in model.network.lm_head.__dict__


@torch.no_grad()
def test_few_tokens_or_little_memory_are_not_worth_it(used, monkeypatch):
    model = built(GPT2, TEXT)
    with packed_layers(model.network, 4, FEWEST - 1):
        assert "forward" not in model.network.lm_head.__dict__
    monkeypatch.setattr(module.psutil, "virtual_memory", lambda: SimpleNamespace(available=1000))
    with packed_layers(model.network, 4, 10 * FEWEST):
        assert "forward" not in model.network.lm_head.__dict__
    assert used == []


def test_an_error_leaves_the_layers_as_they_were_and_the_model_still_learns(used):
    model, tokens = built(GPT2, TEXT), torch.tensor([[3, 4, 5]])
    with contextlib.suppress(RuntimeError), torch.no_grad(), packed_layers(model.network, 1, FEWEST):
        raise RuntimeError
    assert used
    assert not any("forward" in layer.__dict__ for layer in model.network.modules())
    with packed_layers(model.network, 1, FEWEST):  # with gradients
        predictions(model, tokens).sum().backward()
    assert model.network.transformer.h[0].mlp.c_fc.weight.grad.abs().sum() > 0


@torch.no_grad()
def test_weights_that_are_not_the_modules_own_are_not_packed(used):
    """As where several models of one architecture are sampled as one program."""
    model, tokens = built(GPT2, TEXT), torch.tensor([[3, 4, 5]])
    doubled = {name: 2 * weight for name, weight in model.network.named_parameters()}

    class Packed(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.network = model.network

        def forward(self):
            with packed_layers(self.network, 1, FEWEST):
                return self.network(input_ids=tokens).logits

    out = functional_call(Packed(), {f"network.{name}": weight for name, weight in doubled.items()})
    assert used == []
    with packed_layers(model.network, 1, FEWEST):
        assert not torch.allclose(predictions(model, tokens), out)


@torch.no_grad()
def test_packed_weights_go_with_their_network(used):
    model = built(GPT2, TEXT)
    with packed_layers(model.network, 1, FEWEST):
        pass
    packed = weakref.ref(module._PACKED[model.network])
    del model
    gc.collect()
    assert used
    assert packed() is None
