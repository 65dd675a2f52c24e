"""From the merged tree of a recipe to its parts: each is validated by itself."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from collapse_sim.core.registry import REMEDIES
from collapse_sim.data.base import Data
from collapse_sim.families.base import ModelFamily
from collapse_sim.families.training import Train
from collapse_sim.metrics.base import Metric
from collapse_sim.plan.settings import Arm, Claim, GenerationZero, Keep, Protocol, Reference, Sampling, Teacher
from collapse_sim.recipe.components import Resolver, value_name
from collapse_sim.recipe.extends import merge
from collapse_sim.recipe.marked import (
    ARM_NAME,
    CLAIMS,
    GENERATIONS,
    METRIC_NAME,
    METRICS,
    RECIPE_NAME,
    Items,
    MarkedMapping,
    Steps,
    as_integer,
)
from collapse_sim.recipe.outside import rows_from, without_model
from collapse_sim.recipe.problems import validate, value_text

KEEPS = ("keep_weights", "keep_samples")
SCALARS = ("name", "description", "generations", "samples", "seeds", "tuned_on", "baseline", "show", *KEEPS)
PositiveInteger = Annotated[int, Field(ge=1, le=10**9)]
SeedCount = Annotated[int, Field(ge=1, le=10**6)]


class RecipeKeys(BaseModel):
    """A whole recipe. The docstrings of the fields are the descriptions that editors show."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._+-]*$", max_length=RECIPE_NAME)]
    """Letters, digits and . _ + -; the run directory is named after it. Default: the file's name."""
    description: str = ""
    """What the experiment shows; `recipes list` shows the first line."""
    data: Any
    """The real data."""
    model: Any = None
    """The model family; none if all arms have `rows_from`, and nothing is fitted."""
    train: Any = None
    """How a model is fitted; families with a closed form take none."""
    retrain: Any = None
    """Changes of `train` in generations 1 and later: the same keys, laid over it."""
    generation_0: Any = None
    """A model from outside as generation 0, instead of a fit to the real rows: {model: PATH}."""
    sampling: Any = None
    """How samples are drawn."""
    protocol: Protocol | Annotated[list[Protocol], Field(min_length=1)] | None = None
    """How long fits to more rows take: updates, epochs or converged; a list gives every arm once under each."""
    samples: PositiveInteger | None = None
    """Rows that each generation generates. Default: as many as generation 0 is fitted to."""
    generations: Annotated[int, Field(ge=1, le=GENERATIONS)]
    """The last generation's number: generations 0, 1, ..., this."""
    seeds: SeedCount | Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)]
    """A list of seeds, or how many (3 means 0, 1, 2)."""
    arms: Annotated[dict[str, Any], Field(min_length=1)]
    """The strategies under comparison, by name."""
    metrics: Annotated[list[Any], Field(min_length=1, max_length=METRICS)]
    """The metrics that are measured for every generation."""
    baseline: str | None = None
    """The arm that differences are relative to. Default: the first arm."""
    show: str | None = None
    """The metric that the dashboard draws. Default: the first metric."""
    tuned_on: Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)] | None = None
    """Seeds that settings were chosen on: `verify` decides by the others. Default: unknown."""
    claims: Annotated[list[Any], Field(max_length=CLAIMS)] = []
    """Statements that `verify` decides."""
    reference: Any = None
    """Published figures that `compare` shows beside yours: of a metric at a generation, or a list of these."""
    keep_weights: Keep = "all"
    """Generations whose weights stay in the store. What is removed can be made again, with the same bytes."""
    keep_samples: Keep = "all"
    """Generations whose samples stay in the store, with what is computed from their rows."""
    extends: Any = None
    """The recipe that this one is laid over: a file beside it, or a shipped recipe's name."""
    smoke: Any = None
    """What `--smoke` changes: keys as here, or dotted paths such as train.epochs."""


