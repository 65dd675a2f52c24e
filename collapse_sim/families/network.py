"""The network of the families that generate from noise: its settings, its sizes by name, and its interface."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SerializerFunctionWrapHandler, model_serializer, model_validator
from torch import Tensor, nn

from collapse_sim.data.base import Info

Width = Annotated[int, Field(ge=4, multiple_of=4)]
Level = Annotated[int, Field(ge=0)]
Preset = Literal["digits", "cifar10", "celeba", "ddpm++-cifar10", "ddpm++-ffhq", "points"]

# A change here changes results under equal settings: raise the families' versions with it.
PRESETS: dict[Preset, dict[str, Any]] = {
    # For images of 8x8 to 16x16; 0.65 M parameters.
    "digits": {"widths": (32, 64), "layers": 1, "attention": "middle"},
    # Ho et al. (2020) at 32x32: 35.7 M parameters, attention at 16x16 and in the middle.
    "cifar10": {"widths": (128, 256, 256, 256), "layers": 2, "attention": (1,)},
    # The size of the KD paper's network at 64x64: 39.7 M parameters.
    "celeba": {"widths": (64, 128, 256, 512), "layers": 1, "attention": "middle"},
    # Widths, blocks and attention of the DDPM++ networks of Karras et al. (2022): at 32x32 and 64x64, with attention at
    # 16x16 and in the middle; 59.0 M and 58.7 M parameters.
    "ddpm++-cifar10": {"widths": (256, 256, 256), "layers": 4, "attention": (1,)},
    "ddpm++-ffhq": {"widths": (128, 256, 256, 256), "layers": 4, "attention": (2,)},
    # For points: 0.06 M parameters.
    "points": {"widths": (128, 128, 128)},
}


class Denoiser(nn.Module):
    """A network on rows of one shape. It returns its output and its encoder's output.

    Call it as model(x, t) with x (n, *shape) and t (n,): times from 0 to about 1000, integers or not. A network of
    `classes` also gets the labels (n,) of the rows: model(x, t, label), with labels.NO_LABEL for any class.
    """

    def __init__(self, shape: tuple[int, ...], classes: int = 0) -> None:
        super().__init__()
        self.shape, self.classes = shape, classes

    def blocks(self) -> list[nn.Module]:
        """The large modules that it calls one after the other, if it is large."""
        return []

    def forward(self, x: Tensor, t: Tensor, label: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The network's output, of x's shape, and the output of its encoder, (n, ...)."""
        raise NotImplementedError


