"""Decoders: the engine's contract, transformers' own loss, and what is written, against the model's own predictions."""

from __future__ import annotations

import dataclasses
import json

import pytest
import torch

from collapse_sim.data.base import Info
from collapse_sim.data.text.tokens import PAD_TOKEN_ID, Tokenizer, texts_of
from collapse_sim.families.base import Conditions
from collapse_sim.families.causal_lm import PRESETS, CausalLM
from collapse_sim.families.text_network import LanguageModel
from collapse_sim.testing import check_family
from tests.families.wording import (
    LENGTH,
    PACKED,
    TEXT,
    TINY,
    WORDS,
    blocks,
    built,
    draws,
    ids,
    number,
    texts,
    trained,
    unlike,
)


@pytest.mark.parametrize(
    "family",
    [
        TINY,
        CausalLM(preset="llama-12m", width=48, layers=2, heads=2, kd_temperature=2.0),
        CausalLM(preset="tiny", prompt=5, bucket=1),
        CausalLM(preset="tiny", prompt=5, keep_prompt=True, decoding="greedy"),
        CausalLM(preset="tiny", layers=1, decoding="beam", beams=2),
        CausalLM(preset="tiny", stop="length", top_k=5, top_p=0.9, temperature=0.7),
    ],
    ids=["gpt2", "llama", "prompt", "kept-prompt", "beam", "full-rows"],
)
def test_a_causal_model_obeys_the_contract(family):
    """With rows of unequal length, empty texts, texts of one token, and texts that are cut."""
    check_family(family, TEXT, texts())


def test_packed_rows_obey_the_contract():
    check_family(TINY, PACKED, blocks())


@pytest.mark.parametrize("architecture", ["tiny", "llama-12m"])
@pytest.mark.parametrize("bucket", [1, 32])
def test_the_loss_is_transformers_own(architecture, bucket):
    family = CausalLM(preset=architecture, width=48, layers=2, heads=2, bucket=bucket)
    model, rows = built(family, TEXT), texts()
    inputs = family.corrupt(rows, draws())
    nats, count = 0.0, 0
    for row in rows["tokens"].long():
        labels = row[row != PAD_TOKEN_ID][None]
        predicted = labels.shape[1] - 1
        nats += number(model.network(input_ids=labels, labels=labels).loss) * predicted
        count += predicted
    assert int(inputs.count) == count
    assert number(family.loss(family.predict(model, inputs), inputs)) / count == pytest.approx(nats / count, rel=1e-5)
    found, tokens = family.nats(model, rows)
    assert number(found.sum() / tokens.sum()) == pytest.approx(nats / count, rel=1e-5)


@pytest.mark.parametrize("special", [(0, 0, 0), (1, 2, 2), (1, 2, 0), (2, 2, 1)], ids=str)
@pytest.mark.parametrize("preset", ["tiny", "llama-12m"])
def test_greedy_texts_are_the_likeliest_next_tokens(preset, special):
    """As `predict` says of the written rows: whichever tokens begin, end and pad, and with padding's among prompts."""
    tokenizer = dataclasses.replace(WORDS, begin=special[0], end=special[1], pad=special[2])
    info = dataclasses.replace(TEXT, tokenizer=tokenizer)
    family = CausalLM(preset=preset, width=48, layers=2, heads=2, prompt=4, keep_prompt=True, decoding="greedy")
    model, dice = unlike(built(family, info)), torch.Generator().manual_seed(1)
    prompts = torch.randint(3, 31, (200, LENGTH), generator=dice, dtype=torch.int16)
    prompts[:, 0] = tokenizer.begin
    if tokenizer.pad != tokenizer.end:
        prompts[:50, 2] = tokenizer.pad
    rows = family.sample(model, Conditions(200, {"tokens": prompts}), draws())["tokens"]
    assert torch.equal(rows[:, :4], prompts[:, :4])
    written = rows[:, 4:]
    likeliest = TINY.predict(model, TINY._inputs({"tokens": rows})).logits.argmax(-1)[:, 3:]
    assert ((likeliest == written) | (written == PAD_TOKEN_ID)).all()
    assert (written == tokenizer.end).any()
    assert len(written.unique()) > 10


