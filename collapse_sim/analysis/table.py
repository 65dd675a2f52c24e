"""Tables of `compare`: each metric by arm and generation, and each arm against the baseline."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from rich.console import RenderableType
from rich.text import Text

from collapse_sim.analysis import row_intervals
from collapse_sim.analysis.evidence import ALPHA
from collapse_sim.analysis.intervals import Interval, near_zero, share
from collapse_sim.analysis.intervals import differences as differences_of
from collapse_sim.analysis.numbers import aligned, bare_probability, figure, percent, with_interval
from collapse_sim.analysis.paired_tests import PairedTest, paired_tests
from collapse_sim.analysis.power import in_words, seeds_needed
from collapse_sim.analysis.reached import divergences
from collapse_sim.analysis.results import Better, RecordedReference, Results
from collapse_sim.analysis.row_intervals import of_difference, of_mean
from collapse_sim.analysis.wrapped_tables import TableColumn, blocks
from collapse_sim.ui import formatting
from collapse_sim.ui.palette import DONE, WARNING

MANY = 8  # more generations than this are thinned
_BEST, _FAINT = f"bold {DONE}", "dim"
_ABSENT = "-"
_IN_PLACE = " abs."  # a difference in place of a share of what is near 0
STAR = "* not worse than the best"  # what it stands for


def by_generation(results: Results, metric: str, generations: Sequence[int], width: int | None) -> list[RenderableType]:
    """Arms (rows) by generations (columns): means with intervals, the best marked; theory and published figures."""
    rows: list[tuple[str, bool]] = []  # (arm, whether the row is its theory)
    for arm in results.arms:
        has_theory = any(results.theory_at(arm, metric, k) is not None for k in generations)
        rows += [(arm, False), (arm, True)] if has_theory else [(arm, False)]
    columns: list[TableColumn] = []
    over_rows: list[Interval] = []
    for k in generations:
        means = results.means(metric, k)
        by_rows = row_intervals.in_place_of_seeds(results, metric, k, means)
        over_rows += by_rows.values()
        shown = by_rows or means
        texts = [_theory(results, arm, metric, k) if is_theory else _mean(shown.get(arm)) for arm, is_theory in rows]
        best = best_of(results, metric, k)
        styles = [_FAINT if is_theory else _BEST if arm in best else "" for arm, is_theory in rows]
        counts = ["" if is_theory else fewer_seeds(results, arm, means.get(arm)) for arm, is_theory in rows]
        header = f"{k}{row_intervals.MARK * bool(by_rows)}"
        columns.append(figure_column(header, texts, styles, counts, starred=bool(best)))
        published = results.reference_at(metric, k)
        if published is not None:
            texts = ["" if is_theory else _published(published, arm) for arm, is_theory in rows]
            columns.append(figure_column(f"published\nat {k}", texts))
    names = [Text("  theory", _FAINT) if is_theory else Text(arm) for arm, is_theory in rows]
    tables = blocks(TableColumn("arm \\ generation", names), columns, width)
    notes = [*divergence_notes(results), *metric_notes(results, metric), *row_intervals.note(over_rows)]
    notes += _sources(results, metric, generations)
    return [_title(results, metric, generations), *tables, *notes]


def against_baseline(results: Results, metric: str, generation: int, width: int | None) -> list[RenderableType]:
    """Each arm at one generation: mean, paired difference to the baseline, distance from theory, published figure."""
    baseline, better = results.baseline, results.metrics[metric]
    means = results.means(metric, generation)
    arms = [arm for arm in results.arms if arm in means]
    differences = {arm: results.paired_difference(arm, baseline, metric, generation) for arm in arms if arm != baseline}
    best, tests = best_of(results, metric, generation), paired_tests(results, metric, generation, differences)
    significant = {arm for arm, test in tests.items() if test.holm <= ALPHA}
    relatives = [_relative(differences.get(arm), means.get(baseline)) for arm in arms]
    columns = [
        figure_column(
            "mean", [_mean(means[arm]) for arm in arms], [_BEST * (arm in best) for arm in arms], starred=bool(best)
        )
    ]
    if any(means[arm].n != results.seeds_of(arm) for arm in arms):
        columns.append(figure_column("seeds", [str(means[arm].n) for arm in arms]))
    mean_intervals = [of_mean(results, arm, metric, generation) for arm in arms]
    difference_intervals = [
        of_difference(results, arm, baseline, metric, generation) if arm != baseline else None for arm in arms
    ]
    columns += (
        [figure_column(row_intervals.HEADER, row_intervals.half_widths(mean_intervals))] if any(mean_intervals) else []
    )
    columns.append(figure_column(f"minus\n{baseline}", [_mean(differences.get(arm), signed=True) for arm in arms]))
    columns += (
        [figure_column(row_intervals.HEADER, row_intervals.half_widths(difference_intervals))]
        if any(difference_intervals)
        else []
    )
    columns += [
        figure_column("relative", relatives),
        *_p_columns(tests, arms),
        TableColumn(
            "reads",
            [
                _reading(
                    arm == baseline, differences.get(arm), better, significant=arm in significant, over_rows=over_rows
                )
                for arm, over_rows in zip(arms, difference_intervals, strict=True)
            ],
        ),
        *_theory_columns(results, metric, generation, means),
    ]
    published = results.reference_at(metric, generation)
    if published is not None:
        columns.append(figure_column("published", [_published(published, arm) for arm in arms]))
        columns.append(
            figure_column("published\nrelative", [_published_relative(published, arm, baseline) for arm in arms])
        )
    title = Text.assemble(
        (metric, "bold"), f" at generation {generation}: paired differences to {baseline}, seed by seed"
    )
    holm_notes = [Text(f"reads: at 5 % over the {len(tests)} arms together (Holm)", _FAINT)] if len(tests) > 1 else []
    if any(text is not None and text.endswith(_IN_PLACE) for text in relatives):
        holm_notes.append(
            Text(
                f"{_IN_PLACE.strip()}: the difference itself, as {baseline}'s mean is near 0 or small beside it", _FAINT
            )
        )
    unclear = [arm for arm in tests if arm not in significant]
    holm_notes += seeds_notes(results, metric, generation, unclear, ALPHA / max(len(tests), 1))
    tables = blocks(TableColumn("arm", [Text(arm) for arm in arms]), columns, width)
    notes = [*metric_notes(results, metric), *row_intervals.note([*mean_intervals, *difference_intervals])]
    return [title, *tables, *holm_notes, *divergence_notes(results), *notes, *_sources(results, metric, [generation])]


def readable(generations: Sequence[int], also: int | None = None) -> list[int]:
    """All of up to MANY generations, otherwise 0, 1, 2, 5, 10, 20, 50 ..., the last, and `also`."""
    if len(generations) <= MANY:
        return list(generations)
    round_numbers = {0} | {step * 10**power for step in (1, 2, 5) for power in range(7)}
    return [k for k in generations if k in round_numbers or k in (generations[-1], also)]


def best_of(results: Results, metric: str, generation: int) -> frozenset[str]:
    """The arm with the best mean, and all that are not significantly worse: the interval of their paired difference to
    it contains 0. Empty if the metric has no better direction, or if all means are equal."""
    better = results.metrics[metric]
    finite = {arm: mean.mean for arm, mean in results.means(metric, generation).items() if mean.finite}
    if better is None or len(set(finite.values())) < 2:
        return frozenset()
    first = (min if better == "lower" else max)(finite, key=lambda arm: finite[arm])
    differences = {arm: results.paired_difference(arm, first, metric, generation) for arm in finite}
    return frozenset(arm for arm, gap in differences.items() if finite[arm] == finite[first] or _may_be_zero(gap))


def _may_be_zero(difference: Interval | None) -> bool:
    """Whether the interval of a difference contains 0; False for one seed, which has none."""
    return (
        difference is not None
        and difference.low is not None
        and difference.high is not None
        and difference.low <= 0 <= difference.high
    )


def _relative(difference: Interval | None, base: Interval | None) -> str | None:
    """The difference in per cent of the baseline; itself, and marked, if that is near 0; None for one seed."""
    relative = share(difference, base)
    if relative is not None:
        return percent(relative)
    if difference is None or base is None or difference.se is None or base.se is None:
        return None
    if base.excludes_zero and not near_zero(base.mean, difference.mean):  # only on the other side of 0
        return None
    return f"{'+' * (difference.mean > 0)}{figure(difference.mean)}{_IN_PLACE}"


def _p_columns(tests: Mapping[str, PairedTest], arms: Sequence[str]) -> list[TableColumn]:
    """P values of the differences, and corrected if there are several; [] without any."""
    if not tests:
        return []
    columns = [figure_column("p", [bare_probability(tests[arm].p) if arm in tests else None for arm in arms])]
    if len(tests) > 1:
        columns.append(
            figure_column("p\n(Holm)", [bare_probability(tests[arm].holm) if arm in tests else None for arm in arms])
        )
    return columns


def seeds_notes(results: Results, metric: str, generation: int, arms: Sequence[str], alpha: float) -> list[Text]:
    """How many seeds would decide the differences of these arms to the baseline, which the seeds so far do not."""
    of_baseline = results.scores(results.baseline, metric, generation)
    by_number: dict[str, list[str]] = {}
    for arm in arms:
        gaps = np.array(differences_of(results.scores(arm, metric, generation), of_baseline))
        if gaps.any():  # equal for every seed: no number would decide
            by_number.setdefault(in_words(seeds_needed([gaps], alpha)), []).append(arm)
    if not by_number:
        return []
    counts = "; ".join(f"{', '.join(own)}: {number}" for number, own in by_number.items())
    text = f"seeds that would decide what is unclear, if differences stay as they are (80 % power): {counts}"
    return [Text(text, _FAINT)]


def _title(results: Results, metric: str, generations: Sequence[int]) -> Text:
    better, unit = results.metrics[metric], results.units.get(metric, "")
    means = [mean for k in generations for mean in results.means(metric, k).values()]
    details = [part for part in (unit, f"{better} is better" if better else "") if part]
    direction = f" ({', '.join(details)})" if details else ""
    star = f", {STAR}" if better else ""
    return Text.assemble((metric, "bold"), f"{direction}: mean over {seeds_over(means)}{star}")


def seeds_over(means: Sequence[Interval]) -> str:
    """ "3 seeds ± 95 % interval", "1 to 3 seeds ± 95 % interval", "1 seed, so no interval over seeds"."""
    numbers = {mean.n for mean in means}
    least, most = min(numbers), max(numbers)
    text = "1 seed, so no interval over seeds" if most == 1 else f"{most} seeds ± 95 % interval"
    return text if least == most else f"{least} to {text}"


def figures(results: Results, metric: str, generation: int, header: str) -> TableColumn:
    """One metric's means of all arms at a generation, the best marked, with numbers of seeds below the planned one."""
    means = results.means(metric, generation)
    best = best_of(results, metric, generation)
    by_rows = row_intervals.in_place_of_seeds(results, metric, generation, means)
    header += row_intervals.MARK * bool(by_rows)
    texts = [_mean((by_rows or means).get(arm)) for arm in results.arms]
    counts = [fewer_seeds(results, arm, means.get(arm)) for arm in results.arms]
    return figure_column(header, texts, [_BEST * (arm in best) for arm in results.arms], counts, starred=bool(best))


