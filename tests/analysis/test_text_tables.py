"""Markdown of texts: what a reader of Markdown makes of it is what was written."""

from __future__ import annotations

import pytest

from collapse_sim.analysis.text_tables import EMPTY, Answers, Prompt, in_line, same_prompt_page, samples_page

NASTY = [
    "a | b", "*bold* and _more_", "<script>&lt;</script>", "`code` \\ `", "# no heading", "1. no list", "12) nor this",
    ". 1.5 -", "+ nor", "= this", "- no list", "~~no~~ $x$ [a](b) ![c](d)", "two\nlines\r\n\x1b[31mred\x07",
    "  spaces  ", "日本語 \u202e back",
]  # fmt: skip


def unescaped(text: str) -> str:
    """What CommonMark shows of text without any markup; AssertionError when there is a sign that is not escaped."""
    shown, rest = "", text
    while rest:
        if rest[0] == "\\":
            shown, rest = shown + rest[1], rest[2:]
        else:
            assert rest[0] not in "`*_{}[]<>#|~&!$\n", text
            shown, rest = shown + rest[0], rest[1:]
    return shown


@pytest.mark.parametrize("text", NASTY)
def test_texts_are_shown_as_they_are(text):
    visible = {"\x1b": r"\x1b", "\x07": r"\x07", "\u202e": r"\u202e"}
    found = in_line(text)
    assert unescaped(found) == " ".join("".join(visible.get(c, c) for c in text).split())
    assert not found.startswith(("- ", "+ ", "* ", "1. "))


def test_what_is_empty_or_long():
    assert in_line("") == in_line(" \n ") == EMPTY
    assert in_line("ab" * 400, longest=5) == "ababa…"
    assert in_line("abcde", longest=5) == "abcde"


def test_a_page_of_samples():
    page = samples_page("run_1", "A note.", {"replace": [in_line("a|b"), EMPTY], "a*b": []})
    assert page == "# run\\_1\n\nA note.\n\n## replace\n\n1. a\\|b\n2. *(empty)*\n\n## a\\*b\n\n"


def test_the_same_prompts_over_generations():
    prompts = [Prompt("Once", "upon a time"), Prompt("The", "end")]
    answers = [
        Answers("replace", 0, "m0", ("zero", "null")),
        Answers("replace", 1, "r1", ("one", "")),
        Answers("distill", 0, "m0", ("zero", "null")),
        Answers("distill", 1, "d1", ("eins", "a|b")),
    ]
    lines = same_prompt_page("t", "n", prompts, answers).split("\n")
    assert lines[:12] == [
        "# t", "", "n", "", "## 1", "", "> Once", "",
        "| generation | arm | text |", "| ---: | --- | --- |",
        "|  | real | upon a time |", "| 0 | all arms | zero |",
    ]  # fmt: skip
    assert lines[12:14] == ["| 1 | replace | one |", "| 1 | distill | eins |"]
    assert lines[-4:] == ["| 0 | all arms | null |", f"| 1 | replace | {EMPTY} |", "| 1 | distill | a\\|b |", ""]


def test_models_that_some_arms_share_have_one_row():
    answers = [
        Answers(arm, k, model, (model,)) for k in (0, 1) for arm, model in zip("abc", ("x", "x", "y"), strict=True)
    ]
    rows = [
        line for line in same_prompt_page("t", "n", [Prompt("p", "r")], answers).split("\n") if line.startswith("| 0")
    ]
    assert rows == ["| 0 | a, b | x |", "| 0 | c | y |"]
    (alone,) = [
        line
        for line in same_prompt_page("t", "n", [Prompt("p", "r")], answers[:1]).split("\n")
        if line.startswith("| 0")
    ]
    assert alone == "| 0 | a | x |"
