"""One frame that shows a run's state, at any size, for the dashboard, `watch` and the README."""

from __future__ import annotations

import io
import re
import textwrap
import time
from pathlib import Path

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.segment import Segment
from rich.text import Text

from collapse_sim.ui import formatting, palette
from collapse_sim.ui.curve import curve
from collapse_sim.ui.escapes import clean_text
from collapse_sim.ui.estimate import seconds_left, share_done
from collapse_sim.ui.grid import grid, values
from collapse_sim.ui.grid_layout import GridLayout
from collapse_sim.ui.node_lines import job_words, nodes
from collapse_sim.ui.samples import least, needed, samples
from collapse_sim.ui.state import JobUnderWay, State
from collapse_sim.ui.symbols import ASCII, UNICODE, Symbols

CURVE_LINES = 9  # of the loss curve, where there is room below
BESIDE = 84  # columns for the current job on a wide terminal


def frame(state: State, width: int, height: int, remark: str = "", now: float | None = None) -> Frame:
    """A Rich renderable of at most `width` columns and `height` lines. `remark` replaces the current job.

    `now` defaults to time.time(), or to the time of the last event if the run is over.
    """
    if now is None:
        ended = bool(remark) or state.outcome is not None
        now = state.updated if ended and state.updated is not None else time.time()
    return Frame(state, width, height, remark, now)


def export_svg(state: State, path: Path, width: int = 100, height: int = 40, title: str = "") -> None:
    """Write the frame as an SVG picture that loads no external font."""
    console = Console(record=True, width=width + 1, file=io.StringIO(), force_terminal=True, color_system="truecolor")
    console.print(frame(state, width, height, now=state.updated))
    svg = console.export_svg(title=title or f"collapse-sim run {formatting.plain(state.name)}")
    svg = re.sub(r"\s*@font-face\s*\{[^}]*\}", "", svg)
    svg = svg.replace("Fira Code, monospace", "Fira Code, Menlo, Consolas, DejaVu Sans Mono, monospace")
    path.write_text(svg, encoding="utf-8")


class Frame:
    """Composed when it is printed, because only then is the terminal's encoding known."""

    def __init__(self, state: State, width: int, height: int, remark: str, now: float) -> None:
        self.state, self.width, self.height, self.remark, self.now = state, width, height, remark, now

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        width = min(self.width, options.max_width)
        symbols = ASCII if options.ascii_only else UNICODE
        width -= 1  # a margin at the left
        lines = compose(self.state, width, self.height, self.remark, self.now, symbols)
        for i, line in enumerate(lines):
            if i:
                yield Segment.line()
            line = clean_text(line)  # a state from a file has not gone through formatting.plain
            line.truncate(width)
            if options.ascii_only:
                line.plain = line.plain.encode("ascii", "replace").decode()
            line.rstrip()
            if line:
                yield Segment(" ")
                yield from line.render(console)
        yield Segment.line()


def compose(state: State, width: int, height: int, remark: str, now: float, symbols: Symbols) -> list[Text]:
    """The lines. If the height is too small, these are left out first: loss curve, second and third samples, table of
    values, legend, samples, notes, empty lines, names of metrics that don't fit, bar of the whole run, idle arms.

    On a wide terminal without enough height, the curve is beside the current job.
    """
    body = _body(state, width, remark, now, symbols)
    if not state.cells:
        head = _head(state, width, remark, now, symbols)
        notes = _notes(state, width, 12, symbols)
        return [*head, Text(), *body, *([Text(), *notes] if notes else [])][:height]
    layout = GridLayout.of(state, width, symbols)
    news, table = _notes(state, width, 12, symbols), values(state, layout, symbols)
    spare = height - 2 - len(body) - len(state.cells) - 1

    def afford(lines: list[Text], keep: int = 0) -> list[Text]:
        nonlocal spare
        if not lines or spare < len(lines) + keep:
            return []
        spare -= len(lines)
        return lines

    running = not remark and state.outcome is None
    run_bar = afford([_run_bar(state, width, now, symbols)]) if running else []
    hidden_metrics = afford(_hidden(state, layout, width, symbols))
    above, below = afford([Text()]), afford([Text()])
    keep = min(len(news) + 1, 4) if news else 0
    sample_lines = min(needed(state), spare - keep - 1)  # for samples, after an empty line
    sample_lines = sample_lines if sample_lines >= least(state) else 0
    spare -= sample_lines + 1 if sample_lines else 0
    all_done = state.outcome == "finished" and not state.reused  # then every cell has the same symbol
    legend = [] if all_done else afford([Text(), _legend(state, width, symbols)], keep)
    table = afford([Text(), *table], keep) if table else []
    body = run_bar + body
    if running:
        curve_below = afford([Text(), *curve(state, width, CURVE_LINES, symbols)], keep) if spare > CURVE_LINES else []
        beside = [] if curve_below else curve(state, width - BESIDE - 3, len(body), symbols)
        if beside:
            body = ([_run_bar(state, BESIDE, now, symbols)] if run_bar else []) + _body(
                state, BESIDE, remark, now, symbols
            )
            body = _side_by_side(body, beside, BESIDE)
        body += curve_below if len(curve_below) > 1 else []
    table_of_cells = grid(state, layout, len(state.cells) + 1 + min(spare, 0), symbols) + hidden_metrics
    texts = samples(state, layout, width, sample_lines + max(spare - len(news) - 1, 0), symbols) if sample_lines else []
    head = _head(state, width, "-" if run_bar else remark, now, symbols)
    lines = head + above + table_of_cells + legend + table + below + body + ([Text(), *texts] if texts else [])
    note_lines = height - len(lines) - 1
    return (lines + ([Text(), *news[-note_lines:]] if news and note_lines > 0 else []))[:height]


