"""The UNet of diffusion and flow models on images: diffusers' UNet2DModel, with its encoder's output."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal

from torch import Tensor, nn

from collapse_sim.families.attention import use_in_diffusers
from collapse_sim.families.labels import embedding_rows
from collapse_sim.families.network import Denoiser


class UNet(Denoiser):
    """Residual blocks at every level, attention where it is set; every level after the first halves the image.

    With `classes`, an embedding of the label is added to that of the time (UNet2DModel's `num_class_embeds`); the last
    of its classes + 1 vectors is that of rows without a label.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        widths: tuple[int, ...],
        layers: int,
        attention: Literal["middle", "none"] | tuple[int, ...],
        dropout: float,
        classes: int = 0,
        own: Mapping[str, Any] | None = None,
    ) -> None:
        """`own`: settings of UNet2DModel (network.UNetSettings) in the place of those here."""
        from diffusers import UNet2DModel

        super().__init__(shape, classes)
        channels, height, width = shape
        levels = range(len(widths))
        attended = attention if isinstance(attention, tuple) else ()
        settings = {
            "down_block_types": tuple("AttnDownBlock2D" if i in attended else "DownBlock2D" for i in levels),
            "up_block_types": tuple("AttnUpBlock2D" if i in attended else "UpBlock2D" for i in reversed(levels)),
            "add_attention": attention != "none",
            "attention_head_dim": None,  # one head, as in Ho et al. (2020)
            "norm_num_groups": norm_groups(widths),
            **(own or {}),
        }
        self.unet = UNet2DModel(
            sample_size=(height, width),
            in_channels=channels,
            out_channels=channels,
            block_out_channels=widths,
            layers_per_block=layers,
            dropout=dropout,
            num_class_embeds=classes + 1 if classes else None,
            **settings,
        )
        use_in_diffusers(self.unet)

    def blocks(self) -> list[nn.Module]:
        return [*self.unet.down_blocks, self.unet.mid_block, *self.unet.up_blocks]

    def forward(self, x: Tensor, t: Tensor, label: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """UNet2DModel's own steps, as this configuration has them; the encoder's output is that of the last down block,
        which UNet2DModel does not return."""
        unet = self.unet
        time = unet.time_embedding(unet.time_proj(t).to(x.dtype))
        if self.classes:
            time = time + unet.class_embedding(embedding_rows(label, self.classes)).to(x.dtype)
        h = unet.conv_in(x)
        skipped: tuple[Tensor, ...] = (h,)
        for block in unet.down_blocks:
            h, outputs = block(hidden_states=h, temb=time)
            skipped += outputs
        encoded = h
        h = unet.mid_block(h, time)
        for block in unet.up_blocks:
            count = len(block.resnets)
            h = block(h, skipped[-count:], time)
            skipped = skipped[:-count]
        return unet.conv_out(unet.conv_act(unet.conv_norm_out(h))), encoded


def norm_groups(widths: tuple[int, ...]) -> int:
    """Groups of the normalisation: the largest number up to 32 that divides all widths, with at least four channels
    per group."""
    common = math.gcd(*widths)
    return max(groups for groups in range(1, 33) if common % groups == 0 and common // groups >= 4)