class ArmLayout(BaseModel):
    """One arm, its grid expanded."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    data: Any
    """The strategy: what each generation is fitted to."""
    teacher: Any = None
    """Distillation from an earlier generation."""
    curation: Any = None
    """What happens to generated rows before a model is fitted to them."""
    weighting: Any = None
    """How rows or tokens count in the loss."""
    merge: Any = None
    """What becomes of a model's weights after its fit."""
    guidance: Any = None
    """How samples are drawn from a fitted model."""
    init: Literal["fresh", "previous"] = "fresh"
    """Initial weights of a fit: fresh, or those of the previous generation."""
    protocol: Protocol | None = None
    """How long fits to more rows take. Default: the recipe's `protocol`."""
    model: Any = None
    """Settings of this arm's model, laid over the recipe's `model`."""
    train: Any = None
    """Changes of `train` in all generations of this arm."""
    retrain: Any = None
    """Changes of `train` in generations 1 and later of this arm."""
    sampling: Any = None
    """How this arm's samples are drawn, laid over the recipe's `sampling`."""
    samples: PositiveInteger | None = None
    """Rows that each generation of this arm generates. Default: the recipe's `samples`."""
    rows: PositiveInteger | None = None
    """Real rows that generation 0 of this arm is fitted to, of those that the data has. Default: `data.rows`."""
    rows_from: Any = None
    """Files with rows of generations, in place of samples: a path with {generation} and {seed}, or {1: path, ...}."""
    grid: Any = None
    """{path: [values]}, or a list of these: one arm per combination."""


@dataclass
class ResolvedParts:
    """The valid parts of a recipe; an invalid part is None or missing, and has its line among the problems."""

    plain: Mapping[str, Any]  # the valid top-level scalars, and `seeds`
    data: Data | None = None
    model: ModelFamily | None = None
    train: Train | None = None
    retrain: Train | None = None
    generation_0: GenerationZero | None = None
    sampling: Sampling = field(default_factory=Sampling)
    arms: dict[str, Arm] = field(default_factory=dict)
    metrics: dict[str, Metric] = field(default_factory=dict)
    metric_steps: dict[str, Steps] = field(default_factory=dict)  # shown name -> where it is written
    written: int = 0  # how many metrics the recipe itself has; the default metrics of model and data follow
    defaults: tuple[str, ...] = ()  # shown names of the default metrics of model and data
    claims: list[tuple[Steps, Claim]] = field(default_factory=list)
    references: list[tuple[Steps, Reference]] = field(default_factory=list)


def resolve(resolver: Resolver, *, narrowed: bool = False) -> ResolvedParts:
    """Validate every part by itself. `narrowed`: the command line names all metrics; no defaults are added."""
    tree = resolver.root
    data = resolver.component("data", tree["data"], ("data",)) if "data" in tree else None
    given = tree.get("model") is not None
    model = resolver.component("families", tree["model"], ("model",)) if given else without_model(tree, data)
    if not given and model is None:
        resolver.problem(("model",), "missing; only a recipe whose arms all have `rows_from` needs none")
    defaults = metrics_of(model, data)
    written = len(tree["metrics"]) if isinstance(tree.get("metrics"), Items) else 0
    if not narrowed:
        _add_defaults(tree, defaults)
    _, complaints = validate(RecipeKeys, tree)
    for steps, message in complaints:
        resolver.problem(steps, message)
    invalid = {steps[0] for steps, _ in complaints if steps}
    valid = {key: value for key, value in tree.items() if key not in invalid and value is not None}
    plain = {key: _as_integers(valid[key]) for key in SCALARS if key in valid}
    parts = ResolvedParts(plain, data, model, written=written)
    parts.defaults = tuple(name.rpartition(":")[2] for name in defaults)
    if "train" in valid:
        parts.train = resolver.model(Train, valid["train"], ("train",))
    base = _over(valid.get("train"), valid.get("retrain"))
    if "retrain" in valid:
        parts.retrain = resolver.model(Train, base, ("retrain",))
    if "generation_0" in valid:
        parts.generation_0 = resolver.model(GenerationZero, valid["generation_0"], ("generation_0",))
    if "sampling" in valid:
        parts.sampling = resolver.model(Sampling, valid["sampling"], ("sampling",)) or parts.sampling
    shared = _Shared(tree.get("model"), valid.get("train"), valid.get("retrain"), valid.get("sampling"))
    for name, value in valid.get("arms", {}).items():
        arm = _arm(resolver, name, value, shared)
        if arm is not None:
            parts.arms[name] = arm
    for index, value in enumerate(valid.get("metrics", ())):
        _add_metric(resolver, parts, value, ("metrics", index))
    for index, value in enumerate(valid.get("claims", ())):
        claim = resolver.model(Claim, value, ("claims", index))
        if claim is not None:
            parts.claims.append((("claims", index), claim))
    if "reference" in valid:
        parts.references = list(_references(resolver, valid["reference"]))
    return parts


