"""How long an experiment takes: the seconds of each artefact that it lacks, from the rates of artefacts of its kind."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from collapse_sim.core.events import Kind
from collapse_sim.core.hashing import digest_of
from collapse_sim.families.training import FitLength
from collapse_sim.plan.curation_specs import PoolSpec
from collapse_sim.plan.experiment import Experiment
from collapse_sim.plan.score_specs import FeatureSpec
from collapse_sim.plan.specs import DataSpec, FitSpec, SampleSpec
from collapse_sim.store.jobs import MAX_STACK
from collapse_sim.store.spec import Spec

COSTLY = ("batch_size", "accumulate", "optimizer", "precision", "tf32")  # settings that change the cost of an update


class Rate(NamedTuple):
    """What artefacts of one kind cost, in seconds."""

    unit_s: float  # each unit of work (`units_of`) of each seed
    each_s: float = 0.0  # each artefact; seeds that are made in one computation are one artefact
    evaluation_s: float = 0.0  # each evaluation during a fit


@dataclass(frozen=True)
class Prediction:
    """Seconds of what an experiment still lacks. An artefact of several arms counts for the first of them."""

    shared_s: float  # real rows, feature networks, features of real rows
    cells_s: Mapping[str, tuple[float, ...]]  # {arm: seconds of each generation}
    unknown: Mapping[Kind, int]  # artefacts whose kind has no rate, and that no figure includes

    @property
    def total_s(self) -> float:
        return self.shared_s + sum(map(sum, self.cells_s.values()))


def predict(experiment: Experiment, missing: Callable[[Spec], int], rates: Mapping[str, Rate]) -> Prediction:
    """The sum over all artefacts that are `missing` (for how many seeds); `rates` are by `kind_of_spec`."""
    unknown: Counter[Kind] = Counter()
    counted: set[str] = set()

    def cost(spec: Spec) -> float:
        seeds = 0 if spec.digest in counted else missing(spec)
        counted.add(spec.digest)
        if not seeds:
            return 0.0
        rate = rates.get(kind_of_spec(spec))
        if rate is None:
            unknown[spec.kind] += seeds
            return 0.0
        return seconds(spec, seeds, rate)

    shared_s = sum(map(cost, experiment.shared))
    cells: dict[str, list[float]] = {plan.name: [] for plan in experiment.arm_plans}
    for k in range(experiment.recipe.generations + 1):
        for plan in experiment.arm_plans:
            cells[plan.name].append(sum(map(cost, plan.generations[k].specs())))
    return Prediction(shared_s, {name: tuple(own) for name, own in cells.items()}, dict(unknown))


def seconds(spec: Spec, seeds: int, rate: Rate) -> float:
    """The cost of one artefact for this many seeds."""
    artefacts = math.ceil(seeds / MAX_STACK) if spec.stacked else seeds
    return artefacts * rate.each_s + seeds * (units_of(spec) * rate.unit_s + evaluations_of(spec) * rate.evaluation_s)


def units_of(spec: Spec) -> int:
    """Units of work of one seed: updates of a fit (a closed form: rows), generated, described or decoded rows,
    candidates of a curation or a verifier; a score, a merge or an imported model is one."""
    if isinstance(spec, FitSpec) and spec.given is None:
        return (spec.train.steps or 0) if spec.train else spec.plan.rows
    if isinstance(spec, SampleSpec):
        return spec.rows
    if isinstance(spec, PoolSpec):
        return spec.candidates
    if isinstance(spec, FeatureSpec):
        return spec.count
    if isinstance(spec, DataSpec):
        return spec.info.pool + spec.info.validation + spec.info.held_out
    return 1


def fit_units(experiment: Experiment) -> dict[str, tuple[int, ...]]:
    """{arm: units of work of one seed's fit in each generation}; 0 where nothing is fitted or a model is given."""
    return {
        arm.name: tuple(sum(units_of(fit) for fit in plan.fits if fit.given is None) for plan in arm.generations)
        for arm in experiment.arm_plans
    }


def evaluations_of(spec: Spec) -> int:
    """How often a fit computes its validation loss, at most."""
    if not isinstance(spec, FitSpec) or spec.train is None or spec.given is not None:
        return 0
    length = FitLength.of(spec.train, spec.plan.rows)
    return math.ceil(length.steps / length.evaluate_every) if length.evaluate_every else 0


def kind_of_spec(spec: Spec) -> str:
    """Equal for artefacts whose cost differs only by their units of work."""
    return kind_of(spec.kind, spec.description, spec.model.fitted.description if isinstance(spec, SampleSpec) else {})


def kind_of(kind: Kind, description: Mapping[str, Any], model: Mapping[str, Any]) -> str:
    """The same from descriptions as they are in manifests; `model`: that of the fit which generates samples, or from
    which the model that does was merged."""
    content: list[Any] = [kind.removeprefix("own ")]  # a fit to own samples costs what other fits do
    if kind in ("fit", "own fit"):
        train = description["train"]
        content += [description["family"], description["data"], bool(description["teacher"])]
        if train is not None:
            content += [{name: train.get(name) for name in COSTLY}, train["clip_norm"] is None, train["ema"] is None]
    elif "imported" in description:
        content += ["imported"]
    elif kind == "import":
        content += [description["family"], description["data"]]
    elif kind in ("samples", "own samples"):
        content += [model["family"], model["data"], model["train"] and model["train"]["precision"]]
        content += [description.get(name) for name in ("sampler", "sampler version", "conditions")]
        content += [(description.get("guidance") or {}).get("use")]
    elif kind == "features":
        content += [description["map"], description.get("weights"), description["which"]]
    elif kind == "scores":
        content += [description["metric"], description["data"]]
    elif kind in ("curation", "verifier"):
        content += [description[kind], description["data"]]
    elif kind == "data":
        content += [description]
    return digest_of(content)