def _run_bar(state: State, width: int, now: float, symbols: Symbols) -> Text:
    """The bar of the whole run."""
    share, left = share_done(state, now), seconds_left(state, now)
    complete = sum(state.complete(cell) for cells in state.cells.values() for cell in cells)
    facts = [f"{int(100 * share):3d}% of the run", f"{complete}/{len(state.cells) * (state.generations + 1)} cells"]
    facts += [f"about {formatting.about(left)} left"] if left is not None else []
    return _bar_line(share, "  ".join(facts), width, palette.DONE, symbols)


def _hidden(state: State, layout: GridLayout, width: int, symbols: Symbols) -> list[Text]:
    """Which metrics have no column; [] when all have one."""
    shown = {state.show, *(metric for metric, _ in layout.others)}
    names = [formatting.plain(metric) for metric in state.metrics if metric not in shown]
    if not names:
        return []
    text = f"+{formatting.plural(len(names), 'metric')}: {', '.join(names)}"
    return [Text(symbols.fit(text, width).rstrip(), style="dim")]


def _side_by_side(left: list[Text], right: list[Text], width: int) -> list[Text]:
    """Lines of `width` columns, each with one of `right` beside it."""
    lines = []
    for i, line in enumerate(left):
        line.truncate(width, pad=True)
        lines.append(Text.assemble(line, "   ", right[i] if i < len(right) else ""))
    return lines


def _head(state: State, width: int, remark: str, now: float, symbols: Symbols) -> list[Text]:
    """Two lines: name and time, with the time left unless there is a remark; run directory, device and memory."""
    times = []
    if state.wall_s is not None:
        times.append(formatting.duration(state.wall_s))
    elif state.started is not None:
        times.append(formatting.clock(now - state.started))
        left = seconds_left(state, now)
        if left is not None and not remark:
            times.append(f"about {formatting.about(left)} left")
    facts = [
        state.device,
        state.precision,
        f"memory {formatting.size(state.memory_bytes)}" if state.memory_bytes else "",
    ]
    facts += [f"GPU {formatting.size(state.gpu_bytes)}" if state.gpu_bytes else ""]
    facts += [formatting.rate(state.rows_per_s, "rows") if state.rows_per_s and state.outcome is None else ""]
    between = f" {symbols.dot} "
    first = _ends(Text(formatting.plain(state.name), style="bold"), Text(between.join(times)), width, symbols)
    place = formatting.plain(state.run_dir)
    second = _ends(Text(place, style="dim"), Text(between.join(f for f in facts if f), style="dim"), width, symbols)
    return [first, second]


def _ends(left: Text, right: Text, width: int, symbols: Symbols) -> Text:
    """One text at each end of a line; the left one is cut if they don't fit."""
    right.truncate(width)
    room = width - cell_len(right.plain)
    left.truncate(max(room - 2, 0), overflow="ellipsis" if symbols is UNICODE else "crop", pad=True)
    return Text.assemble(left, "  " if room >= 2 else "", right)


