"""Attention of short sequences, against torch's fused attention and transformers' and diffusers' own networks."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from collapse_sim.core.machine import open_machine
from collapse_sim.families import attention
from collapse_sim.families.attention import SHORT, WEIGHTS, attend, is_short
from collapse_sim.families.causal_lm import CausalLM
from collapse_sim.families.seq2seq import Seq2Seq
from collapse_sim.families.unet import UNet
from tests.families.wording import PAIRS, TEXT, built, pairs, texts, unlike

FAMILIES = {
    "gpt2": CausalLM(preset="tiny"),
    "llama": CausalLM(preset="llama-12m", width=48, layers=2, heads=2),
    "t5": Seq2Seq(preset="tiny"),
}


def numbers(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def always(monkeypatch):
    """Plain products for every sequence, in fp32 too. The list says how often they were taken."""
    taken = []
    monkeypatch.setattr(attention, "is_short", lambda query, key: True)
    monkeypatch.setattr(attention, "attend", lambda *args, **more: taken.append(1) or attend(*args, **more))
    return taken


@pytest.mark.parametrize("groups", [1, 3])
@pytest.mark.parametrize("masked", ["no", "bool", "numbers"])
def test_attend_is_torchs_attention(groups, masked):
    query, key, value = (
        numbers(2, 6, 5, 8),
        numbers(2, 6 // groups, 7, 8, seed=1),
        numbers(2, 6 // groups, 7, 8, seed=2),
    )
    sees = numbers(2, 1, 5, 7, seed=3) > -0.5
    sees[..., 0] = True
    mask = {"no": None, "bool": sees, "numbers": numbers(2, 6, 5, 7, seed=4)}[masked]
    expected = F.scaled_dot_product_attention(query, key, value, mask, scale=0.3, enable_gqa=groups > 1)
    torch.testing.assert_close(attend(query, key, value, mask, scale=0.3), expected)
    plain = F.scaled_dot_product_attention(query, key, value, enable_gqa=groups > 1)
    torch.testing.assert_close(attend(query, key, value), plain)


def test_a_bias_is_added_beside_a_mask():
    query, key, value, bias = (numbers(2, 3, 4, 4, seed=seed) for seed in range(4))
    sees = torch.ones(4, 4, dtype=torch.bool).tril()
    expected = F.scaled_dot_product_attention(query, key, value, bias.masked_fill(~sees, -torch.inf))
    torch.testing.assert_close(attend(query, key, value, sees, bias=bias), expected)


def test_dropout_drops_weights_and_keeps_their_mean():
    query, key, value = numbers(1, 1, 1, 4), torch.zeros(1, 1, 20_000, 4), torch.ones(1, 1, 20_000, 1)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        out = float(attend(query, key, value, dropout=0.25))
    assert out != 1
    assert out == pytest.approx(1, abs=5 * (0.25 / 0.75 / 20_000) ** 0.5)


def test_a_query_that_sees_nothing_gets_finite_numbers_and_gradients():
    query, key, value = (numbers(1, 1, 3, 4, seed=seed).requires_grad_() for seed in range(3))
    out = attend(query, key, value, torch.tensor([[[[True] * 3, [False] * 3, [True] * 3]]]))
    gradients = torch.autograd.grad(out[..., 0, :].sum(), (query, key, value))
    assert out.isfinite().all()
    assert all(gradient.isfinite().all() for gradient in gradients)


def test_which_sequences_are_short():
    one, some = torch.empty(1, 1, 1, 4), torch.empty(1, 1, 8, 4)
    many = torch.empty(1, 1, SHORT + 1, 4)
    assert is_short(one, many)  # a step of decoding, in any precision
    assert not is_short(some, some)
    assert is_short(some.bfloat16(), some.bfloat16())
    assert not is_short(some.bfloat16(), many.bfloat16())
    assert not is_short(one.to("meta"), one.to("meta"))  # a device other than the CPU
    rows = torch.empty(1, dtype=torch.bfloat16).expand(WEIGHTS // 64 + 1, 1, 8, 4)
    assert not is_short(rows, rows)  # too many weights to hold for every layer
    with open_machine("cpu", "bf16").autocast():  # products are in bf16, whatever comes in
        assert is_short(some, some)


@pytest.mark.parametrize("name", FAMILIES)
def test_networks_of_transformers_predict_and_learn_the_same(name, always):
    """Predictions of rows with padding, and the gradients of their loss."""
    family = FAMILIES[name]
    info, rows = (PAIRS, pairs()) if family.encoder_decoder else (TEXT, texts())
    results = []
    for implementation in ("sdpa", attention.NAME):
        model = built(family, info)
        assert model.network.config._attn_implementation == attention.NAME
        model.network.set_attn_implementation(implementation)
        inputs = family.corrupt(rows, None)
        loss = family.loss(family.predict(model, inputs), inputs)
        loss.backward()
        results.append((loss.detach(), [p.grad for p in model.parameters() if p.grad is not None]))
    assert len(always) >= 2 * (1 + 2 * family.encoder_decoder)
    (fused, fused_gradients), (plain, gradients) = results
    torch.testing.assert_close(plain, fused, rtol=1e-6, atol=0)
    largest = max(float(gradient.abs().max()) for gradient in fused_gradients)
    for ours, theirs in zip(gradients, fused_gradients, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6 * largest)


@torch.no_grad()
@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_networks_with_padding_on_the_left_and_a_cache(name, always):
    """Several tokens after a cache, then one."""
    tokens = torch.arange(3, 3 + 24).reshape(2, 12)
    mask = torch.ones_like(tokens)
    mask[0, :3] = 0
    results = []
    for implementation in ("sdpa", attention.NAME):
        network = built(FAMILIES[name], TEXT).network
        network.set_attn_implementation(implementation)
        cache, logits = None, []
        for first, last in ((0, 7), (7, 11), (11, 12)):
            out = network(
                input_ids=tokens[:, first:last], attention_mask=mask[:, :last], past_key_values=cache, use_cache=True
            )
            cache = out.past_key_values
            logits.append(out.logits)
        results.append(torch.cat(logits, 1)[mask.bool()])
    assert always
    torch.testing.assert_close(results[1], results[0], rtol=1e-5, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_in_bf16_predictions_are_as_near_to_fp32_as_those_of_fused_attention(name):
    rows, divergence = texts(), {}
    model = unlike(built(FAMILIES[name], TEXT))
    inputs = FAMILIES[name].corrupt(rows, None)
    exact = FAMILIES[name].predict(model, inputs).logits.log_softmax(-1)
    for implementation in ("sdpa", attention.NAME):
        model.network.set_attn_implementation(implementation)
        with open_machine("cpu", "bf16").autocast():
            ours = FAMILIES[name].predict(model, inputs).logits.float().log_softmax(-1)
        divergence[implementation] = float((exact.exp() * (exact - ours)).sum(-1).mean())
    assert 0 < divergence[attention.NAME] < 2 * divergence["sdpa"]


def test_a_mask_may_be_longer_than_the_keys():
    query, key = numbers(1, 2, 1, 8), numbers(1, 2, 5, 8, seed=1)
    mask = numbers(1, 1, 1, 6, seed=2)
    out, _ = attention._forward(torch.nn.Module(), query, key, key, mask)
    expected = F.scaled_dot_product_attention(query, key, key, mask[..., :5]).transpose(1, 2)
    torch.testing.assert_close(out, expected)


@torch.no_grad()
def test_long_sequences_and_unusual_settings_are_left_to_transformers(monkeypatch):
    from transformers.integrations import sdpa_attention

    asked = []
    theirs = sdpa_attention.sdpa_attention_forward
    monkeypatch.setattr(
        sdpa_attention, "sdpa_attention_forward", lambda *args, **more: asked.append(more) or theirs(*args, **more)
    )
    module = torch.nn.Module()
    query = numbers(1, 2, 4, 8)
    out, weights = attention._forward(module, query, query, query, None)
    expected = F.scaled_dot_product_attention(query, query, query, is_causal=True).transpose(1, 2)
    torch.testing.assert_close(out, expected)
    assert weights is None
    assert len(asked) == 1
    with pytest.raises(ValueError, match="softcap"):
        attention._forward(module, query[:, :, :1], query, query, None, softcap=30.0)
    attention._forward(module, query[:, :, :1], query, query, None)
    assert len(asked) == 2


def test_an_exported_configuration_does_not_name_it(tmp_path):
    model = built(FAMILIES["gpt2"], TEXT)
    FAMILIES["gpt2"].export(model, TEXT, tmp_path)
    assert attention.NAME not in (tmp_path / "transformers" / "config.json").read_text()


@torch.no_grad()
def test_a_network_that_does_not_use_fused_attention_is_left_as_it_is():
    network = built(FAMILIES["gpt2"], TEXT).network
    network.set_attn_implementation("eager")
    attention.use_in_transformers(network)
    assert network.config._attn_implementation == "eager"


@pytest.mark.parametrize(
    "code", ['if config._attn_implementation == "sdpa":', "c._attn_implementation in ('eager', 'sdpa')"]
)
def test_a_network_whose_code_asks_for_fused_attention_by_name_is_left_as_it_is(code, monkeypatch):
    network = built(FAMILIES["gpt2"], TEXT).network
    network.set_attn_implementation("sdpa")
    monkeypatch.setattr(attention.inspect, "getsource", lambda module: f"x = 1\n{code}\n")
    attention.use_in_transformers(network)
    assert network.config._attn_implementation == "sdpa"
    monkeypatch.setattr(attention.inspect, "getsource", lambda module: 'c._attn_implementation == "eager"')
    attention.use_in_transformers(network)
    assert network.config._attn_implementation == attention.NAME


@pytest.mark.parametrize("heads", [None, 4])
def test_a_unet_predicts_and_learns_the_same(heads, monkeypatch, capfd):
    from diffusers.models.attention_processor import AttnProcessor

    taken = []
    theirs = AttnProcessor.__call__
    monkeypatch.setattr(AttnProcessor, "__call__", lambda *args, **more: taken.append(1) or theirs(*args, **more))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        unet = UNet((1, 8, 8), (8, 16), 1, (1,), 0.0, own={"attention_head_dim": heads})
    x, t = numbers(3, 1, 8, 8), torch.tensor([1, 5, 9])
    results = []
    for short in (False, True):
        monkeypatch.setattr(attention, "is_short", lambda query, key, short=short: short and query.shape[-2] <= 64)
        out, _ = unet(x, t)
        results.append((out, torch.autograd.grad(out.square().sum(), list(unet.parameters()))))
        assert bool(taken) == short
    assert capfd.readouterr() == ("", "")  # diffusers warns of parameters that it does not find
    (fused, fused_gradients), (plain, gradients) = results
    torch.testing.assert_close(plain, fused, rtol=1e-5, atol=1e-6)
    largest = max(float(gradient.abs().max()) for gradient in fused_gradients)
    for ours, theirs_ in zip(gradients, fused_gradients, strict=True):
        torch.testing.assert_close(ours, theirs_, rtol=1e-4, atol=1e-6 * largest)


def test_the_length_of_an_images_sequence_is_its_number_of_pixels(monkeypatch):
    lengths = []
    monkeypatch.setattr(attention, "is_short", lambda query, key: lengths.append(query.shape[-2]) or False)
    UNet((1, 8, 8), (8, 16), 1, (1,), 0.0)(numbers(2, 1, 8, 8), torch.tensor([1, 2]))
    assert set(lengths) == {16}
