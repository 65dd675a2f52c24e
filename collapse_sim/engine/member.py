"""One fit between its steps: rows, state, checkpoints, evaluations, and whether it has diverged."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import swa_utils
from torch.optim.swa_utils import AveragedModel

from collapse_sim.core.errors import DivergedError
from collapse_sim.core.machine import Machine
from collapse_sim.core.randomness import Draws, derive
from collapse_sim.engine import artefacts
from collapse_sim.engine.checkpoint import Checkpoints
from collapse_sim.engine.optimizers import make_optimizer
from collapse_sim.engine.row_weights import stored_row_weights
from collapse_sim.engine.rows import Table
from collapse_sim.engine.score import validation_loss
from collapse_sim.engine.sharding import Whole, holding
from collapse_sim.engine.training_loss import TrainingLoss
from collapse_sim.engine.work import JobContext
from collapse_sim.families.base import Inputs, ModelFamily
from collapse_sim.families.layers import LayerMaps
from collapse_sim.families.training import FitLength
from collapse_sim.plan.specs import FitSpec
from collapse_sim.plan.taught import layer_sizes
from collapse_sim.store.jobs import Job, where
from collapse_sim.store.process import environment


class Member:
    """A fit, alone or in a group. The caller has seeded torch's global generators, and restores them."""

    def __init__(self, job: Job, context: JobContext, table: Table | None = None) -> None:
        """`table`: the rows, where another fit of the group reads the same. Raises DivergedError when this fit diverged
        before in the same circumstances."""
        spec = job.spec
        assert isinstance(spec, FitSpec)
        assert spec.train is not None
        self.job, self.spec, self.context, self.train = job, spec, context, spec.train
        self.family: ModelFamily = spec.family
        self.role = "own " if spec.kind == "own fit" else ""  # before the roles of random draws
        self.training_loss = TrainingLoss.of(spec)
        self.seed = job.seeds[0] if job.seeds else 0
        self.machine = context.machine_for(spec)
        self.table = table or artefacts.training_table(context.store, spec, self.seed, self.machine)
        self.row_weights = stored_row_weights(context.store, spec, self.seed)
        self.length = FitLength.of(self.train, len(self.table))
        self.ranks = context.ranks
        self.held = holding(self.train, self.ranks, self.machine)
        folder = self.ranks.of_first(lambda: context.store.partial(job))
        self.checkpoints = Checkpoints(folder, self.ranks, self.held)
        self.watch = DivergenceWatch(job, self.checkpoints, self.machine)
        self.teacher = None
        if spec.teacher:
            self.teacher = artefacts.model(context.store, spec.teacher, job.seeds, self.held.loads_on)
            self.held.place(spec.teacher.family, self.teacher)
        other, info = spec.teaching, spec.data.info
        self._layer_sizes = layer_sizes(spec.family, other, info, spec.layers) if other else {}
        self._order = (-1, torch.empty(0, dtype=torch.int64))
        self._settled = False
        self.start()

    def start(self, most: int | None = None) -> None:
        """Begin with the newest checkpoint, of at most `most` steps, or from the start."""
        self.machine.reseed(derive(self.seed, f"{self.role}init", self.spec.generation))
        model = self.family.build(self.spec.data.info).to(self.held.loads_on.device)
        if self.spec.init:
            given = artefacts.model(self.context.store, self.spec.init, self.job.seeds, self.held.loads_on)
            model.load_state_dict(given.state_dict())
        average = AveragedModel(model, multi_avg_fn=_ema(self.train.ema)) if self.train.ema else None
        maps = self._maps()
        self.held.place(self.family, model, *([] if maps is None else [maps]))
        if average is not None:
            self.held.place(self.family, average.module)
        learned = model if maps is None else nn.ModuleDict({"model": model, "maps": maps})
        optimizer = make_optimizer(self.train, learned)
        self.run = FitState(model, optimizer, self.machine.scaler(), average, maps)
        self.checkpoints.restore(self.run, self.context.emit, most)
        model.train()

    def _maps(self) -> LayerMaps | None:
        """Linear maps of the student's layers to the teacher's sizes, with initial weights of their own draws."""
        if not self._layer_sizes:
            return None
        self.machine.reseed(derive(self.seed, f"{self.role}layer maps", self.spec.generation))
        return LayerMaps(self._layer_sizes)

    @property
    def done(self) -> bool:
        """Whether no step is left."""
        return self._settled or self.run.step >= self.length.steps

    def inputs(self, step: int) -> Inputs:
        """The batch of a step."""
        index = self._rows(step)
        rows = self.table.gather(index)
        if step + 1 < self.length.steps:
            self.table.prefetch(self._rows(step + 1))
        draws = Draws((self.seed,), f"{self.role}corrupt", self.spec.generation, step, device=self.machine.device)
        inputs = self.family.corrupt(rows, draws)
        if self.row_weights is None:
            return inputs
        return inputs.weighted(self.machine.put(self.row_weights[index].float()))

    def _rows(self, step: int) -> Tensor:
        """The numbers of a step's rows, in the order of its epoch."""
        epoch = step // self.length.steps_per_epoch
        if epoch != self._order[0]:
            order = Draws((self.seed,), f"{self.role}order", self.spec.generation, epoch).permutation(len(self.table))
            self._order = (epoch, order)
        first = step % self.length.steps_per_epoch * self.train.batch_size
        return self._order[1][first : first + self.train.batch_size]

    def evaluate(self) -> None:
        """After a step: record the validation loss where it is due. Raises DivergedError."""
        run, every = self.run, self.length.evaluate_every
        if not (self.done or (every and run.step % every == 0)):
            return
        self.watch.check()
        if every:
            store, data, model = self.context.store, self.spec.data, run.current()
            loss = self.held.evaluated(
                model, lambda: validation_loss(store, data, self.family, model, self.seed, self.machine)
            )
            run.model.train()
            if math.isnan(loss):
                self.watch.end(run.step, "the validation loss is nan")
            run.record(loss, self.length.steps_per_epoch, best=self.train.keep == "best")
            self._settled = run.settled(self.train.patience)

    def report(self, rows: int, loss: Tensor) -> None:
        """Emit progress; `rows` were seen since the last report."""
        self.context.report(self.job, self.run.step, self.length.steps, "steps", rows, float(loss))

    def save(self) -> None:
        """Take a checkpoint. Raises DivergedError."""
        self.watch.check()
        self.checkpoints.save(self.run)

    def fitted(self) -> nn.Module:
        """The fitted model. Raises DivergedError unless its weights and the last batch's loss are finite."""
        run = self.run
        model = run.current()
        if self.train.keep == "best" and run.best_state is not None:
            model = run.model
            model.load_state_dict(run.best_state)
        batch = self.inputs(max(0, run.step - 1)).split(self.train.accumulate)  # an untrained teacher takes no step
        self.watch.check_fitted(run.step, self.family, model, batch, self.held)
        return model

    def state(self) -> dict[str, Tensor]:
        """The fitted model's tensors, on rank 0 at least. Raises DivergedError as `fitted` does."""
        return self.held.gathered(self.fitted().state_dict())


