"""The output of `compare --latex` and `--markdown`: arms by metrics at one generation, ready for a paper or a page."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from collapse_sim.analysis.by_protocol import by_protocol
from collapse_sim.analysis.intervals import Interval
from collapse_sim.analysis.numbers import figure, with_interval
from collapse_sim.analysis.reached import divergences
from collapse_sim.analysis.results import Better, Results
from collapse_sim.analysis.table import best_of, fewer_seeds, seeds_over
from collapse_sim.analysis.text_tables import in_line
from collapse_sim.ui import formatting

Form = Literal["latex", "markdown"]
_SPECIAL = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "±": r"$\pm$",
    "†": r"$\dagger$",
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
}
_NUMBER = re.compile(r"[\d.]+")
_POWER = re.compile(r"e([+-]\d+)$")


@dataclass(frozen=True)
class PaperCell:
    """A figure as `numbers` writes it: "0.425 ± 0.009", "0.45 [0.31, 0.60]", "(1.2 ± 0.3)e-05"; None: there is none."""

    text: str | None
    best: bool = False
    count: str = ""  # "(n=2)" if that is not the planned number of seeds


@dataclass(frozen=True)
class PaperTable:
    caption: str
    headers: Sequence[tuple[str, Better]]
    rows: Sequence[tuple[str, Sequence[PaperCell]]]  # name and cells
    notes: Sequence[str]
    corner: str = "arm"  # above the names of rows


def paper_tables(results: Results, metrics: Sequence[str], generations: Sequence[int], form: Form) -> str:
    """A table for each of the generations and protocols: means over seeds with 95 % intervals, the best in bold (with
    all that are not significantly worse). LaTeX needs the package booktabs."""
    tables = [
        table
        for protocol, group in by_protocol(results).items()
        for k in generations
        if (table := _table(group, metrics, k, protocol)) is not None
    ]
    return written(tables, form)


def written(tables: Sequence[PaperTable], form: Form) -> str:
    """Tables one below the other, in LaTeX or Markdown; "" for none."""
    write: Callable[[PaperTable], Iterator[str]] = _latex if form == "latex" else _markdown
    return "\n".join(line for table in tables for line in (*write(table), ""))


def _table(results: Results, metrics: Sequence[str], generation: int, protocol: str | None) -> PaperTable | None:
    """None if nothing is scored."""
    scored = [metric for metric in metrics if generation in results.scored(metric)]
    if not scored:
        return None
    headers: list[tuple[str, Better]] = []
    columns: list[list[PaperCell]] = []
    means: list[Interval] = []
    for metric in scored:
        of_arms, best = results.means(metric, generation), best_of(results, metric, generation)
        means += of_arms.values()
        headers.append((metric, results.metrics[metric]))
        columns.append([_cell(results, arm, of_arms.get(arm), arm in best) for arm in results.arms])
        theory = [results.theory_at(arm, metric, generation) for arm in results.arms]
        if any(value is not None for value in theory):
            headers.append((f"{metric}, theory", None))
            columns.append([PaperCell(None if value is None else figure(value)) for value in theory])
    rows = [(arm, cells) for arm, *cells in zip(results.arms, *columns, strict=True)]
    under = f", {protocol}" if protocol else ""
    bold = ", bold: not worse than the best" if any(cell.best for _, cells in rows for cell in cells) else ""
    caption = f"{results.name} at generation {generation}{under}: mean over {seeds_over(means)}{bold}"
    units = [f"{metric}: {results.units[metric]}" for metric in scored if results.units.get(metric)]
    remarks = [
        f"{metric}: {text}" for metric in scored for of in (results.notes, results.warnings) if (text := of.get(metric))
    ]
    return PaperTable(caption, headers, rows, [*units, *remarks, *divergences(results)])


def _cell(results: Results, arm: str, mean: Interval | None, best: bool) -> PaperCell:
    if mean is None or not math.isfinite(mean.mean):
        return PaperCell(None)
    return PaperCell(with_interval(mean.mean, mean.low, mean.high), best, fewer_seeds(results, arm, mean))


def _markdown(table: PaperTable) -> Iterator[str]:
    arrows = {"lower": " ↓", "higher": " ↑", None: ""}
    yield f"{in_line(table.caption)}."
    yield ""
    headers = (_name(name) + arrows[better] for name, better in table.headers)
    yield f"| {in_line(table.corner)} | {' | '.join(headers)} |"
    yield f"| --- | {' | '.join('---:' for _ in table.headers)} |"
    for arm, cells in table.rows:
        texts = (_with_count(f"**{cell.text}**" if cell.best else cell.text or "-", cell) for cell in cells)
        yield f"| {_name(arm)} | {' | '.join(texts)} |"
    for note in table.notes:
        yield ""
        yield in_line(note)


def _name(text: str) -> str:
    """Escaped, but for a number, whose point would be taken for that of a list at the start of a line."""
    return text if _NUMBER.fullmatch(text) else in_line(text)


def _latex(table: PaperTable) -> Iterator[str]:
    arrows = {"lower": r" $\downarrow$", "higher": r" $\uparrow$", None: ""}
    yield r"\begin{table}"
    yield r"\centering"
    yield rf"\caption{{{escaped(table.caption)}.}}"
    yield rf"\begin{{tabular}}{{l{'r' * len(table.headers)}}}"
    yield r"\toprule"
    headers = (escaped(name) + arrows[better] for name, better in table.headers)
    yield " & ".join([escaped(table.corner), *headers]) + r" \\"
    yield r"\midrule"
    for arm, cells in table.rows:
        texts = (_with_count(_formula(cell), replace(cell, count=escaped(cell.count))) for cell in cells)
        yield " & ".join([escaped(arm), *texts]) + r" \\"
    yield r"\bottomrule"
    yield r"\end{tabular}"
    yield r"\end{table}"
    for note in table.notes:
        yield f"% {formatting.plain(note)}"


def escaped(text: str) -> str:
    """A text in LaTeX, with characters that have a meaning there taken literally, and control characters visible."""
    return "".join(_SPECIAL.get(sign, sign) for sign in formatting.plain(text))


def _formula(cell: PaperCell) -> str:
    """In mathematical mode; the mean of the best is bold."""
    if cell.text is None:
        return "--"
    text = cell.text
    power = _POWER.search(text)
    text = text[: power.start()] if power else text
    mean = re.match(r"\(?[+-]?[\d.]+", text)
    if cell.best and mean is not None:
        start = mean.group().startswith("(")
        text = "(" * start + rf"\mathbf{{{mean.group()[start:]}}}" + text[mean.end() :]
    text = text.replace(" ± ", r" \pm ").replace(" [", r"\ [")
    scale = rf" \times 10^{{{int(power[1])}}}" if power else ""
    return f"${text}{scale}$"


def _with_count(text: str, cell: PaperCell) -> str:
    return f"{text} {cell.count}" if cell.count else text
