"""Checks of closed forms, and of the losses of single rows."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from collapse_sim.core.randomness import Draws
from collapse_sim.data.base import Info
from collapse_sim.engine.training_loss import TrainingLoss
from collapse_sim.families.base import ClosedForm, Inputs, ModelFamily
from collapse_sim.families.hooks import (
    Combinable,
    RowLosses,
    SolvesWeighted,
    TokenLosses,
    row_counts_of,
)
from collapse_sim.testing.shared import fixed_draws


def check_closed_form(family: ClosedForm, info: Info, rows: Mapping[str, Tensor], tolerance: float = 1e-9) -> None:
    """Check a family that is fitted in closed form, on rows of shape (S, n, ...) with S >= 2.

    An ensemble gives each seed the same result as alone, and the solution minimises loss + weights x terms. The loss is
    the sum of `row_losses` if it has them. With `solve_weighted` both hold for rows with weights, too.
    """
    assert isinstance(family, ModelFamily)
    size = len(next(iter(rows.values())))
    assert size >= 2, "give rows of at least two seeds"
    draws = Draws(tuple(range(size)), "solve", 0, dtype=torch.float64, stacked=True)
    together = family.solve(info, rows, None, {}, draws)
    check_row_losses(family, together, family.corrupt(rows, fixed_draws("corrupt")), tolerance)
    if isinstance(family, Combinable):
        assert family.feasible(together).shape == (size,), "feasible must give one value per seed"
        assert bool(family.feasible(together).all()), "feasible: a solution must be a model"
        for name, tensor in family.projected(together).state_dict().items():
            assert torch.allclose(tensor, together.state_dict()[name]), f"projected changes the {name} of a model"
    of_rows: list[Tensor | None] = [None]
    if isinstance(family, SolvesWeighted):
        uneven = fixed_draws("weights").uniform(size, next(iter(rows.values())).shape[1]).double() + 0.1
        of_rows.append(uneven / uneven.mean(1, keepdim=True))
    for row_weights in of_rows:
        together = _solved(family, info, rows, row_weights, None, {}, draws)
        for s in range(size):
            one = slice(s, s + 1)
            own, alone_weights = {n: c[one] for n, c in rows.items()}, None if row_weights is None else row_weights[one]
            alone = _solved(family, info, own, alone_weights, None, {}, fixed_draws("solve", s, stacked=True))
            for name, tensor in together.state_dict().items():
                same = torch.equal(tensor[s], alone.state_dict()[name][0])
                assert same, f"{name} of seed {s} depends on the ensemble"
        for weights in ({}, *({name: 0.7} for name in family.terms)):
            teacher = family.build_ensemble(info, size) if weights else None
            solution = _solved(family, info, rows, row_weights, teacher, weights, draws)
            least = _objective(family, solution, teacher, weights, rows, row_weights)
            for name, tensor in solution.state_dict().items():
                for sign in (-1, 1):
                    moved = family.build_ensemble(info, size)
                    moved.load_state_dict({**solution.state_dict(), name: tensor * (1 + sign * 1e-3)})
                    worse = _objective(family, moved, teacher, weights, rows, row_weights)
                    lower = "moving {} lowers the objective with {}{}".format(
                        name, weights, "" if row_weights is None else " and weights of rows"
                    )
                    assert bool((worse >= least - tolerance).all()), lower


def _solved(
    family: ClosedForm,
    info: Info,
    rows: Mapping[str, Tensor],
    row_weights: Tensor | None,
    teacher: nn.Module | None,
    weights: Mapping[str, float],
    draws: Draws,
) -> nn.Module:
    if row_weights is None:
        return family.solve(info, rows, teacher, weights, draws)
    assert isinstance(family, SolvesWeighted)
    return family.solve_weighted(info, rows, row_weights, teacher, weights, draws)


def check_row_losses(family: ModelFamily, model: nn.Module, inputs: Inputs, tolerance: float = 1e-5) -> None:
    """Check `row_losses` and `row_counts` of a family that has them: one number per row, with the loss as their sum."""
    if not isinstance(family, RowLosses):
        return
    with torch.no_grad():
        prediction = family.predict(model, inputs)
        total, losses = family.loss(prediction, inputs), family.row_losses(prediction, inputs)
        rows = next(iter(inputs.tensors.values())).shape[total.dim()]
        assert losses.shape == (*total.shape, rows), f"row_losses returns {tuple(losses.shape)} for {rows} rows"
        assert torch.allclose(losses.sum(-1), total, rtol=tolerance), "row_losses must add up to the loss"
        counts = row_counts_of(family, inputs)
        count = rows if counts is None else int(counts.sum())
        assert count == int(inputs.count), f"the rows' counts add up to {count}, but the batch has {int(inputs.count)}"
        if total.dim():
            return
        if isinstance(family, TokenLosses):
            tokens = family.token_losses(prediction, inputs)
            assert tokens.dim() == 2, f"token_losses has shape {tuple(tokens.shape)}, needed: ({rows}, L)"
            assert torch.allclose(tokens.sum(1), losses, rtol=tolerance), "token_losses must add up to row_losses"
        parts = [family.row_losses(family.predict(model, part), part) for part in inputs.split(4)]
        assert torch.allclose(torch.cat(parts), losses, rtol=tolerance, atol=tolerance), (
            "a row's loss depends on others"
        )
        uneven = torch.linspace(0.5, 1.5, rows)
        objective = TrainingLoss(family)
        weighted = [
            sum(objective.loss(objective.predict(model, part), part) for part in inputs.weighted(uneven).split(parts))
            for parts in (1, 4)
        ]
        expected = (losses * (uneven if inputs.order is None else uneven[inputs.order])).sum()
        for each in weighted:
            assert torch.isclose(torch.as_tensor(each), expected, rtol=tolerance), "rows' weights are not those of rows"


def _objective(
    family: ModelFamily,
    model: nn.Module,
    teacher: nn.Module | None,
    weights: Mapping[str, float],
    rows: Mapping[str, Tensor],
    row_weights: Tensor | None = None,
) -> Tensor:
    inputs = family.corrupt(rows, fixed_draws("corrupt"))
    prediction = family.predict(model, inputs)
    total = family.loss(prediction, inputs)
    if row_weights is not None:
        assert isinstance(family, RowLosses)
        total = (row_weights * family.row_losses(prediction, inputs)).sum(-1)
    if teacher is not None:
        terms = family.distillation(prediction, family.predict(teacher, inputs), inputs)
        total = total + sum(weight * terms[name] for name, weight in weights.items())
    return total / inputs.count
