"""The only optimisation loop. It knows no family and no strategy by name."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors.torch import save
from torch import Tensor, nn

from collapse_sim.core.errors import DivergedError, InterruptedRunError
from collapse_sim.core.machine import Machine
from collapse_sim.core.randomness import Draws, derive
from collapse_sim.core.ranks import Pause, Ranks
from collapse_sim.engine import artefacts
from collapse_sim.engine.groups import rows_key
from collapse_sim.engine.member import Member
from collapse_sim.engine.objective import SingleObjective, shapes_of, trimmed
from collapse_sim.engine.optimizers import clear_subnormals
from collapse_sim.engine.row_weights import stored_row_weights, weighs_rows
from collapse_sim.engine.rows import Table
from collapse_sim.engine.sharding import Whole, pieces
from collapse_sim.engine.stacked import StackedStep
from collapse_sim.engine.switches import Compute, Switches
from collapse_sim.engine.training_loss import TrainingLoss
from collapse_sim.engine.work import JobContext
from collapse_sim.families.base import ClosedForm, Inputs
from collapse_sim.families.hooks import SolvesWeighted
from collapse_sim.families.layers import LayerMaps
from collapse_sim.families.training import learning_rate
from collapse_sim.plan.specs import FitSpec
from collapse_sim.store.jobs import Job, where
from collapse_sim.store.store import Store

HISTORY_FILE = "history.json"


def fit(job: Job, folder: Path, context: JobContext) -> None:
    """Fit a model and write model.safetensors and history.json: solved if the family allows it, otherwise optimised.

    Raises DivergedError when a loss, or anything to be stored, is not finite.
    """
    spec = job.spec
    assert isinstance(spec, FitSpec)
    if isinstance(spec.family, ClosedForm):
        model = _solve(spec, spec.family, job.seeds, context)
        _check_solution(job, model)
        write_model(folder, model.state_dict(), [], 0)
        return
    for error in fit_together([job], [folder], context).values():
        raise error


def fit_together(jobs: Sequence[Job], folders: Sequence[Path], context: JobContext) -> dict[int, Exception]:
    """Fit models of one architecture and schedule (engine/groups.py) at the same time, and write the files of each.

    Returns {position in `jobs`: error} of those that diverged; the others are complete.
    """
    first = jobs[0].spec
    assert isinstance(first, FitSpec)
    errors: dict[int, Exception] = {}
    with context.machine_for(first).seeded(derive(jobs[0].seeds[0] if jobs[0].seeds else 0, "init", first.generation)):
        members = _members(jobs, context, errors)
        _optimise(members, context, errors)
        for number, member in members.items():
            if number in errors:
                continue
            try:
                state = member.state()
            except DivergedError as error:
                errors[number] = error
            else:
                context.ranks.of_first(
                    partial(write_model, folders[number], state, member.run.history, member.run.step)
                )
    return errors


def write_model(folder: Path, state: Mapping[str, Tensor], history: list[dict[str, Any]], updates: int) -> None:
    """Write model.safetensors and history.json."""
    tensors = {name: tensor.contiguous().cpu() for name, tensor in state.items()}
    (folder / artefacts.MODEL_FILE).write_bytes(save(tensors))
    (folder / HISTORY_FILE).write_text(json.dumps({"updates": updates, "evaluations": history}, indent=1))


def _solve(spec: FitSpec, family: ClosedForm, seeds: tuple[int, ...], context: JobContext) -> nn.Module:
    machine = context.machine_for(spec)
    rows = {name: machine.put(column) for name, column in artefacts.training_stack(context.store, spec, seeds).items()}
    teacher = artefacts.model(context.store, spec.teacher, seeds, machine) if spec.teacher else None
    draws = Draws(seeds, "solve", spec.generation, device=machine.device, dtype=torch.float64, stacked=True)
    if weighs_rows(context.store, spec, seeds[0]):
        weights = [stored_row_weights(context.store, spec, seed) for seed in seeds]
        assert isinstance(family, SolvesWeighted)
        of_rows = machine.put(torch.stack([each for each in weights if each is not None]))
        return family.solve_weighted(spec.data.info, rows, of_rows, teacher, spec.weights, draws)
    return family.solve(spec.data.info, rows, teacher, spec.weights, draws)


def _check_solution(job: Job, model: nn.Module) -> None:
    """Raise DivergedError for the seeds whose parameters are not finite."""
    tensors = [tensor for tensor in model.state_dict().values() if tensor.is_floating_point()]
    good = [tensor.isfinite().reshape(len(tensor), -1).all(1).tolist() for tensor in tensors]
    bad = tuple(seed for seed, *whole in zip(job.seeds, *good, strict=True) if not all(whole))
    if bad:
        raise DivergedError(
            f"{where(job, bad)}: the fitted parameters are not finite: no such "
            f"{type(job.spec.family).__name__} exists for its rows; the chain ends there",  # type: ignore[attr-defined]
            bad,
        )


def backward(
    training_loss: TrainingLoss,
    model: nn.Module,
    inputs: Inputs,
    machine: Machine,
    scaler: torch.amp.GradScaler,
    teacher: nn.Module | None = None,
    weights: Mapping[str, float] | None = None,
    parts: int = 1,
    compiled: Callable[[int], Tensor] | None = None,
    maps: LayerMaps | None = None,
    held: Whole | None = None,
    uncounted: Sequence[Inputs] = (),
) -> Tensor:
    """Add the gradients of mean(loss + sum of weights x terms) over the batch, in `parts` micro-batches.

    `compiled`: the same mean of micro-batch i, from a compiled program. `maps`: of the student's layers to the sizes of
    the teacher's; they get gradients, too. `held`: how ranks hold the models (None: whole), which all of them compute
    equally often: `uncounted` are micro-batches that add nothing.

    Student and teacher see the same inputs; sums are divided by the whole batch's count, once, here. Returns the mean.
    """
    total = torch.zeros((), device=machine.device)
    held = held or Whole(Ranks())

    def loss_of(part: Inputs) -> Tensor:
        with machine.autocast():
            student = training_loss.predict(model, part, maps)
        loss = training_loss.loss(student, part)
        if teacher is not None:
            with torch.no_grad(), machine.autocast():
                target = held.call(teacher, lambda: training_loss.of_teacher.predict(teacher, part))
            terms = training_loss.terms(student, target, part)
            loss = loss + sum(weight * terms[name] for name, weight in (weights or {}).items())
        return loss / inputs.count

    counted = inputs.split(parts) if inputs.rows else []
    batches = [*counted, *uncounted]
    for i, part in enumerate(batches):
        with held.backward(model, last=i + 1 == len(batches)):
            loss = compiled(i) if compiled is not None else held.call(model, partial(loss_of, part))
            if i >= len(counted):
                loss = loss * 0
            scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        total += loss.detach()
    held.end_step(model, *([] if teacher is None else [teacher]))
    return total


def take_step(scaler: torch.amp.GradScaler, optimizer: torch.optim.Optimizer) -> bool:
    """Update the optimiser. Returns whether the step was taken: under fp16, one whose gradients overflow is skipped and
    the next is scaled by less. A skipped step moves neither the schedule nor the averaged weights."""
    scale = scaler.get_scale() if scaler.is_enabled() else 0.0
    scaler.step(optimizer)
    scaler.update()
    return not scaler.is_enabled() or scaler.get_scale() >= scale


def updates_of(store: Store, spec: FitSpec, seed: int) -> int | None:
    """How many updates a stored or pruned fit took; None for one that diverged."""
    block = store.whole_or_record(spec, seed)
    return None if block is None else int(json.loads(block.file(HISTORY_FILE).read_text())["updates"])


def _members(jobs: Sequence[Job], context: JobContext, errors: dict[int, Exception]) -> dict[int, Member]:
    """The fits that can begin, by their position in `jobs`, all at the same step."""
    tables: dict[Any, Table] = {}
    members: dict[int, Member] = {}
    for number, job in enumerate(jobs):
        key = rows_key(job)
        try:
            member = Member(job, context, tables.get(key))
        except DivergedError as error:
            errors[number] = error
            continue
        tables[key] = member.table
        members[number] = member
    while len(steps := {member.run.step for member in members.values()}) > 1:
        for member in members.values():
            if member.run.step > min(steps):
                member.start(min(steps))
    return members


class Step(Protocol):
    """One update of some fits."""

    def take(self, members: Sequence[Member]) -> Tensor:
        """Update the models by the step that they are at. Returns their mean losses, (S,)."""
        ...


class SingleStep:
    """One fit's own forward and backward pass."""

    def __init__(self, member: Member, switches: Switches) -> None:
        self._member, self._switches = member, switches
        self._objective: SingleObjective | None = None
        self._summed = member.held.gradients(member.run.parameters())

    def take(self, members: Sequence[Member]) -> Tensor:
        (member,) = members
        run, train, spec, machine = member.run, member.train, member.spec, member.machine
        role = member.ranks.role(f"{member.role}dropout")
        machine.reseed(derive(member.seed, role, spec.generation, run.step))
        inputs, uncounted = member.held.shares(member.inputs(run.step), train.accumulate)
        compiled = None if self._switches.idle else self._compiled(inputs)
        self._summed.begin(pieces(inputs.rows, train.accumulate))
        loss = backward(
            member.training_loss,
            run.model,
            inputs,
            machine,
            run.scaler,
            member.teacher,
            spec.weights,
            train.accumulate,
            compiled,
            run.maps,
            member.held,
            uncounted,
        )
        loss = self._summed(loss)  # before anything looks at gradients: an overflow on one rank is one on all
        member.watch.see(run.step, loss)
        run.scaler.unscale_(run.optimizer)
        if train.clip_norm:
            nn.utils.clip_grad_norm_(run.parameters(), train.clip_norm)
        for group in run.optimizer.param_groups:
            group["lr"] = learning_rate(train, run.step - run.skipped, member.length.steps)
        taken = take_step(run.scaler, run.optimizer)
        clear_subnormals(run.optimizer, run.step)
        run.optimizer.zero_grad(set_to_none=True)
        run.skipped += not taken
        if run.average and taken:
            run.average.update_parameters(run.model)
        run.add(loss)
        return loss[None]

    def _compiled(self, inputs: Inputs) -> Callable[[int], Tensor] | None:
        """The mean loss of micro-batch i from its program, if this step is compiled."""
        member = self._member
        pieces = inputs.split(member.train.accumulate) if member.train.accumulate > 1 else [inputs]
        parts = [trimmed(member.family, member.run.model, piece) for piece in pieces]
        if not self._switches.compiled(member.run.step, shapes_of(parts), lambda: all(map(self._program, parts))):
            return None
        return lambda i: self._call(parts[i])

    def _program(self, part: Inputs) -> Compute | None:
        if self._objective is None:
            member = self._member
            self._objective = SingleObjective(
                member.training_loss,
                member.run.model,
                member.teacher,
                member.spec.weights,
                member.machine,
                member.run.maps,
            )
        arguments = partial(self._objective.arguments, part)
        return self._switches.program(("alone", shapes_of([part])), self._objective, arguments)

    def _call(self, part: Inputs) -> Tensor:
        program = self._program(part)
        assert program is not None
        assert self._objective is not None
        return program(self._objective.arguments(part))


