"""Adapters of language models: what is trained and stored, whole runs of them, and peft's own files."""

from __future__ import annotations

import importlib.util
import json
import shutil
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from collapse_sim.core.errors import InterruptedRunError, RecipeError
from collapse_sim.data.base import Info
from collapse_sim.engine.optimizers import make_optimizer
from collapse_sim.families.causal_lm import CausalLM
from collapse_sim.families.imported import read_model
from collapse_sim.families.language import TextFamily
from collapse_sim.families.seq2seq import Seq2Seq
from collapse_sim.families.training import Train
from collapse_sim.plan.experiment import prepare
from collapse_sim.recipe.loader import load
from collapse_sim.testing import check_compiled, check_hooks
from tests.conftest import Sandbox, changed
from tests.families.wording import PAIRS, TEXT, built, pairs, texts, trained

pytest.importorskip("peft")

LORA = {"rank": 2, "alpha": 4}


@pytest.fixture
def writer(folder: Path) -> CausalLM:
    return CausalLM(pretrained="writer", lora=LORA).resolve_files(folder)


def tuned(family: TextFamily, info: Info, rows: Any) -> torch.nn.Module:
    """A few steps of the adapters alone."""
    model = built(family, info)
    optimizer = make_optimizer(Train(steps=1, learning_rate=0.1, weight_decay=0.1), model)
    for _ in range(5):
        inputs = family.corrupt(rows, None)  # type: ignore[arg-type]
        (family.loss(family.predict(model, inputs), inputs) / inputs.count).backward()
        optimizer.step()
        optimizer.zero_grad()
    return model


def test_hooks(writer: CausalLM, folder: Path) -> None:
    check_hooks(writer, tuned(writer, TEXT, texts()), TEXT, texts())
    family = Seq2Seq(pretrained="summarizer", lora=LORA).resolve_files(folder)
    check_hooks(family, tuned(family, PAIRS, pairs()), PAIRS, pairs())


@pytest.mark.slow
def test_a_compiled_step(writer: CausalLM) -> None:
    check_compiled(writer, TEXT, texts())


def test_without_lora_nothing_changes(folder: Path) -> None:
    plain = CausalLM(pretrained="writer").resolve_files(folder)
    assert "lora" not in plain.describe()
    model = built(plain, TEXT)
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert "network.transformer.wte.weight" in model.state_dict()


def test_a_fit_trains_the_adapters_alone(writer: CausalLM, folder: Path) -> None:
    """A model that begins as the pretrained one; every stored tensor is an adapter's, and a few of them are all."""
    plain = built(CausalLM(pretrained="writer").resolve_files(folder), TEXT)
    before, model = built(writer, TEXT), tuned(writer, TEXT, texts())
    row = texts()["tokens"][9:10, :5].long()
    assert torch.equal(before(input_ids=row).logits, plain(input_ids=row).logits)
    assert not torch.allclose(model(input_ids=row).logits, plain(input_ids=row).logits, atol=1e-3)
    layers, width = 2, 64
    assert {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()} == {
        f"network.transformer.h.{i}.attn.c_attn.{weight}.default.weight": shape
        for i in range(layers)
        for weight, shape in (("lora_A", (2, width)), ("lora_B", (3 * width, 2)))
    }
    frozen = {name: p for name, p in before.named_parameters() if not p.requires_grad}
    after = dict(model.named_parameters())
    assert len(frozen) > 20
    assert all(torch.equal(after[name], parameter) for name, parameter in frozen.items())


def test_stored_adapters_are_the_whole_model(writer: CausalLM) -> None:
    model, again = tuned(writer, TEXT, texts()), built(writer, TEXT, seed=5)
    again.load_state_dict(model.state_dict())
    row = texts()["tokens"][9:10, :5].long()
    assert torch.equal(again(input_ids=row).logits, model(input_ids=row).logits)


def test_peft_reads_what_is_exported(writer: CausalLM, folder: Path, tmp_path: Path) -> None:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    model = tuned(writer, TEXT, texts())
    paths = writer.export(model, TEXT, tmp_path)
    assert {path.name for path in paths} == {"adapter_config.json", "adapter_model.safetensors"}
    base = AutoModelForCausalLM.from_pretrained(folder / "writer")
    with warnings.catch_warnings():  # about the layout of GPT-2's layers
        warnings.simplefilter("ignore")
        theirs = PeftModel.from_pretrained(base, str(tmp_path / "adapters")).eval()
    row = texts()["tokens"][9:10, :5].long()
    torch.testing.assert_close(theirs(input_ids=row).logits, model(input_ids=row).logits)


def test_adapters_from_outside(writer: CausalLM, folder: Path, tmp_path: Path) -> None:
    model = tuned(writer, TEXT, texts())
    writer.export(model, TEXT, tmp_path)
    state = read_model(writer, tmp_path / "adapters", TEXT)
    assert all(torch.equal(state[name], tensor) for name, tensor in model.state_dict().items())
    other = CausalLM(pretrained="writer", lora={"rank": 3, "alpha": 5}).resolve_files(folder)
    with pytest.raises(ValueError, match=r"lora\.rank: 2 there, 3 here") as error:
        read_model(other, tmp_path / "adapters", TEXT)
    assert "lora.alpha: 4.0 there, 5.0 here" in str(error.value)
    wider = CausalLM(pretrained="writer", lora={**LORA, "targets": ["c_attn", "c_fc"]}).resolve_files(folder)
    with pytest.raises(ValueError, match=r"it lacks the tensors network\.transformer\.h\.0\.mlp\.c_fc\.lora_A"):
        read_model(wider, tmp_path / "adapters", TEXT)


