"""Decoding: greedy against transformers' own `generate`, sampling against the distribution that it should have."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import scipy.stats
import torch
from transformers import GenerationConfig

from collapse_sim.core.randomness import Draws
from collapse_sim.core.replays import TRIES
from collapse_sim.families import decoder_passes
from collapse_sim.families import decoding as decoding_
from collapse_sim.families.causal_lm import CausalLM
from collapse_sim.families.decoder_passes import has_fixed_cache
from collapse_sim.families.decoding import TokenSampling, decode, inverse_cdf, likeliest, likeliest_of_mass
from collapse_sim.families.seq2seq import Seq2Seq, _encoded
from collapse_sim.families.token_rows import trimmed
from tests.core.replaying import Recordings
from tests.families.wording import PAIRS, TEXT, built, draws, pairs, texts

FAMILIES = {
    "gpt2": CausalLM(preset="tiny"),
    "llama": CausalLM(preset="llama-12m", width=48, layers=2, heads=2),
    "t5": Seq2Seq(preset="tiny", decoding="greedy"),
}


def generated(family, model, inputs, new, end):
    """transformers' own greedy search."""
    config = GenerationConfig(
        max_new_tokens=new,
        eos_token_id=end,
        pad_token_id=model.pad,
        do_sample=False,
        decoder_start_token_id=model.start if family.encoder_decoder else None,
    )
    own = model.network.config._attn_implementation
    model.network.set_attn_implementation("sdpa")
    out = model.network.generate(**inputs, generation_config=config)
    model.network.set_attn_implementation(own)
    return out[:, 1 if family.encoder_decoder else inputs["input_ids"].shape[1] :]


def case(name):
    family = FAMILIES[name]
    if family.encoder_decoder:
        model = built(family, PAIRS)
        inputs = _encoded(trimmed(pairs()["source"].long(), 8), model.pad)
    else:
        model = built(family, TEXT)
        prompts = texts()["tokens"][:, :1].clamp(min=0).long()
        prompts = (prompts + torch.arange(len(prompts))[:, None]) % TEXT.text().size
        inputs = {"input_ids": prompts, "attention_mask": torch.ones_like(prompts)}
    return family, model, inputs


def other(name):
    """A network of another architecture with the vocabulary and prompts of gpt2's."""
    from transformers import AutoModelForCausalLM, GPTNeoXConfig, OPTConfig

    family, model, inputs = case("gpt2")
    size = {"vocab_size": model.network.config.vocab_size, "hidden_size": 32, "num_hidden_layers": 2}
    kind, width = (OPTConfig, "ffn_dim") if name == "opt" else (GPTNeoXConfig, "intermediate_size")
    config = kind(**size, num_attention_heads=2, max_position_embeddings=64, **{width: 64})
    torch.manual_seed(0)
    return family, SimpleNamespace(network=AutoModelForCausalLM.from_config(config).eval(), pad=model.pad), inputs


@pytest.mark.parametrize("kept", [0.0, 0.75, 1.0])
@pytest.mark.parametrize("name", FAMILIES)
@torch.no_grad()
def test_greedy_is_transformers_own(name, kept, monkeypatch):
    """Whether rows that have ended leave the batch never, in time, or at once."""
    monkeypatch.setattr(decoder_passes, "KEPT", kept)
    family, model, inputs = case(name)
    start = model.start if family.encoder_decoder else None
    free = generated(family, model, inputs, 12, None)
    assert torch.equal(decode(model.network, inputs, 12, likeliest, end=None, pad=model.pad, start=start), free)
    ends = 0
    for end in free[:, 2].unique().tolist():  # tokens that some rows end with, early or late
        expected = generated(family, model, inputs, 12, end)
        ours = decode(model.network, inputs, 12, likeliest, end=end, pad=model.pad, start=start)
        assert torch.equal(ours, expected)
        ends += int((expected == end).any(1).sum())
    assert ends > 0


@pytest.mark.parametrize("name", FAMILIES)
@torch.no_grad()
def test_what_is_drawn_does_not_depend_on_when_rows_leave_the_batch(name, monkeypatch):
    family, model, inputs = case(name)
    start = model.start if family.encoder_decoder else None
    rows = {}
    for kept in (0.0, 0.75, 1.0):
        monkeypatch.setattr(decoder_passes, "KEPT", kept)
        choose = TokenSampling().chooser(len(inputs["input_ids"]), draws())
        rows[kept] = decode(model.network, inputs, 15, choose, end=3, pad=model.pad, start=start)
    assert torch.equal(rows[0.0], rows[0.75])
    assert torch.equal(rows[0.0], rows[1.0])
    assert (rows[0.0] == 3).any()