def metrics_of(model: object, data: object) -> tuple[str, ...]:
    """Names of the default metrics, added unless a recipe has them itself: `metrics` of the family and of the data
    (text: perplexities and the tail, without which a collapse is not seen)."""
    return tuple(dict.fromkeys((*getattr(model, "metrics", ()), *getattr(data, "metrics", ()))))


def _add_defaults(tree: MarkedMapping, defaults: Sequence[str]) -> None:
    """Append default metrics to the recipe's own, except those whose kind or name the recipe already has."""
    own = tree.get("metrics")
    if own is not None and not isinstance(own, Items):
        return
    items = Items(tree.mark) if own is None else own.copy()
    uses = [value.get("use") if isinstance(value, MarkedMapping) else value for value in items]
    used = metric_names(tree) | {use for use in uses if isinstance(use, str)}
    for name in defaults:
        if name not in used:
            items.add(name, items.mark)
    if items:
        tree.put("metrics", items, items.mark)


def _over(train: Any, value: Any) -> Any:
    """`retrain:` laid over `train:`. A length in one unit replaces a length in the other."""
    if not isinstance(value, MarkedMapping) or not isinstance(train, MarkedMapping):
        return train if value is None else value
    base = train.copy()
    for unit, other in (("steps", "epochs"), ("epochs", "steps")):
        if value.get(unit) is not None and other in base and other not in value:
            base.remove(other)
    return merge(base, value)


def _references(resolver: Resolver, value: Any) -> Iterator[tuple[Steps, Reference]]:
    """Published figures of one metric and generation, or a list of these."""
    entries: list[tuple[Steps, Any]] = [(("reference",), value)]
    if isinstance(value, Items):
        entries = [(("reference", index), entry) for index, entry in enumerate(value)]
    for steps, entry in entries:
        reference = resolver.model(Reference, entry, steps)
        if reference is not None:
            yield steps, reference


def _as_integers(value: Any) -> Any:
    return [as_integer(item) for item in value] if isinstance(value, list) else as_integer(value)


class _Shared(NamedTuple):
    """What a recipe has for all arms, as it is written; an arm's own settings are laid over it."""

    model: Any
    train: Any
    retrain: Any
    sampling: Any


def _arm(resolver: Resolver, name: str, value: Any, shared: _Shared) -> Arm | None:
    steps: Steps = ("arms", name)
    if not name.strip() or name != name.strip() or not name.isprintable() or any(sign in name for sign in '"/\\'):
        message = f"{value_text(name)} is not a valid arm name; allowed: any text without quotes and slashes"
        resolver.problem(steps, message)
    _check_length(resolver, name, ARM_NAME, steps)
    if isinstance(value, MarkedMapping) and "generation_0" in value:
        resolver.problem(
            (*steps, "generation_0"),
            "generation 0 is the same model for all arms, which makes them comparable; allowed: `generation_0` at the "
            "top level of the recipe, or a recipe of its own for another model",
        )
        value = value.copy()
        value.remove("generation_0")
    settings = resolver.model(ArmLayout, value, steps)
    strategy = teacher = None
    if isinstance(value, MarkedMapping) and "data" in value:
        strategy = resolver.component("strategies", value["data"], (*steps, "data"))
    if isinstance(value, MarkedMapping) and value.get("teacher") is not None:
        teacher = resolver.model(Teacher, value["teacher"], (*steps, "teacher"))
        if teacher is None:
            return None
    own = _own_settings(resolver, value, steps, shared) if isinstance(value, MarkedMapping) else None
    if own is not None:
        axes = {axis: value[axis] for axis in REMEDIES if value.get(axis) is not None}
        own |= {axis: resolver.component(axis, chosen, (*steps, axis)) for axis, chosen in axes.items()}
        if teacher is not None and teacher.model is not None:
            axes["teacher_model"] = laid = value["teacher"]["model"]
            base = shared.model if value.get("model") is None else laid_over(shared.model, value["model"])
            own["teacher_model"] = _own_model(resolver, laid, (*steps, "teacher", "model"), base)
        if any(own[axis] is None for axis in axes):
            return None
    rows = None
    if settings is not None and settings.rows_from is not None:
        rows = rows_from(resolver, value["rows_from"], (*steps, "rows_from"))
        if rows is None:
            return None
    if settings is None or strategy is None or own is None:
        return None
    return Arm(
        name,
        strategy,
        teacher,
        init=settings.init,
        protocol=settings.protocol,
        samples=as_integer(settings.samples),
        rows=as_integer(settings.rows),
        rows_from=rows,
        **own,
    )


