"""Fits of one architecture computed as one program: stacked parameters and optimiser states, batched products.

A member's result is that of the fit alone up to rounding, since batched kernels may sum in another order.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils import _pytree as pytree

from collapse_sim.core.machine import Machine
from collapse_sim.engine.groups import rows_key
from collapse_sim.engine.member import Member
from collapse_sim.engine.objective import Groups, Predictor, shapes_of, weighted
from collapse_sim.engine.optimizers import clear_subnormals, make_optimizer
from collapse_sim.engine.switches import Compute, Switches
from collapse_sim.engine.training_loss import TrainingLoss
from collapse_sim.families.base import Inputs
from collapse_sim.families.training import learning_rate


class StackedObjective:
    """The mean losses of several models of one architecture, as `fit.backward` computes each."""

    def __init__(self, training_loss: TrainingLoss, model: nn.Module, machine: Machine) -> None:
        """`model`: one of the models; only its buffers are used."""
        self._training_loss, self._machine = training_loss, machine
        self._predictor = Predictor(training_loss, model)

    def __call__(
        self,
        parameters: Mapping[str, Tensor],
        batches: Sequence[Inputs],
        targets: Sequence[Any] | None,
        weights: Mapping[str, Tensor],
        buffers: Mapping[str, Tensor] | None = None,
    ) -> Tensor:
        """(S,) from parameters (S, ...) by their names in the model, S batches of equal shapes, the predictions of S
        teachers for them, and weights (S,) of distillation terms. `buffers`: other ones than the model's, (...)."""
        own = {f"model.{name}": tensor for name, tensor in parameters.items()}
        shared = {f"model.{name}": tensor for name, tensor in (buffers or {}).items()}
        fixed = batches[0].fixed
        tensors = {name: torch.stack([batch[name] for batch in batches]) for name in batches[0].tensors}
        counts = torch.stack([torch.as_tensor(batch.count, device=self._machine.device) for batch in batches])
        target = None if targets is None else pytree.tree_map(lambda *parts: torch.stack(parts), *targets)
        rows = [batch.weights for batch in batches if batch.weights is not None]
        of_rows = torch.stack(rows) if rows else None
        axes = (0, 0, 0, None if of_rows is None else 0, None if target is None else 0, 0)
        mean_loss = partial(self._mean_loss, shared, fixed)
        losses: Tensor = vmap(mean_loss, axes)(own, tensors, counts, of_rows, target, weights)
        return losses

    def _mean_loss(
        self,
        buffers: Mapping[str, Tensor],
        fixed: bool,
        parameters: Mapping[str, Tensor],
        tensors: Mapping[str, Tensor],
        count: Tensor,
        of_rows: Tensor | None,
        target: Any,
        weights: Mapping[str, Tensor],
    ) -> Tensor:
        inputs = Inputs(tensors, count, fixed, weights=of_rows)
        with self._machine.autocast(), plain_attention(self._machine):
            student = functional_call(self._predictor, {**buffers, **parameters}, (inputs,))
        loss = self._training_loss.loss(student, inputs)
        if target is not None:
            loss = loss + weighted(self._training_loss.terms(student, target, inputs), weights)
        return loss / count


def plain_attention(machine: Machine) -> AbstractContextManager[None]:
    """The CPU's fused attention cannot be batched; its plain one can."""
    return sdpa_kernel(SDPBackend.MATH) if machine.device.type == "cpu" else nullcontext()


