"""What a job needs of a machine: processors, and GPUs if a network is computed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from collapse_sim.plan.curation_specs import CurationSpec, VerifierSpec
from collapse_sim.plan.score_specs import FeatureSpec, ScoreSpec
from collapse_sim.plan.specs import FitSpec, ModelSpec, SampleSpec
from collapse_sim.store.jobs import Job
from collapse_sim.store.spec import Spec


class Resources(NamedTuple):
    """What one process takes of a machine."""

    cpus: int = 1
    gpus: int = 0


def need_of(jobs: Sequence[Job], device: str, cpus: int = 1) -> Resources:
    """What a group of jobs needs in a run on `device` ("cpu", "cuda"): a GPU for those that compute a network, `cpus`
    processors for fits of networks, otherwise one processor."""
    heavy = any(fits_network(job.spec) for job in jobs)
    gpu = device != "cpu" and any(uses_network(job.spec) for job in jobs)
    return Resources(cpus if heavy else 1, int(gpu))


def fits_network(spec: Spec) -> bool:
    """Whether it is a fit that takes updates."""
    return isinstance(spec, FitSpec) and spec.train is not None and spec.given is None


def uses_network(spec: Spec) -> bool:
    """Whether a network is computed when the artefact is made. Closed forms, data, imports, merges, and scores of
    samples or features alone are for a processor."""
    if isinstance(spec, FitSpec):
        return fits_network(spec)
    if isinstance(spec, SampleSpec):
        return spec.imported is None and _trained(spec.model)
    if isinstance(spec, FeatureSpec):
        return spec.network is not None or spec.weights is not None
    if isinstance(spec, ScoreSpec):
        models = {"model", "origin"} & set(spec.metric.needs)
        features = (spec.network is not None or spec.weights is not None) and not spec.features
        return bool(models and _trained(spec.model)) or features
    if isinstance(spec, (CurationSpec, VerifierSpec)):
        return _trained(spec.model)
    return False


def _trained(model: ModelSpec) -> bool:
    return model.fitted.train is not None


def cpus_per_fit(large: bool, chains: int, cpus: Sequence[int], ranks: int = 1) -> int:
    """Processors of one fit on CPUs, or of each of its `ranks`: several only if its steps are `large` and there are
    fewer processes (arms x seeds x ranks) than processors; never more than the smallest node has, or than leave all
    ranks of a fit a place. `cpus`: those of each node."""
    if not large or not cpus:
        return 1
    most = max(1, min(min(cpus), sum(cpus) // max(1, chains * ranks)))
    return next((each for each in range(most, 1, -1) if sum(own // each for own in cpus) >= ranks), 1)


def places(need: Resources, nodes: Sequence[tuple[float, float]]) -> int:
    """How many such processes run side by side on nodes of (CPUs, GPUs)."""
    count = 0.0
    for cpus, gpus in nodes:
        fit = cpus // need.cpus
        count += min(fit, gpus // need.gpus) if need.gpus else fit
    return int(count)