def _optimise(members: Mapping[int, Member], context: JobContext, errors: dict[int, Exception]) -> None:
    """Take all steps of the members. `errors` gets those that diverge; in a group they stay as they are, so that the
    shapes of the others' computation do not change."""
    everyone = list(members.values())
    if not everyone:
        return
    switches = Switches(context.programs, everyone)
    step: Step = SingleStep(everyone[0], switches) if len(everyone) == 1 else StackedStep(everyone, switches)
    context.restart_clock()
    last_save, rows_seen = time.perf_counter(), 0

    def of_each(act: Callable[[Member], None]) -> None:
        for number, member in members.items():
            if number not in errors:
                try:
                    act(member)
                except DivergedError as error:
                    errors[number] = error

    while len(errors.keys() & members.keys()) < len(everyone) and not everyone[0].done:
        with switches.timed():
            losses = step.take(everyone)
        rows_seen += sum(member.train.batch_size for member in everyone)
        for member in everyone:
            member.run.step += 1
        of_each(lambda member: member.evaluate())
        save = time.perf_counter() - last_save > context.checkpoint_s
        pause = context.ranks.agreed(Pause(context.due(), save, context.stop.signal_number))
        if pause.report:
            of_each(lambda member: member.watch.check())
            shown = next((i for i, number in enumerate(members) if number not in errors), 0)
            everyone[shown].report(rows_seen, losses[shown])
            rows_seen = 0
        if not everyone[0].done and (pause.signal or pause.save):
            of_each(lambda member: member.save())
            last_save = time.perf_counter()
            if pause.signal:
                raise InterruptedRunError("interrupted", pause.signal)
    if len(everyone) > 1:  # a kill between the commits of a group must not make a smaller group of the rest
        of_each(lambda member: member.save())
