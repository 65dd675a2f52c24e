"""Conditional flow matching with straight paths: the network is the velocity of an ordinary differential equation."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from collapse_sim.core.randomness import Draws
from collapse_sim.families.base import Inputs, Rows
from collapse_sim.families.denoiser import Denoising, per_row, rows_to_x, steps_of_frames

TIME = 1000.0  # the network gets times from 0 to 1 multiplied by this
DEFAULT_STEPS, DEFAULT_TOLERANCE = 50, 1e-4


class FlowMatching(Denoising):
    """Flow matching (Lipman et al. 2023; Tong et al. 2024). Losses are means over a row's values, summed over rows."""

    coupling: Literal["independent", "optimal_transport"] = "independent"
    """How noise and rows are paired within a batch."""
    sigma_min: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0
    """Standard deviation of the noise that is left around a row at time 1."""
    solver: Literal["euler", "midpoint", "dopri5"] = "midpoint"
    """Solver with fixed steps (euler, midpoint), or torchdiffeq's adaptive one (dopri5)."""
    sampling_steps: Annotated[int, Field(gt=0)] | None = None
    """Steps of euler (one network call each) or midpoint (two). Default: 50."""
    tolerance: Annotated[float, Field(gt=0.0)] | None = None
    """dopri5: relative and absolute tolerance. Default: 1e-4."""

    from_latents: ClassVar[bool] = True
    sampling: ClassVar[tuple[str, ...]] = (*Denoising.sampling, "solver", "sampling_steps", "tolerance")

    @property
    def stacks_sampling(self) -> bool:
        return self.solver != "dopri5"  # whose steps depend on values

    @model_validator(mode="after")
    def _check_solver_settings(self) -> FlowMatching:
        if self.solver == "dopri5" and self.sampling_steps is not None:
            raise ValueError(
                "sampling_steps: solver: dopri5 chooses its own steps; remove it, or use euler or midpoint"
            )
        if self.solver != "dopri5" and self.tolerance is not None:
            raise ValueError(f"tolerance: is for solver: dopri5, found {self.solver}; remove it, or set sampling_steps")
        return self

    def corrupt(self, rows: Rows, draws: Draws) -> Inputs:
        """x_t = (1 - (1 - sigma_min) t) noise + t x, velocity: x - (1 - sigma_min) noise (Lipman et al., eq. 22)."""
        x = rows_to_x(rows, self.scale)
        t = draws.uniform(len(x))
        noise = draws.normal(*x.shape)
        x = self._flipped(x, draws)
        if self.coupling == "optimal_transport":
            noise = noise[transported(noise, x)]
        noise_removed = 1 - self.sigma_min
        time = per_row(t, x)
        x_t = (1 - noise_removed * time) * noise + time * x
        target = x - noise_removed * noise
        return Inputs({"x": x_t, "t": TIME * t, "target": target, **self._labels(rows, draws)}, count=len(x))

    def _noised(self, x: Tensor, noise: Tensor, time: float) -> tuple[Tensor, Tensor]:
        towards = 1 - time  # a flow's time is 0 at the noise
        x_t = (1 - (1 - self.sigma_min) * towards) * noise + towards * x
        return x_t, x.new_full((len(x),), TIME * towards)

    def _integrate(self, model: nn.Module, noise: Tensor, draws: Draws, frames: int) -> list[Tensor]:
        def velocity(t: float | Tensor, x: Tensor) -> Tensor:
            times = x.new_full((len(x),), TIME * t) if isinstance(t, float) else (TIME * t).float().expand(len(x))
            output: Tensor = model(x, times)[0]
            return output.float()

        if self.solver == "dopri5":
            from torchdiffeq import odeint

            tolerance = self.tolerance or DEFAULT_TOLERANCE
            times = torch.linspace(0, 1, max(frames, 2), device=noise.device)
            solution: Tensor = odeint(velocity, noise, times, rtol=tolerance, atol=tolerance, method="dopri5")
            return list(solution[-frames:])
        steps = self.sampling_steps or DEFAULT_STEPS
        frame_steps = steps_of_frames(frames, steps)
        x, length = noise, 1 / steps
        states = {0: x}
        for step in range(steps):
            slope = velocity(step / steps, x)
            if self.solver == "midpoint":
                slope = velocity((step + 0.5) / steps, x + 0.5 * length * slope)
            x = x + length * slope
            if step + 1 in frame_steps:
                states[step + 1] = x
        return [states[step] for step in frame_steps]


def transported(noise: Tensor, x: Tensor) -> Tensor:
    """The permutation i (n,) of the noise that minimises the sum of squared distances from noise[i] to x.

    Exact optimal transport of a batch (Tong et al. 2024, section 4.2); between equally many points it is one to one.
    """
    import ot

    cost = torch.cdist(x.flatten(1).double(), noise.flatten(1).double()).square().cpu().numpy()
    plan = ot.emd([], [], cost)
    return torch.from_numpy(plan.argmax(1)).to(x.device)
