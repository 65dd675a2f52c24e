"""The only optimisation loop. It knows no family and no strategy by name."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor, nn
from torch.optim import swa_utils
from torch.optim.swa_utils import AveragedModel

from collapse_sim.core.errors import DivergedError
from collapse_sim.core.machine import Machine
from collapse_sim.core.randomness import Draws, derive
from collapse_sim.engine import artefacts
from collapse_sim.engine.checkpoint import Checkpoints
from collapse_sim.engine.score import validation_loss
from collapse_sim.engine.work import JobContext
from collapse_sim.families.base import ClosedForm, Inputs, ModelFamily
from collapse_sim.families.training import FitLength, Train, learning_rate
from collapse_sim.plan.specs import FitSpec
from collapse_sim.store.jobs import Job, where
from collapse_sim.store.process import environment
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
        history: list[dict[str, Any]] = []
        updates = 0
        _check_solution(job, model)
    else:
        model, history, updates = _optimise(job, spec, context)
    state = {name: tensor.contiguous().cpu() for name, tensor in model.state_dict().items()}
    (folder / artefacts.MODEL_FILE).write_bytes(save(state))
    (folder / HISTORY_FILE).write_text(json.dumps({"updates": updates, "evaluations": history}, indent=1))


def _solve(spec: FitSpec, family: ClosedForm, seeds: tuple[int, ...], context: JobContext) -> nn.Module:
    machine = context.machine_for(spec)
    rows = {name: machine.put(column) for name, column in artefacts.training_stack(context.store, spec, seeds).items()}
    teacher = artefacts.model(context.store, spec.teacher, seeds, machine) if spec.teacher else None
    draws = Draws(seeds, "solve", spec.generation, device=machine.device, dtype=torch.float64, stacked=True)
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


def make_optimizer(train: Train, model: nn.Module) -> torch.optim.Optimizer:
    """The optimiser that a recipe names."""
    groups, rate = _groups(train, model), train.learning_rate
    if train.optimizer == "sgd":
        return torch.optim.SGD(groups, rate, momentum=train.momentum)
    kind = torch.optim.AdamW if train.optimizer == "adamw" else torch.optim.Adam
    return kind(groups, rate, betas=train.betas, fused=True)


def _groups(train: Train, model: nn.Module) -> list[dict[str, Any]]:
    """All parameters; with `decay: weights` in two groups: matrices and kernels decay, but embeddings and parameters of
    fewer than two dimensions (biases, the scales of norms) don't."""
    parameters = list(model.parameters())
    if train.decay == "all" or not train.weight_decay:
        return [{"params": parameters, "weight_decay": train.weight_decay}]
    vectors = {id(p) for layer in model.modules() if isinstance(layer, nn.Embedding) for p in layer.parameters()}
    still = {id(p) for p in parameters if p.dim() < 2} | vectors
    return [
        {"params": [p for p in parameters if id(p) not in still], "weight_decay": train.weight_decay},
        {"params": [p for p in parameters if id(p) in still], "weight_decay": 0.0},
    ]


def backward(
    family: ModelFamily,
    model: nn.Module,
    inputs: Inputs,
    machine: Machine,
    scaler: torch.amp.GradScaler,
    teacher: nn.Module | None = None,
    weights: Mapping[str, float] | None = None,
    parts: int = 1,
) -> Tensor:
    """Add the gradients of mean(loss + sum of weights x terms) over the batch, in `parts` micro-batches.

    Student and teacher see the same inputs; sums are divided by the whole batch's count, once, here. Returns the mean.
    """
    count = machine.total(inputs.count)
    total = torch.zeros((), device=machine.device)
    for part in inputs.split(parts):
        with machine.autocast():
            student = family.predict(model, part)
        loss = family.loss(student, part)
        if teacher is not None:
            with torch.no_grad(), machine.autocast():
                target = family.predict(teacher, part)
            terms = family.distillation(student, target, part)
            loss = loss + sum(weight * terms[name] for name, weight in (weights or {}).items())
        loss = loss / count
        scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        total += loss.detach()
    return total


