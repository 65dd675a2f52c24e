"""The picture: never too wide or too high, legible without colour and without UTF-8."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest
from rich.cells import cell_len

from collapse_sim.core.events import (
    JobStarted,
    Note,
    RunStarted,
    Scored,
    TextSamples,
    Waiting,
)
from collapse_sim.ui.frame import export_svg
from collapse_sim.ui.state import State

NASTY = ("first\nsecond\r\x1b[31mred\x1b[0m\x07 \u202eback [bold]not markup[/bold]", "日本語 👩‍👩‍👧 " * 40, "")
SIZES = [(20, 5), (40, 10), (80, 23), (100, 30), (160, 50)]
SHAPES = {
    "few": {},
    "one seed": {"seeds": (5,)},
    "many generations": {"generations": 50, "seeds": (0,)},
    "many arms": {"arms": tuple(f"alpha={i % 4},beta={i // 4}" for i in range(30)), "generations": 1, "seeds": (0,)},
    "many seeds": {"seeds": tuple(range(40)), "generations": 1},
    "many metrics": {"metrics": tuple(f"metric_number_{i}" for i in range(9))},
    "no metrics": {"metrics": ()},
    "texts": {"texts": NASTY},
    "texts of many arms": {"arms": tuple(f"arm{i}" for i in range(12)), "texts": NASTY, "seeds": (0,)},
    "wide names": {"arms": ("日本語の名前がとても長い", "x" * 60, "new\nline\x1b[31m"), "generations": 1},
}


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_the_frame_never_overflows(shape, size, tell, reduce, draw):
    width, height = size
    timed = tell(**SHAPES[shape])
    for stop in range(1, len(timed) + 1, max(len(timed) // 12, 1)):
        for remark in ("", "stopped: " + "a long explanation " * 20):
            text = draw(reduce(timed[:stop]), width, height, remark=remark)
            lines = text.split("\n")[:-1]
            assert len(lines) <= height
            assert max(map(cell_len, lines)) <= width
            assert all(c.isprintable() or c == "\u200d" for line in lines for c in line)


def test_before_the_run_begins_there_is_something_to_draw(draw):
    assert "getting ready" in draw(State(), 80, 24)


def test_what_a_person_needs_is_there(tell, reduce, draw):
    timed = tell(arms=("replace", "distill"))
    stop = next(
        i for i, (_, e) in enumerate(timed) if isinstance(e, JobStarted) and e.generation == 2 and e.seeds == (1,)
    )
    state = reduce(timed[: stop + 6])
    text = draw(state, 100, 30)
    rows = text.split("\n")
    assert re.search(r"^ demo .* \d:\d\d$", rows[0])
    assert re.search(r"^ ━+  +\d+% of the run  4/8 cells  about .* left$", text, re.MULTILINE)
    assert re.search(r"runs/demo .* cpu · fp32 · 3,000 rows/s$", rows[1])
    assert re.search(r"^ replace  ●  +●  +▸ fit 1/3  +·  ", rows[4])
    assert re.search(r"^ distill  ●  +●  +·  +·  ", rows[5])
    narrow = draw(state, 60, 24)
    assert re.search(r"^ replace  ●  +●  +▸11%  +·  ", narrow, re.MULTILINE)  # one of 3 stages x 3 seeds
    assert "generation 2 of 3   fits 1/6 · samples 0/6 · scores 0/6" in text
    assert "fitting · replace · generation 2 · seed 1 · loss 0.02000" in text
    assert "50%  50/100 steps  25.0 steps/s  2 s left" in text
    assert "! a setting has no effect: \\x1b[31mred\\x1b[0m second line" in text


def test_cells_found_made_in_part_and_to_do_differ_without_colour(tell, reduce, draw):
    state = reduce(tell(generations=3)[:1])
    for arm in ("replace", "accumulate"):
        state.apply(Scored(0, arm, (0, 1, 2), {}), 0.0)
    found, made = state.cells["replace"][0], state.cells["accumulate"][0]
    found.reused, made.made = 6, 6
    state.cells["distill"][0].fit = state.all_seeds
    rows = draw(state, 60, 30).split("\n")
    symbols = [row.split()[1] for row in rows if row.startswith((" replace", " accumulate", " distill"))][:3]
    assert symbols == ["○", "●", "◑33%"]


def test_the_window_of_a_long_run_follows_the_generation_under_way(tell, reduce, draw):
    state = reduce(tell(generations=200, seeds=(0,), arms=("a",)))
    state.cells["a"][150].scores = 0
    row = next(line for line in draw(state, 80, 24).split("\n") if line.startswith(" a "))
    cells = row[row.index("‹") + 1 : row.index("›")]
    assert set(cells) <= set("●◔◑◕")
    assert len(cells.replace("●", "")) == 1


def test_arms_under_way_stay_in_sight(tell, reduce, draw):
    arms = tuple(f"arm{i:02d}" for i in range(40))
    state = reduce(tell(arms=arms, generations=1, seeds=(0,))[:1])
    state.apply(JobStarted("fit", "d", 0, ("arm33",), (0,)), 1.0)
    text = draw(state, 80, 20)
    assert "arm33" in text
    assert "more arms; 0 of 80 cells done" in text


def test_all_sparklines_have_one_scale_and_mark_what_is_not_finite(tell, reduce, draw):
    state = reduce(tell(arms=("low", "high"), generations=3, seeds=(0,))[:1])
    state.scores = {"low": {"test_loss": [0.0, 1.0, 2.0, 3.0]}, "high": {"test_loss": [7.0, 8.0, float("nan"), 7.99]}}
    text = draw(state, 100, 30)
    assert "▁▂▃▄" in text
    assert "██×█" in text  # 7 of 8 is the last of eight levels


def test_a_wide_range_is_drawn_on_a_logarithmic_scale_and_says_so(tell, reduce, draw):
    state = reduce(tell(arms=("a",), generations=3, seeds=(0,))[:1])
    state.scores = {"a": {"test_loss": [1.0, 10.0, 100.0, 1000.0]}}
    text = draw(state, 100, 30)
    assert "▁▃▆█" in text
    assert "test_loss ↓ log" in text


def test_ascii_where_there_is_no_more(tell, reduce, draw):
    timed = tell(arms=("replace", "größer"))
    for stop in (1, len(timed) // 2, len(timed)):
        draw(reduce(timed[:stop]), 80, 24, encoding="ascii")  # would raise UnicodeEncodeError
    assert "gr??er" in draw(reduce(timed), 80, 24, encoding="ascii")


def test_no_color_gives_no_colour_codes(tell, reduce, draw, monkeypatch):
    state = reduce(tell())
    assert re.search("\x1b\\[[0-9;]*38;[25];", draw(state, 80, 24, color=True))  # rich remembers the first of the two
    monkeypatch.setenv("NO_COLOR", "1")
    codes = set(";".join(re.findall("\x1b\\[([0-9;]*)m", draw(state, 80, 24, color=True))).split(";"))
    assert codes <= {"0", "1", "2"}  # reset, bold, dim


def test_the_clock_stands_still_once_it_is_over(tell, reduce, draw):
    timed = tell()
    unfinished = reduce(timed[:20])
    assert (
        draw(unfinished, 80, 24, now=None, remark="stopped: gone")
        .split("\n")[0]
        .endswith(f" 0:{int(timed[19][0] - timed[0][0]):02d}")
    )
    assert "left" not in draw(unfinished, 80, 24, remark="stopped: gone")


def test_warnings_that_do_not_fit_give_way_to_newer_ones(tell, reduce, draw):
    state = reduce(tell()[:1])
    for i in range(50):
        state.apply(Note(f"note {i}"), 0.0)
    text = draw(state, 80, 24)
    assert "note 49" in text
    assert "note 1\n" not in text


def test_svg_holds_the_frame_and_no_foreign_font(tell, reduce, tmp_path):
    path = tmp_path / "demo.svg"
    export_svg(reduce(tell()), path, width=100)
    text = path.read_text(encoding="utf-8")
    ElementTree.fromstring(text)
    assert "accumulate" in text
    assert "collapse-sim run demo" in text.replace("\xa0", " ").replace("&#160;", " ")
    assert "@font-face" not in text
    assert "cdn" not in text


def test_a_metric_of_no_run_yet_is_drawn_as_to_do(draw):
    state = State()
    state.apply(RunStarted("r", ("a",), (0,), 2, ("loss",), {"loss": False}, "cpu", "fp32", "runs/r"), 0.0)
    text = draw(state, 100, 30, now=0.0)
    assert "loss ↑" in text
    assert re.search(r"^ a .*·.*·.*·", text, re.MULTILINE)


def test_waiting_for_another_process_is_said(tell, reduce, draw):
    state = reduce(tell()[:1])
    state.apply(Waiting("fit", "d", 0), 1.0)
    assert "waiting for another process: fitting, generation 0" in draw(state, 80, 24)


def panel(text: str) -> list[str]:
    """The lines of the samples, heading first."""
    lines = [line.strip() for line in text.split("\n")]
    start = next(i for i, line in enumerate(lines) if line.startswith("samples"))
    return lines[start : lines.index("", start)] if "" in lines[start:] else lines[start:]


def test_texts_of_the_latest_generation_are_shown_harmless_and_cut(tell, reduce, draw):
    state = reduce(tell(arms=("replace", "distill"), texts=NASTY)[:-1])
    lines = panel(draw(state, 100, 40, color=False))
    assert lines[:4] == [
        "samples of generation 3",
        "replace  replace 3: first second \\x1b[31mred\\x1b[0m\\x07 \\u202eback [bold]not markup[/bold]",
        lines[2],
        "(empty)",
    ]
    assert lines[2].startswith("replace 3: 日本語 👩\u200d👩\u200d👧 日本語")
    assert lines[2].endswith("…")
    assert lines[4].startswith("distill  distill 3: first")
    assert len(lines) == 7


@pytest.mark.parametrize("height", range(14, 40))
def test_every_arm_has_as_many_texts_as_the_others_or_is_counted(height, tell, reduce, draw):
    """Rows of the panel: never a part of an arm's texts, and arms without a row are said."""
    arms = tuple(f"arm{i}" for i in range(6))
    text = draw(reduce(tell(arms=arms, texts=("a", "b", "c"), seeds=(0,))[:-1]), 80, height)
    if "samples of" not in text:
        assert (
            height < 21
        )  # 13 for head, arms, the bar of the run and body, 2 empty ones, 2 for a note, 4 for one arm and the count
        return
    _, *rows = panel(text)
    shown = [sum(f"{arm} 3: " in row for row in rows) for arm in arms]
    missing = shown.count(0)
    assert {n for n in shown if n} <= {1, 2, 3}
    assert len({n for n in shown if n}) == 1
    assert (rows[-1] == f"… {missing} more arms") == (missing > 0)


