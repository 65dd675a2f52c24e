from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from collapse_sim.analysis.numbers import with_interval

from .blocks import ROOT
from .stored_results import TABLE, _rounded, rendered

PAGES = [page for page in sorted((ROOT / "docs/results").glob("*.md")) if TABLE.search(page.read_text("utf-8"))]
FENCE = re.compile(r"^```.*?^```$", re.DOTALL | re.MULTILINE)
DECIMAL = re.compile(r"(?<![\w.])\d*\.\d+")
SETTINGS = {"0.05"}  # the level of a test


def prose(page: Path) -> str:
    """What a person wrote: without tables, blocks of code, code in a line, and versions of programs."""
    text = FENCE.sub("", TABLE.sub("", page.read_text("utf-8")))
    text = re.sub(r"<!--.*?-->|`[^`]*`|\((Python|torch)[^)]*\)", "", text, flags=re.DOTALL)
    return "\n".join(line for line in text.splitlines() if not line.startswith("|"))


def test_there_are_pages() -> None:
    assert [page.name for page in PAGES] == [
        "bf16-on-a-cpu.md",
        "cifar10-reduced.md",
        "curse-vae-mnist-latents.md",
        "kd-vae-mnist-conventions.md",
        "kd-vae-mnist-table1.md",
        "open-question.md",
        "vae-mnist-strategies.md",
    ]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_tables_are_those_of_the_stored_comparisons(page: Path) -> None:
    assert rendered(page) == page.read_text("utf-8"), "python -m tests.docs.stored_results write PAGE"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_figures_in_sentences_are_in_a_table(page: Path) -> None:
    tables = " ".join(match["text"] for match in TABLE.finditer(page.read_text("utf-8")))
    shown = set(re.findall(r"\d*\.\d+", tables))
    shown |= {figure.lstrip("0") for figure in shown}
    assert set(DECIMAL.findall(prose(page))) - shown - SETTINGS == set()


def test_a_changed_figure_is_seen(tmp_path: Path) -> None:
    entry = {"generation": 1, "n": 3, "mean": 1.5, "low": 1.25, "high": 1.75, "p": 0.01, "p_holm": 0.04}
    stored = {
        "common_generation": 1,
        "theory": {"a": {"m": [1.0, 1.25]}},
        "arms": {"a": {"m": [entry]}, "b": {"m": [{**entry, "mean": 2.5, "low": None, "high": None}]}},
        "differences": {"b": {"a": {"m": [{**entry, "mean": -1.0, "low": -1.5, "high": -0.5}]}}},
        "references": [{"source": "s", "metric": "m", "generation": 1, "figures": {"a": 0.5, "b": 2.0}}],
        "claims": [
            {"that": "a is less", "metric": "m", "expect": "a < b", "status": "holds", "difference": -1, "low": -1.5}
            | {"high": -0.5},
            {"that": "b is", "metric": "m", "expect": "b = a", "status": "undecided", "difference": None, "low": None}
            | {"high": None},
        ],
        "definitions": [{"arm": arm, "definition": "drift", "status": f"{arm} seen"} for arm in "ab"],
        "costs": {
            "a": {"updates": 5000, "taught": 5000},
            "b": {"updates": 500, "taught": 0},
        },
    }
    (tmp_path / "s.json").write_text(json.dumps(stored))
    kinds = [
        "means m 1",
        "theory m 1 a",
        "last m",
        "gains m 1 a-b",
        "published m 1 b",
        "claims",
        "verdicts",
        "costs b|a",
    ]
    page = tmp_path / "page.md"
    page.write_text("".join(f"<!-- table: s.json {kind} -->\nOUTDATED\n<!-- end -->\n" for kind in kinds))
    made = rendered(page)
    assert made.count("OUTDATED") == 0
    assert f"| `a` | {with_interval(1.5, 1.25, 1.75)} |" in made
    assert "| `a` | 1.50 ± 0.25 (1.25) |" in made
    assert "| `a` - `b` | -1.00 ± 0.50* |" in made
    assert "| `a` | 1.500 | -40.0 % | 0.5000 | -75.0 % |" in made
    assert "| a is less | `m`: `a < b` | holds | -1.00 ± 0.50 |" in made
    assert "| b is | `m`: `b = a` | undecided |  |" in made
    assert "| arm | drift |" in made
    assert "| `b` | b seen |" in made
    assert "| `a` | 5,000 | 5,000 | 5,000 |" in made
    assert "| `b` | 500 | 500 | 0 |" in made
    page.write_text(made)
    assert rendered(page) == made
    page.write_text(made.replace("1.50", "1.51"))
    assert rendered(page) != page.read_text()


def test_figures_of_several_runs_stand_side_by_side(tmp_path: Path) -> None:
    def entry(generation: int, mean: float) -> dict[str, float]:
        return {"generation": generation, "mean": mean, "low": mean - 0.2, "high": mean + 0.2}

    three_seeds = entry(1, -0.5)
    one_seed = {**entry(1, 0.5), "low": None, "high": None, "rows": {"low": 0.3, "high": 0.7}}
    for name, baseline, difference, arms in (("one", 2.0, three_seeds, "a"), ("two", 4.0, one_seed, "ab")):
        stored = {
            "arms": {"M1": {"m": [entry(0, 1.0), entry(1, baseline)]}, **{arm: {"m": []} for arm in arms}},
            "differences": {"M1": {"a": {"m": [difference]}}},
        }
        (tmp_path / f"{name}.json").write_text(json.dumps(stored))
    page = tmp_path / "page.md"
    page.write_text("<!-- table: one.json,two.json percent m 1 M1 -->\n<!-- end -->\n")
    rows = rendered(page).splitlines()[2:]
    assert rows[0] == "| model | `one` | `two` |"
    assert rows[2:6] == [
        "| generation 0 | 1.000 | 1.000 |",
        "| `M1` | 2.000 | 4.000 |",
        "| `a` | -25 ± 10 % | +12.5 ± 5.0 % |",
        "",
    ], "b is in one of them only"


def test_rounding_keeps_six_digits_and_leaves_out_single_seeds() -> None:
    assert _rounded({"mean": 1.23456789, "values": [1.0], "rows": None, "n": 3}) == {"mean": 1.23457}
    rows = {"n": 10, "low": 1.0, "high": 2.0}
    assert _rounded({"mean": 1.5, "low": 0.0, "high": 3.0, "rows": rows}) == {"mean": 1.5, "low": 0.0, "high": 3.0}
    of_one = {"mean": 1.5, "low": None, "high": None}
    assert _rounded({**of_one, "rows": rows}) == {**of_one, "rows": {"low": 1.0, "high": 2.0}}