@torch.no_grad()
def test_first_and_second_tokens_have_the_models_distribution():
    """20,000 rows of one prompt: chi-square of the first token, and of the second given the commonest first."""
    model = built(CausalLM(preset="tiny", layers=1), TEXT)
    for parameter in model.parameters():
        parameter.mul_(3)  # far from uniform
    n = 20_000
    prompts = torch.full((n, 1), model.begin)
    choose = TokenSampling(temperature=0.7).chooser(n, Draws((0,), "sample", 0))
    out = decode(model.network, {"input_ids": prompts}, 2, choose, end=None, pad=model.pad, start=None)
    common = int(out[:, 0].mode().values)
    for context, tokens in (([model.begin], out[:, 0]), ([model.begin, common], out[out[:, 0] == common, 1])):
        logits = model.network(input_ids=torch.tensor([context])).logits[0, -1].double()
        expected = (logits / 0.7).softmax(-1).numpy() * len(tokens)
        counts = np.bincount(tokens.numpy(), minlength=len(expected))
        often = expected >= 5
        observed = [*counts[often], counts[~often].sum()]
        wanted = [*expected[often], expected[~often].sum()]
        assert len(wanted) > 3
        pairs_ = [(o, w) for o, w in zip(observed, wanted, strict=True) if w > 0]
        assert scipy.stats.chisquare(*zip(*pairs_, strict=True)).pvalue > 1e-3


def test_the_inverse_of_a_distribution_with_rare_tokens():
    """Also of a token of probability 1e-9 behind 50,000 others, and never a token of probability 0."""
    probabilities = torch.full((1, 50_001), (1 - 1e-9) / 50_000)
    probabilities[0, -1] = 1e-9
    edge = float(probabilities[0, :-1].double().sum() / probabilities[0].double().sum())
    assert int(inverse_cdf(probabilities, torch.tensor([edge + 1e-10], dtype=torch.float64))) == 50_000
    assert int(inverse_cdf(probabilities, torch.tensor([edge - 1e-10], dtype=torch.float64))) == 49_999
    gaps = torch.tensor([[0.0, 0.25, 0.0, 0.75, 0.0]]).expand(5, 5)
    uniform = torch.tensor([0.0, 0.2499, 0.25, 0.9999, 1.0], dtype=torch.float64)
    assert inverse_cdf(gaps, uniform).tolist() == [1, 1, 3, 3, 3]


@pytest.mark.parametrize("tokens", [1, 63, 64, 65, 1000])
def test_tokens_found_by_blocks_are_those_of_one_sum(tokens):
    """Half of the tokens have no probability; numbers at the ends, too."""
    generator = torch.Generator().manual_seed(tokens)
    probabilities = torch.randn(300, tokens, generator=generator).mul(4).softmax(-1)
    probabilities[:, ::2] *= float(tokens == 1)
    uniform = torch.rand(300, generator=generator, dtype=torch.float64)
    uniform[:3] = torch.tensor([0.0, 1 - 2**-53, 1.0])
    chosen = inverse_cdf(probabilities, uniform)
    cumulative = np.cumsum(probabilities.double().numpy(), 1)
    expected = [np.searchsorted(row, u * row[-1], "right") for row, u in zip(cumulative, uniform.numpy(), strict=True)]
    last = [np.flatnonzero(row)[-1] for row in probabilities.numpy()]
    assert chosen.tolist() == np.minimum(expected, last).tolist()


def test_a_distribution_that_is_not_finite_is_an_error():
    with pytest.raises(FloatingPointError, match="logits are not finite"):
        inverse_cdf(torch.tensor([[0.5, torch.nan]]), torch.tensor([0.3], dtype=torch.float64))


@pytest.mark.parametrize(
    "settings",
    [{"temperature": 0.5}, {"top_k": 3}, {"top_p": 0.6}, {"top_k": 4, "top_p": 0.7, "temperature": 2.0}, {"top_k": 99}],
)
def test_probabilities_are_those_of_transformers_processors(settings):
    from transformers import LogitsProcessorList, TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

    logits = torch.randn(6, 20, generator=torch.Generator().manual_seed(1)) * 2
    warpers = LogitsProcessorList([TemperatureLogitsWarper(float(settings.get("temperature", 1.0)))])
    if "top_k" in settings:
        warpers.append(TopKLogitsWarper(settings["top_k"]))
    if "top_p" in settings:
        warpers.append(TopPLogitsWarper(settings["top_p"]))
    expected = warpers(torch.zeros(6, 1, dtype=torch.int64), logits).softmax(-1)
    ours = TokenSampling(**settings).probabilities(logits)
    torch.testing.assert_close(ours / ours.sum(-1, keepdim=True), expected)


