"""The panel of texts: the latest of every arm, harmless, cut, and as many as there is room for."""

from __future__ import annotations

import pytest

from collapse_sim.core.events import TextSamples
from tests.ui.conftest import NASTY


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
