"""The network that diffusion and flow models share: its sizes, what it refuses, its encoder's output."""

from __future__ import annotations

import copy
from collections import Counter

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from collapse_sim.data.base import Info
from collapse_sim.families.network import Network
from collapse_sim.families.unet import UNet, norm_groups

from .denoising import COLOUR, IMAGES, POINTS


def image_info(*shape: int) -> Info:
    return Info("images", {"image": (shape, "uint8")}, 1, 1, 1)


def parameters(network: Network, info: Info) -> int:
    network.check(info)
    with torch.device("meta"):
        return sum(p.numel() for p in network.build(info).parameters())


@pytest.mark.parametrize(
    ("preset", "shape", "least", "most"),
    [
        ("celeba", (3, 64, 64), 38e6, 40e6),  # the KD paper: 39 M
        ("cifar10", (3, 32, 32), 35.5e6, 36e6),  # Ho et al. (2020), appendix B: 35.7 M
        ("digits", (1, 8, 8), 0.3e6, 0.7e6),
        (None, (1, 16, 16), 0.3e6, 0.7e6),
        ("points", (2,), 5e4, 7e4),
    ],
)
def test_presets_have_the_published_sizes(preset, shape, least, most) -> None:
    info = image_info(*shape) if len(shape) == 3 else POINTS
    assert least <= parameters(Network(preset=preset), info) <= most


def test_blocks_hold_nearly_all_parameters_and_points_have_none() -> None:
    with torch.device("meta"):
        network = Network(preset="celeba").build(image_info(3, 64, 64))
        small = Network(preset="points").build(POINTS)
    in_blocks = [sum(p.numel() for p in block.parameters()) for block in network.blocks()]
    assert len(in_blocks) == 4 + 1 + 4
    assert sum(in_blocks) > 0.97 * sum(p.numel() for p in network.parameters())
    assert small.blocks() == []


@pytest.mark.parametrize(("preset", "side", "millions"), [("ddpm++-cifar10", 32, 59.0), ("ddpm++-ffhq", 64, 58.7)])
def test_ddpm_plus_plus_has_attention_at_16x16_and_in_the_middle(preset, side, millions) -> None:
    """After each of the four blocks on the way down and of the five on the way up, and between those in the middle."""
    with torch.device("meta"):
        unet = Network(preset=preset).build(image_info(3, side, side)).unet
    level = {32: 1, 64: 2}[side]
    places = Counter(name.split(".attentions")[0] for name, module in unet.named_modules() if hasattr(module, "to_q"))
    assert places == {
        f"down_blocks.{level}": 4,
        f"up_blocks.{len(unet.up_blocks) - 1 - level}": 5,
        "mid_block": 1,
    }
    widths = [block.resnets[-1].out_channels for block in unet.down_blocks]
    assert widths == [128 * m for m in ((2, 2, 2) if side == 32 else (1, 2, 2, 2))]
    assert sum(p.numel() for p in unet.parameters()) / 1e6 == pytest.approx(millions, abs=0.05)


def test_the_celeba_preset_has_attention_in_the_middle_only() -> None:
    with torch.device("meta"):
        unet = Network(preset="celeba").build(image_info(3, 64, 64)).unet
    attended = [name for name, module in unet.named_modules() if type(module).__name__ == "Attention"]
    assert attended == ["mid_block.attentions.0"]
    assert sum(type(module).__name__ == "ResnetBlock2D" for module in unet.modules()) == 4 + 2 + 8


@pytest.mark.parametrize(
    ("attention", "places"),
    [
        ("none", []),
        ("middle", ["mid_block.attentions.0"]),
        ((1,), ["down_blocks.1.attentions.0", "mid_block.attentions.0", "up_blocks.0.attentions.0"]),
    ],
)
def test_attention_is_where_it_is_asked_for(attention, places) -> None:
    with torch.device("meta"):
        model = Network(widths=(8, 16), layers=1, attention=attention).build(IMAGES)
    found = [name for name, module in model.unet.named_modules() if type(module).__name__ == "Attention"]
    assert sorted(name for name in found if not name.endswith("attentions.1")) == places


