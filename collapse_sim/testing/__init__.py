"""Contract tests for plug-in authors: call them from your own tests; an AssertionError says what is wrong."""

from __future__ import annotations

import json
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from collapse_sim.core.events import Event
from collapse_sim.core.machine import Machine
from collapse_sim.data.base import Info
from collapse_sim.engine.calls import CompiledCalls
from collapse_sim.engine.fit import backward
from collapse_sim.engine.objective import SingleObjective, trimmed
from collapse_sim.engine.programs import Program, Programs
from collapse_sim.engine.stacked import StackedObjective
from collapse_sim.engine.training_loss import ForwardPass, TrainingLoss
from collapse_sim.families.base import Conditions, Inputs, ModelFamily
from collapse_sim.families.hooks import (
    OnlyForMetrics,
    Regularised,
    Stacks,
)
from collapse_sim.testing.device import check_device as check_device
from collapse_sim.testing.family_hooks import check_hooks as check_hooks
from collapse_sim.testing.shared import CPU as CPU
from collapse_sim.testing.shared import built, fixed_draws, named_conditions
from collapse_sim.testing.solutions import check_closed_form as check_closed_form
from collapse_sim.testing.solutions import check_row_losses as check_row_losses


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
    model, teacher = built(family, info, 0), built(family, info, 1)
    inputs = family.corrupt(rows, fixed_draws("corrupt"))
    _check_sums(family, model, inputs, tolerance)
    _check_order(family, rows)
    check_row_losses(family, model, inputs, tolerance)
    _check_micro_batches(family, model, None, {}, inputs, tolerance)
    if family.terms:
        _check_micro_batches(family, model, teacher, dict.fromkeys(family.terms, 0.5), inputs, tolerance)
        _check_terms(family, info, inputs, tolerance)
    if isinstance(family, Stacks) and family.stacks:
        check_stacks(family, info, inputs)
    if isinstance(family, OnlyForMetrics):
        _check_refusal(family, model)
    else:
        _check_samples(family, model, info, rows)
        check_hooks(family, model, info, rows)


def check_stacks(family: ModelFamily, info: Info, inputs: Inputs, tolerance: float = 1e-4) -> None:
    """Check that models computed as one program (engine/stacked.py) have the losses and gradients of each alone."""
    models = [built(family, info, seed).train() for seed in range(3)]
    batches = [inputs, inputs, Inputs({name: tensor.flip(0) for name, tensor in inputs.tensors.items()}, inputs.count)]
    teacher = built(family, info, 3) if family.terms else None
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
        first, second = family.corrupt(alike, fixed_draws("corrupt")), family.corrupt(odd, fixed_draws("corrupt"))
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
    model = built(family, info, 0)
    with torch.no_grad():
        same, again = family.predict(model, inputs), family.predict(model, inputs)
        assert _flat(same).equal(_flat(again)), "predict must not be random: all randomness belongs in corrupt"
    target = family.predict(built(family, info, 0), inputs)
    terms = family.distillation(family.predict(model, inputs), target, inputs)
    assert set(terms) == set(family.terms), f"distillation returns {sorted(terms)}, terms has {sorted(family.terms)}"
    regularised = family.regularised if isinstance(family, Regularised) else ()
    for name, term in terms.items():
        if name in regularised:
            continue
        grads = torch.autograd.grad(term, list(model.parameters()), retain_graph=True, allow_unused=True)
        steepest = max((float(g.abs().max()) for g in grads if g is not None), default=0.0)
        assert steepest < 100 * tolerance, f"{name}: student = teacher is not a minimum (gradient {steepest:.1e})"
        other = family.predict(built(family, info, 1), inputs)
        further = family.distillation(other, target, inputs)[name]
        assert bool(further > term), f"{name}: another student is as near to the teacher as the teacher itself"


def _flat(prediction: object) -> Tensor:
    tensors = [prediction] if isinstance(prediction, Tensor) else [t for t in prediction if isinstance(t, Tensor)]  # type: ignore[attr-defined]
    return torch.cat([tensor.flatten() for tensor in tensors])