def _own_settings(resolver: Resolver, value: MarkedMapping, steps: Steps, shared: _Shared) -> dict[str, Any] | None:
    """An arm's own model, training and sampling, as far as it has them: {field of Arm: settings}. None for mistakes."""
    own: dict[str, Any] = {}
    if value.get("model") is not None:
        own["model"] = _own_model(resolver, value["model"], (*steps, "model"), shared.model)
    train = _over(shared.train, value.get("train"))
    if value.get("train") is not None:
        own["train"] = resolver.model(Train, train, (*steps, "train"))
    if value.get("retrain") is not None or (value.get("train") is not None and shared.retrain is not None):
        retrain = _over(_over(train, shared.retrain), value.get("retrain"))
        own["retrain"] = resolver.model(Train, retrain, (*steps, "retrain"))
    if value.get("sampling") is not None:
        own["sampling"] = resolver.model(Sampling, _over(shared.sampling, value["sampling"]), (*steps, "sampling"))
    return None if any(settings is None for settings in own.values()) else own


def _own_model(resolver: Resolver, value: Any, steps: Steps, shared: Any) -> ModelFamily | None:
    """The recipe's model with an arm's settings laid over it; the family stays the same."""
    if shared is None:
        return None  # the recipe lacks its model, which is a problem of its own
    name = value_name(shared)
    if not isinstance(value, MarkedMapping):
        resolver.problem(steps, f"found {value_text(value)}; allowed: a mapping of settings of the model {name!r}")
        return None
    if value.get("use", name) != name:
        resolver.problem((*steps, "use"), f"found {value_text(value['use'])}; allowed: the recipe's own, {name!r}")
        return None
    family: ModelFamily | None = resolver.component("families", laid_over(shared, value), steps)
    return family


def laid_over(shared: Any, value: MarkedMapping) -> MarkedMapping:
    """A model's settings, as they are written, with others laid over them."""
    base = MarkedMapping(value.mark)
    base.put("use", value_name(shared), value.mark)
    settings = value.copy()
    if "use" in settings:
        settings.remove("use")
    return merge(shared if isinstance(shared, MarkedMapping) else base, settings)


def _check_length(resolver: Resolver, name: str, longest: int, steps: Steps) -> None:
    if len(name) > longest:
        resolver.problem(steps, f"{value_text(name)} has {len(name)} characters; allowed: at most {longest}")


def _add_metric(resolver: Resolver, parts: ResolvedParts, value: Any, steps: Steps) -> None:
    name = shown_name(value)
    metric = resolver.component("metrics", value, steps)
    if isinstance(value, MarkedMapping) and not isinstance(value.get("as", ""), str):
        resolver.problem((*steps, "as"), f"found {value_text(value['as'])}; allowed: text")
        return
    if name is not None and isinstance(value, MarkedMapping) and "as" in value:
        if not name.strip():
            resolver.problem((*steps, "as"), f"found {value_text(name)}; allowed: text that is not empty")
        _check_length(resolver, name, METRIC_NAME, steps)
    if name in parts.metric_steps:
        resolver.problem(steps, f"a second metric {name!r}; give one of them another name with `as:`")
    elif name is not None:
        parts.metric_steps[name] = steps
        if metric is not None:
            parts.metrics[name] = metric


def shown_name(value: Any) -> str | None:
    """The name a metric is shown under: `as`, or what it uses; for a package.module:Class, the class's name."""
    if isinstance(value, MarkedMapping) and isinstance(value.get("as"), str):
        return str(value["as"])
    if isinstance(value, str) or (isinstance(value, MarkedMapping) and isinstance(value.get("use"), str)):
        return value_name(value).rpartition(":")[2]
    return None


def metric_names(tree: MarkedMapping) -> set[str]:
    """The names of all metrics of a recipe, valid or not."""
    metrics = tree.get("metrics")
    return {name for name in map(shown_name, metrics if isinstance(metrics, Items) else ()) if name is not None}
