"""`compare` for people: each metric by arm and generation, and each arm against the baseline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from rich.console import RenderableType
from rich.text import Text

from collapse_sim.analysis import row_intervals
from collapse_sim.analysis.contrast import Contrast, adjusted
from collapse_sim.analysis.evidence import ALPHA
from collapse_sim.analysis.intervals import Interval, share
from collapse_sim.analysis.numbers import aligned, figure, percent, with_interval
from collapse_sim.analysis.reached import ended
from collapse_sim.analysis.results import Better, RecordedReference, Results
from collapse_sim.analysis.row_intervals import of_difference, of_mean
from collapse_sim.analysis.wrapped_tables import TableColumn, blocks
from collapse_sim.ui.palette import DONE, WARNING

MANY = 8  # more generations than this are thinned out
_BEST, _FAINT = f"bold {DONE}", "dim"
_ABSENT = "-"
STAR = "* not worse than the best"  # what it stands for


def by_generation(results: Results, metric: str, generations: Sequence[int], width: int | None) -> list[RenderableType]:
    """Arms (rows) by generations (columns): means with intervals, the best marked, theory and published figures."""
    rows: list[tuple[str, bool]] = []  # (arm, whether it is the arm's theory)
    for arm in results.arms:
        known = any(results.theory_at(arm, metric, k) is not None for k in generations)
        rows += [(arm, False), (arm, True)] if known else [(arm, False)]
    columns: list[TableColumn] = []
    over_rows: list[Interval] = []
    for k in generations:
        means = results.means(metric, k)
        by_rows = row_intervals.instead(results, metric, k, means)
        over_rows += by_rows.values()
        shown = by_rows or means
        texts = [_theory(results, arm, metric, k) if is_theory else _mean(shown.get(arm)) for arm, is_theory in rows]
        best = best_of(results, metric, k)
        styles = [_FAINT if is_theory else _BEST if arm in best else "" for arm, is_theory in rows]
        counts = ["" if is_theory else _count(results, arm, means.get(arm)) for arm, is_theory in rows]
        header = f"{k}{row_intervals.MARK * bool(by_rows)}"
        columns.append(_column(header, texts, styles, counts, starred=bool(best)))
        published = results.reference_at(metric, k)
        if published is not None:
            texts = ["" if is_theory else _published(published, arm) for arm, is_theory in rows]
            columns.append(_column(f"published\nat {k}", texts))
    names = [Text("  theory", _FAINT) if is_theory else Text(arm) for arm, is_theory in rows]
    tables = blocks(TableColumn("arm \\ generation", names), columns, width)
    notes = [*ends(results), *beside(results, metric), *row_intervals.note(over_rows)]
    notes += _sources(results, metric, generations)
    return [_title(results, metric, generations), *tables, *notes]


def against_baseline(results: Results, metric: str, generation: int, width: int | None) -> list[RenderableType]:
    """Each arm at one generation: mean, paired difference to the baseline, distance from theory, published figure."""
    baseline, better = results.baseline, results.metrics[metric]
    means = results.means(metric, generation)
    arms = [arm for arm in results.arms if arm in means]
    differences = {arm: results.minus(arm, baseline, metric, generation) for arm in arms if arm != baseline}
    best, surely = best_of(results, metric, generation), _surely(results, metric, generation, differences)
    shares = [share(differences.get(arm), means.get(baseline)) for arm in arms]
    columns = [
        _column(
            "mean", [_mean(means[arm]) for arm in arms], [_BEST * (arm in best) for arm in arms], starred=bool(best)
        )
    ]
    if any(means[arm].n != results.seeds_of(arm) for arm in arms):
        columns.append(_column("seeds", [str(means[arm].n) for arm in arms]))
    across = [of_mean(results, arm, metric, generation) for arm in arms]
    apart = [of_difference(results, arm, baseline, metric, generation) if arm != baseline else None for arm in arms]
    columns += [_column(row_intervals.HEADER, row_intervals.halves(across))] if any(across) else []
    columns.append(_column(f"minus\n{baseline}", [_mean(differences.get(arm), signed=True) for arm in arms]))
    columns += [_column(row_intervals.HEADER, row_intervals.halves(apart))] if any(apart) else []
    columns += [
        _column("relative", [None if part is None else percent(part) for part in shares]),
        TableColumn(
            "reads",
            [
                _reading(arm == baseline, differences.get(arm), better, sure=arm in surely, over_rows=rows)
                for arm, rows in zip(arms, apart, strict=True)
            ],
        ),
        *_theory_columns(results, metric, generation, means),
    ]
    published = results.reference_at(metric, generation)
    if published is not None:
        columns.append(_column("published", [_published(published, arm) for arm in arms]))
        columns.append(_column("published\nrelative", [_published_relative(published, arm, baseline) for arm in arms]))
    title = Text.assemble(
        (metric, "bold"), f" at generation {generation}: paired differences to {baseline}, seed by seed"
    )
    several = sum(found is not None and found.se is not None for found in differences.values())
    together = [Text(f"reads: at 5 % over the {several} arms together (Holm)", _FAINT)] if several > 1 else []
    tables = blocks(TableColumn("arm", [Text(arm) for arm in arms]), columns, width)
    said = [*beside(results, metric), *row_intervals.note([*across, *apart])]
    return [title, *tables, *together, *ends(results), *said, *_sources(results, metric, [generation])]


def readable(generations: Sequence[int]) -> list[int]:
    """At most about MANY generations: all, or 0, 1, 2, 5, 10, 20, 50 ... and the last."""
    if len(generations) <= MANY:
        return list(generations)
    round_numbers = {0} | {step * 10**power for step in (1, 2, 5) for power in range(7)}
    return [k for k in generations if k in round_numbers or k == generations[-1]]


def best_of(results: Results, metric: str, generation: int) -> frozenset[str]:
    """The arm with the best mean, and all that are not surely worse: the interval of their paired difference to it
    contains 0. None when there is no better direction, or nothing to choose between."""
    better = results.metrics[metric]
    finite = {arm: found.mean for arm, found in results.means(metric, generation).items() if found.finite}
    if better is None or len(set(finite.values())) < 2:
        return frozenset()
    first = (min if better == "lower" else max)(finite, key=lambda arm: finite[arm])
    apart = {arm: results.minus(arm, first, metric, generation) for arm in finite}
    return frozenset(arm for arm, found in apart.items() if finite[arm] == finite[first] or _may_be_zero(found))


def _may_be_zero(found: Interval | None) -> bool:
    """Whether the interval of a difference contains 0; one seed has none, and tells nothing."""
    return found is not None and found.low is not None and found.high is not None and found.low <= 0 <= found.high


def _surely(
    results: Results, metric: str, generation: int, differences: Mapping[str, Interval | None]
) -> frozenset[str]:
    """Arms that differ from the baseline at a level of 5 % over all arms of the table together (Holm)."""
    base = results.scores(results.baseline, metric, generation)
    p_values = {}
    for arm, found in differences.items():
        if found is not None and found.se is not None:
            own = results.scores(arm, metric, generation)
            left, right = (np.array([values[s] for s in own if s in base]) for values in (own, base))
            p_values[arm] = 2 * min(Contrast(left, right, resolution=results.resolutions.get(metric, 0.0)).p())
    sure = adjusted(list(p_values.values()))
    return frozenset(arm for arm, p in zip(p_values, sure, strict=True) if p <= ALPHA)


def _title(results: Results, metric: str, generations: Sequence[int]) -> Text:
    better, unit = results.metrics[metric], results.units.get(metric, "")
    found = [mean for k in generations for mean in results.means(metric, k).values()]
    said = [part for part in (unit, f"{better} is better" if better else "") if part]
    direction = f" ({', '.join(said)})" if said else ""
    star = f", {STAR}" if better else ""
    return Text.assemble((metric, "bold"), f"{direction}: mean over {seeds_over(found)}{star}")


def seeds_over(found: Sequence[Interval]) -> str:
    """ "3 seeds ± 95 % interval", "1 to 3 seeds ± 95 % interval", "1 seed, so no interval over seeds"."""
    numbers = {mean.n for mean in found}
    least, most = min(numbers), max(numbers)
    over = "1 seed, so no interval over seeds" if most == 1 else f"{most} seeds ± 95 % interval"
    return over if least == most else f"{least} to {over}"


def figures(results: Results, metric: str, generation: int, header: str) -> TableColumn:
    """One metric's means of all arms at a generation, the best marked, numbers of seeds where they are fewer."""
    means = results.means(metric, generation)
    best = best_of(results, metric, generation)
    by_rows = row_intervals.instead(results, metric, generation, means)
    header += row_intervals.MARK * bool(by_rows)
    texts = [_mean((by_rows or means).get(arm)) for arm in results.arms]
    counts = [_count(results, arm, means.get(arm)) for arm in results.arms]
    return _column(header, texts, [_BEST * (arm in best) for arm in results.arms], counts, starred=bool(best))