def _check_refusal(family: ModelFamily, model: nn.Module) -> None:
    try:
        family.sample(model, Conditions(5, {}), fixed_draws("sample"))
    except ValueError:
        return
    raise AssertionError("only_for_metrics: `sample` did not raise ValueError")


def _check_samples(family: ModelFamily, model: nn.Module, info: Info, rows: Mapping[str, Tensor]) -> None:
    with torch.no_grad():
        columns = {name: rows[name][:5] for name in named_conditions(family)}
        first = family.sample(model, Conditions(5, columns), fixed_draws("sample"))
        again = family.sample(model, Conditions(5, columns), fixed_draws("sample"))
    for name, column in first.items():
        shape, dtype = info.columns[name]
        assert column.shape == (5, *shape), f"samples' {name} has shape {tuple(column.shape)}, rows have {(5, *shape)}"
        assert str(column.dtype) == f"torch.{dtype}", f"samples' {name} is {column.dtype}, rows are {dtype}"
        assert torch.equal(column, again[name]), f"samples' {name} is not repeatable"


def check_compiled_calls(
    family: ModelFamily, info: Info, machine: Machine = CPU, backend: str = "eager", tolerance: float = 1e-4
) -> None:
    """Check that rows drawn with compiled calls (engine/calls.py) are the eager ones, for two models of one program.

    `backend`: torch.compile's; "eager" traces only, "inductor" compiles. Within `tolerance` of the largest value, in
    bf16 within a tenth.
    """
    programs, notes = Programs("on", backend), list[Event]()
    for seed in (0, 1):
        model = machine.for_inference(built(family, info, seed))
        conditions = Conditions(5, {name: torch.arange(5) % max(info.classes, 1) for name in named_conditions(family)})
        with machine.inference(model):
            eager = family.sample(model, conditions, fixed_draws("sample"))
            with CompiledCalls(programs, family, model, "", machine).compiled(notes.append):
                own = family.sample(model, conditions, fixed_draws("sample"))
        for name, column in eager.items():
            difference = float((own[name].double() - column.double()).abs().max())
            largest = float(column.double().abs().max())
            allowed = (tolerance if machine.precision == "fp32" else 0.1) * largest + (column.dtype == torch.uint8)
            assert difference <= allowed, f"compiled, {name} differs by {difference:.1e} of {largest:.1e}"
    assert programs.count >= 1, f"no call was compiled: {notes}"


def check_compiled(
    family: ModelFamily, info: Info, rows: Mapping[str, Tensor], backend: str = "eager", tolerance: float = 1e-4
) -> None:
    """Check that a compiled step (engine/programs.py) has the losses and gradients of an eager one, on rows of its
    columns, with a teacher if the family has distillation terms.

    `backend`: torch.compile's; "eager" traces only, "inductor" compiles.
    """
    model = built(family, info, 0).train()
    teacher = built(family, info, 1) if family.terms else None
    for parameter in teacher.parameters() if teacher else ():
        parameter.requires_grad_(False)
    weights = dict.fromkeys(family.terms[:1], 0.5)  # the other terms are computed with a weight of 0
    inputs = family.corrupt(
        {name: column for name, column in rows.items() if name in family.columns}, fixed_draws("corrupt")
    )
    loss = backward(TrainingLoss(family), model, inputs, CPU, CPU.scaler(), teacher, weights)
    gradients = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad(set_to_none=True)
    objective = SingleObjective(TrainingLoss(family), model, teacher, weights, CPU)
    arguments = objective.arguments(trimmed(family, model, inputs))
    compiled = Program(objective, arguments, CPU, backend)(arguments)
    compiled.backward()  # type: ignore[no-untyped-call]
    assert torch.isclose(compiled.detach(), loss, rtol=tolerance), f"compiled, the loss is {compiled}, eager {loss}"
    steepest = max(float(gradient.abs().max()) for gradient in gradients.values())
    for name, parameter in model.named_parameters():
        own, eager = parameter.grad, gradients.get(name)
        assert (own is None) == (eager is None), f"{name} has a gradient only when compiled, or only when not"
        if own is not None and eager is not None:
            difference = float((own - eager).abs().max())
            assert difference <= tolerance * steepest, f"compiled, {name} has another gradient (by {difference:.1e})"