class GroupObjective:
    """The mean losses of some members, their teachers' predictions included, as a function of tensors alone."""

    def __init__(
        self,
        objective: StackedObjective,
        machine: Machine,
        rows_of: Sequence[int],
        teacher_of: Sequence[int],
        teachers: Mapping[int, Predictor],
    ) -> None:
        """The numbers of each member's rows and of its teacher's prediction, and {that number: the teacher}."""
        self._objective, self._machine = objective, machine
        self._rows_of, self._teacher_of = rows_of, teacher_of
        self._teachers = {number: teachers[number] for number in dict.fromkeys(teacher_of) if number in teachers}

    def arguments(
        self,
        parameters: Mapping[str, Tensor],
        buffers: Mapping[str, Tensor],
        inputs: Mapping[int, Inputs],
        weights: Mapping[str, Tensor],
    ) -> Groups:
        """The tensors that `__call__` needs."""
        used = {rows: inputs[rows] for rows in dict.fromkeys(self._rows_of)}
        device = self._machine.device
        return {
            "parameters": parameters,
            "buffers": buffers,
            "weights": weights if self._teachers else {},
            "batches": {
                f"{rows}/{name}": t.contiguous() for rows, batch in used.items() for name, t in batch.tensors.items()
            },
            "rows": {str(rows): batch.weights for rows, batch in used.items() if batch.weights is not None},
            "counts": {str(rows): torch.as_tensor(batch.count, device=device) for rows, batch in used.items()},
            "teachers": {
                f"{n}/{name}": t for n, teacher in self._teachers.items() for name, t in teacher.tensors().items()
            },
        }

    def __call__(
        self,
        parameters: Mapping[str, Tensor],
        buffers: Mapping[str, Tensor],
        weights: Mapping[str, Tensor],
        batches: Mapping[str, Tensor],
        rows: Mapping[str, Tensor],
        counts: Mapping[str, Tensor],
        teachers: Mapping[str, Tensor],
    ) -> Tensor:
        """(S,)"""
        inputs = {
            int(number): Inputs(_below(batches, number), count, fixed=True, weights=rows.get(number))
            for number, count in counts.items()
        }
        targets = {}
        for number, teacher in self._teachers.items():
            batch = inputs[self._rows_of[self._teacher_of.index(number)]]
            with torch.no_grad(), self._machine.autocast():
                targets[number] = functional_call(teacher, _below(teachers, str(number)), (batch,))
        taught = [targets[number] for number in self._teacher_of] if targets else None
        return self._objective(parameters, [inputs[rows] for rows in self._rows_of], taught, weights, buffers)


def _below(tensors: Mapping[str, Tensor], group: str) -> dict[str, Tensor]:
    """{name: tensor} of those that are named "group/name"."""
    return {name.partition("/")[2]: tensor for name, tensor in tensors.items() if name.partition("/")[0] == group}


