"""Diffusion of a molecule's conformations, given its graph (Xu et al. 2022, "GeoDiff", arXiv 2203.02923)."""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from collapse_sim.core.component import Component
from collapse_sim.core.randomness import Draws
from collapse_sim.data.base import Info
from collapse_sim.families.base import Conditions, Inputs, Rows
from collapse_sim.families.ddpm import STEEPEST, alphas_cumprod
from collapse_sim.families.denoiser import per_row
from collapse_sim.families.egnn import EGNN, centred
from collapse_sim.families.samplers import SamplerName, Schedule, Target, sampler

PIECE_VALUES = 2**24  # numbers in one layer's messages that an evaluation computes at a time
LEAST_SIGMA = 0.05  # the largest factor of the network's output in predictions is its inverse
COLUMNS = ("positions", "atoms", "bonds", "molecule")


class Conformer(Component):
    """Diffusion model of atoms' positions with an equivariant network, given the molecule's graph.

    As in GeoDiff, noise has its centre of mass at 0, so that densities do not depend on where a molecule is or how it
    is turned. The network is another one, an EGNN (Satorras et al. 2021), and the loss is not weighted: a mean over an
    atom's three coordinates and over the molecule's atoms, summed over rows. Mirror images are equally likely.
    """

    width: Annotated[int, Field(ge=4, le=4096)] = 64
    """Units of the network's layers."""
    layers: Annotated[int, Field(gt=0, le=100)] = 4
    """Layers of the network; in each, all atoms exchange messages."""
    scale: Annotated[float, Field(gt=0.0)] = 1.5
    """Positions are divided by this number of Å, so that the network sees about unit variance."""
    timesteps: Annotated[int, Field(gt=1)] = 1000
    """Number of diffusion timesteps, T."""
    schedule: Schedule = "cosine"
    """Noise schedule. linear: betas 1e-4 to 0.02, times 1000 / T; cosine: Nichol & Dhariwal (2021)."""
    target: Target = "v"
    """What the network predicts. epsilon: the noise; v: the velocity of Salimans & Ho (2022)."""
    sampler: SamplerName = "ddpm"
    """ddpm: ancestral sampling; ddim: Song et al. (2021); dpm-solver++: Lu et al. (2022), second order."""
    sampling_steps: Annotated[int, Field(gt=0)] | None = None
    """Sampling steps, a divisor of `timesteps`. Default: all timesteps."""

    kinds: ClassVar[tuple[str, ...]] = ("molecules",)
    columns: ClassVar[tuple[str, ...]] = COLUMNS
    conditions: ClassVar[tuple[str, ...]] = ("atoms", "bonds", "molecule")
    terms: ClassVar[tuple[str, ...]] = ("output",)
    sampling: ClassVar[tuple[str, ...]] = ("sampler", "sampling_steps")
    stacks: ClassVar[bool] = True
    loss_unit: ClassVar[str] = "squared error per coordinate"

    @model_validator(mode="after")
    def _fits_together(self) -> Conformer:
        if self.schedule == "linear" and self.timesteps <= STEEPEST:
            raise ValueError(
                f"timesteps: the linear schedule needs more than {STEEPEST}, found {self.timesteps}: its betas would "
                "reach 1; use more, or schedule: cosine"
            )
        if self.schedule == "cosine" and self.target == "epsilon":
            raise ValueError(
                "target: epsilon does not fit schedule: cosine: at its end almost nothing is left of a row, so a small "
                "error in the noise moves atoms far away; use target: v, or schedule: linear"
            )
        if self.sampling_steps is not None and self.timesteps % self.sampling_steps:
            raise ValueError(
                f"sampling_steps: must divide timesteps: {self.timesteps}, so that steps are equally long; found "
                f"{self.sampling_steps}"
            )
        return self

    def check(self, info: Info) -> None:
        """Raises ValueError for data without the columns of conformations."""
        lacking = [name for name in COLUMNS if name not in info.columns]
        if lacking:
            raise ValueError(f"the data has no column {lacking[0]}: use the data `conformers`")

    def build(self, info: Info) -> nn.Module:
        return EGNN(self.width, self.layers)

    def corrupt(self, rows: Rows, draws: Draws) -> Inputs:
        """x_t = sqrt(a) x_0 + sqrt(1 - a) noise, both with their centre of mass at 0, at a time drawn for each row."""
        atoms, bonds = rows["atoms"], rows["bonds"]
        x = centred(rows["positions"].float() / self.scale, atoms)
        t = draws.integers(self.timesteps, len(x))
        noise = centred(draws.normal(*x.shape), atoms)
        alpha = per_row(alphas_cumprod(self.timesteps, self.schedule, False, x.device)[t], x)
        signal, sigma = alpha.sqrt(), (1 - alpha).sqrt()
        target = noise if self.target == "epsilon" else signal * noise - sigma * x
        noisy = signal * x + sigma * noise
        levels = {"signal": signal, "sigma": sigma}
        return Inputs({"x": noisy, "t": t, "target": target, "atoms": atoms, "bonds": bonds, **levels}, count=len(x))

    def predict(self, model: nn.Module, inputs: Inputs) -> Tensor:
        """(n, A, 3) float32, 0 in places without an atom."""
        moved: Tensor = model(inputs["x"], inputs["t"], inputs["atoms"], inputs["bonds"])
        return self._output(inputs["x"], moved.float(), inputs["signal"], inputs["sigma"])

    def _output(self, x: Tensor, moved: Tensor, signal: Tensor, sigma: Tensor) -> Tensor:
        """The prediction of `target` if the atoms are at x + sigma / (sigma + LEAST_SIGMA) `moved` without noise.

        A network that predicts v or the noise itself has to divide small displacements by sigma; this is done here,
        up to a factor of 1 / LEAST_SIGMA.
        """
        clean = x + sigma / (sigma + LEAST_SIGMA) * moved
        return (signal * x - clean) / sigma if self.target == "v" else (x - signal * clean) / sigma

    def loss(self, prediction: Tensor, inputs: Inputs) -> Tensor:
        return self.row_losses(prediction, inputs).sum()

    def row_losses(self, prediction: Tensor, inputs: Inputs) -> Tensor:
        """The squared error of every row, a mean over the coordinates of its atoms: (n,)."""
        return mean_over_atoms(prediction, inputs["target"], inputs["atoms"])

    def distillation(self, student: Tensor, teacher: Tensor, inputs: Inputs) -> dict[str, Tensor]:
        """`output`: the loss against the teacher's output (KD paper, equation 2)."""
        return {"output": mean_over_atoms(student, teacher, inputs["atoms"]).sum()}

    def rows_at_once(self, model: nn.Module, rows: Rows) -> int:
        """Messages grow with the square of the number of atoms."""
        atoms = rows["atoms"].shape[1]
        return max(1, PIECE_VALUES // (atoms * atoms * self.width))

    def sample(self, model: nn.Module, conditions: Conditions, draws: Draws) -> dict[str, Tensor]:
        """A conformation for each of the graphs, which are returned with it."""
        atoms, bonds = conditions.columns["atoms"], conditions.columns["bonds"]
        chosen = sampler(
            self.sampler,
            self.timesteps,
            self.schedule,
            False,
            steps=self.sampling_steps or self.timesteps,
            target=self.target,
            clip=False,
        )
        # The network does not see where the centre of mass is, so it is enough to remove it from the result.
        x = draws.normal(conditions.rows, atoms.shape[1], 3)
        clean: Tensor | None = None
        alphas = alphas_cumprod(self.timesteps, self.schedule, False, x.device)
        for i, t in enumerate(chosen.times):
            moved = model(x, torch.full((len(x),), t, device=x.device), atoms, bonds)
            alpha = alphas[t]
            output = self._output(x, moved.float(), alpha.sqrt(), (1 - alpha).sqrt())
            x, clean = chosen.step(i, x, output, clean, draws)
        return {**conditions.columns, "positions": centred(x, atoms) * self.scale}


def mean_over_atoms(output: Tensor, target: Tensor, atoms: Tensor) -> Tensor:
    """(n, A, 3) -> (n,): the squared error, a mean over the coordinates of the atoms; padding is 0 in both."""
    count = (atoms > 0).sum(-1).clamp(min=1)
    return (output - target).square().sum((-2, -1)) / (3 * count)
