"""Models of transformers in folders: exported, loaded, known by their content, refused where they do not fit."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from safetensors.torch import load, save

from collapse_sim.core.errors import MissingError
from collapse_sim.data.base import Info
from collapse_sim.data.text.tokens import PAD_TOKEN_ID, Tokenizer
from collapse_sim.families.causal_lm import CausalLM
from collapse_sim.families.seq2seq import Seq2Seq
from tests.families.wording import PACKED, PAIRS, TEXT, TINY, WORDS, built, texts


def test_an_exported_model_is_what_transformers_and_we_load(folder):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model, rows = built(TINY, TEXT), texts()
    theirs = AutoModelForCausalLM.from_pretrained(folder / "writer").eval()
    tokenizer = AutoTokenizer.from_pretrained(folder / "writer")
    row = rows["tokens"][9].long()
    row = row[row != PAD_TOKEN_ID][None]
    torch.testing.assert_close(theirs(row).logits, model(input_ids=row).logits)
    assert tokenizer.decode(row[0], skip_special_tokens=True) == WORDS.decode(row[0])
    assert (tokenizer.eos_token_id, tokenizer.bos_token_id) == (WORDS.end, WORDS.begin)
    family = CausalLM(pretrained="writer").resolve_files(folder)
    family.check(TEXT)
    ours = built(family, TEXT, seed=5)
    assert torch.equal(model(input_ids=row).logits, ours(input_ids=row).logits)


def test_a_pretrained_model_is_known_by_its_content(folder, tmp_path):
    shutil.copytree(folder / "writer", tmp_path / "elsewhere")
    here = CausalLM(pretrained="writer").resolve_files(folder).describe()
    there = CausalLM(pretrained=str(tmp_path / "elsewhere")).resolve_files(folder).describe()
    assert here == there
    assert "writer" not in str(here)
    weights = tmp_path / "elsewhere" / "model.safetensors"
    state = load(weights.read_bytes())
    weights.write_bytes(save({name: tensor + 1 for name, tensor in state.items()}, metadata={"format": "pt"}))
    assert CausalLM(pretrained=str(tmp_path / "elsewhere")).resolve_files(folder).describe() != here


def test_a_model_that_is_nowhere(tmp_path, monkeypatch):
    import socket

    def refuse(*args: object) -> None:
        raise OSError("no network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    with pytest.raises(
        MissingError, match=r"t5-tiniest: no such model: there is no folder .* a folder there that has"
    ) as error:
        Seq2Seq(pretrained="t5-tiniest").resolve_files(tmp_path)
    assert "config.json and model.safetensors" in str(error.value)
    with pytest.raises(MissingError, match="no such model: there is no folder"):
        CausalLM(pretrained="/nowhere/at/all").resolve_files(tmp_path)
    (tmp_path / "half").mkdir()
    (tmp_path / "half" / "config.json").write_text("{}")
    with pytest.raises(MissingError, match=r"half: no model.safetensors in it; needed for a model: config.json and"):
        CausalLM(pretrained="half").resolve_files(tmp_path)


def test_a_folders_own_code_is_not_run(folder, tmp_path, monkeypatch):
    """Not even for one who would say yes."""
    place = shutil.copytree(folder / "writer", tmp_path / "own")
    own = {"model_type": "own", "auto_map": {"AutoConfig": "own.Config", "AutoModelForCausalLM": "own.Model"}}
    config = json.loads((place / "config.json").read_text())
    (place / "config.json").write_text(json.dumps(config | own))
    (place / "own.py").write_text("import pytest\npytest.fail('it was run')\n")
    monkeypatch.setattr("builtins.input", lambda *_: "y")
    with pytest.raises(ValueError, match=r"pretrained: .*own: "):
        CausalLM(pretrained="own").resolve_files(tmp_path).check(TEXT)


def test_weights_that_end_early(folder, tmp_path):
    place = shutil.copytree(folder / "writer", tmp_path / "writer")
    weights = place / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(MissingError, match=r"writer: its weights cannot be read: model\.safetensors: "):
        CausalLM(pretrained="writer").resolve_files(tmp_path)


def test_what_does_not_fit(folder):
    many = Tokenizer.of_words([f"t{i}" for i in range(50)])
    few = Tokenizer.of_words(["a"])
    writer = CausalLM(pretrained="writer").resolve_files(folder)
    with pytest.raises(ValueError, match="writer has a vocabulary of 31 tokens, and the data's tokenizer has 51: set"):
        writer.check(Info("text", TEXT.columns, 9, 9, 9, tokenizer=many))
    writer.check(Info("text", TEXT.columns, 9, 9, 9, tokenizer=few))  # padded vocabularies are common
    with pytest.raises(ValueError, match=r"writer takes 20 tokens, and 64 are needed: lower the data.s `length`"):
        writer.check(Info("text", {"tokens": ((64,), "int16")}, 9, 9, 9, tokenizer=WORDS))
    with pytest.raises(ValueError, match=r"writer is a decoder only \(gpt2\); use: causal_lm"):
        Seq2Seq(pretrained="writer").resolve_files(folder).check(PAIRS)
    with pytest.raises(ValueError, match=r"summarizer is an encoder-decoder \(t5\); use: seq2seq"):
        CausalLM(pretrained="summarizer").resolve_files(folder).check(TEXT)
    with pytest.raises(
        ValueError, match="prompt: 20 tokens of rows of 20, which leaves nothing to generate; use at most"
    ):
        CausalLM(preset="tiny", prompt=20, keep_prompt=True).check(TEXT)
    with pytest.raises(ValueError, match="prompt: 21 tokens of rows of 20; use at most 20"):
        CausalLM(preset="tiny", prompt=21).check(TEXT)
    CausalLM(preset="tiny", prompt=20).check(TEXT)
    with pytest.raises(ValueError, match="stop: end gives rows of one text, but the data's are packed"):
        CausalLM(preset="tiny", stop="end").check(PACKED)
    with pytest.raises(ValueError, match="the width 64 is not a multiple of 5 heads"):
        CausalLM(preset="tiny", heads=5).check(TEXT)


def test_a_pretrained_models_dropout_is_its_own_unless_said(folder):
    own = CausalLM(pretrained="writer").resolve_files(folder).build(TEXT)
    said = CausalLM(pretrained="writer", dropout=0.3).resolve_files(folder).build(TEXT)
    rates = [{m.p for m in model.modules() if isinstance(m, torch.nn.Dropout)} for model in (own, said)]
    assert rates == [{0.0}, {0.3}]
