"""EDM: a preconditioned denoiser of rows with noise of any standard deviation, and Heun's method."""

from __future__ import annotations

import math
from itertools import pairwise
from pathlib import Path
from typing import Annotated, ClassVar, Literal, NamedTuple

from pydantic import Field, model_validator
from torch import Tensor, nn

from collapse_sim.core.randomness import Draws
from collapse_sim.data.base import Info
from collapse_sim.families.base import Inputs, ModelFamily, Rows
from collapse_sim.families.denoiser import Denoising, per_row, rows_to_x, steps_of_frames
from collapse_sim.families.network import Denoiser
from collapse_sim.families.unet import UNet

Positive = Annotated[float, Field(gt=0.0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0.0, allow_inf_nan=False)]
SIGMA_MIN, SIGMA_MAX, RHO = 0.002, 80.0, 7.0  # table 1
MOST_CHURN = math.sqrt(2) - 1  # the most that algorithm 2 raises the noise by, as a share of it


class Preconditioning(NamedTuple):
    """D(x; sigma) = skip x + output F(input x; noise), with F the network (equation 7; c_skip, ... in table 1)."""

    skip: Tensor
    output: Tensor
    input: Tensor
    noise: Tensor


class EDM(Denoising):
    """Diffusion with the design of Karras et al. 2022 (arXiv 2206.00364). Losses are means over a row's values, summed
    over rows.

    A denoiser D(x; sigma) estimates the row y in x = y + n, with noise n of standard deviation sigma. The loss is
    lambda(sigma) |D - y|^2 with lambda = 1 / c_out^2, and the term `output` is lambda |D - D_teacher|^2. They are
    computed as the same of the network F: |F - (y - c_skip x) / c_out|^2 (equation 8), and |F - F_teacher|^2.
    """

    sigma_data: Positive | None = None
    """Standard deviation of the data, in the network's units. Default: 0.5 for images (the paper's), 1 for points."""
    p_mean: Annotated[float, Field(allow_inf_nan=False)] = -1.2
    """Training: mean of ln sigma, which is normal."""
    p_std: Positive = 1.2
    """Training: standard deviation of ln sigma."""
    solver: Literal["heun", "euler"] = "heun"
    """heun: second order, two network calls per step, the last step one; euler: first order, one call per step."""
    sampling_steps: Annotated[int, Field(gt=0)] = 18
    """Sampling steps, N. The paper's: 18 for CIFAR-10, 40 for FFHQ at 64x64."""
    sigma_min: Positive = SIGMA_MIN
    """Sampling: the last noise level above 0."""
    sigma_max: Positive = SIGMA_MAX
    """Sampling: the first noise level."""
    rho: Positive = RHO
    """Sampling: noise levels are equally spaced in sigma^(1/rho)."""
    s_churn: NotNegative = 0.0
    """Sampling: how much noise is added before each step, in all N steps; 0: none, deterministic."""
    s_tmin: NotNegative = 0.0
    """s_churn: noise is added at noise levels from here on."""
    s_tmax: NotNegative | None = None
    """s_churn: noise is added at noise levels up to here. Default: no limit."""
    s_noise: Positive = 1.0
    """s_churn: factor of the added noise; the paper's are 1 to 1.007."""

    sampling: ClassVar[tuple[str, ...]] = (
        *Denoising.sampling,
        "solver",
        "sampling_steps",
        "sigma_min",
        "sigma_max",
        "rho",
        "s_churn",
        "s_tmin",
        "s_tmax",
        "s_noise",
    )

    @model_validator(mode="after")
    def _fits_together(self) -> EDM:
        if self.sigma_min >= self.sigma_max:
            raise ValueError(
                f"sigma_max: must be above sigma_min: {self.sigma_min:g}, found {self.sigma_max:g}; samples begin at "
                "sigma_max"
            )
        if not self.s_churn:
            fields = type(self).model_fields
            idle = [name for name in ("s_tmin", "s_tmax", "s_noise") if getattr(self, name) != fields[name].default]
            if idle:
                raise ValueError(f"{idle[0]}: changes nothing without added noise; remove it, or set s_churn above 0")
        elif not any(map(self._churns, self._levels()[:-1])):
            limit = math.inf if self.s_tmax is None else self.s_tmax
            raise ValueError(
                f"s_churn: no noise level is between s_tmin and s_tmax, found {self.s_tmin:g} and {limit:g}, so that "
                f"no noise would be added; the levels are from {self.sigma_max:g} down to {self.sigma_min:g}"
            )
        return self

    @property
    def loss_unit(self) -> str:
        return "weighted squared error per value"

    def corrupt(self, rows: Rows, draws: Draws) -> Inputs:
        """What the network reads of a row y with noise n, c_in (y + n) and c_noise, for a sigma drawn for each row; and
        its target (y - c_skip (y + n)) / c_out, which is c_in (sigma / sigma_data y - sigma_data / sigma n)."""
        x = rows_to_x(rows, self.scale)
        sigma = per_row((self.p_mean + self.p_std * draws.normal(len(x))).exp(), x)
        noise = draws.normal(*x.shape)
        x = self._flipped(x, draws)
        spread = self._data_std(x.dim() == 4)
        factors = preconditioning(sigma, spread)
        target = factors.input * (sigma / spread * x - spread * noise)  # without cancellation at small sigma
        read = {"x": factors.input * (x + sigma * noise), "t": factors.noise.flatten()}
        return Inputs({**read, "target": target, **self._labels(rows, draws)}, count=len(x))

    def export(self, model: nn.Module, info: Info, folder: Path) -> list[Path]:
        """Images: write `folder`/diffusers, with `unet` for UNet2DModel.from_pretrained, and `scheduler` for
        EDMEulerScheduler.from_pretrained, whose steps are those of `solver: euler`. Returns its files.

        diffusers has no pipeline for images alone that scales the network's inputs. Points: [].
        """
        if not isinstance(model, UNet):
            return []
        from diffusers import EDMEulerScheduler

        target = folder / "diffusers"
        scheduler = EDMEulerScheduler(
            sigma_min=self.sigma_min, sigma_max=self.sigma_max, sigma_data=self._data_std(images=True), rho=self.rho
        )
        model.unet.save_pretrained(target / "unet", safe_serialization=True)
        scheduler.save_pretrained(target / "scheduler")
        return sorted(path for path in target.rglob("*") if path.is_file())

    @property
    def from_latents(self) -> bool:
        """Only without noise between the steps."""
        return self.s_churn == 0

    @property
    def tempers(self) -> bool:
        """Only with noise between the steps. Without it a scaled score moves samples by a power of sigma_max, and the
        initial noise is what can be scaled (`from_latents`)."""
        return self.s_churn > 0

    def tempered(self, model: nn.Module, temperature: float) -> tuple[ModelFamily, nn.Module]:
        """The score times 1 / temperature^2, at every step."""
        assert isinstance(model, Denoiser)
        return self, TemperedDenoiser(model, temperature**-2, self._data_std(len(model.shape) == 3))

    def _data_std(self, images: bool) -> float:
        return self.sigma_data or (0.5 if images else 1.0)

    def _noised(self, x: Tensor, noise: Tensor, time: float) -> tuple[Tensor, Tensor]:
        """At the paper's noise levels, whatever the sampler's are, on which no fit depends."""
        sigma = per_row(x.new_full((len(x),), noise_level(1 - time, SIGMA_MIN, SIGMA_MAX, RHO)), x)
        factors = preconditioning(sigma, self._data_std(x.dim() == 4))
        return factors.input * (x + sigma * noise), factors.noise.flatten()

    def _levels(self) -> list[float]:
        """The noise levels between the steps, N + 1 of them (equation 5); the last one is 0."""
        last = max(1, self.sampling_steps - 1)
        levels = (noise_level(i / last, self.sigma_min, self.sigma_max, self.rho) for i in range(self.sampling_steps))
        return [*levels, 0.0]

    def _churns(self, sigma: float) -> bool:
        return self.s_tmin <= sigma <= (math.inf if self.s_tmax is None else self.s_tmax)

    def _integrate(self, model: nn.Module, noise: Tensor, draws: Draws, frames: int) -> list[Tensor]:
        """Algorithm 2. States are scaled to the data's variance, by sigma_data c_in, which is 1 at the last one."""
        levels, spread = self._levels(), self._data_std(noise.dim() == 4)
        added = min(self.s_churn / self.sampling_steps, MOST_CHURN)
        frame_steps = steps_of_frames(frames, self.sampling_steps)
        x = levels[0] * noise
        states = {0: x * (spread / math.hypot(levels[0], spread))}
        for step, (sigma, following) in enumerate(pairwise(levels), start=1):
            if added and self._churns(sigma):
                raised = (1 + added) * sigma
                x = x + math.sqrt(raised**2 - sigma**2) * self.s_noise * draws.normal(*x.shape)
                sigma = raised
            slope = (x - denoised(model, x, sigma, spread)) / sigma
            ahead = x + (following - sigma) * slope
            if self.solver == "heun" and following:
                slope_there = (ahead - denoised(model, ahead, following, spread)) / following
                ahead = x + (following - sigma) * (slope + slope_there) / 2
            x = ahead
            if step in frame_steps:
                states[step] = x * (spread / math.hypot(following, spread))
        return [states[step] for step in frame_steps]


