"""Tables: what stands where, and that no terminal is too narrow for a digit."""

import re
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from scipy import stats

from collapse_sim.analysis.numbers import bare_probability
from collapse_sim.analysis.power import in_words, seeds_needed
from collapse_sim.analysis.results import Results, read_results
from collapse_sim.analysis.table import against_baseline, arm_notes, best_of, by_generation, readable
from collapse_sim.store import journal
from tests.analysis.conftest import WriteRun, scores_line

SCORES = {
    "replace": {"loss": [[1.0, 1.1, 0.9], [2.0, 2.1, 1.9]]},
    "a-long-name,with=commas,and=more": {"loss": [[1.0, 1.1, 0.9], [1.5, 1.61, 1.4]]},
    "gone": {"loss": [[1.0, 1.1, 0.9]]},
}
REFERENCE = {"source": "a paper, table 1", "metric": "loss", "generation": 1, "values": {"replace": 4.0, "gone": 3.0}}
REFERENCE["values"]["a-long-name,with=commas,and=more"] = 3.5


def text(parts: list[Any], width: int = 200) -> str:
    console = Console(width=width, color_system=None)
    with console.capture() as capture:
        for part in parts:
            console.print(part)
    return capture.get()


def cells(parts: list[Any]) -> dict[str, list[str]]:
    """{first cell: the other cells} of every line with at least two, at any spacing above one."""
    unpadded = re.sub(r" +(?=[±*])", " ", text(parts))
    lines = [re.split(r" {2,}", line.strip()) for line in unpadded.splitlines()]
    return {line[0]: line[1:] for line in lines if len(line) > 1}


@pytest.fixture
def toy(write_run: WriteRun) -> Results:
    theory = {"replace": {"loss": [1.0, 2.25]}}
    return read_results(write_run(SCORES, reference=[REFERENCE], theory=theory))


def test_generations_side_by_side(toy: Results) -> None:
    found = by_generation(toy, "loss", [0, 1], None)
    rows = cells(found)
    half = "0.25"  # 4.303 * 0.1 / sqrt(3)
    assert rows["arm \\ generation"] == ["0", "1", "at 1"]
    assert rows["replace"] == [f"1.00 ± {half}", f"2.00 ± {half}", "4.000"]
    assert rows["theory"] == ["1.000", "2.250"]
    assert rows["a-long-name,with=commas,and=more"] == [f"1.00 ± {half}", "1.50 ± 0.26 *", "3.500"]
    assert rows["gone"] == [f"1.00 ± {half}", "-", "3.000"]
    assert "loss (lower is better): mean over 3 seeds ± 95 % interval, * not worse than the best" in text(found)
    assert "published: a paper, table 1" in text(found)


def test_against_the_baseline(toy: Results) -> None:
    found = against_baseline(toy, "loss", 1, None)
    rows = cells(found)
    assert rows["replace"] == ["2.00 ± 0.25", "-", "-", "-", "baseline", "2.250", "-4.3 se", "4.000", "-"]
    assert rows["a-long-name,with=commas,and=more"] == [
        "1.50 ± 0.26 *",
        "-0.497 ± 0.014",
        "-24.8 %",
        bare_probability(stats.ttest_rel([1.5, 1.61, 1.4], [2.0, 2.1, 1.9]).pvalue),
        "better",
        "-",
        "-",
        "3.500",
        "-12.5 %",
    ]
    assert "gone" not in rows


@pytest.mark.parametrize(
    ("better", "other", "word"),
    [
        ("lower", [0.5, 0.6, 0.4], "better"),
        ("lower", [1.5, 1.6, 1.4], "worse"),
        ("higher", [1.5, 1.6, 1.4], "better"),
        ("higher", [0.5, 0.6, 0.4], "worse"),
        (None, [1.5, 1.6, 1.4], "above"),
        (None, [0.5, 0.6, 0.4], "below"),
        ("lower", [1.0, 1.0, 1.1], "unclear"),
        ("lower", [1.0, 1.1, 0.9], "equal"),
    ],
)
def test_the_reading_of_a_difference(write_run: WriteRun, better: str | None, other: list[float], word: str) -> None:
    scores = {"base": {"m": [[1.0, 1.1, 0.9]]}, "other": {"m": [other]}}
    found = against_baseline(read_results(write_run(scores, better={"m": better})), "m", 0, None)
    assert word in cells(found)["other"]


def test_seeds_are_counted_where_they_differ(write_run: WriteRun) -> None:
    run = write_run({"base": {"m": [[1.0, 1.1, 0.9]]}}, arms=["base", "other"])
    journal.append(run / "journal.jsonl", [scores_line("other", 0, [1], {"m": [0.9]})])
    found = read_results(run)
    assert cells(against_baseline(found, "m", 0, None))["other"] == ["0.9000 *", "1", "-0.2000", "-20.0 %", "-"]
    assert "mean over 1 to 3 seeds ± 95 % interval" in text(by_generation(found, "m", [0], None))


@pytest.mark.parametrize("width", [20, 40, 60, 80, 140, None])
def test_every_digit_is_there_at_every_width(write_run: WriteRun, width: int | None) -> None:
    scores = {arm: {"loss": [[k + 20.123, k + 20.125, k + 20.1279] for k in range(12)]} for arm in ("a", "b" * 50)}
    results = read_results(write_run(scores))
    shown = text(by_generation(results, "loss", range(12), width), 1000)
    assert "…" not in shown
    for k in range(12):
        assert shown.count(f"{k + 20}.1253 ± 0.0061") == 2
    assert max(len(line.rstrip()) for line in shown.splitlines()[1:]) <= max(width or 1000, 12 + 2 + 16)
    first_block = shown.split("\n\n")[0]
    assert first_block.count("b") == 50 + "(lower is better)* not worse than the best".count("b")


