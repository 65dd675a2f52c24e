"""The status of a run, from its directory: run.json and the journal (what is done), live*.json (who runs it)."""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from collapse_sim.store import journal
from collapse_sim.store.run_directory import (
    JOURNAL_FILE,
    LIVE_FILE,
    RECIPE_FILE,
    RUN_FILE,
    STARTING_FILE,
    damaged,
    read_journal,
    read_run,
)
from collapse_sim.ui import formatting
from collapse_sim.ui.console import program
from collapse_sim.ui.live_files import live_states
from collapse_sim.ui.live_process import presence
from collapse_sim.ui.starting import read_starting
from collapse_sim.ui.state import STAGES, Cell, State

Word = Literal["starting", "running", "finished", "interrupted", "failed", "stopped", "unfinished", "not started"]


@dataclass(frozen=True)
class RunStatus:
    """A run's status. "stopped": its process vanished; "unfinished": it ended with cells left to do."""

    word: Word
    state: State
    command: str  # the command that continues it
    problems: tuple[str, ...] = ()  # of the journal: damaged lines, missing recorded scores

    @property
    def ended(self) -> bool:
        """Whether no process is running it, so that nothing will change."""
        return self.word not in ("starting", "running")


def run_status(folder: Path) -> RunStatus:
    """Read a run directory. Raises RecipeError if it is not one, StoreError if it is damaged or of a newer schema."""
    starting = read_starting(folder)
    if starting is not None and not (folder / RUN_FILE).is_file():
        return RunStatus("starting", starting, "")
    run = read_run(folder)
    lines, problems = read_journal(folder)
    try:
        state = recorded(folder, run, lines)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise damaged(folder / JOURNAL_FILE, f"{type(error).__name__}: {error}") from error
    states = live_states(folder)
    live = states[0] if states else None
    complete = all(state.complete(cell) for cells in state.cells.values() for cell in cells)
    word: Word = "finished" if complete else "unfinished" if lines else "not started"
    if live is not None:
        process = presence(live)
        merge_live(state, live)
        if process == "here":
            word = "running"
        elif not complete:
            state.job = state.waiting = None
            state.on_nodes = {}
            word = "stopped" if process == "gone" else _word(live.outcome)
    for other in states[1:]:
        merge_other(state, other)
    if starting is not None and word != "running":
        state.pid, state.host = starting.pid, starting.host
        word = "starting"
    finished_before = live is not None and live.outcome == "finished"
    return RunStatus(word, state, continue_command(folder, [] if finished_before else lines), tuple(problems))


def live_status(folder: Path) -> RunStatus:
    """The same, fast enough for twice a second: while one process runs it, only what that has written is read."""
    states = live_states(folder)
    if len(states) == 1 and presence(states[0]) == "here":
        return RunStatus("running", states[0], "")
    return run_status(folder)


def _word(outcome: str | None) -> Word:
    return "interrupted" if outcome == "interrupted" else "failed" if outcome == "failed" else "unfinished"


def recorded(folder: Path, run: dict[str, Any], lines: Sequence[dict[str, Any]]) -> State:
    """The state from run.json and the journal. For one arm, generation, seed and metric the last line counts."""
    metrics, last = list(run["metrics"]), int(run["generations"])
    state = State(
        name=run["name"],
        run_dir=str(folder),
        arms=list(run["arms"]),
        seeds=list(run["seeds"]),
        generations=last,
        metrics=metrics,
        lower_is_better={name: _LOWER.get(facts.get("better")) for name, facts in run["metrics"].items()},
        show=run.get("show") or (metrics[0] if metrics else None),
        cells={arm: [Cell() for _ in range(last + 1)] for arm in run["arms"]},
    )
    state.ended = {arm: ends for arm, ends in journal.diverged(lines).items() if arm in state.cells}
    for line in lines:
        if line.get("event") == "generation":
            state.finished[int(line["generation"])] = {name: line[name] for name in ("made", "reused", "wall_s")}
    recorded_scores = journal.scores_of(lines)
    for arm, cells in state.cells.items():
        by_metric = recorded_scores.get(arm, {})
        for metric, by_generation in by_metric.items():
            for k, by_seed in by_generation.items():
                own_scores = [by_seed[seed] for seed in state.seeds if seed in by_seed]
                if 0 <= k <= last:
                    series = state.scores.setdefault(arm, {}).setdefault(metric, [None] * (last + 1))
                    series[k] = sum(own_scores) / len(own_scores) if own_scores else None
        for k, cell in enumerate(cells):
            scored = [by_metric.get(metric, {}).get(k, {}) for metric in metrics]
            seeds = [seed for seed in state.seeds if scored and all(seed in by_seed for by_seed in scored)]
            cell.fit = cell.samples = cell.scores = state.bits_of(seeds) if seeds else 0
    return state


