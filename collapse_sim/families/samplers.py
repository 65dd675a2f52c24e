"""The samplers of diffusion models: what one step does to a noisy row, given the network's output.

Schedules and times are diffusers'. The steps are its arithmetic, with coefficients that are computed once instead of at
every step: a step is a few operations on the device, with the host's numbers, and never waits for the device.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import cache
from typing import Any, Literal

import torch
from torch import Tensor

from collapse_sim.core.randomness import Draws

Schedule = Literal["linear", "cosine"]
SamplerName = Literal["ddpm", "ddim", "dpm-solver++"]
Target = Literal["epsilon", "v"]


def scheduler(
    timesteps: int,
    schedule: Schedule,
    zero_terminal_snr: bool,
    sampler: SamplerName = "ddpm",
    target: Target = "epsilon",
    clip: bool = True,
) -> Any:
    """diffusers' scheduler; its steps are equally spaced, from the last timestep down (Lin et al. 2024).

    With `clip`, rows are clipped to [-1, 1] at every step.
    """
    from diffusers import DDIMScheduler, DDPMScheduler, DPMSolverMultistepScheduler

    options: dict[str, Any] = {
        "num_train_timesteps": timesteps,
        "beta_start": 1e-4 * 1000 / timesteps,
        "beta_end": 0.02 * 1000 / timesteps,
        "beta_schedule": "linear" if schedule == "linear" else "squaredcos_cap_v2",
        "rescale_betas_zero_snr": zero_terminal_snr,
        "prediction_type": "epsilon" if target == "epsilon" else "v_prediction",
        "timestep_spacing": "trailing",
    }
    if sampler == "dpm-solver++":  # thresholding with a largest value of 1 is clipping
        return DPMSolverMultistepScheduler(
            algorithm_type="dpmsolver++",
            solver_order=2,
            solver_type="midpoint",
            final_sigmas_type="zero",
            thresholding=clip,
            sample_max_value=1.0,
            **options,
        )
    return (DDPMScheduler if sampler == "ddpm" else DDIMScheduler)(clip_sample=clip, **options)


class DiffusionSampler(ABC):
    """Steps from noise to rows: one for each of `times`, in their order."""

    def __init__(self, times: list[int], alphas: Tensor, sigmas: Tensor, target: Target, clip: bool) -> None:
        """`alphas` and `sigmas`: the factors of the row and of the noise in x_t at each time.

        `clip`: rows are clipped to [-1, 1] at every step.
        """
        self.times, self._target, self._clip = times, target, clip
        self._alphas, self._sigmas = _floats(alphas), _floats(sigmas)

    def step(self, i: int, x: Tensor, output: Tensor, before: Tensor | None, draws: Draws) -> tuple[Tensor, Tensor]:
        """x (n, ...) at times[i], the network's output for it, and the implied row of the step before (None at the
        first) -> x at times[i + 1] or, at the last step, the generated row; and the row that the output implies."""
        clean = self._implied(i, x, output)
        return self._next(i, x, output, clean, before, draws), clean

    @abstractmethod
    def _next(
        self, i: int, x: Tensor, output: Tensor, clean: Tensor, before: Tensor | None, draws: Draws
    ) -> Tensor: ...

    def _implied(self, i: int, x: Tensor, output: Tensor) -> Tensor:
        """The row that the network's output implies (Ho et al. 2020, equation 15)."""
        alpha, sigma = self._alphas[i], self._sigmas[i]
        clean = (x - sigma * output) / alpha if self._target == "epsilon" else alpha * x - sigma * output
        return clean.clamp(-1, 1) if self._clip else clean


