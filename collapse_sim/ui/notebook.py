"""Progress in a notebook: one display, updated in place as the run goes on."""

from __future__ import annotations

import time
from collections.abc import Mapping
from importlib import import_module
from typing import Any

from collapse_sim.core.events import Event, GenerationFinished, JobFailed, Note, RunFinished, RunStarted
from collapse_sim.ui import formatting
from collapse_sim.ui.console import say
from collapse_sim.ui.grid_layout import series
from collapse_sim.ui.lines import end_line, generation_line, note_line, start_line
from collapse_sim.ui.state import State

EVERY_S = 0.5
SHOWN = 12  # generations


def in_notebook(modules: Mapping[str, Any]) -> bool:
    """Whether this process is the kernel of a notebook, which shows HTML; `modules`: those that are imported."""
    shell = getattr(modules.get("IPython"), "get_ipython", lambda: None)()
    return getattr(shell, "kernel", None) is not None


class NotebookDisplay:
    """Shows the state of a run after events, at most twice a second; warnings are lines on stderr."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._handle: Any = None
        self._drawn = 0.0
        self._lines: list[str] = []

    def __call__(self, event: Event) -> None:
        """Show what one event, which the state has applied, changes."""
        if isinstance(event, Note):
            if event.level == "warning":
                say(note_line(event.message, event.level))
        elif isinstance(event, JobFailed):
            say(note_line(f"{'diverged' if event.diverged else 'failed'}: {event.message}", "warning"))
        elif isinstance(event, RunStarted):
            self._lines.append(start_line(self._state))
        elif isinstance(event, GenerationFinished):
            self._lines.append(generation_line(self._state, event.generation))
        elif isinstance(event, RunFinished):
            self._lines.append(end_line(self._state))
        now = time.monotonic()
        if self._lines and (isinstance(event, RunStarted | RunFinished) or now - self._drawn > EVERY_S):
            self._drawn = now
            self._draw()

    def _draw(self) -> None:
        bundle = {"text/plain": "\n".join(self._lines), "text/html": page(self._state, self._lines)}
        if self._handle is None:
            self._handle = import_module("IPython.display").display(bundle, raw=True, display_id=True)
        else:
            self._handle.update(bundle, raw=True)


def page(state: State, lines: list[str]) -> str:
    """The state as HTML: what runs, a bar of the cells that are done, the shown metric by arm and generation."""
    cells = [cell for own in state.cells.values() for cell in own]
    done = sum(state.complete(cell) for cell in cells)
    head = formatting.in_html(lines[-1] if state.outcome else lines[0])
    job = state.job
    under_way = ""
    if job is not None and state.outcome is None:
        arms = formatting.arms(job.arms, len(state.arms))
        share = f", {job.fraction:.0%}" if job.total else ""
        under_way = formatting.in_html(f"{job.kind} of generation {max(job.generation, 0)}, {arms}{share}")
    elif state.on_nodes and state.outcome is None:
        nodes = {key.rpartition(" ")[0] for key in state.on_nodes}
        under_way = f"{formatting.plural(len(state.on_nodes), 'job')} on {formatting.plural(len(nodes), 'node')}"
    bar = f'<progress value="{done}" max="{len(cells) or 1}"></progress> {done} of {len(cells)} arms x generations'
    return f"<div><p>{head}<br>{bar}{f'<br>{under_way}' if under_way else ''}</p>{_table(state)}</div>"


def _table(state: State) -> str:
    """The means over seeds so far; of many generations the last ones."""
    if state.show is None:
        return ""
    first = max(0, state.generations + 1 - SHOWN)
    shown = range(first, state.generations + 1)
    head = "".join(f"<th>{k}</th>" for k in shown)
    body = ""
    for arm in state.arms:
        means = series(state, arm, state.show)
        cells = (means[k] if k < len(means) else None for k in shown)
        texts = ("" if mean is None else formatting.in_html(formatting.value(mean)) for mean in cells)
        body += f"<tr><th>{formatting.in_html(arm)}</th>{''.join(f'<td>{text}</td>' for text in texts)}</tr>"
    caption = f"{formatting.in_html(state.show)} by generation"
    return f"<table><caption>{caption}</caption><tr><th>arm</th>{head}</tr>{body}</table>"
