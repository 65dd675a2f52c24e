"""Denoising diffusion, with the schedules and samplers of diffusers. The network predicts the noise or the velocity."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor, nn

from collapse_sim.core.randomness import Draws
from collapse_sim.data.base import Info
from collapse_sim.families.base import Inputs, ModelFamily, Rows
from collapse_sim.families.denoiser import Denoising, mean_square, per_row, rows_to_x, steps_of_frames
from collapse_sim.families.network import Denoiser
from collapse_sim.families.pipeline import pipeline_state
from collapse_sim.families.samplers import SamplerName, Schedule, Target, sampler, scheduler
from collapse_sim.families.unet import UNet

STEEPEST = 20  # timesteps at which the linear schedule would end at a beta of 1


class DDPM(Denoising):
    """Diffusion model (Ho et al. 2020). Losses are means over a row's values, summed over rows."""

    timesteps: Annotated[int, Field(gt=1)] = 1000
    """Number of diffusion timesteps, T."""
    schedule: Schedule = "linear"
    """Noise schedule. linear: betas 1e-4 to 0.02, times 1000 / T; cosine: Nichol & Dhariwal (2021)."""
    zero_terminal_snr: bool = False
    """Rescale the betas so that x_T is pure noise (Lin et al. 2024)."""
    target: Target = "epsilon"
    """What the network predicts. epsilon: the noise; v: the velocity of Salimans & Ho (2022)."""
    criterion: Literal["mse", "smooth_l1"] = "mse"
    """Loss between the network's output and the target."""
    sampler: SamplerName = "ddpm"
    """ddpm: ancestral sampling; ddim: Song et al. (2021); dpm-solver++: Lu et al. (2022), second order."""
    sampling_steps: Annotated[int, Field(gt=0)] | None = None
    """Sampling steps, a divisor of `timesteps`. Default: all timesteps."""
    eta: Annotated[float, Field(ge=0.0, le=1.0)] = 0.0
    """ddim: how much noise each step adds; 0 is deterministic."""

    sampling: ClassVar[tuple[str, ...]] = (*Denoising.sampling, "sampler", "sampling_steps", "eta")
    importable: ClassVar[str] = "a folder of a diffusers pipeline (unet/, scheduler/)"

    @model_validator(mode="after")
    def _fits_together(self) -> DDPM:
        if self.schedule == "linear" and self.timesteps <= STEEPEST:
            raise ValueError(
                f"timesteps: the linear schedule needs more than {STEEPEST}, found {self.timesteps}: its betas would "
                "reach 1; use more, or schedule: cosine"
            )
        if self.zero_terminal_snr and self.target == "epsilon":
            raise ValueError(
                "target: epsilon does not fit zero_terminal_snr: at the last step the network sees only noise, which "
                "carries no information on the image; use target: v"
            )
        steps = self.sampling_steps
        if steps is not None and self.timesteps % steps:
            divisors = [n for n in range(1, self.timesteps + 1) if self.timesteps % n == 0]
            below, above = [n for n in divisors if n < steps][-1:], [n for n in divisors if n > steps][:1]
            raise ValueError(
                f"sampling_steps: must divide timesteps: {self.timesteps}, so that steps are equally long; found "
                f"{steps}, nearest divisors: {' and '.join(map(str, below + above))}"
            )
        if self.eta and self.sampler != "ddim":
            raise ValueError(
                f"eta: is for sampler: ddim, found {self.eta:g} with {self.sampler}; remove it, or use ddim"
            )
        return self

    def check(self, info: Info) -> None:
        if info.kind == "points" and self.schedule == "cosine" and self.target == "epsilon":
            raise ValueError(
                "target: epsilon does not fit schedule: cosine on points: at its end almost nothing is left of a row, "
                "so a small error in the noise moves a point far away, and points are not clipped as images are; "
                "use target: v, or schedule: linear"
            )
        super().check(info)

    def corrupt(self, rows: Rows, draws: Draws) -> Inputs:
        """x_t = sqrt(a) x_0 + sqrt(1 - a) noise, with a the product of 1 - beta up to a time t drawn for each row."""
        x = rows_to_x(rows, self.scale)
        t = draws.integers(self.timesteps, len(x))
        noise = draws.normal(*x.shape)
        x = self._flipped(x, draws)
        signal, sigma = self._levels(t, x)
        target = noise if self.target == "epsilon" else signal * noise - sigma * x
        x_t = signal * x + sigma * noise
        return Inputs({"x": x_t, "t": t, "target": target, **self._labels(rows, draws)}, count=len(x))

    def _levels(self, t: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
        """The factors of row and noise at timesteps t (n,), for multiplication with rows."""
        alpha = per_row(alphas_cumprod(self.timesteps, self.schedule, self.zero_terminal_snr, like.device)[t], like)
        return alpha.sqrt(), (1 - alpha).sqrt()

    def _noised(self, x: Tensor, noise: Tensor, time: float) -> tuple[Tensor, Tensor]:
        t = torch.full((len(x),), round(time * (self.timesteps - 1)), device=x.device)
        signal, sigma = self._levels(t, x)
        return signal * x + sigma * noise, t

    def export(self, model: nn.Module, info: Info, folder: Path) -> list[Path]:
        """Images: write `folder`/pipeline, which diffusers' DDPMPipeline.from_pretrained loads. Returns its files.

        Its sampler is the ancestral one; pass num_inference_steps=`timesteps`. That pipeline takes no labels: a
        conditional model's `unet` (UNet2DModel) and `scheduler` (DDPMScheduler) are written into `folder`/diffusers.
        Points have no pipeline: [].
        """
        if not isinstance(model, UNet):
            return []
        from diffusers import DDPMPipeline

        ancestral = scheduler(self.timesteps, self.schedule, self.zero_terminal_snr, target=self.target)
        parts: dict[str, Any] = {"diffusers/unet": model.unet, "diffusers/scheduler": ancestral}
        if not self.conditional:
            parts = {"pipeline": DDPMPipeline(model.unet, ancestral)}
        for name, part in parts.items():
            part.save_pretrained(folder / name)
        return sorted(path for name in parts for path in (folder / name).rglob("*") if path.is_file())

    def import_model(self, path: Path, info: Info) -> Mapping[str, Tensor]:
        """The network of a pipeline of diffusers. Its sampler is not compared: it is set here."""
        with torch.device("meta"):
            model = self.build(info)
        if not isinstance(model, UNet):
            raise ValueError(f"{path}: pipelines are of images, and the data is of {info.kind}")
        kept = alphas_cumprod(self.timesteps, self.schedule, self.zero_terminal_snr, torch.device("cpu"))
        schedule = f"{self.schedule}{', zero terminal SNR' * self.zero_terminal_snr}"
        return pipeline_state(path, model, schedule, kept, self.target)

    @property
    def from_latents(self) -> bool:
        """Only without noise between the steps."""
        return self.sampler == "ddim" and self.eta == 0

    @property
    def tempers(self) -> bool:
        """Unless x_T is pure noise, which a scaled score does not leave as it is."""
        return not self.zero_terminal_snr

    def tempered(self, model: nn.Module, temperature: float) -> tuple[ModelFamily, nn.Module]:
        """The score times 1 / temperature^2, at every step: that of N(mu, b^2 S) is 1 / b^2 times that of N(mu, S)."""
        assert isinstance(model, Denoiser)
        velocity = self.target == "v"
        alphas = alphas_cumprod(self.timesteps, self.schedule, self.zero_terminal_snr, torch.device("cpu"))
        return self, ScaledScore(model, temperature**-2, alphas if velocity else None)

    @property
    def loss_unit(self) -> str:
        return super().loss_unit if self.criterion == "mse" else "smooth L1 error per value"

    def _criterion(self, output: Tensor, target: Tensor) -> Tensor:
        if self.criterion == "mse":
            return mean_square(output, target)
        return F.smooth_l1_loss(output, target, reduction="none").flatten(1).mean(1)

    def _integrate(self, model: nn.Module, noise: Tensor, draws: Draws, frames: int) -> list[Tensor]:
        x = noise
        steps = self.sampling_steps or self.timesteps
        chosen = sampler(
            self.sampler,
            self.timesteps,
            self.schedule,
            self.zero_terminal_snr,
            steps=steps,
            target=self.target,
            clip=x.dim() == 4,
            eta=self.eta,
        )
        frame_steps = steps_of_frames(frames, steps)
        states: dict[int, Tensor] = {0: x}
        clean: Tensor | None = None
        for i, t in enumerate(chosen.times):
            output, _ = model(x, torch.full((len(x),), t, device=x.device))
            x, clean = chosen.step(i, x, output.float(), clean, draws)
            if i + 1 in frame_steps:
                states[i + 1] = x
        return [states[step] for step in frame_steps]


class ScaledScore(Denoiser):
    """A network whose score is multiplied by a number. The score at x_t is -(predicted noise) / sqrt(1 - a)."""

    alphas: Tensor | None

    def __init__(self, model: Denoiser, factor: float, alphas: Tensor | None) -> None:
        """`alphas` (T,), the share of a row's variance that is left, for a network that predicts v; None: the noise."""
        super().__init__(model.shape, model.classes)
        self.model, self.factor = model, factor
        self.register_buffer("alphas", alphas)

    def forward(self, x: Tensor, t: Tensor, label: Tensor | None = None) -> tuple[Tensor, Tensor]:
        output, encoder = self.model(x, t, label)
        if self.alphas is None:
            return self.factor * output.float(), encoder
        alpha = per_row(self.alphas.to(x.device)[t], x)
        signal, sigma = alpha.sqrt(), (1 - alpha).sqrt()
        noise = self.factor * (signal * output.float() + sigma * x)
        # v = signal noise - sigma x_0, with x_0 = (x - sigma noise) / signal
        return (noise - sigma * x) / signal, encoder


@cache
def alphas_cumprod(timesteps: int, schedule: Schedule, zero_terminal_snr: bool, device: torch.device) -> Tensor:
    """The share of a row's variance that is left at every time: (timesteps,) float32."""
    alphas: Tensor = scheduler(timesteps, schedule, zero_terminal_snr).alphas_cumprod
    return alphas.to(device)