class Ancestral(DiffusionSampler):
    """Ho et al. (2020), equation 7, with the smaller of the two variances."""

    def __init__(self, kept: Tensor, steps: int, target: Target, clip: bool) -> None:
        """`kept`: the share of a row's variance that is left at every time, (timesteps,) float32."""
        times, a, b = _now_and_next(kept, steps)
        super().__init__(times, a**0.5, (1 - a) ** 0.5, target, clip)
        beta = 1 - a / b
        self._of_clean = _floats(b**0.5 * beta / (1 - a))
        self._of_x = _floats((a / b) ** 0.5 * (1 - b) / (1 - a))
        self._of_noise = _floats(((1 - b) / (1 - a) * beta).clamp(min=1e-20) ** 0.5)

    def _next(self, i: int, x: Tensor, output: Tensor, clean: Tensor, before: Tensor | None, draws: Draws) -> Tensor:
        mean = self._of_clean[i] * clean + self._of_x[i] * x
        return mean + self._of_noise[i] * draws.normal(*x.shape) if self.times[i] else mean


class Implicit(DiffusionSampler):
    """DDIM: Song et al. (2021), equations 12 and 16."""

    def __init__(self, kept: Tensor, steps: int, target: Target, clip: bool, eta: float) -> None:
        """`kept`: as Ancestral's."""
        times, a, b = _now_and_next(kept, steps)
        super().__init__(times, a**0.5, (1 - a) ** 0.5, target, clip)
        deviation = eta * ((1 - b) / (1 - a) * (1 - a / b)) ** 0.5
        self._of_clean = _floats(b**0.5)
        self._of_direction = _floats((1 - b - deviation**2) ** 0.5)
        self._of_noise = _floats(deviation) if eta else None

    def _next(self, i: int, x: Tensor, output: Tensor, clean: Tensor, before: Tensor | None, draws: Draws) -> Tensor:
        noise = output if self._target == "epsilon" else self._alphas[i] * output + self._sigmas[i] * x
        mean = self._of_clean[i] * clean + self._of_direction[i] * noise
        return mean if self._of_noise is None else mean + self._of_noise[i] * draws.normal(*x.shape)


class Multistep(DiffusionSampler):
    """DPM-Solver++(2M): Lu et al. (2022), algorithm 2. Deterministic; its first and last steps are of first order."""

    def __init__(self, kept: Tensor, steps: int, target: Target, clip: bool) -> None:
        """`kept`: as Ancestral's, and above 0."""
        times, a, b = _now_and_next(kept.double(), steps)
        alpha, sigma, next_sigma = a**0.5, (1 - a) ** 0.5, (1 - b) ** 0.5
        super().__init__(times, alpha, sigma, target, clip)
        lengths = (alpha / sigma).log().diff()  # of all steps but the last, which is infinite
        self._of_x = _floats(next_sigma / sigma)
        self._of_clean = [*_floats(alpha[1:] * -torch.expm1(-lengths)), 1.0]
        self._of_change = [0.0, *_floats(lengths[1:] / lengths[:-1] / 2), 0.0]

    def _next(self, i: int, x: Tensor, output: Tensor, clean: Tensor, before: Tensor | None, draws: Draws) -> Tensor:
        change = self._of_change[i]
        ahead = clean + change * (clean - before) if before is not None and change else clean
        return self._of_x[i] * x + self._of_clean[i] * ahead


@cache
def sampler(
    name: SamplerName,
    timesteps: int,
    schedule: Schedule,
    zero_terminal_snr: bool,
    *,
    steps: int,
    target: Target,
    clip: bool,
    eta: float = 0.0,
) -> DiffusionSampler:
    """A sampler of `steps` steps, a divisor of `timesteps`."""
    kept = scheduler(timesteps, schedule, zero_terminal_snr, name).alphas_cumprod
    if name == "dpm-solver++":
        return Multistep(kept, steps, target, clip)
    return Ancestral(kept, steps, target, clip) if name == "ddpm" else Implicit(kept, steps, target, clip, eta)


def _now_and_next(kept: Tensor, steps: int) -> tuple[list[int], Tensor, Tensor]:
    """Equally spaced times from the last one down, `kept` at each of them, and at the next one, with 1 at the end."""
    times = list(range(len(kept) - 1, -1, -(len(kept) // steps)))
    return times, kept[times], torch.cat([kept[times[1:]], kept.new_ones(1)])


def _floats(tensor: Tensor) -> list[float]:
    numbers: list[float] = tensor.tolist()
    return numbers