_LOWER = {"lower": True, "higher": False}


def last_change(folder: Path) -> float | None:
    """When a file of a run directory was last written, in seconds since 1970; None if there is none."""
    times = []
    for name in (RUN_FILE, JOURNAL_FILE, LIVE_FILE, STARTING_FILE):
        with contextlib.suppress(OSError):
            times.append((folder / name).stat().st_mtime)
    return max(times, default=None)


def merge_live(state: State, live: State) -> None:
    """Add what only the process knows to a recorded state: the current job, partial cells, times, notes."""
    for name in ("device", "precision", "started", "updated", "outcome", "message", "wall_s", "pid", "host", "mark"):
        setattr(state, name, getattr(live, name))
    for name in (
        "memory_bytes",
        "gpu_bytes",
        "rows_per_s",
        "job",
        "on_nodes",
        "waiting",
        "made",
        "reused",
        "notes",
        "texts",
        "curve",
    ):
        setattr(state, name, getattr(live, name))
    _add_stages(state, live)
    for arm, cells in live.cells.items():
        for ours, theirs in zip(state.cells.get(arm, []), cells, strict=False):
            ours.score_parts, ours.made, ours.reused = theirs.score_parts, theirs.made, theirs.reused
            ours.work_s, ours.fit_s = theirs.work_s, theirs.fit_s


def merge_other(state: State, other: State) -> None:
    """Add what a further process at work knows: the stages that it has finished, and a note on what it does."""
    _add_stages(state, other)
    job = other.job
    what = "waiting" if other.waiting else "between jobs"
    if job is not None:
        what = f"{job.kind}, generation {job.generation}"
    elif other.on_nodes:
        what = f"{formatting.plural(len(other.on_nodes), 'job')} on its nodes"
    note = {"message": f"process {other.pid} on {other.host} is at work, too: {what}", "level": "info"}
    state.notes = [*state.notes, note]


def _add_stages(state: State, live: State) -> None:
    all_metrics = set(state.metrics) <= set(live.metrics)  # otherwise its scored cells lack the other metrics
    for arm, cells in live.cells.items():
        for ours, theirs in zip(state.cells.get(arm, []), cells, strict=False):
            for stage in STAGES if all_metrics and not state.complete(ours) else STAGES[:2]:
                done = [seed for i, seed in enumerate(live.seeds) if getattr(theirs, stage) >> i & 1]
                setattr(ours, stage, getattr(ours, stage) | (state.bits_of(done) if done else 0))


def continue_command(folder: Path, lines: Iterable[dict[str, Any]]) -> str:
    """The command that continues a run: its last command, or without one (it was run from Python), a command for the
    recipe in its directory.

    The latter covers everything ever requested in the run; the last command may have been for a part of it.
    """
    commands = [line.get("command") for line in lines if line.get("event") == "session"]
    if not commands or not commands[-1]:
        return f"collapse-sim run {shlex.quote(str(folder / RECIPE_FILE))} --out {shlex.quote(str(folder))}"
    first, *rest = map(str, commands[-1])
    return shlex.join([*program(first), *rest])