def test_the_pretrained_model_itself_from_outside(writer: CausalLM, folder: Path, tmp_path: Path) -> None:
    """With adapters that change nothing, the same ones every time."""
    first, again = (read_model(writer, folder / "writer", TEXT) for _ in range(2))
    assert all(torch.equal(first[name], tensor) for name, tensor in again.items())
    assert not any(bool(tensor.any()) for name, tensor in first.items() if "lora_B" in name)
    assert all(bool(tensor.any()) for name, tensor in first.items() if "lora_A" in name)
    CausalLM(preset="tiny").export(trained(CausalLM(preset="tiny"), TEXT, texts(), 1), TEXT, tmp_path)
    with pytest.raises(ValueError, match="with `lora`, generation 0 has the weights of `pretrained`; set it to this"):
        read_model(writer, tmp_path / "transformers", TEXT)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"preset": "tiny", "lora": LORA}, "lora: for a pretrained model, this is a preset; remove"),
        ({"pretrained": "x", "lora": {"rank": 0}}, "greater than 0"),
        ({"pretrained": "x", "lora": {"targets": []}}, "at least 1 item"),
    ],
)
def test_settings_that_do_not_fit(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CausalLM(**settings)


def test_layers_that_are_not_there(folder: Path) -> None:
    family = CausalLM(pretrained="writer", lora={"targets": ["q_proj"]}).resolve_files(folder)
    with pytest.raises(ValueError, match=r"lora\.targets: found q_proj; allowed: c_attn, c_fc, c_proj, lm_head"):
        family.build(TEXT)


def test_without_peft(writer: CausalLM, monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "peft" else find(name))
    with pytest.raises(ValueError, match=r"the package peft is not installed: pip install 'collapse-sim\[lora\]'"):
        writer.check(TEXT)


RECIPE = """
name: adapters
data: {use: text_files, train: train.jsonl, validation: held_out.jsonl, tokenizer: writer, length: 12, pack: false}
model: {use: causal_lm, pretrained: writer, lora: {rank: 2}}
train: {steps: 6, batch_size: 8, learning_rate: 0.05, evaluate: every 3 steps}
generations: 2
seeds: [0, 1]
arms:
  replace: {data: replace, init: previous}
  distill: {data: accumulate, teacher: {generation: 0, weights: {logits: 0.5}}}
metrics: [perplexity]
"""


@pytest.fixture
def room(sandbox: Sandbox, folder: Path) -> Sandbox:
    """With the recipe's data."""
    data = sandbox.root / "data"
    shutil.copytree(folder / "writer", data / "writer")
    for name, first, count in (("train", 0, 30), ("held_out", 1, 6)):
        words = ([f"w{(first + i * 7 + j * (j + first)) % 30}" for j in range(8)] for i in range(count))
        (data / f"{name}.jsonl").write_text("".join(json.dumps({"text": " ".join(text)}) + "\n" for text in words))
    return sandbox


def stored(room: Sandbox) -> list[Path]:
    return sorted((room.root / ".store").glob("objects/*/*/*/model.safetensors"))


@pytest.mark.slow
def test_a_run_stores_adapters_alone(room: Sandbox) -> None:
    room.run(RECIPE)
    files = stored(room)
    assert len(files) == 2 * (1 + 2 + 2)
    assert all("lora_" in name for path in files for name in load_file(path))
    whole = (room.root / "data" / "writer" / "model.safetensors").stat().st_size
    assert all(path.stat().st_size < whole / 10 for path in files)
    lines = [line["metrics"]["perplexity"] for line in room.journal("run", "scores")]
    assert len({tuple(line) for line in lines}) > 3


@pytest.mark.slow
def test_a_run_with_the_pretrained_model_as_generation_0(room: Sandbox) -> None:
    room.run(changed(RECIPE, ("generations: 2", "generation_0: {model: writer}\ngenerations: 2")))
    assert len(stored(room)) == 1 + 2 * (2 + 2)


@pytest.mark.slow
def test_a_fit_that_was_stopped_continues_with_equal_bytes(room: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    from collapse_sim.engine.work import Stop

    room.run(RECIPE, "whole")
    expected = room.artefacts()
    shutil.rmtree(room.root / ".store")
    calls = 0

    def wanted(self: Stop) -> bool:
        nonlocal calls
        calls += 1
        return calls >= 12

    with monkeypatch.context() as patch:
        patch.setattr(Stop, "wanted", property(wanted))
        with pytest.raises(InterruptedRunError):
            room.run(RECIPE, "stopped", checkpoint_s=0.0)
    assert room.artefacts().keys() < expected.keys()
    room.run(RECIPE, "stopped")
    assert room.artefacts() == expected


def test_adapters_are_not_combined(room: Sandbox) -> None:
    merge = ("{data: replace, init: previous}", "{data: replace, init: previous, merge: {use: neon, w: 0.5}}")
    with pytest.raises(RecipeError, match="combining factors is not combining weights; remove `lora`"):
        prepare(load(room.recipe(changed(RECIPE, merge))), room.root / "data")