def divergence_notes(results: Results) -> list[Text]:
    """A line for each diverged cell."""
    return [Text(line, WARNING) for line in divergences(results)]


def metric_notes(results: Results, metric: str) -> list[Text]:
    """The note (rows and network behind the figures) and the warning (why not to quote them) of a metric, if any."""
    note, warning = results.notes.get(metric, ""), results.warnings.get(metric, "")
    if not note and not warning:
        return []
    return [Text.assemble((note, _FAINT), (f"{'; ' if note else ''}{warning}" if warning else "", WARNING))]


def arm_notes(notes: Iterable[tuple[str, str]], of: int) -> list[Text]:
    """A line for each note, with the arms of all `of` that have it. `notes`: (arm, note), "" for none."""
    by_text: dict[str, dict[str, None]] = {}
    for arm, note in notes:
        if note:
            by_text.setdefault(note, {})[arm] = None
    return [Text(f"{formatting.arms(list(arms), of)}: {note}", _FAINT) for note, arms in by_text.items()]


def _sources(results: Results, metric: str, generations: Sequence[int]) -> list[Text]:
    references = [published for k in generations if (published := results.reference_at(metric, k))]
    return [Text(f"published: {published.source}", _FAINT) for published in references]


def figure_column(
    header: str,
    texts: Sequence[str | None],
    styles: Sequence[str] | None = None,
    counts: Sequence[str] | None = None,
    *,
    starred: bool = False,
) -> TableColumn:
    """A column of aligned figures, a dash for None; `starred`: figures in the style of the best get a star.

    `counts` are appended to the figures.
    """
    figures = iter(aligned([text for text in texts if text is not None]))
    suffixes = counts or [""] * len(texts)
    suffix_width = max(map(len, suffixes), default=0)
    cells = []
    for text, style, count in zip(texts, styles or [""] * len(texts), suffixes, strict=True):
        shown = _ABSENT if text is None else next(figures) + f" {count:<{suffix_width}}" * bool(suffix_width)
        star = "" if not starred else " *" if style == _BEST else "  "
        cells.append(Text(shown + star, style or (_FAINT if text is None else "")))
    return TableColumn(header, cells)


