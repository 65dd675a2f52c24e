"""What a family may offer beside its contract (families/base.py): a small protocol for each ability.

A family that has the method or the attribute has the ability; `collapse_sim.testing.check_family` tests each of them.
Closed forms have a contract of their own, families.base.ClosedForm.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar, NamedTuple, Protocol, runtime_checkable

from torch import Tensor, nn

from collapse_sim.core.randomness import Draws
from collapse_sim.data.base import Data, Info
from collapse_sim.data.sources import Chain
from collapse_sim.families.base import ClosedForm, Conditioning, Conditions, Inputs, ModelFamily, Prediction, Rows


@runtime_checkable
class HasLossUnit(Protocol):
    """The unit of the loss divided by `inputs.count`, which tables and plots show."""

    loss_unit: ClassVar[str]


@runtime_checkable
class Stacks(Protocol):
    """Networks that compute the same under torch.func.vmap: fits of one architecture then train as one program.

    No randomness in the forward pass (dropout), no statistics over batches that it changes, no branches on values, and
    no tensors beside its parameters in which two models differ.
    """

    @property
    def stacks(self) -> bool: ...


@runtime_checkable
class StacksSampling(Protocol):
    """Families whose `sample` computes the same under torch.func.vmap: rows of several models are drawn as one program.

    It draws by `normal`, `uniform`, `integers` and `permutation` alone, and looks at no value but in `intensities`.
    """

    @property
    def stacks_sampling(self) -> bool: ...


@runtime_checkable
class RepeatsCalls(Protocol):
    """Families whose `sample` calls the model many times with tensors of equal shapes, which it passes by position, and
    uses nothing of it but what these calls return: tensors in a tuple. The calls may then be compiled.

    Nothing in them is random, and they depend on no tensor beside parameters, buffers and what they are given.
    """

    repeats_calls: ClassVar[bool]


@runtime_checkable
class Trims(Protocol):
    """Networks that do not see the padding which all rows of a batch have. How much that is depends on values, which a
    compiled step cannot read, so the engine has its batches trimmed before."""

    def trim(self, model: nn.Module, inputs: Inputs) -> Inputs:
        """The batch without that padding, `fixed`: `predict` and the losses then leave its shapes as they are."""
        ...


@runtime_checkable
class RowLosses(Protocol):
    """The loss of every single row, which intervals over held-out rows are computed from."""

    def row_losses(self, prediction: Prediction, inputs: Inputs) -> Tensor:
        """(n,) or in an ensemble (S, n): what each row adds to `loss`, in the order of `inputs`."""
        ...


@runtime_checkable
class HasRowCounts(Protocol):
    """Rows that add another number than 1 to `inputs.count`, as with tokens."""

    def row_counts(self, inputs: Inputs) -> Tensor:
        """(n,) or in an ensemble (S, n): what each row adds to `inputs.count`."""
        ...


@runtime_checkable
class TokenLosses(Protocol):
    """The loss of every single token, for weightings of tokens."""

    def token_losses(self, prediction: Prediction, inputs: Inputs) -> Tensor:
        """(n, L) float32: -log p of every predicted token in nats, 0 where there is none. A row's sum is its loss."""
        ...


@runtime_checkable
class HasPositions(Protocol):
    """Rows that are sequences: their layers' outputs have a position axis, of which only a part is in use."""

    def positions(self, path: str, inputs: Inputs, length: int) -> Tensor:
        """(n, length) bool: which of the positions of the output (n, length, ...) of the layer `path` are in use."""
        ...


@runtime_checkable
class SolvesWeighted(Protocol):
    """Closed forms (families.base.ClosedForm) whose rows may have weights."""

    def solve_weighted(
        self,
        info: Info,
        rows: Rows,
        row_weights: Tensor,
        teacher: nn.Module | None,
        weights: Mapping[str, float],
        draws: Draws,
    ) -> nn.Module:
        """As `solve`, with each row's loss times its weight: `row_weights` (S, n) float64, of mean 1 for each seed, at
        least 0. With weights that are all 1 it gives the solution of `solve`, up to rounding."""
        ...


@runtime_checkable
class HasBlocks(Protocol):
    """Networks that are a sequence of large blocks, of which a device holds one after the other where the parameters
    are divided among ranks (`train.shard`)."""

    def blocks(self, model: nn.Module) -> Sequence[nn.Module]:
        """Submodules that `predict` calls (not only their methods or parameters), each with parameters of its own that
        nothing outside of it reads, and none within another."""
        ...


