"""What scalars mean, which lines they are on, and what YAML may not do."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from collapse_sim.core.errors import RecipeError
from collapse_sim.recipe.marked import Mark, MarkedMapping, mark_at, plain, split_path
from collapse_sim.recipe.problems import Problems
from collapse_sim.recipe.yaml_lines import parse_value, read


def parsed(text: str) -> object:
    problems = Problems()
    value = plain(parse_value(text, Mark("here"), problems))
    problems.raise_any()
    return value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-4", 1e-4),
        ("1E5", 1e5),
        ("-2.5e+3", -2500.0),
        (".5", 0.5),
        ("5.", 5.0),
        ("12", 12),
        ("-7", -7),
        ("+7", 7),
        ("0", 0),
        ("true", True),
        ("False", False),
        ("null", None),
        ("~", None),
        ("on", "on"),
        ("off", "off"),
        ("yes", "yes"),
        ("no", "no"),
        ("2024-01-31", "2024-01-31"),
        ("2024-01-31 10:00:00", "2024-01-31 10:00:00"),
        ("1:30", "1:30"),
        ("010", 10),  # not 8, as in YAML 1.1
        ("0x1f", 31),
        ("0o17", 15),
        ("-0x1f", "-0x1f"),  # YAML 1.2 has no sign there
        ("0b11", "0b11"),
        ("1_000", "1_000"),
        ("e5", "e5"),
        ("1e", "1e"),
        (".", "."),
        ("'1e-4'", "1e-4"),
        ("[1e-4, on]", [1e-4, "on"]),
        ("{a: 1e-4}", {"a": 1e-4}),
    ],
)
def test_scalars(text: str, value: object) -> None:
    result = parsed(text)
    assert result == value
    assert type(result) is type(value)


@pytest.mark.parametrize("text", [".nan", ".inf", "-.INF", "1e999"])
def test_numbers_are_finite(text: str) -> None:
    with pytest.raises(RecipeError, match=f"^here: found {re.escape(text)}; allowed: finite numbers$"):
        parsed(text)


def load(text: str) -> tuple[MarkedMapping, list[str]]:
    path = Path("r.yaml")
    path.write_text(text, encoding="utf-8")
    problems = Problems()
    return read(path, "r.yaml", problems), problems.lines


def test_every_key_has_its_line() -> None:
    root, problems = load("a: 1\nb:\n  c: {d: 2,\n      e: 3}\n  # a comment\n  f:\n    - 4\n    - g: 5\n")
    assert problems == []
    lines = {
        ("a",): 1,
        ("b",): 2,
        ("b", "c", "d"): 3,
        ("b", "c", "e"): 4,
        ("b", "f", 0): 7,
        ("b", "f", 1, "g"): 8,
        ("b", "x", "y"): 2,
        ("z",): 1,
    }
    assert {steps: mark_at(root, steps).line for steps in lines} == lines


def test_keys_are_text_as_written() -> None:
    root, problems = load("on: 1\n0.50: 2\nnull: 3\n2024-01-31: 4\n")
    assert (plain(root), problems) == ({"on": 1, "0.50": 2, "null": 3, "2024-01-31": 4}, [])


def test_anchors_work_and_their_lines_are_where_they_are_written() -> None:
    root, problems = load("a: &x {b: 1}\nc: *x\n")
    assert (plain(root), problems) == ({"a": {"b": 1}, "c": {"b": 1}}, [])
    assert mark_at(root, ("c", "b")).line == 1
    assert mark_at(root, ("c",)).line == 2


def test_an_anchor_inside_itself() -> None:
    _, problems = load("a: &x\n  b: *x\n")
    assert problems == ["r.yaml:2: a.b: this alias contains itself"]


def test_all_duplicates_are_found() -> None:
    _, problems = load("a: 1\nb: {c: 1, c: 2}\na: 3\nd: [{e: 1, e: 1}]\n")
    assert problems == [
        "r.yaml:2: b.c: duplicate key 'c', first on line 2; keep one",
        "r.yaml:3: a: duplicate key 'a', first on line 1; keep one",
        "r.yaml:4: d.0.e: duplicate key 'e', first on line 4; keep one",
    ]


def test_keys_that_are_no_text() -> None:
    _, problems = load("[a, b]: 1\n")
    assert problems == ["r.yaml:1: found a list or mapping as a key; allowed: text"]


@pytest.mark.parametrize(
    "tag", ["!!python/object/apply:os.getcwd []", "!mine {a: 1}", "!mine x", "!!timestamp 2024-01-31"]
)
def test_tags_are_refused(tag: str) -> None:
    _, problems = load(f"a: {tag}\n")
    assert len(problems) == 1
    assert problems[0].startswith("r.yaml:1: a: found ")


def test_a_forced_type_that_does_not_fit() -> None:
    _, problems = load("a: !!int x\n")
    assert problems == ["r.yaml:1: a: found 'x', which is not a valid int"]


def test_paths_prefer_the_longest_key() -> None:
    root, _ = load("a: {x.y: {b: 1}, x: {y: 2}}\nl: [{k: 1}]\n")
    assert split_path(root, "a.x.y.b") == ["a", "x.y", "b"]
    assert split_path(root, "a.x.z") == ["a", "x", "z"]
    assert split_path(root, "l.0.k") == ["l", 0, "k"]
    assert split_path(root, "a.xy") == ["a", "xy"]
