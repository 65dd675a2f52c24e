"""Files of tensors: what is read, what is refused, and every difference from a module."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from collapse_sim.core.errors import MissingError
from collapse_sim.families.state_files import names_in_lines, read_parts, read_state, unlike_module

STATE = {"weight": torch.arange(6.0).view(2, 3), "bias": torch.tensor([1.0, 2.0])}


def same(one: dict[str, torch.Tensor]) -> bool:
    return one.keys() == STATE.keys() and all(torch.equal(one[name], STATE[name]) for name in STATE)


def test_both_formats(tmp_path: Path) -> None:
    save_file(STATE, tmp_path / "a.safetensors")
    torch.save(STATE, tmp_path / "a.pt")
    torch.save(nn.Linear(3, 2).state_dict() | STATE, tmp_path / "b.pt")
    assert all(same(read_state(tmp_path / name)) for name in ("a.safetensors", "a.pt", "b.pt"))


@pytest.mark.parametrize("suffix", ["safetensors", "bin"])
@pytest.mark.parametrize("parts", [1, 2])
def test_weights_of_a_folder(suffix: str, parts: int, tmp_path: Path) -> None:
    def save(state: dict[str, torch.Tensor], name: str) -> None:
        (save_file if suffix == "safetensors" else torch.save)(state, tmp_path / name)

    if parts == 1:
        save(STATE, f"model.{suffix}")
    else:
        for name, tensor in STATE.items():
            save({name: tensor}, f"model-{name}.{suffix}")
        where = {name: f"model-{name}.{suffix}" for name in STATE}
        (tmp_path / f"model.{suffix}.index.json").write_text(json.dumps({"weight_map": where}))
    assert same(read_parts(tmp_path, "model"))


@pytest.mark.parametrize("map", [{"a": "../secret.bin"}, {"a": "/etc/passwd"}, [], None])
def test_an_index_that_is_none(map: Any, tmp_path: Path) -> None:
    (tmp_path / "model.bin.index.json").write_text(json.dumps({"weight_map": map}))
    with pytest.raises(MissingError, match=r"model\.bin\.index\.json"):
        read_parts(tmp_path, "model")
    with pytest.raises(MissingError, match=r"no other\.safetensors in it"):
        read_parts(tmp_path, "other")


def test_code_is_not_run(tmp_path: Path) -> None:
    class Boom:
        def __reduce__(self) -> Any:
            return (pytest.fail, ("it was run",))

    torch.save({"weight": Boom()}, tmp_path / "model.pt")
    with pytest.raises(ValueError, match=r"model\.pt: it would run .*; save torch\.save\(model\.state_dict") as error:
        read_state(tmp_path / "model.pt")
    for advice in ("weights_only", "safe_globals", "trust"):
        assert advice not in str(error.value)


def test_a_whole_module_is_no_state(tmp_path: Path) -> None:
    torch.save(nn.Linear(3, 2), tmp_path / "model.pt")
    with pytest.raises(ValueError, match=r"it would run torch\.nn\.modules\.linear\.Linear.*; save torch\.save"):
        read_state(tmp_path / "model.pt")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (torch.zeros(3), "it holds a Tensor, not the tensors of a model by name"),
        ({"state_dict": STATE, "epoch": 3}, "it holds epoch, state_dict, which are no tensors"),
        ({}, "it holds nothing"),
    ],
)
def test_what_is_no_state(content: Any, message: str, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "model.pt")
    with pytest.raises(ValueError, match=message):
        read_state(tmp_path / "model.pt")


def test_files_that_are_missing_or_damaged(tmp_path: Path) -> None:
    with pytest.raises(MissingError, match="no such file"):
        read_state(tmp_path / "model.pt")
    os.mkfifo(tmp_path / "pipe.pt")
    with pytest.raises(MissingError, match="a named pipe, not a file"):
        read_state(tmp_path / "pipe.pt")
    save_file(STATE, tmp_path / "model.safetensors")
    content = (tmp_path / "model.safetensors").read_bytes()
    (tmp_path / "model.safetensors").write_bytes(content[:-4])
    with pytest.raises(MissingError, match="not a whole file of safetensors"):
        read_state(tmp_path / "model.safetensors")
    (tmp_path / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(MissingError, match="a pointer of git-lfs"):
        read_state(tmp_path / "model.safetensors")
    (tmp_path / "model.pt").write_bytes(b"no model at all")
    with pytest.raises(ValueError, match=r"model\.pt: it is damaged"):
        read_state(tmp_path / "model.pt")


def test_every_difference_is_named() -> None:
    with torch.device("meta"):
        module = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 4), nn.BatchNorm1d(4))
    state = {
        "0.weight": torch.zeros(2, 5),
        "0.bias": torch.zeros(2, dtype=torch.int64),
        "1.weight": torch.full((4, 2), torch.nan),
        "1.bias": torch.zeros(4, dtype=torch.float16),
        "head.weight": torch.zeros(1),
        "2.running_mean": torch.zeros(4),
    }
    stored, problems = unlike_module(module, state)
    assert problems == [
        "it lacks the tensors 2.weight, 2.bias, 2.running_var, 2.num_batches_tracked",
        "it has tensors that the model does not have: head.weight",
        "0.weight: shape (2, 5) there, (2, 3) here",
        "0.bias: torch.int64 there, torch.float32 here",
        "1.weight: it has values that are not finite",
    ]
    assert {name: tensor.dtype for name, tensor in stored.items()} == {
        "1.bias": torch.float32,
        "2.running_mean": torch.float32,
    }


def test_a_state_that_fits_has_no_problems() -> None:
    module = nn.Linear(3, 2)
    stored, problems = unlike_module(module, STATE)
    assert problems == []
    assert same(stored)


def test_many_names_take_several_lines() -> None:
    names = [f"transformer.h.{i}.attn.weight" for i in range(100)]
    lines = names_in_lines(names)
    assert len(lines) > 2
    assert max(map(len, lines)) < 1000
    assert ", ".join(lines).split(", ") == names
