"""`run --dry-run --on processes:N`: what N processes that share a run would do, and how long that would take."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping
from typing import Any

from collapse_sim.plan.costs import Rate, kind_of_spec, predict
from collapse_sim.plan.keeping import seeds_to_make
from collapse_sim.plan.side_by_side import schedule, tasks_of
from collapse_sim.run.bench import Bench
from collapse_sim.run.session import Session
from collapse_sim.store.spec import Spec
from collapse_sim.ui.formatting import about

SHOWN = 16  # processes in the text
SECONDS = 1.0  # each kind of work that the store has no example of is measured for


def on_document(
    session: Session,
    processes: int,
    rates: Mapping[str, Rate],
    say: Callable[[str], None],
    fetchable: Mapping[str, Collection[int]] | None = None,
) -> dict[str, Any]:
    """What each process would do, in seconds, if it were alone on its cores or GPU. `rates`: of earlier artefacts;
    kinds of work that have none are measured; `fetchable`: of a mirror. Raises what Bench.run does."""
    experiment = session.experiment
    missing = seeds_to_make(experiment, session.store_dir, session.ends(), fetchable)

    measured = measured_rates(session, missing, rates, say)
    known = {**rates, **measured}
    tasks = tasks_of(experiment, missing, known)
    planned = schedule(tasks, processes)
    kinds = {spec.digest: spec.kind for spec in experiment.specs()}
    work: list[Counter[str]] = [Counter() for _ in range(processes)]
    busy = [0.0] * processes
    for task in tasks:
        if task.name in planned.places:
            place = planned.places[task.name]
            work[place][kinds[task.name.partition("/")[0]]] += 1
            busy[place] += task.seconds
    return {
        "processes": processes,
        "seconds": round(planned.makespan_s, 1),
        "one_process_seconds": round(planned.work_s, 1),
        "longest_chain_seconds": round(planned.critical_s, 1),
        "most_busy": planned.widest,
        "measured": sorted({spec.kind for spec in experiment.specs() if kind_of_spec(spec) in measured}),
        "without": dict(predict(experiment, lambda spec: len(missing(spec)), known).unknown),
        "work": [{"seconds": round(seconds, 1), "jobs": dict(jobs)} for seconds, jobs in zip(busy, work, strict=True)],
    }


def measured_rates(
    session: Session, missing: Callable[[Spec], Collection[int]], rates: Mapping[str, Rate], say: Callable[[str], None]
) -> dict[str, Rate]:
    """The rates of kinds of work that are to come and have none, SECONDS for each. Raises what Bench.run does."""

    def unknown(spec: Spec) -> int:
        return 0 if kind_of_spec(spec) in rates else len(missing(spec))

    if not any(unknown(spec) for spec in session.experiment.specs()):
        return {}
    return Bench(
        session.experiment, session.device, session.data_dir, unknown, SECONDS, session.ensemble, say
    ).run()  # fmt: skip


def on_text(document: Mapping[str, Any]) -> str:
    """The document as text for people."""
    count = document["processes"]
    lines = [
        f"on {count} process{'es' * (count > 1)}, each on cores or a GPU of its own: about "
        f"{about(document['seconds'])}; on one: about {about(document['one_process_seconds'])}; on any number: at "
        f"least {about(document['longest_chain_seconds'])}, the longest chain of work that waits for each other"
    ]
    if document["most_busy"] < count:
        lines.append(f"  no more than {document['most_busy']} have work at one time")
    for number, own in enumerate(document["work"][:SHOWN]):
        jobs = ", ".join(f"{of} x {kind}" for kind, of in own["jobs"].items())
        lines.append(
            f"  process {number + 1}: {about(own['seconds']) if jobs else 'idle'}" + (f": {jobs}" if jobs else "")
        )
    if count > SHOWN:
        lines.append(f"  and {count - SHOWN} more")
    without = ", ".join(f"{of} of {kind}" for kind, of in document["without"].items())
    lines += [f"  without {without}, which only a run makes"] if without else []
    return "\n".join([*lines, "(which process does what is decided as they go: whoever is free takes what comes next)"])