def test_many_generations_are_thinned_out() -> None:
    assert readable(range(8)) == list(range(8))
    assert readable(range(11)) == [0, 1, 2, 5, 10]
    assert readable(range(51)) == [0, 1, 2, 5, 10, 20, 50]
    assert readable(range(13)) == [0, 1, 2, 5, 10, 12]
    assert readable(range(13), 7) == [0, 1, 2, 5, 7, 10, 12]


def test_a_note_is_shown_once_with_the_arms_that_have_it() -> None:
    notes = arm_notes([("a", "few"), ("b", ""), ("c", "few"), ("a", "odd"), ("a", "few")], 3)
    assert [note.plain for note in notes] == ["a, c: few", "a: odd"]
    assert [note.plain for note in arm_notes([("a", "few"), ("b", "few")], 2)] == ["all arms: few"]


@pytest.mark.parametrize(
    ("better", "starred"), [("lower", {"low", "near", "same"}), ("higher", {"high"}), (None, set())]
)
def test_stars_go_to_all_that_are_not_worse_than_the_best(
    write_run: WriteRun, better: str | None, starred: set[str]
) -> None:
    """`apart` is worse by little and surely, `near` by more and perhaps."""
    scores = {"low": [1.0, 2.0, 3.0], "apart": [1.02, 2.03, 3.02], "near": [0.9, 2.4, 3.1], "same": [1.0, 2.0, 3.0]}
    scores["high"] = [5.0, 6.1, 7.0]
    results = read_results(write_run({arm: {"m": [values]} for arm, values in scores.items()}, better={"m": better}))
    assert best_of(results, "m", 0) == starred


def test_one_seed_stars_the_best_mean_only(write_run: WriteRun) -> None:
    one = read_results(write_run({arm: {"m": [[v]]} for arm, v in (("a", 1.0), ("b", 1.1), ("c", 1.0))}, seeds=[0]))
    assert best_of(one, "m", 0) == {"a", "c"}
    alike = read_results(write_run({arm: {"m": [[1.0]]} for arm in "ab"}, name="alike", seeds=[0]))
    assert best_of(alike, "m", 0) == frozenset()


def test_readings_are_corrected_over_the_arms(write_run: WriteRun) -> None:
    """p = .04 of one arm alone; beside two others that are equal to the baseline it is .12."""
    gaps = [1.0, 2.0, 0.4, 1.6, 0.1, 0.2]
    base = [1.0, 1.5, 1.2, 1.3, 0.9, 1.1]
    arm = [b - g for b, g in zip(base, gaps, strict=True)]
    noise = [[b + s * e for b, e in zip(base, (0.1, -0.1, 0.05, -0.06, 0.02, 0.01), strict=True)] for s in (1, -1)]
    seeds = list(range(6))
    alone = read_results(write_run({"base": {"m": [base]}, "arm": {"m": [arm]}}, name="alone", seeds=seeds))
    assert cells(against_baseline(alone, "m", 0, None))["arm"][-1] == "better"
    several = {"base": {"m": [base]}, "arm": {"m": [arm]}, "x": {"m": [noise[0]]}, "y": {"m": [noise[1]]}}
    found = against_baseline(read_results(write_run(several, name="several", seeds=seeds)), "m", 0, None)
    assert cells(found)["arm"][-1] == "unclear"
    assert "reads: at 5 % over the 3 arms together (Holm)" in text(found)


def test_several_arms_have_both_p_values_and_the_seeds_that_would_decide(write_run: WriteRun) -> None:
    """Holm's p value beside the uncorrected one; what is unclear has the number of seeds at the corrected level."""
    base, near, far = [1.0, 2.0, 4.0, 3.0], [1.1, 2.6, 4.2, 3.9], [2.0, 3.1, 5.0, 4.0]
    run = write_run({"a": {"m": [base]}, "near": {"m": [near]}, "far": {"m": [far]}}, seeds=range(4))
    parts = against_baseline(read_results(run), "m", 0, None)
    rows = cells(parts)
    p_near, p_far = (stats.ttest_rel(arm, base).pvalue for arm in (near, far))
    assert rows["far"][3:6] == [bare_probability(p_far), bare_probability(2 * p_far), "worse"]
    assert rows["near"][3:6] == [bare_probability(p_near), bare_probability(p_near), "unclear"]
    gaps = np.array(near) - np.array(base)
    needed = in_words(seeds_needed([gaps], 0.025))
    assert needed.isdecimal()
    assert f"what is unclear, if differences stay as they are (80 % power): near: {needed}" in text(parts)


def test_two_seeds_do_not_say_how_many_would_decide(write_run: WriteRun) -> None:
    run = write_run({"a": {"m": [[1.0, 2.0]]}, "b": {"m": [[1.1, 2.6]]}}, seeds=(0, 1))
    assert "b: at least 3 seeds are needed to say" in text(against_baseline(read_results(run), "m", 0, None))


def test_a_ratio_to_a_baseline_near_0_is_the_difference_and_marked(write_run: WriteRun) -> None:
    """Its interval contains 0, or it is far less than a tenth of the difference."""
    for base in ([0.001, 0.0011, 0.0009], [0.001, -0.001, 0.0005]):
        run = write_run({"a": {"kid": [base]}, "b": {"kid": [[0.3, 0.31, 0.32]]}}, folder=f"run{base[1]}")
        parts = against_baseline(read_results(run), "kid", 0, None)
        (relative,) = [cell for cell in cells(parts)["b"] if cell.endswith(" abs.")]
        assert relative.startswith("+0.3")
        assert "abs.: the difference itself, as a's mean is near 0 or small beside it" in text(parts)
        assert "%" not in text(parts).replace("95 %", "").replace("80 %", "").replace("5 %", "")
