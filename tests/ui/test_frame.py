"""The picture: never too wide or too high, legible without colour and without UTF-8."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest
from rich.cells import cell_len

from collapse_sim.core.events import (
    JobStarted,
    Note,
    Waiting,
)
from collapse_sim.ui.frame import export_svg
from collapse_sim.ui.state import State
from tests.ui.conftest import NASTY

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


def test_waiting_for_another_process_is_said(tell, reduce, draw):
    state = reduce(tell()[:1])
    state.apply(Waiting("fit", "d", 0), 1.0)
    assert "waiting for another process: fitting, generation 0" in draw(state, 80, 24)