class TemperedDenoiser(Denoiser):
    """A network F whose score is multiplied by a number f. The score at x is (D - x) / sigma^2, so that the network of
    the denoiser x + f (D - x) is f F + (1 - f) (sigma / sigma_data) c_in x."""

    def __init__(self, model: Denoiser, factor: float, sigma_data: float) -> None:
        super().__init__(model.shape, model.classes)
        self.model, self.factor, self.sigma_data = model, factor, sigma_data

    def forward(self, x: Tensor, t: Tensor, label: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """x: c_in times the noisy rows; t: c_noise, a quarter of ln sigma."""
        output, encoder = self.model(x, t, label)
        sigma = per_row((4 * t).exp(), x)
        return self.factor * output.to(x.dtype) + (1 - self.factor) * sigma / self.sigma_data * x, encoder


def preconditioning(sigma: Tensor, sigma_data: float) -> Preconditioning:
    """The factors at noise levels sigma, of its shape, for data of standard deviation `sigma_data`."""
    total = sigma**2 + sigma_data**2
    return Preconditioning(sigma_data**2 / total, sigma * sigma_data / total.sqrt(), 1 / total.sqrt(), sigma.log() / 4)


def denoised(model: nn.Module, x: Tensor, sigma: float, sigma_data: float) -> Tensor:
    """D(x; sigma), the denoised rows (n, ...), with `model` as the network F."""
    factors = preconditioning(per_row(x.new_full((len(x),), sigma), x), sigma_data)
    output: Tensor = model(factors.input * x, factors.noise.flatten())[0]
    return factors.skip * x + factors.output * output.to(x.dtype)


def noise_level(fraction: float, sigma_min: float, sigma_max: float, rho: float) -> float:
    """From sigma_max at 0 to sigma_min at 1, linear in sigma^(1/rho) (equation 5)."""
    first, last = sigma_max ** (1 / rho), sigma_min ** (1 / rho)
    return float((first + fraction * (last - first)) ** rho)
