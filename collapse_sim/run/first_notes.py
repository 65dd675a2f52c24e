"""What a run says before it begins: about settings that may not be meant, and about one that would make it faster."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from collapse_sim.core.events import Note
from collapse_sim.core.machine import Device, slow_bf16
from collapse_sim.engine.programs import Mode
from collapse_sim.plan.experiment import Experiment
from collapse_sim.plan.protocol import warnings_of
from collapse_sim.plan.specs import FitSpec
from collapse_sim.store.spec import Spec

ALONE = "train.shard: this one process holds whole models; torchrun starts several that divide them"
MANY_UPDATES = 50_000  # of all fits, that pay for compiling a program once (about half a minute)
SHORT = 5_000  # updates of a fit that `--compile auto` may find too short to look at


def first_notes(
    experiment: Experiment, device: Device, mode: Mode, coming: Callable[[Spec], int], *, alone: bool
) -> list[Note]:
    """The notes, the most important first.

    `coming`: how many artefacts of a spec are still to be made; `alone`: this process makes each fit without others.
    """
    fits = experiment.fits()
    slow = (slow_bf16(device.device, fit.train.precision) for fit in fits if fit.train)
    notes = [Note(warning) for warning in [*warnings_of(experiment), *dict.fromkeys(filter(None, slow))]]
    if alone and any(fit.train and fit.train.shard for fit in fits):
        notes.append(Note(ALONE))
    if alone and mode == "auto":
        notes += _compiled(fits, device, coming)
    return notes


def _compiled(fits: Sequence[FitSpec], device: Device, coming: Callable[[Spec], int]) -> list[Note]:
    """`auto` looks at one fit at a time, which says nothing about hundreds of short ones that share a program."""
    short = [(coming(fit), fit.train.steps) for fit in fits if fit.train and 0 < (fit.train.steps or 0) <= SHORT]
    number, updates = sum(many for many, _ in short), sum(many * (steps or 0) for many, steps in short)
    if updates < MANY_UPDATES or device.compiler_problem():
        return []
    return [
        Note(
            f"{number:,} short fits, {updates:,} updates in all: --compile auto looks at each fit alone and leaves "
            "short ones as they are; --compile on compiles their steps once for all (rounding differs)",
            "info",
        )
    ]
