"""`run --dry-run --on ray`: which tasks a run would submit, where they fit, and how long they would take."""

from __future__ import annotations

import os
import socket
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from collapse_sim.plan.costs import Rate, predict
from collapse_sim.plan.job_graph import JobGraph
from collapse_sim.plan.keeping import seeds_to_make
from collapse_sim.plan.needs import Resources, need_of, places
from collapse_sim.plan.side_by_side import schedule, tasks_of
from collapse_sim.run.crew import fit_cpus, needs_of
from collapse_sim.run.on_processes import measured_rates
from collapse_sim.run.run_place import RayPlace
from collapse_sim.run.session import Session
from collapse_sim.store.store import one_by_one
from collapse_sim.ui import formatting
from collapse_sim.ui.formatting import about

if TYPE_CHECKING:
    from collapse_sim.run.ray_cluster import RayCluster

SHOWN = 16  # nodes in the text


def cluster_document(
    session: Session,
    place: RayPlace,
    rates: Mapping[str, Rate],
    say: Callable[[str], None],
    fetchable: Mapping[str, Collection[int]] | None = None,
) -> dict[str, Any]:
    """The nodes, the tasks by kind with what each takes, and the seconds on as many slots as the cluster has for the
    largest of them. `rates`: of earlier artefacts; kinds of work that have none are measured here; `fetchable`:
    of a mirror.

    Raises MissingError for a cluster that does not answer or has not enough.
    """
    experiment, device = session.experiment, session.device.device.type
    missing = seeds_to_make(experiment, session.store_dir, session.ends(), fetchable)
    with seen(place) as cluster:
        cpus = fit_cpus(experiment, cluster, device, place.ranks)
        needs = needs_of(experiment, device, cpus, place.ranks)
        cluster.check(place, needs)
    slots = max(1, min(places(need, cluster.sizes) // count for need, count in needs.items()))
    graph = JobGraph(experiment)
    graph.plan({spec.digest: set(missing(spec)) for spec in experiment.specs()}, lambda digest: (), one_by_one)
    counts: Counter[tuple[str, Resources]] = Counter()
    for node in graph.nodes:
        counts[node.jobs[0].spec.kind, need_of(node.jobs, device, cpus)] += 1
    known = {**rates, **measured_rates(session, missing, rates, say)}
    planned = schedule(tasks_of(experiment, missing, known), slots)
    return {
        "place": str(place),
        "nodes": [{"name": node.name, "cpus": node.cpus, "gpus": node.gpus} for node in cluster.nodes],
        "ranks": place.ranks,
        "slots": slots,
        "tasks": [
            {"kind": kind, "count": count, "cpus": need.cpus, "gpus": need.gpus}
            for (kind, need), count in counts.items()
        ],
        "seconds": round(planned.makespan_s, 1),
        "one_process_seconds": round(planned.work_s, 1),
        "longest_chain_seconds": round(planned.critical_s, 1),
        "most_busy": planned.widest,
        "without": dict(predict(experiment, lambda spec: len(missing(spec)), known).unknown),
    }


@contextmanager
def seen(place: RayPlace) -> Iterator[RayCluster]:
    """The cluster; of a local one, which only a run starts, what it would have."""
    from collapse_sim.run.ray_cluster import ClusterNode, RayCluster, connected

    if place.address != "local":
        with connected(place) as cluster:
            yield cluster
        return
    import torch

    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    yield RayCluster((ClusterNode("", socket.gethostname(), float(os.cpu_count() or 1), float(gpus)),))


def cluster_text(document: Mapping[str, Any]) -> str:
    """The document as text for people."""
    nodes, slots = document["nodes"], document["slots"]
    lines = [f"on {document['place']}: {formatting.plural(len(nodes), 'node')}, {slots} fits at a time at most"]
    for node in nodes[:SHOWN]:
        gpus = f", {formatting.plural(int(node['gpus']), 'GPU')}" if node["gpus"] else ""
        lines.append(f"  {formatting.plain(node['name'])}: {formatting.plural(int(node['cpus']), 'CPU')}{gpus}")
    lines += [f"  and {len(nodes) - SHOWN} more"] if len(nodes) > SHOWN else []
    for task in document["tasks"]:
        takes = formatting.plural(task["cpus"], "CPU") + (f" and {task['gpus']} GPU" if task["gpus"] else "")
        ranks = f", each by {document['ranks']} processes" if task["kind"] == "fit" and document["ranks"] > 1 else ""
        lines.append(f"  {task['count']} x {task['kind']}: {takes}{ranks}")
    lines.append(
        f"about {about(document['seconds'])} without Ray's own overhead; one process: about "
        f"{about(document['one_process_seconds'])}; on any cluster at least "
        f"{about(document['longest_chain_seconds'])}, the longest chain of work that waits for each other"
    )
    if document["most_busy"] < slots:
        lines.append(f"no more than {document['most_busy']} jobs can run at one time")
    without = ", ".join(f"{of} of {kind}" for kind, of in document["without"].items())
    lines += [f"without {without}, which only a run makes"] if without else []
    return "\n".join(lines)
