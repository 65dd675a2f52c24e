"""Transformers folders as generation 0: the same network, or every difference."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

from collapse_sim.core.errors import MissingError
from collapse_sim.data.base import Info
from collapse_sim.data.text.tokens import Tokenizer
from collapse_sim.families.causal_lm import CausalLM
from collapse_sim.families.imported import read_model
from collapse_sim.families.seq2seq import Seq2Seq
from tests.families.wording import PAIRS, T5, TEXT, TINY, built


def test_a_presets_own_network_comes_back(folder: Path) -> None:
    for name, family, info in (("writer", TINY, TEXT), ("summarizer", T5, PAIRS)):
        state, expected = read_model(family, folder / name, info), built(family, info).state_dict()
        assert state.keys() == expected.keys()
        assert all(torch.equal(state[key], tensor) for key, tensor in expected.items())


def test_llamas_come_back(tmp_path: Path) -> None:
    family = CausalLM(preset="llama-12m", width=16, layers=1, heads=2)
    model = built(family, TEXT)
    family.export(model, TEXT, tmp_path)
    state = read_model(family, tmp_path / "transformers", TEXT)
    assert all(torch.equal(state[key], tensor) for key, tensor in model.state_dict().items())


def test_another_folder_of_the_pretrained_architecture(folder: Path, tmp_path: Path) -> None:
    """Fits begin with one set of weights, generation 0 is another."""
    other = built(TINY, TEXT, seed=3)
    TINY.export(other, TEXT, tmp_path)
    family = CausalLM(pretrained="writer").resolve_files(folder)
    state = read_model(family, tmp_path / "transformers", TEXT)
    assert all(torch.equal(state[key], tensor) for key, tensor in other.state_dict().items())
    assert not all(torch.equal(state[key], tensor) for key, tensor in built(TINY, TEXT).state_dict().items())


def test_every_setting_of_another_architecture_is_named(folder: Path) -> None:
    with pytest.raises(ValueError, match="there") as error:
        read_model(CausalLM(preset="tiny", layers=3, heads=4), folder / "writer", TEXT)
    place = folder / "writer"
    assert str(error.value).splitlines() == [
        f"{place}: n_layer: 2 there, 3 here",
        f"{place}: n_head: 2 there, 4 here",
        f"to take its architecture, set the model's `pretrained: {place}`",
    ]
    with pytest.raises(ValueError, match="model_type: gpt2 there, llama here"):
        read_model(CausalLM(preset="llama-12m"), folder / "writer", TEXT)


def test_a_function_that_shapes_do_not_show(folder: Path, tmp_path: Path) -> None:
    place = shutil.copytree(folder / "writer", tmp_path / "writer")
    config = json.loads((place / "config.json").read_text())
    (place / "config.json").write_text(json.dumps(config | {"activation_function": "relu"}))
    with pytest.raises(ValueError, match="activation_function: relu there, gelu_new here"):
        read_model(TINY, place, TEXT)


def test_what_is_refused_as_pretrained_is_refused_here(folder: Path) -> None:
    with pytest.raises(ValueError, match=r"^[^:]*writer is a decoder only \(gpt2\); use: causal_lm"):
        read_model(Seq2Seq(preset="tiny"), folder / "writer", PAIRS)
    long = Info("text", {"tokens": ((64,), "int16")}, 40, 40, 10, tokenizer=TEXT.tokenizer)
    with pytest.raises(ValueError, match=r"writer takes 20 tokens, and 64 are needed: lower the data.s `length`"):
        read_model(TINY, folder / "writer", long)


def test_another_tokenizer(folder: Path, tmp_path: Path) -> None:
    """Of as many tokens, so that the vocabulary's size does not show it."""
    others = Tokenizer.of_words([f"v{i}" for i in range(30)])
    info = Info("text", TEXT.columns, 40, 40, 10, tokenizer=others)
    with pytest.raises(ValueError, match="tokenizer: the model's has 31 tokens, the data's 31; 1 are in both"):
        read_model(TINY, folder / "writer", info)
    bare = shutil.copytree(folder / "writer", tmp_path / "bare")
    for path in bare.glob("tokenizer*"):
        path.unlink()
    read_model(TINY, bare, info)  # only sizes can be compared
    (bare / "model.safetensors").unlink()
    with pytest.raises(MissingError, match=r"bare: no model\.safetensors in it; needed for a model"):
        read_model(TINY, bare, info)


def test_a_tokenizer_without_an_end_is_compared_by_its_tokens(folder: Path, tmp_path: Path) -> None:
    place = shutil.copytree(folder / "writer", tmp_path / "writer")
    config = json.loads((place / "tokenizer_config.json").read_text())
    for name in ("bos_token", "eos_token", "pad_token"):
        del config[name]
    (place / "tokenizer_config.json").write_text(json.dumps(config))
    read_model(TINY, place, TEXT)
