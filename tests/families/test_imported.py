"""Models from outside: exported folders and state dicts, of every family, and what is said of those that do not fit."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from collapse_sim.core.errors import MissingError
from collapse_sim.core.randomness import Draws
from collapse_sim.data.base import Info
from collapse_sim.data.text.tokens import Tokenizer
from collapse_sim.families.base import ClosedForm, ModelFamily
from collapse_sim.families.causal_lm import CausalLM
from collapse_sim.families.ddpm import DDPM
from collapse_sim.families.flow import Flow
from collapse_sim.families.gaussian import Gaussian
from collapse_sim.families.gmm import GMM
from collapse_sim.families.imported import digest_of_state, find_model, given_model, read_model
from collapse_sim.families.kde import KDE
from collapse_sim.families.vae import VAE
from tests.families.wording import PACKED, TEXT, TINY, built

from .denoising import IMAGES, POINTS

SMALL = VAE(hidden=8, latent=2)


def write_export(folder: Path, family: Any, info: Info, state: dict[str, torch.Tensor]) -> Path:
    """A folder as `collapse-sim export` writes it."""
    folder.mkdir()
    save_file({name: tensor.contiguous() for name, tensor in state.items()}, folder / "weights.safetensors")
    columns = {name: [list(shape), dtype] for name, (shape, dtype) in info.columns.items()}
    data: dict[str, Any] = {"kind": info.kind, "columns": columns, "classes": 0}
    if info.tokenizer is not None:
        (folder / "tokenizer").mkdir()
        info.tokenizer.save(folder / "tokenizer")
        special = {name: getattr(info.tokenizer, name) for name in ("begin", "end", "pad")}
        data |= {"tokenizer": {"file": "tokenizer/tokenizer.json", **special}, "packed": info.packed}
    config = {"schema": 1, "family": family.describe(), "train": None, "data": data}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def problems(family: ModelFamily, path: Path, info: Info) -> list[str]:
    with pytest.raises(ValueError, match=str(path)) as error:
        read_model(family, path, info)
    return [line.removeprefix(f"{path}: ") for line in str(error.value).splitlines()]


@pytest.mark.parametrize(
    ("family", "info"),
    [
        (SMALL, IMAGES),
        (DDPM(network={"widths": (8, 16)}), IMAGES),
        (DDPM(network={"widths": (16, 16)}), POINTS),
        (Flow(), POINTS),
        (TINY, TEXT),
    ],
    ids=["vae", "ddpm", "points", "flow", "causal_lm"],
)
def test_an_export_comes_back(family: Any, info: Info, tmp_path: Path) -> None:
    state = built(family, info).state_dict()
    place = write_export(tmp_path / "m", family, info, state)
    for path in (place, place / "weights.safetensors"):
        read = read_model(family, path, info)
        assert read.keys() == state.keys()
        assert all(torch.equal(read[name], tensor) for name, tensor in state.items())


@pytest.mark.parametrize("family", [Gaussian(), GMM(components=2), KDE()], ids=["gaussian", "gmm", "kde"])
@pytest.mark.parametrize("rows", [64, 20])
def test_a_closed_form_comes_back_without_its_ensemble_axis(family: Any, rows: int, tmp_path: Path) -> None:
    """A kernel density estimate has as many points as the rows that it was fitted to, whatever the data here is."""
    assert isinstance(family, ClosedForm)
    points = torch.randn(3, rows, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    draws = Draws((0, 1, 2), "solve", 0, dtype=torch.float64, stacked=True)
    solved = family.solve(POINTS, {"x": points}, None, {}, draws).state_dict()
    state = {name: tensor[1].clone() for name, tensor in solved.items()}
    read = read_model(family, write_export(tmp_path / "m", family, POINTS, state), POINTS)
    assert read.keys() == state.keys()
    assert all(torch.equal(read[name], tensor) for name, tensor in state.items())


def test_the_digest_is_of_the_tensors(tmp_path: Path) -> None:
    state = built(SMALL, IMAGES).state_dict()
    save_file(state, tmp_path / "a.safetensors")
    torch.save({name: state[name] for name in reversed(state)}, tmp_path / "a.pt")
    torch.save({name: tensor.double() for name, tensor in state.items()}, tmp_path / "double.pt")
    given = [given_model(n, tmp_path / n, SMALL, IMAGES) for n in ("a.safetensors", "a.pt", "double.pt")]
    assert len({each.sha256 for each in given}) == 1
    for name in state:
        assert digest_of_state({**state, name: state[name] * 1.001}) != given[0].sha256
    first, *rest = state
    assert digest_of_state({"other": state[first], **{name: state[name] for name in rest}}) != given[0].sha256
    assert digest_of_state({**state, first: state[first].view(-1)}) != given[0].sha256


def test_other_settings_are_named_with_both_values(tmp_path: Path) -> None:
    other = VAE(hidden=8, latent=3, kl_weight=0.5)
    place = write_export(tmp_path / "m", other, IMAGES, built(other, IMAGES).state_dict())
    lines = problems(SMALL, place, IMAGES)
    assert lines[0] == "model.latent: 3 there, 2 here"
    assert lines[1] == "model.kl_weight: 0.5 there, 1.0 here"
    assert lines[2] == f"to take its weights whatever these settings say, give the file {place / 'weights.safetensors'}"
    assert lines[3:] == [
        "encoder.2.weight: shape (6, 8) there, (4, 8) here",
        "encoder.2.bias: shape (6,) there, (4,) here",
        "decoder.0.weight: shape (8, 3) there, (8, 2) here",
    ]


def test_settings_that_matter_in_fits_only_do_not_matter_to_the_file_itself(tmp_path: Path) -> None:
    other = VAE(hidden=8, latent=2, kl_weight=0.5)
    place = write_export(tmp_path / "m", other, IMAGES, built(other, IMAGES).state_dict())
    assert problems(SMALL, place, IMAGES)[0] == "model.kl_weight: 0.5 there, 1.0 here"
    read_model(SMALL, place / "weights.safetensors", IMAGES)


def test_another_sampler_is_the_same_model(tmp_path: Path) -> None:
    family = DDPM(network={"widths": (8, 16)})
    place = write_export(tmp_path / "m", family, IMAGES, built(family, IMAGES).state_dict())
    read_model(family.model_copy(update={"sampler": "ddim", "sampling_steps": 10}), place, IMAGES)


def test_another_family(tmp_path: Path) -> None:
    place = write_export(tmp_path / "m", SMALL, IMAGES, built(SMALL, IMAGES).state_dict())
    assert problems(DDPM(), place, IMAGES)[0] == "model: vae there, ddpm here"


def test_images_of_another_size(tmp_path: Path) -> None:
    """A UNet's tensors would not show it."""
    family = DDPM(network={"widths": (8, 16)})
    larger = Info("images", {"image": ((1, 16, 16), "uint8")}, 64, 64, 16)
    place = write_export(tmp_path / "m", family, larger, built(family, larger).state_dict())
    assert problems(family, place, IMAGES) == [
        "data: image was uint8 of shape (1, 16, 16) there, and is uint8 of shape (1, 8, 8) here"
    ]


