"""What the nodes of a cluster do for a run."""

from __future__ import annotations

from collections import Counter

from rich.text import Text

from collapse_sim.ui import formatting, palette
from collapse_sim.ui.state import JobUnderWay, State

MOST_LINES = 8
KIND_WORDS = {
    "data": "reading the data",
    "import": "importing the model",
    "fit": "fitting",
    "own samples": "drawing samples for a fit to them",
    "own fit": "fitting to own samples",
    "merge": "combining weights",
    "samples": "drawing samples",
    "verifier": "fitting a verifier",
    "curation": "choosing rows",
    "features": "computing features",
    "scores": "scoring",
}


def job_words(kind: str, generation: int) -> str:
    """What a job does. A fit that belongs to no generation is that of the classifier for a feature map."""
    return "fitting the feature classifier" if kind == "fit" and generation < 0 else KIND_WORDS.get(kind, kind)


def nodes(state: State) -> list[Text]:
    """A line for each job, or for each node with the number of its jobs if there are too many."""
    jobs = by_node(state)
    lines: list[tuple[str, str]] = []
    if sum(map(len, jobs.values())) <= MOST_LINES:
        lines = [(node, _words(state, job)) for node, own in jobs.items() for job in own]
    else:
        shown = list(jobs.items())[: MOST_LINES - 1] if len(jobs) > MOST_LINES else list(jobs.items())
        lines = [(node, _counts(own)) for node, own in shown]
        if rest := list(jobs.values())[len(shown) :]:
            count = formatting.plural(sum(map(len, rest)), "job")
            lines.append((f"{formatting.plural(len(rest), 'node')} more", count))
    names = [formatting.plain(node) for node, _ in lines]
    width = max(map(len, names), default=0)
    return [
        Text.assemble((name.ljust(width), f"bold {palette.RUNNING}"), f"  {what}")
        for name, (_, what) in zip(names, lines, strict=True)
    ]


def by_node(state: State) -> dict[str, list[JobUnderWay]]:
    """{node: what its processes make}, by name."""
    jobs: dict[str, list[JobUnderWay]] = {}
    for key in sorted(state.on_nodes):
        jobs.setdefault(key.rpartition(" ")[0], []).append(state.on_nodes[key])
    return jobs


def _counts(jobs: list[JobUnderWay]) -> str:
    """ "5 jobs: 3 fitting, 2 scoring"."""
    kinds = Counter(job_words(job.kind, job.generation) for job in jobs)
    return f"{formatting.plural(len(jobs), 'job')}: {', '.join(f'{count} {what}' for what, count in kinds.items())}"


def _words(state: State, job: JobUnderWay) -> str:
    """ "fitting replace, generation 3, seed 1 45%"."""
    arms = formatting.arms([formatting.plain(arm) for arm in job.arms], len(state.arms))
    generation = f"generation {job.generation}" if job.generation >= 0 else ""
    parts = [arms, generation, formatting.seeds(job.seeds, len(state.seeds))]
    words = f"{job_words(job.kind, job.generation)} {', '.join(part for part in parts if part)}".rstrip()
    return f"{words} {job.fraction:.0%}" if job.total else words
