"""A second model of a generation: the first one, trained further on samples of its own."""

from __future__ import annotations

from typing import Annotated, ClassVar, Self

from pydantic import Field

from collapse_sim.core.component import Component
from collapse_sim.families.base import ClosedForm, ModelFamily
from collapse_sim.families.training import ShortFit


class OwnFit(Component):
    """Base of remedies with such a model. Samples and fit are artefacts of their own: another `w` needs neither again.

    The fit begins with the generation's weights; a closed form is solved for its own samples.
    """

    samples: Annotated[int, Field(gt=0)] | None = None
    """Own samples that the second model is fitted to. Default: as many as the arm's generations generate."""
    train: ShortFit = ShortFit()
    """How it is trained on them: changes of the arm's `train`, such as {steps: 100, learning_rate: 1e-5}."""

    not_in_key: ClassVar[tuple[str, ...]] = ("samples", "train")  # they are in the keys of the samples and of the fit

    @property
    def own(self) -> Self:
        return self

    def check_train(self, family: ModelFamily) -> None:
        """Raise ValueError for training settings of a family that is not trained."""
        if isinstance(family, ClosedForm) and self.train != ShortFit():
            raise ValueError("train: the model is solved in closed form, so there is nothing to train; remove it")