@torch.no_grad()
@pytest.mark.parametrize("sharpness", [6.0, 0.3, 0.0])  # few tokens have the mass; more than are sorted first; all
@pytest.mark.parametrize("first", [2, 40, 1000])
def test_the_likeliest_tokens_of_a_mass_do_not_depend_on_how_many_are_sorted_first(sharpness, first, monkeypatch):
    logits = sharpness * torch.randn(5, 500, generator=torch.Generator().manual_seed(0)).double()
    probabilities = logits.softmax(-1) if sharpness else torch.full((5, 500), 1 / 500).double()
    monkeypatch.setattr(decoding_, "LIKELIEST", first)
    kept = likeliest_of_mass(probabilities, 0.8)
    for row, all_of_it in zip(kept, probabilities, strict=True):
        left = row[row > 0]
        assert left.sum() >= 0.8 - 1e-12
        assert left.sum() - left.min() < 0.8 + 1e-12
        assert torch.equal(row[row > 0], all_of_it[row > 0])
        assert left.min() >= all_of_it[row == 0].max()


def test_a_network_without_such_a_cache_is_given_all_tokens():
    """Its greedy tokens are those with the cache."""

    class Forgetful(torch.nn.Module):
        def forward(self, input_ids, past_key_values, use_cache):
            assert past_key_values is None
            return SimpleNamespace(logits=model.network(input_ids=input_ids).logits)

    _, model, inputs = case("gpt2")
    expected = decode(model.network, inputs, 9, likeliest, end=3, pad=model.pad, start=None)
    assert torch.equal(decode(Forgetful(), inputs, 9, likeliest, end=3, pad=model.pad, start=None), expected)


@pytest.mark.parametrize("kept", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("decoding", ["greedy", "sample"])
@pytest.mark.parametrize("name", [*FAMILIES, "opt", "gpt-neox"])
@torch.no_grad()
def test_recorded_passes_with_a_fixed_cache_write_the_same_texts(name, decoding, kept, monkeypatch):
    """Whether rows that have ended leave the batch never, in time, or at once; prompts of several tokens, too."""
    monkeypatch.setattr(decoder_passes, "KEPT_RECORDED", kept)
    monkeypatch.setattr(decoding_, "FEWEST", 12)
    family, model, inputs = case(name) if name in FAMILIES else other(name)
    start = model.start if family.encoder_decoder else None
    if start is None:
        inputs = {"input_ids": torch.cat([inputs["input_ids"], inputs["input_ids"].flip(0)], 1)}

    def texts_of(end, **record_of):
        choose = likeliest if decoding == "greedy" else TokenSampling().chooser(len(inputs["input_ids"]), draws())
        return decode(model.network, inputs, 12, choose, end=end, pad=model.pad, start=start, **record_of)

    free = texts_of(None)
    for end in (None, *free[:, 2].unique().tolist()[:3]):
        recordings = Recordings()
        recorded = texts_of(end, record_of=recordings.of)
        assert torch.equal(recorded, texts_of(end))
        if kept < 1:  # one to compare for each recording, and all passes but the first
            assert recordings.replays[0] == recordings.made + recorded.shape[1] - 1
            assert recordings.made == 1 or end is not None
        assert recordings.made <= TRIES


@torch.no_grad()
def test_passes_are_recorded_only_where_a_fixed_cache_is_all_that_there_is():
    """Not with a window, nor for a network of which transformers does not say so."""
    from transformers import AutoModelForCausalLM, Gemma2Config, MistralConfig

    sizes = {"vocab_size": 50, "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 2, "head_dim": 8}
    whole = AutoModelForCausalLM.from_config(MistralConfig(**sizes, **heads, sliding_window=None))
    windows = AutoModelForCausalLM.from_config(Gemma2Config(**sizes, **heads, sliding_window=4))
    assert has_fixed_cache(whole, 8)
    assert not has_fixed_cache(windows, 8)
    whole._can_compile_fullgraph = False
    assert not has_fixed_cache(whole, 8)
    assert not has_fixed_cache(SimpleNamespace(), 8)


@torch.no_grad()
def test_a_network_that_cannot_be_recorded_is_not_tried_again():
    _, model, inputs = case("gpt2")
    tries = []

    def impossible(*stages):
        tries.append(len(stages))
        raise RuntimeError("it waits for the device")

    texts = [
        decode(model.network, inputs, 20, likeliest, end=None, pad=model.pad, start=None, **record_of)
        for record_of in ({}, {"record_of": lambda device: impossible}, {"record_of": lambda device: impossible})
    ]
    assert all(torch.equal(texts[0], other) for other in texts[1:])
    assert tries == [1]