def ends(results: Results) -> list[Text]:
    """Which cells diverged."""
    return [Text(line, WARNING) for line in ended(results)]


def beside(results: Results, metric: str) -> list[Text]:
    """How many rows a metric's figures are from, and through which network; why not to quote them, if so."""
    note, warning = results.notes.get(metric, ""), results.warnings.get(metric, "")
    if not note and not warning:
        return []
    return [Text.assemble((note, _FAINT), (f"{'; ' if note else ''}{warning}" if warning else "", WARNING))]


def _sources(results: Results, metric: str, generations: Sequence[int]) -> list[Text]:
    found = [published for k in generations if (published := results.reference_at(metric, k))]
    return [Text(f"published: {published.source}", _FAINT) for published in found]


def _column(
    header: str,
    texts: Sequence[str | None],
    styles: Sequence[str] | None = None,
    counts: Sequence[str] | None = None,
    *,
    starred: bool = False,
) -> TableColumn:
    """Figures aligned below each other, a dash where there is none; `starred`: those in the best's style get a star.

    `counts` stand behind the figures.
    """
    figures = iter(aligned([text for text in texts if text is not None]))
    behind = counts or [""] * len(texts)
    wide = max(map(len, behind), default=0)
    cells = []
    for text, style, count in zip(texts, styles or [""] * len(texts), behind, strict=True):
        shown = _ABSENT if text is None else next(figures) + f" {count:<{wide}}" * bool(wide)
        star = "" if not starred else " *" if style == _BEST else "  "
        cells.append(Text(shown + star, style or (_FAINT if text is None else "")))
    return TableColumn(header, cells)