@pytest.mark.parametrize("info", [IMAGES, COLOUR, POINTS], ids=["grey", "colour", "points"])
def test_any_shape_and_the_encoders_output(info) -> None:
    """Copies of the model (EMA) give their own encoder's output."""
    network = Network(widths=(8, 16, 24) if info.kind == "points" else (8, 24), dropout=0.5)
    network.check(info)
    model = network.build(info).eval()
    twin = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.zero_()
    (shape, _), *_ = info.columns.values()
    x, t = torch.randn(3, *shape), torch.tensor([0.0, 10.5, 999.0])
    output, encoder = model(x, t)
    assert output.shape == x.shape
    assert encoder.shape == ((3, 16) if info.kind == "points" else (3, 24, shape[1] // 2, shape[2] // 2))
    assert twin(x, t)[1].abs().max() == 0 < encoder.abs().max()
    assert encoder.requires_grad


@pytest.mark.parametrize("attention", ["middle", "none", (0, 1)])
def test_the_unet_computes_what_diffusers_own_forward_does(attention) -> None:
    """Bit by bit, in training mode, too; and its encoder's output is what the last down block gives."""
    model = Network(widths=(8, 16), layers=2, attention=attention, dropout=0.3).build(COLOUR)
    (shape, _), *_ = COLOUR.columns.values()
    x, t = torch.randn(3, *shape), torch.tensor([0.0, 10.5, 999.0])
    given = []
    model.unet.down_blocks[-1].register_forward_hook(lambda block, arguments, result: given.append(result[0]))
    for mode in (True, False):
        model.train(mode)
        torch.manual_seed(0)
        expected = model.unet(x, t, return_dict=False)[0]
        torch.manual_seed(0)
        output, encoder = model(x, t)
        assert torch.equal(output, expected)
        assert torch.equal(encoder, given[-2])
        assert given[-1] is encoder


def test_every_time_is_told_apart() -> None:
    for info in (IMAGES, POINTS):
        model = Network().build(info).eval()
        (shape, _), *_ = info.columns.values()
        x = torch.randn(1, *shape).expand(4, *shape)
        output, _ = model(x, torch.tensor([0.0, 1.0, 500.0, 999.0]))
        distances = torch.pdist(output.flatten(1))
        assert distances.min() > 1e-3


def test_dropout_acts_in_training_only() -> None:
    for info in (IMAGES, POINTS):
        model = Network(dropout=0.5).build(info)
        (shape, _), *_ = info.columns.values()
        x, t = torch.randn(2, *shape), torch.zeros(2)
        assert not torch.equal(model.train()(x, t)[0], model(x, t)[0])
        assert torch.equal(model.eval()(x, t)[0], model(x, t)[0])


@pytest.mark.parametrize(
    ("widths", "groups"), [((128, 256), 32), ((32, 64), 8), ((24, 36), 3), ((192,), 32), ((4, 8), 1), ((20, 40), 5)]
)
def test_norm_groups_divide_all_widths(widths, groups) -> None:
    assert norm_groups(widths) == groups
    for width in widths:
        nn.GroupNorm(groups, width)  # raises where they don't


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((1, 9, 9), r"multiples of 2, found 9x9; use at most 1 widths, or data\.size: 8 or 10"),
        ((3, 12, 7), "found 12x7; use at most 1 widths"),
    ],
)
def test_levels_must_divide_the_size(shape, message) -> None:
    with pytest.raises(ValueError, match=message):
        Network(widths=(8, 16)).check(image_info(*shape))


def test_what_it_advises_works() -> None:
    with pytest.raises(ValueError, match=r"use at most 3 widths, or data\.size: 24 or 32"):
        Network(widths=(8,) * 4).check(image_info(1, 28, 28))
    for widths, side in (((8,) * 3, 28), ((8,) * 4, 24), ((8,) * 4, 32)):
        network = Network(widths=widths, layers=1)
        network.check(image_info(1, side, side))
        assert isinstance(network.build(image_info(1, side, side)), UNet)


@pytest.mark.parametrize("settings", [{"layers": 2}, {"attention": "middle"}, {"preset": "celeba"}])
def test_points_have_no_levels(settings) -> None:
    with pytest.raises(ValueError, match="for images only; points have an MLP"):
        Network(**settings).check(POINTS)


def test_images_have_no_preset_of_points() -> None:
    with pytest.raises(ValueError, match="for images: digits, cifar10, celeba"):
        Network(preset="points").check(IMAGES)


@pytest.mark.parametrize(
    "settings", [{"widths": (30,)}, {"widths": ()}, {"widths": (0,)}, {"attention": (2,)}, {"attention": ()}]
)
def test_bad_settings(settings) -> None:
    with pytest.raises(ValidationError):
        Network(**settings)


def test_labels_are_diffusers_own_class_labels() -> None:
    """The last embedding is that of rows without a label."""
    info = Info("images", {"image": ((1, 8, 8), "uint8"), "label": ((), "int64")}, 1, 1, 1, classes=5)
    model = Network(widths=(8, 16), layers=1).build(info, conditional=True).eval()
    assert model.unet.config.num_class_embeds == 6
    x, t, label = torch.randn(4, 1, 8, 8), torch.tensor([0, 5, 24, 3]), torch.tensor([0, 4, 2, -1])
    with torch.no_grad():
        expected = model.unet(x, t, class_labels=torch.tensor([0, 4, 2, 5]), return_dict=False)[0]
        assert torch.equal(model(x, t, label)[0], expected)
        assert not torch.allclose(model(x, t, label.flip(0))[0], expected, atol=1e-3)
    with pytest.raises(ValueError, match="a conditional network needs labels"):
        model(x, t)
