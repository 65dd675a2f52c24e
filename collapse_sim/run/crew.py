"""The workers of a run on Ray: hired before anything is written, let go when it ends."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from collapse_sim.core.machine import SMALL_STEP_OPERATIONS, Device
from collapse_sim.engine.programs import Mode
from collapse_sim.engine.work import JobContext
from collapse_sim.plan.experiment import Experiment
from collapse_sim.plan.keeping import Ends, Pruning
from collapse_sim.plan.needs import Resources, cpus_per_fit, fits_network, need_of
from collapse_sim.plan.sizes import operations_per_step
from collapse_sim.run.ray_messages import WorkOrder
from collapse_sim.run.run_place import RayPlace
from collapse_sim.store.jobs import Job
from collapse_sim.store.mirror import Unmirrored

if TYPE_CHECKING:
    from collapse_sim.run.ray_cluster import RayCluster
    from collapse_sim.run.ray_executor import RayExecutor

CARRIED = ("COLLAPSE_SIM_", "HF_", "TRANSFORMERS_")  # variables of the driver's environment that workers get, too


@dataclass(frozen=True)
class Crew:
    """A cluster whose nodes can work for a run."""

    place: RayPlace
    cluster: RayCluster
    order: WorkOrder
    cpus: int  # of a fit

    def executor(self, experiment: Experiment, context: JobContext, ends: Ends) -> RayExecutor:
        """Who computes what is missing. `ends`: where chains of the run have diverged."""
        from collapse_sim.run.ray_executor import RayExecutor, fetch

        missing = partial(context.store.missing, emit=context.emit)
        pruning = Pruning(experiment, context.store.root, ends, missing)
        to_make = pruning.to_make()
        if not isinstance(context.store.mirror, Unmirrored):
            fetch(experiment, context, to_make)
            to_make = pruning.to_make()
        names = {node.id: node.name for node in self.cluster.nodes}
        return RayExecutor(
            experiment,
            context,
            self.order,
            to_make,
            names,
            cpus=self.cpus,
            ranks=self.place.ranks,
            several_gpus=any(node.gpus > 1 for node in self.cluster.nodes),
        )


@contextmanager
def hired(
    place: RayPlace,
    experiment: Experiment,
    device: Device,
    store: Path,
    data_dir: Path,
    *,
    plugins: bool | None,
    checkpoint_s: float,
    together: int,
    compiled: Mode,
) -> Iterator[Crew]:
    """Connect to the cluster, and check that it and its nodes can do what the experiment needs.

    Raises MissingError for a cluster that does not answer or has not enough, RecipeError for nodes with other versions,
    data or plug-ins, StoreError for nodes that do not see the store.
    """
    from collapse_sim.run.ray_cluster import check_nodes, connected, marked
    from collapse_sim.run.ray_worker import plan_hash, program

    with ExitStack() as until_the_end:
        cluster = until_the_end.enter_context(connected(place))
        kind = device.device.type
        cpus = fit_cpus(experiment, cluster, kind, place.ranks)
        cluster.check(place, needs_of(experiment, kind, cpus, place.ranks))
        order = WorkOrder(
            document=dict(experiment.recipe.document),
            plugins=False if plugins is False else None,
            folder=str(Path.cwd()),
            paths=tuple(path or str(Path.cwd()) for path in sys.path),
            variables={name: value for name, value in os.environ.items() if name.startswith(CARRIED)},
            program=program(),
            plan=plan_hash(experiment),
            store=store.absolute(),
            data_dir=data_dir.absolute(),
            mark=until_the_end.enter_context(marked(store)),
            device=kind,
            checkpoint_s=checkpoint_s,
            together=together,
            compiled=compiled,
        )
        check_nodes(cluster, order)
        yield Crew(place, cluster, order, cpus)


def fit_cpus(experiment: Experiment, cluster: RayCluster, device: str, ranks: int) -> int:
    """Processors of a fit, or of each of its ranks."""
    large = device == "cpu" and operations_per_step(experiment) >= SMALL_STEP_OPERATIONS
    chains = len(experiment.arm_plans) * len(experiment.recipe.seeds)
    return cpus_per_fit(large, chains, [int(node.cpus) for node in cluster.nodes if node.cpus >= 1], ranks)


def needs_of(experiment: Experiment, device: str, cpus: int, ranks: int) -> Mapping[Resources, int]:
    """{what a process needs: how many of them have to run at the same time}."""
    needs: dict[Resources, int] = {}
    for spec in experiment.specs():
        job = Job(spec, (), ())
        need = need_of((job,), device, cpus)
        needs[need] = max(needs.get(need, 1), ranks if fits_network(spec) else 1)
    return needs
