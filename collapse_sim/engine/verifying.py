"""Verifiers: what tells real rows from generated ones, fitted to those of generation 0."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import save

from collapse_sim.core.errors import PluginError, RecipeError
from collapse_sim.core.plugins import name_of
from collapse_sim.core.randomness import Draws
from collapse_sim.engine import artefacts
from collapse_sim.engine.curate import Candidates
from collapse_sim.engine.work import JobContext
from collapse_sim.plan.curation_specs import VerifierSpec
from collapse_sim.remedies.base import FittedVerifier
from collapse_sim.store.jobs import Job, where


def fit_verifier(job: Job, folder: Path, context: JobContext) -> None:
    """Fit a verifier for each seed; write verifier.safetensors and report.json.

    Raises RecipeError when that is not possible, such as for too few rows.
    """
    spec = job.spec
    assert isinstance(spec, VerifierSpec)
    candidates = Candidates(context, spec, job.seeds or (0,))
    fitted: list[FittedVerifier] = []
    for slot, seed in enumerate(candidates.seeds):
        context.stop.check()
        try:
            fitted.append(spec.verifier.fit(candidates.pool(slot), Draws((seed,), "verifier", spec.generation)))
        except ValueError as error:
            raise RecipeError(f"{where(job, (seed,))}: curation: {error}") from error
    check_fitted(spec, fitted)
    tensors = {name: torch.stack([each.tensors[name] for each in fitted]) for name in fitted[0].tensors}
    (folder / artefacts.VERIFIER_FILE).write_bytes(save({name: t.contiguous() for name, t in tensors.items()}))
    figures = {name: [_spelt(each.report[name]) for each in fitted] for name in fitted[0].report}
    report = {"candidates": spec.candidates, "figures": figures}
    (folder / artefacts.REPORT_FILE).write_text(json.dumps(report))


def check_fitted(spec: VerifierSpec, fitted: Sequence[FittedVerifier]) -> None:
    """Raise PluginError unless tensors and figures of all seeds have the same names and shapes, and tensors are
    finite."""
    who = f"{name_of(type(spec.verifier))}: `fit`"
    if not all(isinstance(each, FittedVerifier) for each in fitted):
        raise PluginError(f"{who} gave {type(fitted[0]).__name__}; needed: a FittedVerifier")
    shapes = [{name: tuple(tensor.shape) for name, tensor in each.tensors.items()} for each in fitted]
    if (
        not shapes[0]
        or any(own != shapes[0] for own in shapes)
        or any(e.report.keys() != fitted[0].report.keys() for e in fitted)
    ):
        raise PluginError(
            f"{who} gave tensors {shapes[0]}; needed: some, with names and shapes that are equal for all seeds"
        )
    for name, tensor in ((name, tensor) for each in fitted for name, tensor in each.tensors.items()):
        if not bool(tensor.isfinite().all()):
            raise PluginError(f"{who} gave {name} that is not finite")


def _spelt(value: float) -> float | str:
    return float(value) if math.isfinite(value) else str(float(value))
