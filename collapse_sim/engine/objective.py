"""The mean loss of a batch as a function of tensors alone, which engine/programs.py can compile."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.func import functional_call

from collapse_sim.core.machine import Machine
from collapse_sim.engine.training_loss import ForwardPass, TrainingLoss
from collapse_sim.families.base import Inputs, ModelFamily
from collapse_sim.families.hooks import Trims
from collapse_sim.families.layers import LayerMaps

Groups = dict[str, Mapping[str, Tensor]]  # the arguments of an objective by their names, each with names of its own
KEPT = frozenset({"student", "teacher", "parameters", "buffers", "teachers"})  # of these, tensors that all steps share


class Predictor(nn.Module):
    """The forward pass of a fit as a module's, so that its parameters can be given."""

    def __init__(self, training_loss: TrainingLoss, model: nn.Module, maps: LayerMaps | None = None) -> None:
        super().__init__()
        self._training_loss, self.model, self.maps = training_loss, model, maps

    def forward(self, inputs: Inputs) -> ForwardPass:
        return self._training_loss.predict(self.model, inputs, self.maps)

    def tensors(self) -> dict[str, Tensor]:
        """Parameters and buffers by their names, for `functional_call`; tied ones once."""
        return {**dict(self.named_parameters()), **dict(self.named_buffers())}


def weighted(terms: Mapping[str, Tensor], weights: Mapping[str, Tensor]) -> Tensor | int:
    """The sum of weights x terms. A term whose weight is 0 is left out, even if it is not finite."""
    return sum(torch.where(weight != 0, weight * terms[name], 0.0) for name, weight in weights.items())


def trimmed(family: ModelFamily, model: nn.Module, inputs: Inputs) -> Inputs:
    """The batch with shapes that no value changes any more."""
    if isinstance(family, Trims):
        return replace(family.trim(model, inputs), order=inputs.order, weights=inputs.weights)
    return replace(inputs, fixed=True)


def shapes_of(batches: Sequence[Inputs]) -> str:
    """The shapes of batches, for people and as a key: "x 256x1024, eps 256x20"."""
    return " + ".join(
        ", ".join(f"{name} {'x'.join(map(str, tensor.shape))}" for name, tensor in batch.tensors.items())
        for batch in batches
    )


class SingleObjective:
    """The mean loss of one model's batch, as `fit.backward` computes it.

    All of the family's distillation terms are computed, with a weight of 0 for those that the fit does not have, so
    that one program serves all cells of a grid of weights.
    """

    def __init__(
        self,
        training_loss: TrainingLoss,
        model: nn.Module,
        teacher: nn.Module | None,
        weights: Mapping[str, float],
        machine: Machine,
        maps: LayerMaps | None = None,
    ) -> None:
        self._training_loss, self._machine = training_loss, machine
        self._student = Predictor(training_loss, model, maps)
        self._taught = None if teacher is None else Predictor(training_loss.of_teacher, teacher)
        names = sorted({*training_loss.family.terms, *weights}) if teacher is not None else []
        self._groups: Groups = {
            "student": self._student.tensors(),
            "teacher": self._taught.tensors() if self._taught else {},
            "weights": {name: torch.tensor(float(weights.get(name, 0.0)), device=machine.device) for name in names},
        }
        self._counts: dict[int, Tensor] = {}

    def arguments(self, part: Inputs) -> Groups:
        """The tensors that `__call__` needs for a micro-batch with fixed shapes."""
        return {
            **self._groups,
            "batch": {name: tensor.contiguous() for name, tensor in part.tensors.items()},  # a program's layout
            "rows": {} if part.weights is None else {"weights": part.weights},
            "scalars": {"count": self._count(part.count)},
        }

    def _count(self, count: int | Tensor) -> Tensor:
        """As a tensor on the device, moved there once."""
        if isinstance(count, Tensor):
            return count
        if count not in self._counts:
            self._counts[count] = torch.tensor(count, device=self._machine.device)
        return self._counts[count]

    def __call__(
        self,
        student: Mapping[str, Tensor],
        teacher: Mapping[str, Tensor],
        weights: Mapping[str, Tensor],
        batch: Mapping[str, Tensor],
        rows: Mapping[str, Tensor],
        scalars: Mapping[str, Tensor],
    ) -> Tensor:
        """The sum of the batch's losses and weighted terms, divided by the count: a scalar."""
        inputs = Inputs(batch, scalars["count"], fixed=True, weights=rows.get("weights"))
        with self._machine.autocast():
            prediction = functional_call(self._student, dict(student), (inputs,))
        loss = self._training_loss.loss(prediction, inputs)
        if self._taught is not None:
            with torch.no_grad(), self._machine.autocast():
                target = functional_call(self._taught, dict(teacher), (inputs,))
            loss = loss + weighted(self._training_loss.terms(prediction, target, inputs), weights)
        return loss / scalars["count"]
