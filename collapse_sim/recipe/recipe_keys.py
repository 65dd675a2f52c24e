"""The keys of a recipe as they are written, before components are looked up. What they come to is in schema.py."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from collapse_sim.plan.settings import Protocol
from collapse_sim.recipe.limits import CLAIMS, GENERATIONS, METRICS, RECIPE_NAME

Whole = Annotated[int, Field(ge=1, le=10**9)]
SeedCount = Annotated[int, Field(ge=1, le=10**6)]


class Layout(BaseModel):
    """A whole recipe. The docstrings of the fields are the descriptions that editors show."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._+-]*$", max_length=RECIPE_NAME)]
    """Letters, digits and . _ + -; the run directory is called after it. Default: the file's name."""
    description: str = ""
    """What the experiment shows; the first line is in `recipes list`."""
    data: Any
    """The real data."""
    model: Any
    """The model family."""
    train: Any = None
    """How a model is fitted; families with a closed form take none."""
    retrain: Any = None
    """What is different about `train` in generations 1 and later: the same keys, laid over it."""
    sampling: Any = None
    """How samples are drawn."""
    protocol: Protocol | Annotated[list[Protocol], Field(min_length=1)] | None = None
    """How long fits to more rows are: updates, epochs or converged; a list gives every arm once under each."""
    samples: Whole | None = None
    """Rows each generation generates. Default: as many as generation 0 is fitted to."""
    generations: Annotated[int, Field(ge=1, le=GENERATIONS)]
    """The last generation's number: generations 0, 1, ..., this."""
    seeds: SeedCount | Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)]
    """A list of seeds, or how many (3 means 0, 1, 2)."""
    arms: Annotated[dict[str, Any], Field(min_length=1)]
    """The strategies under comparison, by name."""
    metrics: Annotated[list[Any], Field(min_length=1, max_length=METRICS)]
    """What is measured of every generation."""
    baseline: str | None = None
    """The arm that differences are taken to. Default: the first."""
    show: str | None = None
    """The metric that the dashboard draws. Default: the first."""
    tuned_on: Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)] | None = None
    """Seeds that settings were chosen on: `verify` decides by the others. Default: not said."""
    claims: Annotated[list[Any], Field(max_length=CLAIMS)] = []
    """Statements that `verify` decides."""
    reference: Any = None
    """Published figures that `compare` shows beside ours: of a metric at a generation, or a list of such."""
    extends: Any = None
    """The recipe this one is laid over: a file beside it, or a shipped recipe's name."""
    smoke: Any = None
    """What `--smoke` changes: keys as here, or dotted paths such as train.epochs."""


class ArmLayout(BaseModel):
    """One arm, its grid expanded."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    data: Any
    """The strategy: what each generation is fitted to."""
    teacher: Any = None
    """Distillation from an earlier generation."""
    init: Literal["fresh", "previous"] = "fresh"
    """Where the weights of a fit begin: fresh, or at the previous generation's."""
    protocol: Protocol | None = None
    """How long fits to more rows are, if not as the recipe says."""
    retrain: Any = None
    """What is different about training in this arm's generations 1 and later."""
    grid: Any = None
    """{path: [values]}, or a list of such: one arm for each combination."""