def _ema(decay: float) -> Any:
    return swa_utils.get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]


class FitState:
    """The state of a fit between steps: everything that a checkpoint holds."""

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        scaler: torch.amp.GradScaler,
        average: AveragedModel | None,
        maps: LayerMaps | None = None,
    ) -> None:
        self.model, self.optimizer, self.scaler, self.average = model, optimizer, scaler, average
        self.maps = maps  # learned with the model, and no part of it
        self.step = 0
        self.skipped = 0  # steps whose gradients overflowed
        self.history: list[dict[str, Any]] = []
        self.best_loss = math.inf
        self.best_state: dict[str, Tensor] | None = None
        self.loss_sum = torch.zeros((), dtype=torch.float64, device=next(model.parameters()).device)
        self.loss_steps = 0

    def parameters(self) -> list[nn.Parameter]:
        """All that is learned."""
        return [*self.model.parameters(), *(self.maps.parameters() if self.maps else ())]

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
        self.loss_sum += loss
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
        self.loss_sum.zero_()
        self.loss_steps = 0
        if best and validation_loss < self.best_loss:
            self.best_loss = validation_loss
            self.best_state = {name: tensor.detach().clone() for name, tensor in self.current().state_dict().items()}


class DivergenceWatch:
    """Detects values that are not finite and records the finding, so that the same fit is not retried in vain."""

    def __init__(self, job: Job, checkpoints: Checkpoints, machine: Machine) -> None:
        """Raises DivergedError when this fit diverged before with the same versions on the same kind of device."""
        self._job, self._checkpoints, self._machine = job, checkpoints, machine
        self._setting = {"device": machine.device.type, "precision": machine.precision, **environment()}
        self.bad_step = torch.full((), -1, device=machine.device)
        known = checkpoints.ending()
        if known and known.get("setting") == self._setting:
            kept = (
                "(as before: it is tried again only with other versions, on another device, or without "
                f"{checkpoints.ended})"
            )
            raise DivergedError(f"{where(job, job.seeds)}: {known['message']} {kept}", job.seeds)

    def see(self, step: int, loss: Tensor) -> None:
        """Note the first step whose loss is not finite, without waiting for the device."""
        self.bad_step = torch.where((self.bad_step < 0) & ~loss.isfinite(), step, self.bad_step)

    def check(self) -> None:
        """Raise DivergedError if such a step was seen."""
        step = int(self.bad_step)
        if step >= 0:
            self.end(step + 1, "the loss became non-finite")

    @torch.no_grad()
    def check_fitted(
        self, step: int, family: ModelFamily, model: nn.Module, batch: Sequence[Inputs], held: Whole
    ) -> None:
        """Raise DivergedError unless the weights, and the last batch's loss under them, are finite: no later step would
        show what the last update did."""
        if not held.finite(model):
            self.end(step, "the weights became non-finite")
        model.eval()

        def loss_of(part: Inputs) -> Tensor:
            with self._machine.autocast():
                prediction = family.predict(model, part)
            return family.loss(prediction, part)

        losses = (held.call(model, partial(loss_of, part)) for part in batch)
        finite = all(bool(loss.isfinite()) for loss in losses)
        held.end_step(model)
        if not finite:
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
