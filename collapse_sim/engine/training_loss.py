"""What a fit minimises: its family's loss, as its weighting counts rows and tokens, and distillation terms."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

from torch import Tensor, nn

from collapse_sim.engine.layer_outputs import layer_distance
from collapse_sim.families.base import Inputs, ModelFamily, Prediction
from collapse_sim.families.hooks import RowLosses, TokenLosses
from collapse_sim.families.layers import LayerMaps, Outputs, aligned, captured
from collapse_sim.plan.settings import Criterion, layer_term
from collapse_sim.plan.specs import FitSpec
from collapse_sim.remedies.base import TokenWeighting, Weighting


class ForwardPass(NamedTuple):
    """What a model computes for a batch."""

    prediction: Prediction
    layers: Mapping[str, Outputs]  # by path: of the layers that distillation compares


@dataclass(frozen=True)
class TrainingLoss:
    """The loss and the terms of a fit: sums over a batch, to be divided by its count."""

    family: ModelFamily
    weighting: Weighting | None = None
    layers: tuple[str, ...] = ()  # paths of the layers that are compared with the teacher's
    criterion: Criterion = "mse"
    teaching: ModelFamily | None = None  # the teacher's, if it has other sizes

    @classmethod
    def of(cls, spec: FitSpec) -> TrainingLoss:
        return cls(spec.family, spec.weighting, spec.layers, spec.criterion, spec.teaching)

    @property
    def of_teacher(self) -> TrainingLoss:
        """The same with the teacher's family, for its forward passes."""
        return self if self.teaching is None else replace(self, family=self.teaching)

    def predict(self, model: nn.Module, inputs: Inputs, maps: LayerMaps | None = None) -> ForwardPass:
        """A forward pass; `maps` are applied to the outputs of layers."""
        if not self.layers:
            return ForwardPass(self.family.predict(model, inputs), {})
        with captured(model, self.layers) as outputs:
            prediction = self.family.predict(model, inputs)
        return ForwardPass(prediction, outputs if maps is None else maps(outputs))

    def loss(self, predicted: ForwardPass, inputs: Inputs) -> Tensor:
        """The loss, summed over rows or tokens times their weights.

        With `renormalise` it is scaled so that division by the count gives the mean over the tokens that count; then
        `inputs` has to be the whole batch.
        """
        family, weighting, prediction = self.family, self.weighting, predicted.prediction
        if isinstance(weighting, TokenWeighting):
            assert isinstance(family, TokenLosses)
            nats = family.token_losses(prediction, inputs)
            factors = weighting.factors(nats)
            losses = (factors * nats).sum(1)
            if weighting.renormalise:
                losses = losses * (inputs.count / factors.sum().clamp(min=1))
        elif inputs.weights is None:
            return family.loss(prediction, inputs)
        else:
            assert isinstance(family, RowLosses)
            losses = family.row_losses(prediction, inputs)
        return losses.sum() if inputs.weights is None else (inputs.weights * losses).sum()

    def terms(self, student: ForwardPass, teacher: ForwardPass, inputs: Inputs) -> dict[str, Tensor]:
        """Every distillation term by its name in `teacher.weights`. Rows and tokens count equally in terms. Those that
        compare tensors of different shapes have no meaning, and no weight (plan/taught.py)."""
        target = teacher.prediction if self.teaching is None else aligned(student.prediction, teacher.prediction)
        terms = self.family.distillation(student.prediction, target, inputs)
        for path in self.layers:
            terms[layer_term(path)] = layer_distance(
                self.family, self.criterion, path, student.layers, teacher.layers, inputs
            )
        return terms
