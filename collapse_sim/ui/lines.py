"""Progress without a terminal: one line of plain text per generation."""

from __future__ import annotations

from collapse_sim.core.events import (
    Event,
    GenerationFinished,
    JobFailed,
    JobFinished,
    Note,
    RunFinished,
    RunStarted,
    TextSamples,
)
from collapse_sim.ui import formatting
from collapse_sim.ui.console import say
from collapse_sim.ui.grid_layout import series
from collapse_sim.ui.state import State


class Lines:
    """Prints events on stderr, after `state` has applied them. `verbose`: also a line per job and a text per arm;
    `quiet`: warnings only."""

    def __init__(self, state: State, *, quiet: bool = False, verbose: bool = False) -> None:
        self._state, self._quiet, self._verbose = state, quiet, verbose

    def __call__(self, event: Event) -> None:
        """Print one event, or nothing."""
        kind = type(event)
        if kind in (JobFinished, TextSamples) and not self._verbose:
            return  # most events are of these kinds
        if isinstance(event, Note):
            if event.level == "warning" or not self._quiet:
                say(note_line(event.message, event.level))
        elif isinstance(event, JobFailed):
            say(note_line(f"{'diverged' if event.diverged else 'failed'}: {event.message}", "warning"))
        elif self._quiet:
            return
        elif isinstance(event, RunStarted):
            say(start_line(self._state))
        elif isinstance(event, GenerationFinished):
            say(generation_line(self._state, event.generation))
            for picture in event.pictures if self._verbose else ():
                say(f"  picture: {formatting.plain(picture)}")
        elif isinstance(event, TextSamples):
            say(text_line(event))
        elif isinstance(event, RunFinished):
            say(end_line(self._state))
        elif isinstance(event, JobFinished):
            say(job_line(self._state, event))


def start_line(state: State) -> str:
    """ "quickstart: 4 arms, 2 seeds, generations 0 to 5, on cpu (fp32), into runs/quickstart"."""
    arms, seeds = formatting.plural(len(state.arms), "arm"), formatting.plural(len(state.seeds), "seed")
    where = f"on {state.device} ({state.precision})" if state.precision else f"on {state.device}"
    text = f"{state.name}: {arms}, {seeds}, generations 0 to {state.generations}, {where}, into {state.run_dir}"
    return formatting.plain(text)


def generation_line(state: State, k: int) -> str:
    """ "generation 3/5: test_loss replace 0.1834, distill 0.1233; made 12, found 4; 21 s"."""
    values = []
    for arm in state.arms:
        means = series(state, arm, state.show)
        if k < len(means) and (mean := means[k]) is not None:
            values.append(f"{arm} {formatting.value(mean)}")
    facts = [f"{state.show} {', '.join(values)}"] if values else []
    summary = state.finished.get(k)
    if summary is not None:
        made_count, reused_count = formatting.counts(summary["made"]), formatting.counts(summary["reused"])
        facts += [
            f"made {formatting.count(made_count)}, found {formatting.count(reused_count)}",
            formatting.duration(summary["wall_s"]),
        ]
    return formatting.plain(f"generation {k}/{state.generations}: {'; '.join(facts)}")


def job_line(state: State, event: JobFinished) -> str:
    """ "  fit, generation 3, replace, seed 1: 12 s"."""
    network = event.kind == "fit" and event.generation < 0
    parts = [
        "feature classifier" if network else event.kind,
        f"generation {event.generation}" if event.generation >= 0 else "",
    ]
    parts += [formatting.arms(event.arms, len(state.arms)), formatting.seeds(event.seeds, len(state.seeds))]
    cost = "found" if event.reused else formatting.duration(event.wall_s)
    return "  " + formatting.plain(f"{', '.join(part for part in parts if part)}: {cost}")


def text_line(event: TextSamples) -> str:
    """ "  sample, generation 3, replace: the king had a"."""
    return "  " + formatting.plain(f"sample, generation {event.generation}, {event.arm}: {' '.join(event.texts[:1])}")


def note_line(message: str, level: str) -> str:
    """ "warning: ..." or "note: ..."."""
    return f"{'warning' if level == 'warning' else 'note'}: {formatting.plain(message)}"


def end_line(state: State) -> str:
    """ "finished after 2 min 05 s: runs/quickstart"."""
    after = f" after {formatting.duration(state.wall_s)}" if state.wall_s is not None else ""
    return formatting.plain(f"{state.outcome}{after}: {state.run_dir}")