class StackedStep:
    """One update of all members. Their models' parameters become views of stacked ones, (S, ...) each."""

    def __init__(self, members: Sequence[Member], switches: Switches) -> None:
        first = members[0]
        self._train, self._machine = first.train, first.machine
        self._objective = StackedObjective(first.training_loss, first.run.model, first.machine)
        self._predict = first.training_loss.predict
        self._parameters = _stacked([member.run.model for member in members])
        for name, parameter in self._parameters.items():
            parameter.requires_grad_(first.run.model.get_parameter(name).requires_grad)
        check_buffers([member.run.model for member in members])
        self._optimizer = make_optimizer(first.train, first.run.model, self._parameters)
        _stack_optimizers(self._optimizer, members)
        averages = [member.run.average for member in members]
        self._averages = _stacked([a.module for a in averages if a is not None]) if averages[0] else {}
        self._bad_step = torch.stack([member.watch.bad_step for member in members])
        self._loss_sum = torch.stack([member.run.loss_sum for member in members])
        for i, member in enumerate(members):
            member.watch.bad_step, member.run.loss_sum = self._bad_step[i], self._loss_sum[i]
        self._rows_of = _numbered([rows_key(member.job) for member in members])
        teachers = [member.spec.teacher for member in members]
        self._teacher_of = _numbered(
            [(rows, spec.digest if spec else "") for rows, spec in zip(self._rows_of, teachers, strict=True)]
        )
        self._members, self._switches = members, switches
        self._teachers: dict[int, Predictor] = {}
        for number, member in zip(self._teacher_of, members, strict=True):
            if member.teacher is not None:
                self._teachers.setdefault(number, Predictor(first.training_loss, member.teacher))
        self._buffers = dict(first.run.model.named_buffers())
        names = sorted({name for member in members for name in member.spec.weights})
        self._weights = {
            name: torch.tensor([float(m.spec.weights.get(name, 0.0)) for m in members], device=self._machine.device)
            for name in names
        }

    def take(self, members: Sequence[Member]) -> Tensor:
        """Update all models. Returns their mean losses, (S,)."""
        train, step = self._train, members[0].run.step
        inputs = {rows: members[self._rows_of.index(rows)].inputs(step) for rows in dict.fromkeys(self._rows_of)}
        losses = torch.zeros(len(members), device=self._machine.device)
        by_shape: dict[Any, list[int]] = {}
        for i, rows in enumerate(self._rows_of):
            shapes = tuple(tensor.shape for tensor in inputs[rows].tensors.values())
            by_shape.setdefault(shapes, []).append(i)
        compiled = None if self._switches.idle else self._compiled(inputs, list(by_shape.values()))
        targets = self._targets(members, inputs) if compiled is None else {}
        for chosen in by_shape.values():
            own = self._losses(chosen, inputs, targets) if compiled is None else compiled(chosen)
            own.sum().backward()  # type: ignore[no-untyped-call]
            losses[chosen] = own.detach()
        self._bad_step.copy_(torch.where((self._bad_step < 0) & ~losses.isfinite(), step, self._bad_step))
        if train.clip_norm:
            clip_each(self._parameters.values(), train.clip_norm)
        for group in self._optimizer.param_groups:
            group["lr"] = learning_rate(train, step, members[0].length.steps)
        self._optimizer.step()
        clear_subnormals(self._optimizer, step)
        self._optimizer.zero_grad(set_to_none=True)
        if self._averages:
            self._average(members)
        self._loss_sum += losses
        for member in members:
            member.run.loss_steps += 1
        return losses

    def _compiled(
        self, inputs: Mapping[int, Inputs], parts: Sequence[Sequence[int]]
    ) -> Callable[[Sequence[int]], Tensor] | None:
        """The mean losses of members with batches of equal shapes from their program, if this step is compiled."""
        names = [f"{len(chosen)} fits: {shapes_of([inputs[self._rows_of[chosen[0]]]])}" for chosen in parts]
        objectives = {tuple(chosen): self._objective_of(chosen) for chosen in parts}

        def arguments(chosen: Sequence[int]) -> Groups:
            parameters, weights = self._of(chosen)
            return objectives[tuple(chosen)].arguments(parameters, self._buffers, inputs, weights)

        def program(chosen: Sequence[int]) -> Compute | None:
            shapes = shapes_of([inputs[rows] for rows in dict.fromkeys(self._rows_of[i] for i in chosen)])
            rows, teachers = [self._rows_of[i] for i in chosen], [self._teacher_of[i] for i in chosen]
            name = (tuple(chosen), tuple(rows), tuple(teachers), tuple(self._weights), shapes)
            return self._switches.program(name, objectives[tuple(chosen)], lambda: arguments(chosen))

        if not self._switches.compiled(self._members[0].run.step, " + ".join(names), lambda: all(map(program, parts))):
            return None

        def losses(chosen: Sequence[int]) -> Tensor:
            own = program(chosen)
            assert own is not None
            return own(arguments(chosen))

        return losses

    def _objective_of(self, chosen: Sequence[int]) -> GroupObjective:
        rows_of, teacher_of = [self._rows_of[i] for i in chosen], [self._teacher_of[i] for i in chosen]
        return GroupObjective(self._objective, self._machine, rows_of, teacher_of, self._teachers)

    def _of(self, chosen: Sequence[int]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Parameters and weights of the members `chosen`."""
        whole = len(chosen) == len(self._rows_of)
        parameters = {name: tensor if whole else tensor[chosen] for name, tensor in self._parameters.items()}
        return parameters, {name: weight[chosen] for name, weight in self._weights.items()}

    def _targets(self, members: Sequence[Member], inputs: Mapping[int, Inputs]) -> dict[int, Any]:
        """The teachers' predictions: one for each different teacher and batch."""
        targets = {}
        for number in dict.fromkeys(self._teacher_of):
            i = self._teacher_of.index(number)
            teacher = members[i].teacher
            if teacher is not None:
                with torch.no_grad(), self._machine.autocast():
                    targets[number] = self._predict(teacher, inputs[self._rows_of[i]])
        return targets

    def _losses(self, chosen: Sequence[int], inputs: Mapping[int, Inputs], targets: Mapping[int, Any]) -> Tensor:
        """Mean losses of the members `chosen`, whose batches have equal shapes."""
        parameters, weights = self._of(chosen)
        batches = [inputs[self._rows_of[i]] for i in chosen]
        taught = [targets[self._teacher_of[i]] for i in chosen] if targets else None
        return self._objective(parameters, batches, taught, weights)

    def _average(self, members: Sequence[Member]) -> None:
        """Update the moving averages, as torch's AveragedModel does: the first update copies."""
        assert self._train.ema is not None
        averages, parameters = list(self._averages.values()), [p.detach() for p in self._parameters.values()]
        first = members[0].run.average
        assert first is not None
        if int(first.n_averaged) == 0:
            torch._foreach_copy_(averages, parameters)
        else:
            torch._foreach_lerp_(averages, parameters, 1 - self._train.ema)
        for member in members:
            assert member.run.average is not None
            member.run.average.n_averaged += 1


class MemberOptimizer:
    """One member's part of the stacked optimiser, as its checkpoints hold it."""

    def __init__(self, optimizer: torch.optim.Optimizer, member: int) -> None:
        self._optimizer, self._member = optimizer, member

    def state_dict(self) -> dict[str, Any]:
        """As the optimiser of this model alone would have it."""
        whole = self._optimizer.state_dict()
        state = {
            index: {name: t if name == "step" else t[self._member] for name, t in of_parameter.items() if t is not None}
            for index, of_parameter in whole["state"].items()
        }
        return {**whole, "state": state}


def _stacked(models: Sequence[nn.Module]) -> dict[str, Tensor]:
    """{name: (S, ...)} of the models' parameters, which become views of them."""
    stacked = {
        name: torch.stack([model.get_parameter(name).detach() for model in models])
        for name, _ in models[0].named_parameters()
    }
    for i, model in enumerate(models):
        for name, parameter in model.named_parameters():
            parameter.data = stacked[name][i]
    return stacked


def check_buffers(models: Sequence[nn.Module]) -> None:
    """Raise ValueError for models that differ in more than their parameters."""
    first = dict(models[0].named_buffers())
    for model in models[1:]:
        for name, buffer in model.named_buffers():
            if not torch.equal(buffer, first[name]):
                raise ValueError(f"the models differ in the buffer {name}")


def _stack_optimizers(optimizer: torch.optim.Optimizer, members: Sequence[Member]) -> None:
    """Give the stacked optimiser the members' states, and each member its part of it."""
    states = [member.run.optimizer.state_dict()["state"] for member in members]
    whole: dict[int, dict[str, Any]] = {}
    for index, of_parameter in states[0].items():
        whole[index] = {
            name: value if name == "step" else torch.stack([state[index][name] for state in states])
            for name, value in of_parameter.items()
            if value is not None
        }
    if whole:
        optimizer.load_state_dict({**optimizer.state_dict(), "state": whole})
    for i, member in enumerate(members):
        member.run.optimizer = MemberOptimizer(optimizer, i)  # type: ignore[assignment]


def _numbered(keys: Sequence[Any]) -> list[int]:
    """For each key the number of its first occurrence among different keys."""
    numbers = {key: number for number, key in enumerate(dict.fromkeys(keys))}
    return [numbers[key] for key in keys]


def clip_each(parameters: Any, most: float) -> None:
    """Scale each member's gradient down to the norm `most`, as torch's clip_grad_norm_ does for one model."""
    gradients = [p.grad for p in parameters if p.grad is not None]
    norms = torch.stack([g.reshape(len(g), -1).norm(dim=1) for g in gradients]).norm(dim=0)
    factors = (most / (norms + 1e-6)).clamp(max=1.0)
    for gradient in gradients:
        gradient.mul_(factors.view(-1, *[1] * (gradient.dim() - 1)))