@runtime_checkable
class RowsAtOnce(Protocol):
    """Families whose activations are not proportional to the number of values in a row, such as language models."""

    def rows_at_once(self, model: nn.Module, rows: Rows) -> int:
        """How many rows an evaluation passes to the network at a time, at least 1."""
        ...


@runtime_checkable
class Regularised(Protocol):
    """Distillation terms with a regulariser of the student's own, which are least elsewhere than at the teacher."""

    regularised: ClassVar[tuple[str, ...]]


@runtime_checkable
class OnlyForMetrics(Protocol):
    """Families that metrics fit to look at rows, and that cannot generate: `sample` raises ValueError."""

    only_for_metrics: ClassVar[bool]


@runtime_checkable
class HasConditions(Protocol):
    """Columns of real rows that samples are generated for, such as the article of a summary. A setting may decide."""

    @property
    def conditions(self) -> tuple[str, ...]: ...


@runtime_checkable
class HasConditioning(Protocol):
    """Whose conditions samples are generated for: "real", rows that generation 0 is fitted to (the default), or
    "fitted", rows that the same model was fitted to, so that a generation continues what the previous one wrote."""

    @property
    def conditioned_on(self) -> Conditioning: ...


@runtime_checkable
class ReusesConditions(Protocol):
    """Conditions that many rows have in common, such as a class: any number of samples is generated for them, and a fit
    may take a real row and a sample for the same one."""

    @property
    def reuses_conditions(self) -> bool: ...


@runtime_checkable
class Deterministic(Protocol):
    """Families that may generate without chance, as by greedy decoding: for the same conditions the same rows, so that
    further draws of a curation would be copies."""

    @property
    def deterministic(self) -> bool: ...


@runtime_checkable
class Encodes(Protocol):
    """An encoder into a latent space."""

    def encode(self, model: nn.Module, rows: Rows) -> tuple[Tensor, Tensor]:
        """Mean and log variance of the latents, (n, latent) each."""
        ...


@runtime_checkable
class EncodesNoised(Protocol):
    """An encoder of noised rows, as denoising networks have."""

    def encode_noised(self, model: nn.Module, rows: Rows, time: float, draws: Draws) -> Tensor:
        """(n, features) float32: the encoder's output for rows with noise of `time`, from 0 (the rows) to 1 (noise)."""
        ...


class TokenPredictions(NamedTuple):
    """A network's predictions of the tokens of n texts, each given the true tokens before it."""

    log_p: Tensor  # (n, L, V) float32, in nats
    targets: Tensor  # (n, L) int64: the token that is there; PAD_TOKEN_ID where there is none
    column: str  # the column of the rows that the tokens are in
    first: int  # the place in the column of the first predicted token


@runtime_checkable
class PredictsTokens(Protocol):
    """The probability of every token of the vocabulary, wherever a text has a token."""

    def token_predictions(self, model: nn.Module, rows: Rows) -> TokenPredictions:
        """For a few rows, in their order, on the model's device."""
        ...


@runtime_checkable
class HasTextLikelihood(Protocol):
    """The likelihood of texts."""

    def nats(self, model: nn.Module, rows: Rows) -> tuple[Tensor, Tensor]:
        """-log p of every row and its number of predicted tokens: (n,) float64 and (n,) int64, on the CPU."""
        ...


@runtime_checkable
class Continues(Protocol):
    """Texts that go on from the beginnings of texts."""

    def continuations(self, model: nn.Module, prompts: Tensor, draws: Draws) -> Tensor:
        """(n, P) prompts -> (n, L) rows that begin with them."""
        ...


@runtime_checkable
class HasTrajectory(Protocol):
    """Samplers with states between noise and samples."""

    def trajectory(self, model: nn.Module, conditions: Conditions, frames: int, draws: Draws) -> Tensor:
        """States from noise to samples, (frames, rows, ...), as the rows of the data; the last one is the sample."""
        ...


@runtime_checkable
class HasTheory(Protocol):
    """Theoretical curves."""

    def theory(self, metric: str, chain: Chain, data: Data, info: Info) -> list[float] | None:
        """Expected values of a metric (by its name in the registry, or "module:Class") at generations 0, 1, ... of a
        chain of models; None where they are unknown."""
        ...