def test_the_shortest_terminal_has_a_text_of_every_one_of_four_arms(tell, reduce, draw):
    arms = ("replace", "accumulate", "distill", "accumulate+distill")
    text = draw(reduce(tell(arms=arms, texts=("a", "b"))[:-1]), 80, 23)
    assert all(f"{arm} 3: a" in text for arm in arms)
    assert "all arms" not in text  # no job under way; and the table and the legend are what gives way
    assert "a setting has no effect" in text


def test_arms_that_are_at_different_generations_say_which(tell, reduce, draw):
    state = reduce(tell(arms=("a", "b"), texts=("x",))[:-1])
    state.apply(TextSamples(1, "b", ("y",)), state.updated)
    lines = panel(draw(state, 100, 40))
    assert lines == ["samples", "a  generation 3: a 3: x", "b  generation 1: y"]


def test_texts_in_ascii_where_there_is_no_more(tell, reduce, draw):
    assert "samples of generation 3" in draw(reduce(tell(texts=NASTY)), 100, 40, encoding="ascii")


def test_texts_that_all_arms_share_are_shown_once(tell, reduce, draw):
    state = reduce(tell(arms=("a", "b"), texts=("x",))[:-1])
    for arm in ("a", "b"):
        state.apply(TextSamples(0, arm, ("one", "two")), state.updated)
    assert panel(draw(state, 100, 40)) == ["samples of generation 0", "all arms  one", "two"]


def test_metrics_without_a_column_are_named(tell, reduce, draw):
    state = reduce(tell(metrics=("test_loss", *(f"metric_{i}" for i in range(5))))[:-1])
    seen = set()
    for width in (70, 80, 100, 120, 160):
        text = draw(state, width, 30)
        header = next(line for line in text.split("\n") if "test_loss" in line)
        shown = re.findall(r"metric_\d", header)
        found = re.search(r"^ \+(\d) metrics?: (.*)$", text, re.MULTILINE)
        named = found[2].split(", ") if found else []
        assert sorted([*shown, *named]) == [f"metric_{i}" for i in range(5)]
        assert len(named) == int(found[1] if found else 0)
        seen.add(len(named))
    assert {0} < seen