def take_step(scaler: torch.amp.GradScaler, optimizer: torch.optim.Optimizer) -> bool:
    """Update the optimiser. Returns whether the step was taken: under fp16, one whose gradients overflow is skipped and
    the next is scaled by less. A skipped step moves neither the schedule nor the averaged weights."""
    scale = scaler.get_scale() if scaler.is_enabled() else 0.0
    scaler.step(optimizer)
    scaler.update()
    return not scaler.is_enabled() or scaler.get_scale() >= scale


def _ema(decay: float) -> Any:
    return swa_utils.get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]


def updates_of(store: Store, spec: FitSpec, seed: int) -> int | None:
    """How many updates a stored fit took; None for one that diverged."""
    if not store.has(spec, seed):
        return None
    return int(json.loads(store.block(spec, seed).file(HISTORY_FILE).read_text())["updates"])


def _optimise(job: Job, spec: FitSpec, context: JobContext) -> tuple[nn.Module, list[dict[str, Any]], int]:
    """The fitted model, the evaluations, and the number of updates taken."""
    family, train, k = spec.family, spec.train, spec.generation
    assert train is not None
    seed = job.seeds[0] if job.seeds else 0
    machine = context.machine_for(spec)
    table = artefacts.training_table(context.store, spec, seed, machine)
    length = FitLength.of(train, len(table))

    with machine.seeded(derive(seed, "init", k)):
        model = family.build(spec.data.info).to(machine.device)
        if spec.init:
            model.load_state_dict(artefacts.model(context.store, spec.init, job.seeds, machine).state_dict())
        teacher = artefacts.model(context.store, spec.teacher, job.seeds, machine) if spec.teacher else None
        optimizer = make_optimizer(train, model)
        scaler = machine.scaler()
        average = AveragedModel(model, multi_avg_fn=_ema(train.ema)) if train.ema else None
        run = _Run(model, optimizer, scaler, average)
        checkpoints = Checkpoints(context.store.partial(job))
        watch = _Watch(job, checkpoints, machine)
        checkpoints.restore(run, context.emit)

        context.restart_clock()
        last_save, rows_seen = time.perf_counter(), 0
        epoch, order = -1, torch.empty(0, dtype=torch.int64)
        model.train()
        last = False
        while not last:
            step = run.step
            if step // length.steps_per_epoch != epoch:
                epoch = step // length.steps_per_epoch
                order = Draws((seed,), "order", k, epoch).permutation(len(table))
            first = step % length.steps_per_epoch * train.batch_size
            rows = table.gather(order[first : first + train.batch_size])
            rows_seen += train.batch_size

            machine.reseed(derive(seed, "dropout", k, step))
            inputs = family.corrupt(rows, Draws((seed,), "corrupt", k, step, device=machine.device))
            loss = backward(family, model, inputs, machine, scaler, teacher, spec.weights, train.accumulate)
            watch.see(step, loss)
            scaler.unscale_(optimizer)
            if train.clip_norm:
                nn.utils.clip_grad_norm_(model.parameters(), train.clip_norm)
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(train, step - run.skipped, length.steps)
            taken = take_step(scaler, optimizer)
            optimizer.zero_grad(set_to_none=True)
            run.skipped += not taken
            if average and taken:
                average.update_parameters(model)
            run.step += 1
            run.add(loss)

            last = run.step == length.steps
            if last or (length.evaluate_every and run.step % length.evaluate_every == 0):
                watch.check()
                if length.evaluate_every:
                    held_out_loss = validation_loss(context.store, spec.data, family, run.current(), seed, machine)
                    if math.isnan(held_out_loss):
                        watch.end(run.step, "the validation loss is nan")
                    run.record(held_out_loss, length.steps_per_epoch, best=train.keep == "best")
                    model.train()
                    last = last or run.settled(train.patience)
            if context.due():
                watch.check()
                context.report(job, run.step, length.steps, "steps", rows_seen, float(loss))
                rows_seen = 0
            if not last and (context.stop.wanted or time.perf_counter() - last_save > context.checkpoint_s):
                watch.check()
                checkpoints.save(run)
                last_save = time.perf_counter()
                context.stop.check()
        fitted = run.current()
        if train.keep == "best" and run.best_state is not None:
            fitted = model
            fitted.load_state_dict(run.best_state)
        watch.check_fitted(run.step, family, fitted, inputs.split(train.accumulate))
    return fitted, run.history, run.step


