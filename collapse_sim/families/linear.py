"""Linear regression by least squares: the model of "Is Model Collapse Inevitable?" (arXiv 2404.01413)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from collapse_sim.core.component import Component
from collapse_sim.core.randomness import Draws
from collapse_sim.data.base import Data, Info
from collapse_sim.data.sources import Chain
from collapse_sim.families.base import Conditions, Inputs, Rows, matmul_per_seed


class LinearModel(nn.Module):
    """Weights (S, d) and the known standard deviation of the noise (S,), float64."""

    weights: Tensor
    noise: Tensor

    def __init__(self, weights: Tensor, noise: Tensor) -> None:
        super().__init__()
        self.register_buffer("weights", weights)
        self.register_buffer("noise", noise)


def _labels(x: Tensor, weights: Tensor) -> Tensor:
    """(S, n, d), (S, d) -> (S, n)."""
    return matmul_per_seed(x, weights.unsqueeze(-1)).squeeze(-1)


def _solution(info: Info, x: Tensor, y: Tensor) -> LinearModel:
    """The minimum-norm least squares of x (S, n, d) and y (S, n)."""
    weights = _labels(torch.linalg.pinv(x), y)
    noise = torch.full((len(weights),), info.constants.get("noise", 0.0), dtype=torch.float64, device=x.device)
    return LinearModel(weights, noise)


class LinearRegression(Component):
    """Ridgeless least squares, the minimum-norm solution if underdetermined; labels y = x w + noise, float64."""

    design: Literal["fixed", "fresh"] = "fixed"
    """x of generated rows. fixed: the real rows' x is reused; fresh: it is drawn anew."""

    kinds: ClassVar[tuple[str, ...]] = ("regression",)
    columns: ClassVar[tuple[str, ...]] = ("x", "y")
    terms: ClassVar[tuple[str, ...]] = ("output",)
    loss_unit: ClassVar[str] = "squared error of y"

    def check(self, info: Info) -> None:
        """Accepts any regression data."""

    def build(self, info: Info) -> nn.Module:
        return self.build_ensemble(info, 1)

    def build_ensemble(self, info: Info, size: int) -> nn.Module:
        (d,) = info.shape("x")
        noise = torch.full((size,), info.constants.get("noise", 0.0), dtype=torch.float64)
        return LinearModel(torch.zeros(size, d, dtype=torch.float64), noise)

    def corrupt(self, rows: Rows, draws: Draws) -> Inputs:
        return Inputs({"x": rows["x"], "y": rows["y"]}, count=rows["y"].shape[-1])

    def predict(self, model: nn.Module, inputs: Inputs) -> Tensor:
        """x w: (S, n)."""
        assert isinstance(model, LinearModel)
        return _labels(inputs["x"], model.weights)

    def loss(self, prediction: Tensor, inputs: Inputs) -> Tensor:
        """Squared error summed over rows: (S,)."""
        return self.row_losses(prediction, inputs).sum(-1)

    def row_losses(self, prediction: Tensor, inputs: Inputs) -> Tensor:
        """The loss of every row: (S, n)."""
        return (prediction - inputs["y"]).square()

    def distillation(self, student: Tensor, teacher: Tensor, inputs: Inputs) -> dict[str, Tensor]:
        """`output`: squared distance of the predictions, summed over rows: (S,)."""
        return {"output": (student - teacher).square().sum(-1)}

    def solve(
        self, info: Info, rows: Rows, teacher: nn.Module | None, weights: Mapping[str, float], draws: Draws
    ) -> nn.Module:
        """Least squares; with a teacher on labels (y + w x w_teacher) / (1 + w), which minimises the sum of both."""
        x, y = rows["x"], rows["y"]
        if teacher is not None:
            assert isinstance(teacher, LinearModel)
            w = weights["output"]
            y = (y + w * _labels(x, teacher.weights)) / (1 + w)
        return _solution(info, x, y)

    def solve_weighted(
        self,
        info: Info,
        rows: Rows,
        row_weights: Tensor,
        teacher: nn.Module | None,
        weights: Mapping[str, float],
        draws: Draws,
    ) -> nn.Module:
        """Weighted least squares, by rows times the roots of their weights v. With a teacher of weight w, v + w is a
        row's weight and (v y + w x w_teacher) / (v + w) its label, since the teacher's term has no weights."""
        x, y, v = rows["x"], rows["y"], row_weights
        if teacher is not None:
            assert isinstance(teacher, LinearModel)
            w = weights["output"]
            y = (v * y + w * _labels(x, teacher.weights)) / (v + w)
            v = v + w
        root = v.sqrt()
        return _solution(info, root.unsqueeze(-1) * x, root * y)

    def sample(self, model: nn.Module, conditions: Conditions, draws: Draws) -> dict[str, Tensor]:
        assert isinstance(model, LinearModel)
        d = model.weights.shape[-1]
        x = conditions.columns["x"] if self.design == "fixed" else draws.normal(conditions.rows, d)
        noise = draws.normal(conditions.rows) * model.noise.unsqueeze(-1)
        return {"x": x, "y": _labels(x, model.weights) + noise}

    def feasible(self, model: nn.Module) -> Tensor:
        """(S,): any weights are."""
        assert isinstance(model, LinearModel)
        return torch.ones_like(model.noise, dtype=torch.bool)

    def projected(self, model: nn.Module) -> nn.Module:
        return model

    def theory(self, metric: str, chain: Chain, data: Data, info: Info) -> list[float] | None:
        """E[excess test error] of every generation for x ~ N(0, I_d), T rows per generation, T > d + 1.

        Every error is a sum of independent terms u_j = pinv(X) noise_j of size s2 d / (T - d - 1): e_k = a mean over
        sources j of (e_j + u_j) + (1 - a) e_teacher, a = 1 / (1 + w). So the coefficients of the u_j obey a linear
        recursion. It gives s2 d / (T-d-1) (k+1) under replace, s2 d / (T-d-1) sum 1/i^2 under accumulate
        (arXiv 2404.01413), and the curves with a teacher. With a fresh design this holds for a single source only.
        """
        (d,) = info.shape("x")
        plans, rows = chain.plans, chain.plans[0].rows
        if metric != "excess_test_error" or rows <= d + 1:
            return None
        for plan in plans:
            partial = any(source.rows != rows or source.first for source in plan.sources)
            if partial or plan.budget is not None or (len(plan.sources) > 1 and self.design == "fresh"):
                return None
        errors: list[Tensor] = []  # coefficients over (u_real, u_0, u_1, ...)
        for plan, taught in zip(plans, chain.teachers, strict=True):
            parts = torch.zeros(len(plan.sources), len(plans) + 1, dtype=torch.float64)
            for part, source in zip(parts, plan.sources, strict=True):
                if source.generation >= 0:
                    part += errors[source.generation]
                part[source.generation + 1] += 1
            error = parts.mean(0)
            if taught is not None:
                a = 1 / (1 + taught.weights["output"])
                error = a * error + (1 - a) * errors[taught.generation]
            errors.append(error)
        unit = info.constants["noise"] ** 2 * d / (rows - d - 1)
        return [unit * float(error.square().sum()) for error in errors]