def test_top_k_of_one_is_greedy():
    one = CausalLM(preset="tiny", prompt=4, keep_prompt=True, top_k=1)
    greedy = CausalLM(preset="tiny", prompt=4, keep_prompt=True, decoding="greedy")
    model, given = built(TINY, TEXT), Conditions(8, texts(8))
    assert torch.equal(one.sample(model, given, draws())["tokens"], greedy.sample(model, given, draws())["tokens"])


def test_samples_follow_the_models_distribution():
    """Second tokens of 4,000 samples against the softmax; and at half the temperature."""
    for temperature in (1.0, 0.5):
        family = CausalLM(preset="tiny", layers=1, temperature=temperature)
        model = trained(family, TEXT, texts(), steps=20)
        rows = family.sample(model, Conditions(4000, {}), draws())["tokens"].long()
        with torch.no_grad():
            logits = model(input_ids=torch.zeros(1, 1, dtype=torch.long)).logits[0, -1]
        p = (logits / temperature).softmax(-1)
        seen = torch.bincount(rows[:, 1], minlength=31) / 4000
        assert float(((seen - p).abs() / (p * (1 - p) / 4000).sqrt()).max()) < 4.5


def test_nothing_of_how_to_sample_comes_from_elsewhere(tmp_path):
    """Neither from a model's files nor from transformers' defaults (top_k 50): of 300 words all are drawn."""
    tokenizer = Tokenizer.of_words([f"t{i}" for i in range(299)])
    info = Info("text", {"tokens": ((3,), "int16")}, 1, 1, 1, tokenizer=tokenizer)
    TINY.export(built(TINY, info), info, tmp_path)
    family = CausalLM(pretrained="transformers", stop="length").resolve_files(tmp_path)
    rows = family.sample(built(family, info), Conditions(4000, {}), draws())["tokens"]
    assert len(rows[:, 1].unique()) > 290
    assert (rows != PAD_TOKEN_ID).all()
    advice = {"top_k": 2, "top_p": 0.5, "repetition_penalty": 4.0, "no_repeat_ngram_size": 1, "num_beams": 3}
    advice |= {"temperature": 0.1, "min_length": 9, "max_length": 2, "do_sample": True, "suppress_tokens": [4]}
    advice |= {"forced_bos_token_id": 5, "forced_eos_token_id": 6, "eos_token_id": 7, "bad_words_ids": [[8]]}
    for name in ("config.json", "generation_config.json"):
        path = tmp_path / "transformers" / name
        path.write_text(json.dumps(json.loads(path.read_text()) | advice))
    advised = CausalLM(pretrained="transformers", stop="length").resolve_files(tmp_path)
    assert torch.equal(advised.sample(built(advised, info), Conditions(4000, {}), draws())["tokens"], rows)


def test_rows_end_with_their_texts():
    model = trained(TINY, TEXT, texts())
    rows = TINY.sample(model, Conditions(200, {}), draws())["tokens"]
    assert (rows[:, 0] == WORDS.begin).all()
    for row in rows:
        ends = (row[1:] == WORDS.end).nonzero().flatten() + 1
        last = int(ends[0]) if len(ends) else LENGTH - 1
        assert (row[last + 1 :] == PAD_TOKEN_ID).all()
        assert (row[: last + 1] != PAD_TOKEN_ID).all()


def test_samples_of_packed_data_are_full_rows_and_run_over_ends():
    model = trained(TINY, PACKED, blocks(), steps=10)
    rows = TINY.sample(model, Conditions(100, {}), draws())["tokens"]
    assert (rows != PAD_TOKEN_ID).all()
    assert (rows[:, 1:-1] == WORDS.end).any()
    family = CausalLM(preset="tiny", prompt=8)
    given = blocks(4)
    continued = family.sample(model, Conditions(4, given), draws())["tokens"]
    assert continued.shape == (4, LENGTH)
    kept = CausalLM(preset="tiny", prompt=8, keep_prompt=True).sample(model, Conditions(4, given), draws())["tokens"]
    assert torch.equal(kept[:, :8], given["tokens"][:, :8])
    assert torch.equal(kept[:, 8:], continued[:, : LENGTH - 8])


