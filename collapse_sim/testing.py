"""Contract tests for plug-in authors: call them from your own tests; an AssertionError says what is wrong."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from collapse_sim.core.machine import Machine
from collapse_sim.core.randomness import Draws
from collapse_sim.data.base import Info
from collapse_sim.engine.fit import backward
from collapse_sim.engine.training_loss import ForwardPass, TrainingLoss
from collapse_sim.engine.stacked import StackedObjective
from collapse_sim.families.base import ClosedForm, Conditions, Inputs, ModelFamily
from collapse_sim.families.hooks import (
    Continues,
    Encodes,
    Exports,
    HasConditions,
    HasLossUnit,
    HasPositions,
    HasRowCounts,
    HasTextLikelihood,
    HasTrajectory,
    Regularised,
    RowLosses,
    RowsAtOnce,
    SolvesWeighted,
    Stacks,
    TokenLosses,
    conditioning_of,
    row_counts_of,
)

CPU = Machine(torch.device("cpu"), "fp32")


def check_family(family: ModelFamily, info: Info, rows: Mapping[str, Tensor], tolerance: float = 1e-5) -> None:
    """Check a family that is optimised, on at least 32 rows of its columns.

    Losses are sums, over `row_losses` if it has them; micro-batches add up to the batch, with and without a teacher; a
    student equal to its teacher minimises every distillation term except those in the family's `regularised`;
    predictions use no randomness; samples are repeatable and fit the data's columns. Rows may have weights if it has
    `row_losses`; a `corrupt` that reorders rows says so in `Inputs.order`.
    """
    rows = {name: column[:32] for name, column in rows.items()}
    assert all(len(column) == 32 for column in rows.values()), "give at least 32 rows"
    assert json.loads(json.dumps(family.describe())) == family.describe(), "describe() must be plain JSON"
    family.check(info)
    model, teacher = _build(family, info, 0), _build(family, info, 1)
    inputs = family.corrupt(rows, _draws("corrupt"))
    _check_sums(family, model, inputs, tolerance)
    _check_order(family, rows)
    check_row_losses(family, model, inputs, tolerance)
    _check_micro_batches(family, model, None, {}, inputs, tolerance)
    if family.terms:
        _check_micro_batches(family, model, teacher, dict.fromkeys(family.terms, 0.5), inputs, tolerance)
        _check_terms(family, info, inputs, tolerance)
    if isinstance(family, Stacks) and family.stacks:
        check_stacks(family, info, inputs)
    _check_samples(family, model, info, rows)
    check_hooks(family, model, info, rows)


def check_stacks(family: ModelFamily, info: Info, inputs: Inputs, tolerance: float = 1e-4) -> None:
    """Check that models computed as one program (engine/stacked.py) have the losses and gradients of each alone."""
    models = [_build(family, info, seed).train() for seed in range(3)]
    batches = [inputs, inputs, Inputs({name: tensor.flip(0) for name, tensor in inputs.tensors.items()}, inputs.count)]
    teacher = _build(family, info, 3) if family.terms else None
    weights: dict[str, list[float]] = {name: [0.5, 0.0, 1.0] for name in family.terms}
    parameters = {
        name: torch.stack([m.get_parameter(name).detach() for m in models]).requires_grad_(parameter.requires_grad)
        for name, parameter in models[0].named_parameters()
    }
    targets = None
    if teacher is not None:
        with torch.no_grad():
            targets = [ForwardPass(family.predict(teacher, batch), {}) for batch in batches]
    objective = StackedObjective(TrainingLoss(family), models[0], CPU)
    try:
        losses = objective(parameters, batches, targets, {name: torch.tensor(each) for name, each in weights.items()})
    except RuntimeError as error:
        raise AssertionError(f"stacks: torch.func.vmap refuses the forward pass: {error}") from error
    losses.sum().backward()  # type: ignore[no-untyped-call]
    for i, (model, batch) in enumerate(zip(models, batches, strict=True)):
        own = {name: each[i] for name, each in weights.items()}
        loss = backward(TrainingLoss(family), model, batch, CPU, CPU.scaler(), teacher, own)
        assert torch.isclose(losses[i], loss, rtol=tolerance), f"stacks: the loss is {losses[i]}, alone {loss}"
        steepest = max(float(p.grad.abs().max()) for p in model.parameters() if p.grad is not None)
        for name, parameter in model.named_parameters():
            stacked = parameters[name].grad
            assert (stacked is None) == (parameter.grad is None), f"stacks: {name} has a gradient in one way only"
            if stacked is not None and parameter.grad is not None:
                difference = float((stacked[i] - parameter.grad).abs().max())
                assert difference <= tolerance * steepest, f"stacks: {name} has another gradient (by {difference:.1e})"


def check_hooks(family: ModelFamily, model: nn.Module, info: Info, rows: Mapping[str, Tensor]) -> None:
    """Check every optional ability that a family has (families/hooks.py), on rows of its columns."""
    model = model.eval().requires_grad_(False)
    columns = {name: column for name, column in rows.items() if name in family.columns}
    n = len(next(iter(columns.values())))
    if isinstance(family, HasLossUnit):
        assert isinstance(family.loss_unit, str), "loss_unit must be text"
    if isinstance(family, Regularised):
        unknown = set(family.regularised) - set(family.terms)
        assert not unknown, f"regularised names {', '.join(sorted(unknown))}, which are not terms"
    if isinstance(family, HasConditions):
        unknown = set(family.conditions) - set(info.columns)
        assert not unknown, f"conditions names {', '.join(sorted(unknown))}, which are not columns of the data"
    assert conditioning_of(family) in ("real", "fitted"), "conditioned_on must be 'real' or 'fitted'"
    if isinstance(family, RowsAtOnce):
        assert family.rows_at_once(model, columns) >= 1, "rows_at_once must be at least 1"
    if isinstance(family, HasRowCounts):
        inputs = family.corrupt(columns, _draws("corrupt"))
        counts = family.row_counts(inputs)
        assert counts.shape == (n,), f"row_counts has shape {tuple(counts.shape)}, needed: ({n},)"
        assert int(counts.sum()) == int(inputs.count), "row_counts must add up to the batch's count"
    if isinstance(family, Encodes):
        mean, log_variance = family.encode(model, columns)
        assert mean.shape == log_variance.shape, "encode must give a mean and a log variance of one shape"
        assert len(mean) == n, f"encode gives {len(mean)} latents for {n} rows"
        one, _ = family.encode(model, {name: column[:1] for name, column in columns.items()})
        assert torch.allclose(one[0], mean[0], rtol=1e-4, atol=1e-5), "encode must not depend on the other rows"
    if isinstance(family, HasTextLikelihood):
        nats, tokens = family.nats(model, columns)
        assert nats.shape == tokens.shape == (n,), f"nats must give two columns of {n} rows"
        assert nats.dtype == torch.float64, "nats must be float64"
        assert bool((nats >= 0).all()), "a row of tokens cannot be more likely than 1"
        assert not bool(nats[tokens == 0].any()), "a row without predicted tokens has 0 nats"
    if isinstance(family, HasPositions):
        inputs = family.corrupt(columns, _draws("corrupt"))
        positions = family.positions("", inputs, 7)
        assert positions.shape == (n, 7), f"positions has shape {tuple(positions.shape)}, needed: ({n}, 7)"
        assert positions.dtype == torch.bool, "positions must be bool"
    if isinstance(family, Continues):
        prompts, tokenizer = next(iter(columns.values()))[:, :3], info.text()
        going_on = ((prompts[:, 1:] != tokenizer.end) & (prompts[:, 1:] >= 0)).all(1)
        prompts = prompts[going_on][:4]
        texts = family.continuations(model, prompts, _draws("continuations"))
        assert torch.equal(texts[:, : prompts.shape[1]], prompts), "continuations must begin with their prompts"
    if isinstance(family, HasTrajectory):
        frames = family.trajectory(model, 2, 4, _draws("trajectory"))
        shape, dtype = next(info.columns[name] for name in family.columns if name in info.columns)
        assert frames.shape == (4, 2, *shape), f"trajectory has shape {tuple(frames.shape)}, needed: {(4, 2, *shape)}"
        assert str(frames.dtype) == f"torch.{dtype}", f"trajectory is {frames.dtype}, rows are {dtype}"
        again = family.trajectory(model, 2, 4, _draws("trajectory"))
        assert torch.equal(frames, again), "trajectory is not repeatable"
    if isinstance(family, Exports):
        with tempfile.TemporaryDirectory() as folder:
            paths = family.export(model, info, Path(folder))
            outside = [path for path in paths if not path.is_file() or not path.is_relative_to(folder)]
            assert not outside, f"export returns {outside[0]}, which is not a file that it has written into the folder"


def _conditions(family: object) -> tuple[str, ...]:
    return family.conditions if isinstance(family, HasConditions) else ()


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
    check_row_losses(family, together, family.corrupt(rows, _draws("corrupt")), tolerance)
    of_rows: list[Tensor | None] = [None]
    if isinstance(family, SolvesWeighted):
        uneven = _draws("weights").uniform(size, next(iter(rows.values())).shape[1]).double() + 0.1
        of_rows.append(uneven / uneven.mean(1, keepdim=True))
    for row_weights in of_rows:
        together = _solved(family, info, rows, row_weights, None, {}, draws)
        for s in range(size):
            one = slice(s, s + 1)
            own, alone_weights = {n: c[one] for n, c in rows.items()}, None if row_weights is None else row_weights[one]
            alone = _solved(family, info, own, alone_weights, None, {}, _draws("solve", s, stacked=True))
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
    inputs = family.corrupt(rows, _draws("corrupt"))
    prediction = family.predict(model, inputs)
    total = family.loss(prediction, inputs)
    if row_weights is not None:
        assert isinstance(family, RowLosses)
        total = (row_weights * family.row_losses(prediction, inputs)).sum(-1)
    if teacher is not None:
        terms = family.distillation(prediction, family.predict(teacher, inputs), inputs)
        total = total + sum(weight * terms[name] for name, weight in weights.items())
    return total / inputs.count


def _build(family: ModelFamily, info: Info, seed: int) -> nn.Module:
    with CPU.seeded(seed):
        return family.build(info).eval()


def _draws(role: str, seed: int = 0, *, stacked: bool = False) -> Draws:
    return Draws((seed,), role, 0, dtype=torch.float64 if stacked else torch.float32, stacked=stacked)


def _gradients(
    family: ModelFamily,
    model: nn.Module,
    teacher: nn.Module | None,
    weights: Mapping[str, float],
    inputs: Inputs,
    parts: int,
) -> tuple[Tensor, list[Tensor]]:
    model.zero_grad(set_to_none=True)
    loss = backward(TrainingLoss(family), model, inputs, CPU, CPU.scaler(), teacher, weights, parts)
    return loss, [p.grad.clone() for p in model.parameters() if p.grad is not None]


def _check_sums(family: ModelFamily, model: nn.Module, inputs: Inputs, tolerance: float) -> None:
    total = family.loss(family.predict(model, inputs), inputs)
    parts = sum(family.loss(family.predict(model, part), part) for part in inputs.split(8))
    assert torch.isclose(total, torch.as_tensor(parts), rtol=tolerance), "loss must be a sum over rows, not a mean"


def _check_order(family: ModelFamily, rows: Mapping[str, Tensor]) -> None:
    """A row that differs from all others has to be where `Inputs.order` says."""
    place = len(next(iter(rows.values()))) // 2
    alike = {name: column[:1].expand_as(column).clone() for name, column in rows.items()}
    for other in range(1, 9):
        odd = {name: column.clone() for name, column in alike.items()}
        for name, column in odd.items():
            column[place] = rows[name][other]
        if all(torch.equal(odd[name], alike[name]) for name in family.columns if name in odd):
            continue
        first, second = family.corrupt(alike, _draws("corrupt")), family.corrupt(odd, _draws("corrupt"))
        at = place if second.order is None else int((second.order == place).nonzero())
        same = all(torch.equal(first[name][at], second[name][at]) for name in second.tensors)
        assert not same, "corrupt reorders its rows: give the order in Inputs.order"


def _check_micro_batches(
    family: ModelFamily,
    model: nn.Module,
    teacher: nn.Module | None,
    weights: Mapping[str, float],
    inputs: Inputs,
    tolerance: float,
) -> None:
    loss, batch_gradients = _gradients(family, model, teacher, weights, inputs, 1)
    split_loss, split_gradients = _gradients(family, model, teacher, weights, inputs, 4)
    assert torch.isclose(loss, split_loss, rtol=tolerance), "4 x 8 rows give another loss than 1 x 32"
    steepest = max(float(one.abs().max()) for one in batch_gradients)  # some are rounding only: attention's key biases
    for one, other in zip(batch_gradients, split_gradients, strict=True):
        difference = (one - other).abs().max() / one.abs().max().clamp(min=1e-3 * steepest)
        assert difference < 100 * tolerance, f"4 x 8 rows give other gradients than 1 x 32 (by {difference:.1e})"


def _check_terms(family: ModelFamily, info: Info, inputs: Inputs, tolerance: float) -> None:
    model = _build(family, info, 0)
    with torch.no_grad():
        same, again = family.predict(model, inputs), family.predict(model, inputs)
        assert _flat(same).equal(_flat(again)), "predict must not be random: all randomness belongs in corrupt"
    target = family.predict(_build(family, info, 0), inputs)
    terms = family.distillation(family.predict(model, inputs), target, inputs)
    assert set(terms) == set(family.terms), f"distillation returns {sorted(terms)}, terms has {sorted(family.terms)}"
    regularised = family.regularised if isinstance(family, Regularised) else ()
    for name, term in terms.items():
        if name in regularised:
            continue
        grads = torch.autograd.grad(term, list(model.parameters()), retain_graph=True, allow_unused=True)
        steepest = max((float(g.abs().max()) for g in grads if g is not None), default=0.0)
        assert steepest < 100 * tolerance, f"{name}: student = teacher is not a minimum (gradient {steepest:.1e})"
        other = family.predict(_build(family, info, 1), inputs)
        further = family.distillation(other, target, inputs)[name]
        assert bool(further > term), f"{name}: another student is as near to the teacher as the teacher itself"


def _flat(prediction: object) -> Tensor:
    tensors = [prediction] if isinstance(prediction, Tensor) else [t for t in prediction if isinstance(t, Tensor)]  # type: ignore[attr-defined]
    return torch.cat([tensor.flatten() for tensor in tensors])


def _check_samples(family: ModelFamily, model: nn.Module, info: Info, rows: Mapping[str, Tensor]) -> None:
    with torch.no_grad():
        columns = {name: rows[name][:5] for name in _conditions(family)}
        first = family.sample(model, Conditions(5, columns), _draws("sample"))
        again = family.sample(model, Conditions(5, columns), _draws("sample"))
    for name, column in first.items():
        shape, dtype = info.columns[name]
        assert column.shape == (5, *shape), f"samples' {name} has shape {tuple(column.shape)}, rows have {(5, *shape)}"
        assert str(column.dtype) == f"torch.{dtype}", f"samples' {name} is {column.dtype}, rows are {dtype}"
        assert torch.equal(column, again[name]), f"samples' {name} is not repeatable"
