"""Pipelines that diffusers itself saved: which fit a recipe's network and schedule, and what is said of the others."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from diffusers import DDPMPipeline, DDPMScheduler, UNet2DModel
from safetensors.torch import load_file

from collapse_sim.core.errors import MissingError
from collapse_sim.families.ddpm import DDPM
from collapse_sim.families.imported import read_model

from .denoising import IMAGES, POINTS

FAMILY = DDPM(network={"widths": (8, 16)}, timesteps=40)


def pipeline(folder: Path, network: dict[str, Any] | None = None, scheduler: Any = None) -> Path:
    """One that fits FAMILY, but for these changes."""
    settings: dict[str, Any] = {
        "sample_size": 8, "in_channels": 1, "out_channels": 1, "block_out_channels": (8, 16), "layers_per_block": 1,
        "down_block_types": ("DownBlock2D",) * 2, "up_block_types": ("UpBlock2D",) * 2, "attention_head_dim": None,
        "norm_num_groups": 2,
    }  # fmt: skip
    torch.manual_seed(0)
    unet = UNet2DModel(**settings | (network or {}))
    DDPMPipeline(unet, scheduler or DDPMScheduler(40, beta_start=0.0025, beta_end=0.5)).save_pretrained(folder)
    return folder


def test_weights_are_the_pipelines(tmp_path: Path) -> None:
    place = pipeline(tmp_path / "p", {"dropout": 0.1})  # which matters in training only
    state = read_model(FAMILY, place, IMAGES)
    theirs = load_file(place / "unet" / "diffusion_pytorch_model.safetensors")
    assert {f"unet.{name}" for name in theirs} == state.keys()
    assert all(torch.equal(state[f"unet.{name}"], tensor) for name, tensor in theirs.items())


def test_older_weights(tmp_path: Path) -> None:
    place = pipeline(tmp_path / "p")
    expected = read_model(FAMILY, place, IMAGES)
    safe = place / "unet" / "diffusion_pytorch_model.safetensors"
    torch.save(load_file(safe), safe.with_suffix(".bin"))
    safe.unlink()
    state = read_model(FAMILY, place, IMAGES)
    assert all(torch.equal(state[name], tensor) for name, tensor in expected.items())


@pytest.mark.parametrize(
    ("network", "message"),
    [
        ({"block_out_channels": (8, 24)}, r"network: block_out_channels: \(8, 24\) there, \(8, 16\) here"),
        ({"layers_per_block": 2}, "network: layers_per_block: 2 there, 1 here"),
        ({"attention_head_dim": 8}, "network: attention_head_dim: 8 there, None here"),
        ({"sample_size": 16}, r"network: sample_size: \(16, 16\) there, \(8, 8\) here"),
        ({"freq_shift": 1}, "network: freq_shift: 1 there, 0 here"),  # with tensors of equal shapes
    ],
)
def test_another_network(network: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        read_model(FAMILY, pipeline(tmp_path / "p", network), IMAGES)


@pytest.mark.parametrize(
    ("scheduler", "message"),
    [
        (DDPMScheduler(50), "timesteps: 50 there, 40 here"),
        (
            DDPMScheduler(40),
            "schedule: linear, betas 0.0001 to 0.02 there, linear, betas 0.0025 to 0.5 here",
        ),
        (
            DDPMScheduler(40, beta_schedule="squaredcos_cap_v2"),
            "schedule: squaredcos_cap_v2, betas .* there, linear, betas 0.0025 to 0.5 here",
        ),
        (
            DDPMScheduler(40, beta_start=0.0025, beta_end=0.5, prediction_type="v_prediction"),
            "target: its network predicts v_prediction there, epsilon here",
        ),
    ],
)
def test_another_schedule(scheduler: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        read_model(FAMILY, pipeline(tmp_path / "p", scheduler=scheduler), IMAGES)


def test_schedules_that_fit(tmp_path: Path) -> None:
    """Whatever sampler the pipeline has: the recipe sets its own."""
    for number, (scheduler, family) in enumerate(
        [
            (DDPMScheduler(40, beta_start=0.0025, beta_end=0.5, variance_type="fixed_large"), FAMILY),
            (
                DDPMScheduler(40, beta_schedule="squaredcos_cap_v2", prediction_type="v_prediction"),
                FAMILY.model_copy(update={"schedule": "cosine", "target": "v"}),
            ),
            (
                DDPMScheduler(
                    40,
                    beta_start=0.0025,
                    beta_end=0.5,
                    prediction_type="v_prediction",
                    rescale_betas_zero_snr=True,
                ),
                FAMILY.model_copy(update={"zero_terminal_snr": True, "target": "v"}),
            ),
        ]
    ):
        read_model(family, pipeline(tmp_path / str(number), scheduler=scheduler), IMAGES)


def test_every_difference_in_one_message(tmp_path: Path) -> None:
    place = pipeline(tmp_path / "p", {"layers_per_block": 2, "norm_eps": 1e-6}, DDPMScheduler(50))
    with pytest.raises(ValueError, match="there") as error:
        read_model(FAMILY, place, IMAGES)
    differences = [line for line in str(error.value).splitlines() if " there, " in line]
    assert len(differences) == 3


def test_what_is_no_pipeline(tmp_path: Path) -> None:
    place = pipeline(tmp_path / "p")
    with pytest.raises(ValueError, match="pipelines are of images, and the data is of points"):
        read_model(DDPM(timesteps=40), place, POINTS)
    (tmp_path / "empty").mkdir()
    with pytest.raises(MissingError, match=r"model_index\.json: no such file; needed: a folder that a pipeline's"):
        read_model(FAMILY, tmp_path / "empty", IMAGES)
    shutil.copytree(place, tmp_path / "other")
    index = json.loads((place / "model_index.json").read_text())
    (tmp_path / "other" / "model_index.json").write_text(
        json.dumps(index | {"unet": ["diffusers", "UNet2DConditionModel"]})
    )
    with pytest.raises(ValueError, match="its `unet` is UNet2DConditionModel; needed: a pipeline with a UNet2DModel"):
        read_model(FAMILY, tmp_path / "other", IMAGES)
    (place / "scheduler" / "scheduler_config.json").write_text("[")
    with pytest.raises(MissingError, match=r"scheduler_config\.json: not valid JSON"):
        read_model(FAMILY, place, IMAGES)


ELSEWHERE = {  # as pipelines of Ho et al. (2020) are published, but smaller
    "block_out_channels": (8, 16, 16), "layers_per_block": 2, "norm_eps": 1e-6, "norm_num_groups": 4, "freq_shift": 1,
    "flip_sin_to_cos": False, "downsample_padding": 0,
    "down_block_types": ("DownBlock2D", "AttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "AttnUpBlock2D", "UpBlock2D"),
}  # fmt: skip


@pytest.mark.parametrize(
    "network",
    [
        ELSEWHERE,
        {"attention_head_dim": 4, "act_fn": "mish", "resnet_time_scale_shift": "scale_shift"},
        {"down_block_types": ("ResnetDownsampleBlock2D", "DownBlock2D"), "downsample_type": "resnet"},
    ],
)
def test_the_advice_gives_the_network(network: dict[str, Any], tmp_path: Path) -> None:
    """With it, the pipeline is read, and its network computes what diffusers' does."""
    place = pipeline(tmp_path / "p", network)
    with pytest.raises(ValueError, match="to take its architecture") as error:
        read_model(FAMILY, place, IMAGES)
    advice = str(error.value).splitlines()[-1].partition("set the model's network: ")[2]
    family = DDPM(network=yaml.safe_load(advice), timesteps=40)
    assert DDPM(**family.model_dump()).describe() == family.describe()
    model = family.build(IMAGES).eval()
    model.load_state_dict(read_model(family, place, IMAGES))
    theirs = UNet2DModel.from_pretrained(place / "unet").eval()
    x, t = torch.randn(3, 1, 8, 8, generator=torch.Generator().manual_seed(1)), torch.tensor([0, 7, 39])
    with torch.no_grad():
        torch.testing.assert_close(model(x, t)[0], theirs(x, t).sample)


def test_a_network_that_cannot_be_built(tmp_path: Path) -> None:
    place = pipeline(tmp_path / "p", {"center_input_sample": True})
    with pytest.raises(ValueError, match="network: a UNet with center_input_sample as there cannot be built here"):
        read_model(FAMILY, place, IMAGES)


def test_networks_without_unet_settings_keep_their_keys() -> None:
    assert "unet" not in FAMILY.describe()["network"]
    changed = DDPM(network={"unet": {"norm_eps": 1e-6}}).describe()["network"]
    assert changed["unet"] == {"norm_eps": 1e-6}


def test_a_level_without_a_block() -> None:
    family = DDPM(network={"widths": (8, 16), "unet": {"down_block_types": ["DownBlock2D"]}})
    with pytest.raises(
        ValueError, match=r"network\.unet\.down_block_types: found 1; needed: one for each of the 2 widths"
    ):
        family.check(IMAGES)


def test_points_have_no_unet() -> None:
    with pytest.raises(ValueError, match="network: unet: for images only"):
        DDPM(network={"widths": (16, 16), "unet": {"norm_eps": 1e-6}}).check(POINTS)