@runtime_checkable
class Exports(Protocol):
    """Models that other programs can load."""

    def export(self, model: nn.Module, info: Info, folder: Path) -> list[Path]:
        """Write a model (on the CPU, in eval mode; of a closed form with an ensemble axis of 1) in the other program's
        format into the existing folder, under its own name. Returns the paths of the written files: [] when there is no
        such format for this data. `collapse-sim export` calls it, after weights.safetensors and config.json."""
        ...


@runtime_checkable
class ImportsModel(Protocol):
    """Models that other programs wrote, as generation 0."""

    importable: ClassVar[str]  # what they are, in words, for messages: "a folder of ..."

    def import_model(self, path: Path, info: Info) -> Mapping[str, Tensor]:
        """The state, on the CPU and in the names of this family's own, of the model in an existing folder.

        Raises ValueError with a line for every setting in which that model is another than this family builds for this
        data, both values shown, and MissingError for files that are missing or damaged. Names and shapes of the tensors
        are compared by the caller. What `export` wrote (Exports) has to come back as it was."""
        ...


@runtime_checkable
class Combinable(Protocol):
    """Closed forms whose parameters can be combined linearly with those of another model of the same family."""

    def feasible(self, model: nn.Module) -> Tensor:
        """(S,) bool: whether the combined parameters are those of a model. A Gaussian's covariance may be none."""
        ...

    def projected(self, model: nn.Module) -> nn.Module:
        """The model with the nearest parameters that are allowed."""
        ...


@runtime_checkable
class MayCombine(Protocol):
    """Networks whose weights cannot be combined linearly under some settings, such as factors of products."""

    @property
    def combines(self) -> bool:
        """Whether they can under these settings."""
        ...


@runtime_checkable
class FromWeights(Protocol):
    """Fits that begin with given weights when `pretrained` is set, and so have them in common."""

    pretrained: str | None


@runtime_checkable
class Guided(Protocol):
    """Sampling with two models, whose outputs are combined at every call (SIMS, arXiv 2408.16333)."""

    @property
    def guides(self) -> bool:
        """Whether it can be done under these settings."""
        ...

    def guided(self, model: nn.Module, auxiliary: nn.Module, w: float) -> nn.Module:
        """A model for `sample` whose output at every call is (1 + w) x the model's - w x the auxiliary's."""
        ...


@runtime_checkable
class Tempered(Protocol):
    """Sampling at a temperature other than 1, by other means than the spread of latents (FromLatents)."""

    @property
    def tempers(self) -> bool:
        """Whether it can be done under these settings."""
        ...

    def tempered(self, model: nn.Module, temperature: float) -> tuple[ModelFamily, nn.Module]:
        """The family and the model whose samples are at this temperature."""
        ...


@runtime_checkable
class FromLatents(Protocol):
    """Samples that are a function of standard normal latents: no other draws of `sample` are normal."""

    @property
    def from_latents(self) -> bool:
        """Whether they are under these settings."""
        ...


def conditioning_of(family: object) -> Conditioning:
    """Whose conditions a family's samples are generated for (HasConditioning)."""
    return family.conditioned_on if isinstance(family, HasConditioning) else "real"


def conditions_are_reused(family: object) -> bool:
    """Whether there are samples for any number of conditions (ReusesConditions)."""
    return isinstance(family, ReusesConditions) and family.reuses_conditions


def blocks_of(family: object, model: nn.Module) -> Sequence[nn.Module]:
    """The blocks of a model (HasBlocks); [] where the family names none."""
    return family.blocks(model) if isinstance(family, HasBlocks) else []


def row_counts_of(family: object, inputs: Inputs) -> Tensor | None:
    """(n,): what each row adds to `inputs.count`. None: 1 each."""
    return family.row_counts(inputs) if isinstance(family, HasRowCounts) else None


def check_row_weights(family: ModelFamily) -> None:
    """Raise ValueError when rows of a fit of this family cannot have weights."""
    weighted = isinstance(family, SolvesWeighted if isinstance(family, ClosedForm) else RowLosses)
    if not weighted:
        hook = "solve_weighted" if isinstance(family, ClosedForm) else "row_losses"
        raise ValueError(
            f"{type(family).__name__} has no `{hook}` (collapse_sim.families.hooks), so its rows cannot have weights"
        )