def _body(state: State, width: int, remark: str, now: float, symbols: Symbols) -> list[Text]:
    """How the run ended; while it runs, the stages of this generation, the current job, and those
    of other processes and nodes."""
    if remark or state.outcome is not None:
        return _ended(state, width, remark, symbols)
    job = state.job
    if job is None and state.on_nodes:
        return [_stages(state, symbols), *nodes(state)]
    if job is None:
        doing = Text("getting ready" if not state.cells else "", style="dim")
        if state.waiting:
            kind = job_words(state.waiting["kind"], state.waiting["generation"])
            k = state.waiting["generation"]
            doing = Text(f"waiting for another process: {kind}" + (f", generation {k}" if k >= 0 else ""))
        return [_stages(state, symbols), doing, Text()]
    parts = [formatting.arms([formatting.plain(arm) for arm in job.arms], len(state.arms))]
    parts += [
        f"generation {job.generation}" if job.generation >= 0 else "",
        formatting.seeds(job.seeds, len(state.seeds)),
    ]
    parts += [f"loss {formatting.value(job.loss)}" if job.loss is not None else ""]
    what = Text.assemble((job_words(job.kind, job.generation), f"bold {palette.RUNNING}"))
    what.append("".join(f" {symbols.dot} {part}" for part in parts if part))
    return [_stages(state, symbols), what, _bar(job, width, now, symbols), *nodes(state)]


def _stages(state: State, symbols: Symbols) -> Text:
    """How many fits, samples and scores of this generation are done, over arms and seeds."""
    if not state.cells:
        return Text()
    k, total = state.generation(), len(state.cells) * len(state.seeds)
    done = [sum(column) for column in zip(*(state.stages(cells[k]) for cells in state.cells.values()), strict=True)]
    line = Text(f"generation {k} of {state.generations}  ")
    for name, number in zip(("fits", "samples", "scores"), done, strict=True):
        line.append(f" {symbols.dot} " if name != "fits" else " ", style="dim")
        line.append(
            f"{name} {formatting.count(number)}/{formatting.count(total)}", style="" if number < total else palette.DONE
        )
    return line


def _bar(job: JobUnderWay, width: int, now: float, symbols: Symbols) -> Text:
    """Progress, rate and time left of a job; only its age if it reports no progress."""
    if not job.total:
        age_s = now - job.started
        return Text(f"for {formatting.clock(age_s)}" if age_s >= 1 else "", style="dim")
    facts = [f"{job.fraction:4.0%}", f"{formatting.count(job.done)}/{formatting.count(job.total)} {job.unit}"]
    if job.per_s:
        facts.append(formatting.rate(job.per_s, job.unit))
    if job.seconds_left is not None and job.done < job.total:
        facts.append(f"{formatting.about(job.seconds_left)} left")
    text = "  ".join(facts)
    return _bar_line(job.fraction, text, width, palette.RUNNING, symbols)


def _bar_line(share: float, text: str, width: int, style: str, symbols: Symbols) -> Text:
    length = max(min(width - max(len(text), 46) - 2, 60), 0)
    done = round(share * length)
    line = Text.assemble((symbols.bar * done, style))
    line.append(symbols.bar_rest * (length - done), style="dim")
    return line.append("  " * bool(length) + text)


def _ended(state: State, width: int, remark: str, symbols: Symbols) -> list[Text]:
    """How the run ended: the remark, or the outcome."""
    finished = state.outcome == "finished"
    made_count = formatting.count(formatting.counts(state.made))
    reused_count = formatting.count(formatting.counts(state.reused))
    head, _, rest = (remark or f"{state.outcome}: {made_count} made, {reused_count} found in the store").partition(":")
    lines = [Text(part) for part in wrapped(f"{head}:{rest}" if rest else head, width, 4, symbols)]
    lines[0].stylize(f"bold {palette.DONE if finished else palette.WARNING}", 0, len(head))
    return lines


def _notes(state: State, width: int, room: int, symbols: Symbols) -> list[Text]:
    """The last notes that fit in `room` lines, newest last."""
    lines: list[Text] = []
    for note in reversed(state.notes):
        warning = note["level"] == "warning"
        mark, style = (symbols.note, palette.WARNING) if warning else (symbols.dot, "dim")
        block = [
            Text.assemble((f"{mark if i == 0 else ' '} ", style), (part, "" if warning else "dim"))
            for i, part in enumerate(wrapped(note["message"], width - 2, 3, symbols))
        ]
        if len(lines) + len(block) > room:
            break
        lines = block + lines
    return lines


def wrapped(text: str, width: int, max_lines: int, symbols: Symbols) -> list[str]:
    """A message in at most `most` lines of `width` columns, without control characters."""
    lines = textwrap.wrap(formatting.plain(text), max(width, 1), break_on_hyphens=False)
    if len(lines) > max_lines:
        lines[max_lines - 1] = symbols.fit(" ".join(lines[max_lines - 1 :]), width)
    return lines[:max_lines]


def _legend(state: State, width: int, symbols: Symbols) -> Text:
    """The meaning of the cells' symbols; for a finished run only those that can occur."""
    line = Text()
    for symbol, style, meaning in symbols.legend()[: 2 if state.outcome == "finished" else None]:
        line.append("   " if line else "").append(symbol, style=style).append(f" {meaning}", style="dim")
    line.truncate(width)
    return line
