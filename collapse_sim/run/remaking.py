"""Makes what was pruned again, outside of a run: for an export, or to draw more rows from a model."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

from collapse_sim.core.events import Event, JobStarted, Note
from collapse_sim.core.machine import open_device
from collapse_sim.engine.build import builder, made_on
from collapse_sim.engine.work import JobContext, Stop
from collapse_sim.plan.experiment import Experiment
from collapse_sim.plan.keeping import Ends, Pruning
from collapse_sim.plan.sizes import operations_per_step
from collapse_sim.store.jobs import Request
from collapse_sim.store.store import Store
from collapse_sim.ui import formatting
from collapse_sim.ui.console import say


def make_again(
    experiment: Experiment,
    root: Path,
    wanted: Mapping[str, Collection[int]],
    ends: Ends,
    data_dir: Path,
    device: str = "auto",
) -> None:
    """Make the wanted artefacts {digest: seeds} (-1: the same for all) in the store at `root`, and what they are made
    from as far as it is missing. Each is compared with its record.

    They stay until the run goes on, or until `cache gc`. Raises RemadeDifferentlyError, and whatever a run raises.
    """
    stop, opened = Stop(), open_device(device)
    store = Store(root, stop.check)
    context = JobContext(store, opened, _tell, data_dir, stop)
    store.made_on = lambda job: made_on(opened, context.programs, job)
    to_make = Pruning(experiment, root, ends, store.missing).to_make(wanted)
    arms = experiment.arms_by_digest()
    with stop.on_signals(say), opened.limit_threads(operations_per_step(experiment)):
        for spec in experiment.specs():
            if seeds := to_make.get(spec.digest):
                own = spec.seeds(tuple(sorted(seeds))) or experiment.recipe.seeds
                store.make_all([Request(spec, own, tuple(arms.get(spec.digest, ())))], builder(context), context.emit)
    for failure in store.failures.others():
        raise failure.error


def _tell(event: Event) -> None:
    if isinstance(event, JobStarted):
        seeds = formatting.seeds(event.seeds, 2)
        of = f"{' / '.join(event.arms)}, generation {event.generation}" + (f", {seeds}" if seeds else "")
        say(f"{event.kind} of {of}: pruned, made again")
    elif isinstance(event, Note):
        say(event.message)