def _mean(found: Interval | None, *, signed: bool = False) -> str | None:
    return None if found is None else with_interval(found.mean, found.low, found.high, signed=signed)


def _count(results: Results, arm: str, found: Interval | None) -> str:
    """ "(n=2)" for fewer seeds than the arm is to have."""
    return "" if found is None or found.n == results.seeds_of(arm) else f"(n={found.n})"


def _theory(results: Results, arm: str, metric: str, generation: int) -> str | None:
    value = results.theory_at(arm, metric, generation)
    return None if value is None else figure(value)


def _published(reference: RecordedReference, arm: str) -> str | None:
    return figure(reference.values[arm]) if arm in reference.values else None


def _published_relative(reference: RecordedReference, arm: str, baseline: str) -> str | None:
    value, base = reference.values.get(arm), reference.values.get(baseline)
    return (
        None
        if value is None or not base or arm == baseline or value * base < 0
        else percent((value - base) / abs(base))
    )


def _theory_columns(results: Results, metric: str, generation: int, means: Mapping[str, Interval]) -> list[TableColumn]:
    """Theory's values and how many standard errors the means are away from them; nothing where theory is silent."""
    if all(results.theory_at(arm, metric, generation) is None for arm in means):
        return []
    away: list[str | None] = []
    for arm, found in means.items():
        value = results.theory_at(arm, metric, generation)
        away.append(None if value is None or not found.se else f"{(found.mean - value) / found.se:+.1f} se")
    return [
        _column("theory", [_theory(results, arm, metric, generation) for arm in means]),
        _column("minus\ntheory", away),
    ]


def _reading(
    is_baseline: bool, found: Interval | None, better: Better, *, sure: bool, over_rows: Interval | None = None
) -> Text:
    """What the difference says, in one word; `sure`: it is beyond chance. Of one seed, what held-out rows say."""
    if is_baseline:
        return Text("baseline", _FAINT)
    if found is not None and found.n == 1 and over_rows is not None:
        beyond = over_rows.low is not None and over_rows.high is not None and not over_rows.low <= 0 <= over_rows.high
        return _reading(False, over_rows, better, sure=beyond).append(" (rows)")
    if found is None or found.low is None or found.high is None:
        return Text(_ABSENT, _FAINT)
    if not sure:
        return Text("equal" if found.low == found.high == 0 else "unclear")
    if better is None:
        return Text("above" if found.mean > 0 else "below")
    good = (found.mean > 0) == (better == "higher")
    return Text("better", DONE) if good else Text("worse", WARNING)