def test_another_tokenizer(tmp_path: Path) -> None:
    place = write_export(tmp_path / "m", TINY, TEXT, built(TINY, TEXT).state_dict())
    read_model(TINY, place, PACKED)
    others = Tokenizer.of_words([f"v{i}" for i in range(30)])
    (line,) = problems(TINY, place, Info("text", TEXT.columns, 40, 40, 10, tokenizer=others))
    assert line.startswith("tokenizer: the model's has 31 tokens, the data's 31; 1 are in both")
    (place / "tokenizer" / "tokenizer.json").unlink()
    with pytest.raises(MissingError, match=r"tokenizer\.json: .*; it is needed to compare the tokenizers"):
        read_model(TINY, place, TEXT)


def test_a_configuration_of_another_program(tmp_path: Path) -> None:
    place = write_export(tmp_path / "m", SMALL, IMAGES, built(SMALL, IMAGES).state_dict())
    for content in ("{}", "[", "[1]", '{"family": 3, "data": {}}'):
        (place / "config.json").write_text(content)
        (line,) = problems(SMALL, place, IMAGES)
        assert line.startswith("config.json is not one that `collapse-sim export` wrote; needed: a folder that")


def test_a_folder_that_is_no_model(tmp_path: Path) -> None:
    (tmp_path / "m").mkdir()
    assert problems(SMALL, tmp_path / "m", IMAGES)[0].startswith("empty; needed: a folder that `collapse-sim export`")
    for name in "abcdefghij":
        (tmp_path / "m" / name).touch()
    (line,) = problems(SMALL, tmp_path / "m", IMAGES)
    assert line == (
        "a folder with a, b, c, d, e, f, g, h ...; needed: a folder that `collapse-sim export` wrote, a state dict "
        "(.safetensors, or saved by torch.save)"
    )


def test_where_models_are_searched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data" / "m").mkdir(parents=True)
    assert find_model("m", SMALL, tmp_path / "data") == tmp_path / "data" / "m"
    (tmp_path / "m").touch()
    assert find_model("m", SMALL, tmp_path / "data") == tmp_path / "m"
    assert find_model(str(tmp_path / "m"), SMALL, tmp_path / "elsewhere") == tmp_path / "m"
    with pytest.raises(MissingError, match=r"n: no such file or folder: .*/n or .*/data/n; needed: a folder that"):
        find_model("n", SMALL, tmp_path / "data")
    with pytest.raises(MissingError, match="a file or folder has no revisions; remove `revision`"):
        find_model("m", SMALL, tmp_path / "data", "main")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(MissingError, match=r"pipe: a named pipe, not a file; needed: .*, a folder of a diffusers pipe"):
        find_model("pipe", DDPM(), tmp_path)


def test_a_name_on_a_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Families that begin with weights by name look there, at the revision that is asked for."""
    from collapse_sim.core import hub

    asked: list[Any] = []

    def find(name: str, data_dir: Path, part: str, revision: str | None = None) -> hub.PretrainedFiles:
        asked.append((name, part, revision))
        if part == "tokenizer":
            raise MissingError("none")
        return hub.PretrainedFiles(name, tmp_path, "0" * 64)

    monkeypatch.setattr(hub, "find", find)
    assert find_model("someone/model", CausalLM(preset="tiny"), tmp_path, "v2") == tmp_path
    assert asked == [("someone/model", "model", "v2"), ("someone/model", "tokenizer", "v2")]