class _Run:
    """The state of a fit between steps: everything that a checkpoint holds."""

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        scaler: torch.amp.GradScaler,
        average: AveragedModel | None,
    ) -> None:
        self.model, self.optimizer, self.scaler, self.average = model, optimizer, scaler, average
        self.step = 0
        self.skipped = 0  # steps whose gradients overflowed
        self.history: list[dict[str, Any]] = []
        self.best_loss = math.inf
        self.best_state: dict[str, Tensor] | None = None
        self.loss_sum = torch.zeros((), dtype=torch.float64)
        self.loss_steps = 0

    def current(self) -> nn.Module:
        """The weights that count as the model: averaged ones under EMA."""
        return self.model if self.average is None else self.average.module

    def settled(self, patience: int | None) -> bool:
        """Whether none of the last `patience` evaluations was lower than the lowest before them."""
        if patience is None or not self.history:
            return False
        losses = [entry["validation_loss"] for entry in self.history]
        return len(losses) - 1 - losses.index(min(losses)) >= patience

    def add(self, loss: Tensor) -> None:
        """Count a step's loss for the next record."""
        self.loss_sum = self.loss_sum.to(loss.device) + loss
        self.loss_steps += 1

    def record(self, validation_loss: float, steps_per_epoch: int, *, best: bool) -> None:
        """Add an evaluation to the history, and keep the weights if they are the best so far."""
        self.history.append(
            {
                "step": self.step,
                "epoch": round(self.step / steps_per_epoch, 3),
                "train_loss": float(self.loss_sum) / max(1, self.loss_steps),
                "validation_loss": validation_loss,
            }
        )
        self.loss_sum, self.loss_steps = torch.zeros_like(self.loss_sum), 0
        if best and validation_loss < self.best_loss:
            self.best_loss = validation_loss
            self.best_state = {name: tensor.detach().clone() for name, tensor in self.current().state_dict().items()}


class _Watch:
    """Detects values that are not finite and records the finding, so that the same fit is not retried in vain."""

    def __init__(self, job: Job, checkpoints: Checkpoints, machine: Machine) -> None:
        """Raises DivergedError when this fit diverged before with the same versions on the same kind of device."""
        self._job, self._checkpoints, self._machine = job, checkpoints, machine
        self._setting = {"device": machine.device.type, "precision": machine.precision, **environment()}
        self._bad_step = torch.full((), -1, device=machine.device)
        known = checkpoints.ending()
        if known and known.get("setting") == self._setting:
            kept = (
                "(as before: it is tried again only with other versions, on another device, or without "
                f"{checkpoints.ended})"
            )
            raise DivergedError(f"{where(job, job.seeds)}: {known['message']} {kept}", job.seeds)

    def see(self, step: int, loss: Tensor) -> None:
        """Note the first step whose loss is not finite, without waiting for the device."""
        self._bad_step = torch.where((self._bad_step < 0) & ~loss.isfinite(), step, self._bad_step)

    def check(self) -> None:
        """Raise DivergedError if such a step was seen."""
        step = int(self._bad_step)
        if step >= 0:
            self.end(step + 1, "the loss became non-finite")

    @torch.no_grad()
    def check_fitted(self, step: int, family: ModelFamily, model: nn.Module, batch: Sequence[Inputs]) -> None:
        """Raise DivergedError unless the weights, and the last batch's loss under them, are finite: no later step would
        show what the last update did."""
        state = {name: tensor for name, tensor in model.state_dict().items() if tensor.is_floating_point()}
        if not all(bool(tensor.isfinite().all()) for tensor in state.values()):
            self.end(step, "the weights became non-finite")
        model.eval()
        for part in batch:
            with self._machine.autocast():
                prediction = family.predict(model, part)
            if not bool(family.loss(prediction, part).isfinite()):
                self.end(step, "the loss became non-finite")

    def end(self, step: int, what: str) -> None:
        """Record the message of a DivergedError and raise it."""
        good = self._checkpoints.newest()
        kept = f"the last good checkpoint is {good}" if good else "there is no earlier checkpoint of this fit"
        message = (
            f"{what} at step {step}; {kept}; finished generations are kept: lower train.learning_rate, or set "
            "train.clip_norm or train.precision: fp32, with another --out (finished work is found in the store)"
        )
        self._checkpoints.end({"setting": self._setting, "message": message})
        raise DivergedError(f"{where(self._job, self._job.seeds)}: {message}", self._job.seeds)