class UNetSettings(BaseModel):
    """Settings of diffusers' UNet2DModel, by its names for them, for a network that was made elsewhere. Those that are
    left out are as the rest of `network` has them."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    down_block_types: tuple[Literal["DownBlock2D", "AttnDownBlock2D", "ResnetDownsampleBlock2D"], ...] = ()
    """The blocks of each level on the way down."""
    up_block_types: tuple[Literal["UpBlock2D", "AttnUpBlock2D", "ResnetUpsampleBlock2D"], ...] = ()
    """The blocks of each level on the way up."""
    add_attention: bool = True
    """Attention in the middle."""
    attention_head_dim: Annotated[int, Field(gt=0)] | None = None
    """Channels of an attention head; null: one head."""
    attn_norm_num_groups: Annotated[int, Field(gt=0)] | None = None
    """Groups of the normalisation in the middle's attention."""
    norm_num_groups: Annotated[int, Field(gt=0)] = 32
    """Groups of the normalisation."""
    norm_eps: Annotated[float, Field(gt=0.0)] = 1e-5
    """Added to variances in the normalisation."""
    act_fn: Literal["silu", "swish", "mish", "gelu", "relu"] = "silu"
    """Activation function."""
    freq_shift: int = 0
    """Shift of the frequencies of times."""
    flip_sin_to_cos: bool = True
    """Cosines of times before sines."""
    downsample_padding: Annotated[int, Field(ge=0)] = 1
    """Padding of the layers that halve the image."""
    downsample_type: Literal["conv", "resnet"] = "conv"
    """Layers that halve the image."""
    upsample_type: Literal["conv", "resnet"] = "conv"
    """Layers that double the image."""
    mid_block_scale_factor: Annotated[float, Field(gt=0.0)] = 1.0
    """Divides the outputs of the middle's blocks."""
    resnet_time_scale_shift: Literal["default", "scale_shift"] = "default"
    """How times enter the residual blocks."""

    @model_serializer(mode="wrap")
    def _as_set(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Only what is set: the rest follows from other settings."""
        return {name: value for name, value in handler(self).items() if name in self.model_fields_set}


class Network(BaseModel):
    """Settings of the network: a UNet for images, a small MLP for points. Settings left out are the preset's."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    preset: Preset | None = None
    """Sizes by name. Default: digits for images, points for points."""
    widths: Annotated[tuple[Width, ...], Field(min_length=1)] | None = None
    """Channels of each level; MLP: widths of the hidden layers."""
    layers: Annotated[int, Field(gt=0, le=1000)] | None = None
    """Residual blocks per level; images only."""
    attention: Literal["middle", "none"] | tuple[Level, ...] | None = None
    """Where attention is: middle, none, or a list of levels (0: finest) in addition to the middle; images only."""
    dropout: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0
    """Share of units that are dropped in training."""
    unet: UNetSettings | None = None
    """Settings of a UNet2DModel that was made elsewhere, such as {norm_eps: 1e-6}; images only."""

    @model_serializer(mode="wrap")
    def _without_none(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Keys of networks without `unet` are those from before it was there."""
        return {name: value for name, value in handler(self).items() if name != "unet" or value is not None}

    @model_validator(mode="after")
    def _attention_has_a_level(self) -> Network:
        widths = self.widths or PRESETS[self.preset or "digits"]["widths"]
        if isinstance(self.attention, tuple):
            absent = [level for level in self.attention if level >= len(widths)]
            if absent or not self.attention:
                allowed = ", ".join(map(str, range(len(widths))))
                raise ValueError(
                    f"attention: found {list(self.attention)}; allowed: middle, none, or levels of {allowed}"
                )
        return self

    def check(self, info: Info) -> None:
        """Raises ValueError when the network cannot be used on these rows; the message says what to change."""
        settings = self._settings(info)
        if info.kind == "points":
            given = {*settings, *(["unet"] if self.unet is not None else [])}
            image_settings = [name for name in ("layers", "attention", "unet") if name in given]
            if image_settings:
                raise ValueError(
                    f"network: {' and '.join(image_settings)}: for images only; points have an MLP with one hidden "
                    "layer per width"
                )
            return
        if self.preset == "points":
            others = ", ".join(name for name in PRESETS if name != "points")
            raise ValueError(f"network.preset: points is for points; for images: {others}")
        for direction in ("down_block_types", "up_block_types"):
            blocks: tuple[str, ...] = getattr(self.unet, direction, ())
            if blocks and len(blocks) != len(settings["widths"]):
                raise ValueError(
                    f"network.unet.{direction}: found {len(blocks)}; needed: one for each of the "
                    f"{len(settings['widths'])} widths"
                )
        _, height, width = info.shape("image")
        halvings = len(settings["widths"]) - 1
        if height % 2**halvings or width % 2**halvings:
            shortest = math.gcd(height, width)
            levels = (shortest & -shortest).bit_length()  # at most: one more than the factors of two
            near = [size for size in _neighbours(height, 2**halvings) if size]
            raise ValueError(
                f"network.widths: {halvings + 1} levels halve the image {halvings} times, so its sides must be "
                f"multiples of {2**halvings}, found {height}x{width}; use at most {levels} widths, or data.size: "
                f"{' or '.join(map(str, near))}"
            )

    def build(self, info: Info, *, conditional: bool = False) -> Denoiser:
        """A new network for rows of the data; `conditional`: one that gets their labels."""
        settings, classes = self._settings(info), info.classes if conditional else 0
        if info.kind == "points":
            from collapse_sim.families.mlp import MLP

            return MLP(info.shape("x"), settings["widths"], self.dropout, classes)
        from collapse_sim.families.unet import UNet

        own = {} if self.unet is None else self.unet.model_dump()
        return UNet(info.shape("image"), **settings, dropout=self.dropout, classes=classes, own=own)

    def _settings(self, info: Info) -> dict[str, Any]:
        """The preset's settings, overridden by those that are set here."""
        preset = PRESETS[self.preset or ("points" if info.kind == "points" else "digits")]
        own = {name: getattr(self, name) for name in ("widths", "layers", "attention")}
        return {**preset, **{name: value for name, value in own.items() if value is not None}}


def _neighbours(size: int, step: int) -> tuple[int, ...]:
    """The multiples of `step` on either side of `size`."""
    return size // step * step, (size // step + 1) * step