def _mean(mean: Interval | None, *, signed: bool = False) -> str | None:
    return None if mean is None else with_interval(mean.mean, mean.low, mean.high, signed=signed)


def fewer_seeds(results: Results, arm: str, mean: Interval | None) -> str:
    """ "(n=2)" if that is not the planned number of seeds."""
    return "" if mean is None or mean.n == results.seeds_of(arm) else f"(n={mean.n})"


def _theory(results: Results, arm: str, metric: str, generation: int) -> str | None:
    value = results.theory_at(arm, metric, generation)
    return None if value is None else figure(value)


def _published(reference: RecordedReference, arm: str) -> str | None:
    return figure(reference.values[arm]) if arm in reference.values else None


def _published_relative(reference: RecordedReference, arm: str, baseline: str) -> str | None:
    value, base = reference.values.get(arm), reference.values.get(baseline)
    if value is None or base is None or arm == baseline:
        return None
    if near_zero(base, value - base):
        return f"{'+' * (value > base)}{figure(value - base)}{_IN_PLACE}"
    return None if value * base < 0 or base == 0 else percent((value - base) / abs(base))


def _theory_columns(results: Results, metric: str, generation: int, means: Mapping[str, Interval]) -> list[TableColumn]:
    """Theory's values and the distance of the means from them in standard errors; [] without theory."""
    if all(results.theory_at(arm, metric, generation) is None for arm in means):
        return []
    away: list[str | None] = []
    for arm, mean in means.items():
        value = results.theory_at(arm, metric, generation)
        away.append(None if value is None or not mean.se else f"{(mean.mean - value) / mean.se:+.1f} se")
    return [
        figure_column("theory", [_theory(results, arm, metric, generation) for arm in means]),
        figure_column("minus\ntheory", away),
    ]


def _reading(
    is_baseline: bool,
    difference: Interval | None,
    better: Better,
    *,
    significant: bool,
    over_rows: Interval | None = None,
) -> Text:
    """The difference in one word; `significant`: whether it is. For one seed, by its held-out rows."""
    if is_baseline:
        return Text("baseline", _FAINT)
    if difference is not None and difference.n == 1 and over_rows is not None:
        rows_significant = (
            over_rows.low is not None and over_rows.high is not None and not over_rows.low <= 0 <= over_rows.high
        )
        return _reading(False, over_rows, better, significant=rows_significant).append(" (rows)")
    if difference is None or difference.low is None or difference.high is None:
        return Text(_ABSENT, _FAINT)
    if not significant:
        return Text("equal" if difference.low == difference.high == 0 else "unclear")
    if better is None:
        return Text("above" if difference.mean > 0 else "below")
    improved = (difference.mean > 0) == (better == "higher")
    return Text("better", DONE) if improved else Text("worse", WARNING)
