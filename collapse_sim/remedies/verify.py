"""Verification: what a verifier takes to be real is kept."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Self

from pydantic import AfterValidator, Field, model_validator
from torch import Tensor

from collapse_sim.core.plugins import source_of
from collapse_sim.core.randomness import Draws
from collapse_sim.data.base import Data, Info
from collapse_sim.families.base import ModelFamily
from collapse_sim.remedies.base import Choice, Pool
from collapse_sim.remedies.detector_features import Expansion
from collapse_sim.remedies.own_functions import row_function
from collapse_sim.remedies.row_classifier import RowClassifier
from collapse_sim.remedies.scores import CLASSIFIER, NAMES, ROUGE, Bias, check_name, check_score, score
from collapse_sim.remedies.selection import Selection, best, best_by_class, checked, tied


class Verify(Selection):
    """The candidates of the highest score, or some of those above a threshold.

    Feng et al. 2024, arXiv 2406.07515; Yi et al. 2025, arXiv 2510.16657, whose rule for labelled images is the best
    tenth of each class. A chain of verified generations goes to what the verifier prefers, which is the truth only
    without `bias` (Yi et al.: theta_k -> theta_c). Keeping the highest densities also narrows the distribution.

    With the score `classifier` the report has its area under the ROC curve on generation 0 (`classifier_auc`).
    """

    score: Annotated[str, AfterValidator(check_name)] = "loss"
    """What is real: loss (of generation 0's model, negative), truth (log density of simulated data: of points, of y
    given x, of texts of a grammar), classifier (log odds of being real, by a classifier of generation 0's real rows
    against its samples), grammatical (1 or 0), rouge1, rouge2, rougeL (F-measure with the true target), or your own
    module:function of the rows, (n, ...) per column -> (n,)."""
    threshold: Annotated[float, Field(allow_inf_nan=False)] | None = None
    """Keep candidates whose score is at least this, chosen at random if there are more than needed. Default: the
    highest scores."""
    per_class: bool | None = None
    """Keep the same share of each class, by the column `label`. Default: where rows have it."""
    bias: Bias = Bias()
    """How the verifier is wrong on purpose."""
    loss_draws: Annotated[int, Field(ge=1)] = 1
    """Draws of the family's noise that a loss is the mean of."""
    features: Expansion | None = None
    """What a classifier of points or images looks at: all products of two coordinates (quadratic, the default), or
    radial basis functions (rbf)."""

    added: ClassVar[Mapping[str, Any]] = {"features": None}

    @model_validator(mode="after")
    def _settings_of_other_scores(self) -> Self:
        if self.loss_draws != 1 and self.score != "loss":
            raise ValueError(f"`loss_draws` is for the score `loss`, and the score is {self.score!r}: leave it out")
        if self.features is not None and self.score != CLASSIFIER:
            raise ValueError(f"`features` is for the score `classifier`, and the score is {self.score!r}: leave it out")
        return self

    @property
    def verifier(self) -> RowClassifier | None:
        """The classifier that the engine fits and keeps in the store, if candidates are judged by one."""
        if self.score != CLASSIFIER:
            return None
        return RowClassifier(features=self.features or "quadratic")

    @property
    def own_functions(self) -> tuple[str, ...]:
        return () if self.score in NAMES else (self.score,)

    def describe(self) -> dict[str, Any]:
        """The source of a user's own function, too."""
        own = {} if self.score in NAMES else {"function": source_of(row_function(self.score))}
        return {**super().describe(), **own}

    @property
    def keeps_all(self) -> bool:
        return self.keep == 1.0 and self.threshold is None and not self.bias.classes

    def check(self, data: Data, info: Info, family: ModelFamily) -> None:
        check_score(self.score, self.bias, self.loss_draws, data, info, family)
        if self.verifier is not None:
            self.verifier.check(info, family)
        if self.score in ROUGE and self.pool == "past":
            raise ValueError(f"`{self.score}` needs candidates that were generated for real sources: not `pool: past`")
        if (self.per_class or self.bias.classes) and not ("label" in family.columns and "label" in info.columns):
            wanted = "`per_class`" if self.per_class else "`bias.classes`"
            raise ValueError(f"{wanted} needs rows with labels, and {type(family).__name__} generates none here")
        if self.per_class is False and self.bias.classes:
            raise ValueError("`bias.classes` changes the shares of classes: leave out `per_class: false`")

    def choose(self, pool: Pool, rows: int, draws: Draws) -> Choice:
        what = f"the score {self.score!r}"
        own, report = self._scores(pool)
        scores = checked(own, len(pool), what)
        if self.bias.noise:
            spread = scores[scores.isfinite()].std(correction=0).nan_to_num()  # of no score at all it is nan
            scores = scores + self.bias.noise * spread * draws.normal(len(pool)).double()
        if self.threshold is not None:
            return self._above(self.threshold, scores, rows, draws, report)
        if rows < len(pool):
            report |= tied(scores, what, pool)
        labels = pool.columns.get("label") if self.per_class is not False else None
        if labels is None:
            return Choice(best(scores, rows, draws), report=report)
        return Choice(best_by_class(scores, labels, rows, draws, self.bias.classes), report=report)

    def _scores(self, pool: Pool) -> tuple[Tensor, dict[str, float]]:
        """(N,) without the bias's noise, and figures of the verifier."""
        if self.verifier is None:
            return score(self.score, pool, self.bias), {}
        assert pool.verifier is not None
        fitted = pool.verifier()
        return self.verifier.log_odds(pool, fitted), {"classifier_auc": fitted.report["auc"]}

    def _above(self, threshold: float, scores: Tensor, rows: int, draws: Draws, report: Mapping[str, float]) -> Choice:
        accepted = draws.permutation(len(scores))
        accepted = accepted[scores[accepted] >= threshold]
        if len(accepted) < rows:
            raise ValueError(
                f"{len(accepted)} of {len(scores)} candidates have a score of {threshold:g} or more (the highest is "
                f"{float(scores.max()):g}), and {rows} are needed: lower `threshold`, or lower `keep`, so that more "
                "are drawn"
            )
        rate = {"accept_rate": len(accepted) / len(scores)}
        return Choice(accepted[:rows].sort().values, report=rate | dict(report))
