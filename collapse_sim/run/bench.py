"""What this machine needs for an experiment: short stretches of its own work, measured in a store that is then removed.

Everything goes through the engine as in a run (measuring.py).
"""

from __future__ import annotations

import resource
import signal
import statistics
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import psutil

from collapse_sim.core.errors import InterruptedRunError
from collapse_sim.core.machine import Device
from collapse_sim.engine.groups import group_size
from collapse_sim.engine.work import JobContext, Stop
from collapse_sim.plan.costs import Rate, kind_of_spec
from collapse_sim.plan.curation_specs import CurationSpec, VerifierSpec
from collapse_sim.plan.experiment import Experiment
from collapse_sim.plan.merges import MergeSpec
from collapse_sim.plan.score_specs import FeatureSpec, ScoreSpec
from collapse_sim.plan.sizes import operations_per_step
from collapse_sim.plan.specs import FitSpec, SampleSpec
from collapse_sim.run.measuring import NotMeasuredError, Scene
from collapse_sim.store.spec import Spec
from collapse_sim.store.store import Store


class Measured(NamedTuple):
    """The rate of one kind of artefacts."""

    spec: Spec  # the first of them in the experiment
    rate: Rate
    units: int  # updates, rows or seeds of the longest measurement


@dataclass
class Bench:
    """Measures the kinds of artefacts that an experiment lacks. `say` gets a line before each measurement."""

    experiment: Experiment
    device: Device
    data_dir: Path
    missing: Callable[[Spec], int]  # for how many seeds an artefact is still to be made
    seconds: float
    ensemble: str = "auto"
    say: Callable[[str], None] = lambda text: None
    measured: dict[str, Measured] = field(default_factory=dict, init=False)  # by kind
    problems: list[str] = field(default_factory=list, init=False)  # what could not be measured, and why
    start_bytes: int = field(default=0, init=False)  # resident memory before anything was measured

    def run(self) -> dict[str, Rate]:
        """Returns {kind: rate}; kinds that are in `problems` have none.

        Raises InterruptedRunError when a signal asked to stop, and what a fit or its samples raise. Nothing is left
        behind in any case.
        """
        stop, together = Stop(), group_size(self.ensemble)
        self.start_bytes = psutil.Process().memory_info().rss
        try:
            with (
                tempfile.TemporaryDirectory(prefix="collapse-sim-bench-") as scratch,
                stop.on_signals(lambda _: self.say("stopping")),
                self.device.limit_threads(operations_per_step(self.experiment)),
            ):
                store = Store(Path(scratch), stop.check)
                context = JobContext(store, self.device, lambda _: None, self.data_dir, stop, 3600.0, together)
                commit_s = self._measure(context)
        except (InterruptedRunError, KeyboardInterrupt):
            number = stop.signal_number or signal.SIGINT
            raise InterruptedRunError("interrupted; nothing of a measurement is kept", number) from None
        return {kind: one.rate._replace(each_s=one.rate.each_s + commit_s) for kind, one in self.measured.items()}

    def peak_bytes(self) -> int:
        """The most memory that this process has held, on a GPU that of its tensors."""
        on_device = self.device.peak_bytes()
        if on_device is not None:
            return on_device
        return max(self.start_bytes, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)

    def _measure(self, context: JobContext) -> float:
        """Returns the seconds that the store adds to an artefact."""
        wanted: dict[str, Spec] = {}
        for spec in self.experiment.specs():
            if self.missing(spec):
                wanted.setdefault(kind_of_spec(spec), spec)
        if not wanted:
            return 0.0
        scene = Scene(self.experiment, self.missing, context, self.seconds)
        for kind, spec in wanted.items():  # parents come first
            self.say(f"measuring {named(spec, self.experiment)}")
            try:
                rate, units = scene.measure(spec)
            except NotMeasuredError as error:
                problem = f"{named(spec, self.experiment)}: {error}"
                if problem not in self.problems:  # kinds of one name differ in their settings
                    self.problems.append(problem)
            else:
                self.measured[kind] = Measured(spec, rate, units)
        return statistics.median(scene.commits_s or [0.0])


def named(spec: Spec, experiment: Experiment) -> str:
    """ "fit: vae, taught", "scores: fid": a kind of artefacts, for people."""
    content = spec.description
    if isinstance(spec, ScoreSpec):
        shown = (name for name, metric in experiment.recipe.metrics.items() if metric is spec.metric)
        return f"scores: {next(shown, content['metric']['use'])}"
    if isinstance(spec, FitSpec) and spec.given is not None:
        return f"import: {content['family']['use']}"
    if isinstance(spec, FitSpec):
        batches = f", batches of {spec.train.batch_size}" if spec.train else ""
        return f"fit: {content['family']['use']}{batches}{', taught' if spec.teacher else ''}"
    if isinstance(spec, SampleSpec):
        if spec.imported is not None:
            return "samples: from files"
        outputs = ", for held-out rows" if spec.conditions == "held_out" else ""
        guided = f", {spec.guidance.describe()['use']}" if spec.guidance else ""
        return f"samples: {spec.model.fitted.description['family']['use']}{guided}{outputs}"
    if isinstance(spec, CurationSpec):
        return f"curation: {content['curation']['use']}"
    if isinstance(spec, VerifierSpec):
        return f"verifier: {content['verifier']['use']}"
    if isinstance(spec, MergeSpec):
        return f"merge: {spec.fitted.description['family']['use']}"
    if isinstance(spec, FeatureSpec):
        return f"features: {content['map']['use']}, {spec.which.replace('_', '-')} rows"
    return f"data: {content['data']['use']}"