def test_prompts_are_continued_from_before_their_end():
    """A text shorter than the prompt, and an empty one."""
    family = CausalLM(preset="tiny", prompt=6, keep_prompt=True)
    given = ids([0, 2, 12], LENGTH, begin=True)
    rows = family.sample(built(family, TEXT), Conditions(3, {"tokens": given}), draws())["tokens"]
    assert rows[0, 0] == WORDS.begin
    assert torch.equal(rows[1, :3], given[1, :3])
    assert torch.equal(rows[2, :6], given[2, :6])


def test_an_empty_generation_is_a_row_without_text():
    model = built(TINY, TEXT)
    with torch.no_grad():
        model.network.transformer.wte.weight.zero_()
        model.network.transformer.wte.weight[WORDS.end] = 1.0
        model.network.transformer.ln_f.weight.zero_()
        model.network.transformer.ln_f.bias.fill_(10.0)
    rows = TINY.sample(model, Conditions(3, {}), draws())["tokens"]
    assert texts_of(rows.numpy(), WORDS) == ["", "", ""]
    inputs = TINY.corrupt({"tokens": rows}, draws())
    assert int(inputs.count) == 3
    assert number(TINY.loss(TINY.predict(model, inputs), inputs)) == pytest.approx(0.0, abs=1e-3)


@pytest.mark.parametrize("name", PRESETS)
def test_the_token_that_begins_texts_is_learnt(name, tmp_path):
    """Although it is the padding, too; also by a model that is loaded."""
    family = CausalLM(preset=name, width=24, layers=1, heads=2)
    fresh = built(family, TEXT)
    family.export(fresh, TEXT, tmp_path)
    for model in fresh, built(CausalLM(pretrained="transformers").resolve_files(tmp_path), TEXT):
        embedding = model.network.get_input_embeddings()
        vector = embedding(torch.tensor([WORDS.begin]))
        vector.sum().backward()
        assert number(vector.norm()) > 0
        assert (embedding.weight.grad[WORDS.begin] == 1).all()


@pytest.mark.parametrize("name", PRESETS)
def test_presets_have_the_parameters_they_are_named_after(name):
    tokenizer = Tokenizer.of_words([f"t{i}" for i in range(9_999)])
    info = Info("text", {"tokens": ((256,), "int16")}, 1, 1, 1, tokenizer=tokenizer)
    with torch.device("meta"):
        model = CausalLM(preset=name).build(info)
    millions = sum(p.numel() for p in model.parameters()) / 1e6
    said = {"tiny": 0.77}.get(name) or float(name.rpartition("-")[2].removesuffix("m"))
    assert millions == pytest.approx(said, rel=0.03)
    assert len(CausalLM(preset=name).blocks(model)) == model.network.config.num_hidden_layers


class Layer(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = Mixer()


class Mixer(torch.nn.Linear):
    def __init__(self):
        super().__init__(2, 2)


class Nested(torch.nn.Module):
    """As Mamba names layers and what is in them, and others their embeddings."""

    _no_split_modules = ("Layer", "Mixer")

    def __init__(self):
        super().__init__()
        self.first, self.second = Layer(), Layer()
        self.embeddings, self.head = Mixer(), Mixer()


def test_blocks_are_not_within_each_other_and_have_no_weights_of_others():
    model = LanguageModel.__new__(LanguageModel)
    torch.nn.Module.__init__(model)
    model.network, model.tied = Nested(), {"head.weight": "embeddings.weight"}
    assert CausalLM(preset="tiny").blocks(model) == [model.network.first, model.network.second]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "exactly one of `pretrained` and `preset` is needed, found neither"),
        ({"preset": "tiny", "pretrained": "gpt2"}, "found both"),
        ({"pretrained": "gpt2", "layers": 3}, "layers: a pretrained model has its own"),
        ({"preset": "tiny", "decoding": "greedy", "top_p": 0.9}, "top_p: for `decoding: sample` only, found greedy"),
        ({"preset": "tiny", "keep_prompt": True}, "there is no prompt to keep"),
    ],
)
def test_settings_that_contradict_each_other(settings, message):
    with pytest.raises(ValueError, match=message):
        CausalLM(**settings)
