"""What a verifier goes by: a number for every candidate, higher for what it takes to be real."""

from __future__ import annotations

from typing import Annotated, Any, cast

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from collapse_sim.data.base import Data, Info
from collapse_sim.data.text.grammar_stories import GrammarText
from collapse_sim.families.base import ModelFamily
from collapse_sim.families.hooks import HasTextLikelihood, RowLosses
from collapse_sim.metrics.text_base import texts
from collapse_sim.remedies.base import Pool
from collapse_sim.remedies.own_functions import known_name, values

Number = Annotated[float, Field(allow_inf_nan=False)]
ROUGE = ("rouge1", "rouge2", "rougeL")
CLASSIFIER = "classifier"  # the one score that needs a fit of its own (verify.py)
NAMES = ("loss", "truth", CLASSIFIER, "grammatical", *ROUGE)


class Bias(BaseModel):
    """How a verifier is wrong on purpose."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    shift: Number | tuple[Number, ...] = 0.0
    """With the score `truth`: added to the true centre of points, or to the true weights of a regression. One number
    for all dimensions, or one for each."""
    classes: dict[int, Annotated[float, Field(ge=0.0, allow_inf_nan=False)]] = {}
    """{class: factor} of the class's share of what is kept; 1 for those that are not named."""
    noise: Annotated[float, Field(ge=0.0, allow_inf_nan=False)] = 0.0
    """Standard deviation of normal noise that is added to scores, relative to their own."""

    @property
    def shifts(self) -> bool:
        """Whether the centre is moved."""
        return any(self.shift) if isinstance(self.shift, tuple) else self.shift != 0.0


def check_score(name: str, bias: Bias, loss_draws: int, data: Data, info: Info, family: ModelFamily) -> None:
    """Raise ValueError when a score cannot be computed for this data and family, or `shift` has no meaning for it."""
    if name == "loss":
        check_losses(family, loss_draws)
    elif name == "truth":
        if not ({"log_density", "true_grammar"} & {*info.known_truths} or hasattr(data, "true_weights")):
            raise ValueError(
                "the score `truth` needs simulated data whose density is known, such as gaussian, gaussian_mixture, "
                "linear or grammar; use `loss`, or your own module:function"
            )
    elif name == "grammatical" and "true_grammar" not in info.known_truths:
        raise ValueError("the score `grammatical` needs text whose grammar is known: the data grammar or grammar_pairs")
    elif name in ROUGE and info.kind != "pairs":
        raise ValueError(f"the score `{name}` compares with true targets, which only data of pairs has")
    if bias.shifts and (name != "truth" or info.kind not in ("points", "regression")):
        raise ValueError("`bias.shift` moves a true centre: it needs the score `truth`, and data of points or `linear`")
    if isinstance(bias.shift, tuple) and len(bias.shift) != info.shape("x")[0]:
        raise ValueError(f"`bias.shift` has {len(bias.shift)} numbers, and x has {info.shape('x')[0]}: give one each")


def check_losses(family: ModelFamily, loss_draws: int) -> None:
    """Raise ValueError for a family without the loss of single rows, and for several draws of a loss without noise."""
    if not isinstance(family, RowLosses | HasTextLikelihood):
        raise ValueError(
            f"{type(family).__name__} has no loss of single rows (a method `row_losses`): rows cannot be ranked by it"
        )
    if loss_draws > 1 and isinstance(family, HasTextLikelihood):
        raise ValueError("`loss_draws` has no meaning for texts, whose loss has no noise: leave it out")


def check_name(name: str) -> str:
    """A score's name, or a user's own function. Raises ValueError for anything else."""
    return known_name(name, NAMES)


def score(name: str, pool: Pool, bias: Bias) -> Tensor:
    """(N,) scores of the candidates, without the bias's noise."""
    if name == "loss":
        return -pool.losses("origin")
    if name == "truth":
        return _truth(pool, bias)
    if name == "grammatical":
        return cast(GrammarText, pool.data).log_probability(pool.columns).isfinite().double()
    if name in ROUGE:
        return _rouge(name, pool)
    return values(name, pool.columns)


def _truth(pool: Pool, bias: Bias) -> Tensor:
    """Log density under the true law: of points and texts, or of y given x."""
    data: Any = pool.data
    shift = torch.tensor(bias.shift, dtype=torch.float64)
    if pool.info.kind == "points":
        densities: Tensor = data.log_density(pool.columns["x"].double() - shift)
        return densities
    if pool.info.kind == "regression":
        weights: Tensor = data.true_weights() + shift
        residuals = pool.columns["y"].double() - pool.columns["x"].double() @ weights
        return -0.5 * (residuals / (pool.info.constants.get("noise") or 1.0)).square()
    log_probabilities: Tensor = data.log_probability(pool.columns)
    return log_probabilities


def _rouge(measure: str, pool: Pool) -> Tensor:
    """F-measure with the true target of the source that a candidate was generated for; stemmed, as in arXiv
    2510.16657. Raises ValueError when candidates were not generated for real rows."""
    from rouge_score.rouge_scorer import RougeScorer

    if pool.targets is None:
        raise ValueError(f"`{measure}` needs candidates that were generated for real sources: use `pool: generation`")
    scorer = RougeScorer([measure], use_stemmer=True)
    targets = list(texts(pool.targets()["target"], pool.info))
    outputs = texts(pool.columns["target"], pool.info)
    f_measures = [scorer.score(targets[i % pool.rows], text)[measure].fmeasure for i, text in enumerate(outputs)]
    return torch.tensor(f_measures, dtype=torch.float64)
