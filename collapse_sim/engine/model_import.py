"""Writes a model from outside into the store, in the place of generation 0's fit."""

from __future__ import annotations

from pathlib import Path

from collapse_sim.core.errors import MissingError
from collapse_sim.engine.fit import write_model
from collapse_sim.engine.work import JobContext
from collapse_sim.families.imported import digest_of_state, read_model
from collapse_sim.plan.specs import FitSpec
from collapse_sim.store.jobs import Job


def import_model(job: Job, folder: Path, context: JobContext) -> None:
    """Write model.safetensors, and history.json with no updates. A closed form gets the same model for every seed.

    Raises MissingError when the files have changed since they were checked.
    """
    spec = job.spec
    assert isinstance(spec, FitSpec)
    assert spec.given is not None
    state = read_model(spec.family, spec.given.path, spec.data.info)
    if digest_of_state(state) != spec.given.sha256:
        raise MissingError(f"{spec.given.path}: the model has changed since it was checked: run the command again")
    if spec.stacked:
        seeds = len(job.seeds)
        state = {name: tensor[None].expand(seeds, *tensor.shape) for name, tensor in state.items()}
    write_model(folder, state, [], 0)
