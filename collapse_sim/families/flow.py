"""Normalizing flows on points: autoregressive networks with spline or affine transforms, from zuko."""

from __future__ import annotations

import math
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from collapse_sim.core.component import Component
from collapse_sim.core.randomness import Draws
from collapse_sim.data.base import Info
from collapse_sim.families.base import Conditions, Inputs, Rows


class FlowModel(nn.Module):
    """A density on R^d: zuko's `flow` maps x / scale to standard normal noise."""

    def __init__(self, flow: nn.Module, dimensions: int, scale: float) -> None:
        super().__init__()
        self.flow, self.dimensions, self.scale = flow, dimensions, scale

    def log_density(self, x: Tensor) -> Tensor:
        """(n, d) -> (n,), nats, in the unit of x."""
        log_density: Tensor = self.flow().log_prob(x / self.scale)
        return log_density - self.dimensions * math.log(self.scale)

    def rows_of(self, noise: Tensor) -> Tensor:
        """(n, d) standard normal noise -> (n, d) rows."""
        rows: Tensor = self.flow().transform.inv(noise)
        return rows * self.scale


class Flow(Component):
    """Normalizing flow, maximum likelihood. It computes in float32 under any `train.precision`: densities need it.

    nsf: monotone rational-quadratic splines on [-5, 5], the identity outside (Durkan et al. 2019), so rows / `scale`
    should lie inside. maf: affine transforms (Papamakarios et al. 2017), which in one dimension give only a Gaussian.
    In one dimension there is no network: the transforms are parameters.
    """

    transform: Literal["nsf", "maf"] = "nsf"
    """Autoregressive transforms: nsf (rational-quadratic splines) or maf (affine)."""
    transforms: Annotated[int, Field(gt=0, le=1000)] = 3
    """Number of transforms that are applied in sequence."""
    hidden: Annotated[int, Field(gt=0)] = 64
    """Width of the layers of each transform's network."""
    layers: Annotated[int, Field(gt=0, le=1000)] = 2
    """Hidden layers of each transform's network."""
    bins: Annotated[int, Field(gt=1)] = 8
    """Bins of nsf's splines."""
    scale: Annotated[float, Field(gt=0.0, allow_inf_nan=False)] = 1.0
    """Rows are divided by this number, in the data's unit."""

    kinds: ClassVar[tuple[str, ...]] = ("points",)
    columns: ClassVar[tuple[str, ...]] = ("x",)
    terms: ClassVar[tuple[str, ...]] = ("output",)
    loss_unit: ClassVar[str] = "nats per row"
    stacks: ClassVar[bool] = True
    stacks_sampling: ClassVar[bool] = True
    from_latents: ClassVar[bool] = True

    def check(self, info: Info) -> None:
        """Accepts any data of points."""

    def build(self, info: Info) -> nn.Module:
        from zuko.flows import MAF, NSF

        (d,) = info.shape("x")
        shape = {"transforms": self.transforms, "hidden_features": [self.hidden] * self.layers}
        with torch.device("cpu"):  # zuko reads its masks, so they cannot be on the meta device
            flow = MAF(d, **shape) if self.transform == "maf" else NSF(d, bins=self.bins, **shape)
        return FlowModel(flow, d, self.scale)

    def corrupt(self, rows: Rows, draws: Draws) -> Inputs:
        return Inputs({"x": rows["x"].float()}, count=len(rows["x"]))

    def predict(self, model: nn.Module, inputs: Inputs) -> Tensor:
        """Log densities in nats: (n,)."""
        assert isinstance(model, FlowModel)
        with torch.autocast(inputs["x"].device.type, enabled=False):
            return model.log_density(inputs["x"])

    def loss(self, prediction: Tensor, inputs: Inputs) -> Tensor:
        """Negative log-likelihood in nats, summed over rows."""
        return self.row_losses(prediction, inputs).sum()

    def row_losses(self, prediction: Tensor, inputs: Inputs) -> Tensor:
        """The loss of every row: (n,)."""
        return -prediction

    def distillation(self, student: Tensor, teacher: Tensor, inputs: Inputs) -> dict[str, Tensor]:
        """`output`: squared difference of the log densities at the rows, summed over rows."""
        return {"output": (student - teacher).square().sum()}

    def sample(self, model: nn.Module, conditions: Conditions, draws: Draws) -> dict[str, Tensor]:
        assert isinstance(model, FlowModel)
        noise = draws.normal(conditions.rows, model.dimensions)
        with torch.autocast(noise.device.type, enabled=False):
            return {"x": model.rows_of(noise).double()}
