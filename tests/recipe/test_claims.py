"""The grammar of claims, `tuned_on`, and a claim's own `seeds`."""

import re
from pathlib import Path
from typing import Any

import pytest

from collapse_sim.core.errors import RecipeError
from collapse_sim.recipe.claims import ArmAt, Expectation, Number, Pick, Side, Theory, parse
from collapse_sim.recipe.loader import load
from collapse_sim.store.run_writer import merge_runs


def arm(name: str, generation: int | None = None, factor: float = 1.0) -> Side:
    return Side(ArmAt(name, generation), factor)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("distill < replace", Expectation(arm("distill"), "<", arm("replace"))),
        ("a>b", Expectation(arm("a"), ">", arm("b"))),
        ("accumulate+distill < a.b_c-d", Expectation(arm("accumulate+distill"), "<", arm("a.b_c-d"))),
        ("replace > replace@0", Expectation(arm("replace"), ">", arm("replace", 0))),
        ("a @ 12 < b", Expectation(arm("a", 12), "<", arm("b"))),
        ("a < 0.9 * b", Expectation(arm("a"), "<", arm("b", factor=0.9))),
        ("2*theory > a", Expectation(Side(Theory(), 2.0), ">", arm("a"))),
        ("a < -1.5e-3", Expectation(arm("a"), "<", Side(Number(-1.5e-3)))),
        (".5 < a", Expectation(Side(Number(0.5)), "<", arm("a"))),
        ("a = b within 2 %", Expectation(arm("a"), "=", arm("b"), 2)),
        ("a = b within 2.5%", Expectation(arm("a"), "=", arm("b"), 2.5)),
        ("a = theory within 10 %", Expectation(arm("a"), "=", Side(Theory()), 10)),
        ("a = 0.5 within 3 %", Expectation(arm("a"), "=", Side(Number(0.5)), 3)),
        ('"output=0.5" < "a b"@3', Expectation(arm("output=0.5"), "<", arm("a b", 3))),
        ('"0.5" < "theory"', Expectation(arm("0.5"), "<", arm("theory"))),
        ('"within" < a', Expectation(arm("within"), "<", arm("a"))),
        (
            'min(a, "b c"@1) < 0.5 * max(d, e)',
            Expectation(
                Side(Pick("min", (ArmAt("a"), ArmAt("b c", 1)))),
                "<",
                Side(Pick("max", (ArmAt("d"), ArmAt("e"))), 0.5),
            ),
        ),
        ("min < max", Expectation(arm("min"), "<", arm("max"))),
    ],
)
def test_reads(text: str, expected: Expectation) -> None:
    assert parse(text) == expected


def test_arms_and_generations() -> None:
    claim = parse("min(a, b@4) < 0.9 * c@2")
    assert claim.arms == {"a", "b", "c"}
    assert claim.generations == {4, 2}
    assert parse("a = theory within 1 %").arms == {"a"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected an arm here, found the end"),
        ("a", "expected '<', '>' or '=' here, found the end"),
        ("a < ", "expected an arm here, found the end"),
        ("a <= b", "found '<=' at column 3"),
        ("a == b within 2 %", "expected '<', '>' or '=' here, found '=='"),
        ("a b < c", "found 'b' at column 3"),
        ("a < b c", "expected the end of the claim here, found 'c' at column 7"),
        ("a & b", "unexpected '&' at column 3"),
        ('"a < b', "unexpected '\"' at column 1"),
        ("a = b", "'=' needs a tolerance"),
        ("a = b within", "`within` must be followed by a number above 0"),
        ("a = b within 0 %", "`within` must be followed by a number above 0"),
        ("a = b within 2", "a tolerance is in '%', of the right side"),
        ("a = theory within 3 se", "standard errors are not a tolerance: they shrink with every seed"),
        ("a = b within 100 %", "a tolerance is below 100 %, found 100 %"),
        ("a < b within 2 %", "`within` belongs to '=', not to '<'"),
        ("a = 0 within 2 %", "write two claims that give the limits, `A < 0.1` and `A > -0.1`"),
        ("1 < 2", "names no arm"),
        ("theory < 2", "names no arm"),
        ("min(a, b) < theory", "so that side must be one arm"),
        ("a < a", "both sides are the same"),
        ("a@x < b", "'@' must be followed by a generation's number, found 'x'"),
        ("a@-1 < b", "'@' must be followed by a generation's number"),
        ("0 * a < b", "a factor must be above 0, found 0"),
        ("2 * 3 < a", "a factor must precede an arm"),
        ("min(a b) < c", "expected ',' or ')' to continue min(...)"),
        ("min(a, 2) < c", "expected an arm here, found '2'"),
        ("a < 1e999", "expected a finite number"),
        ("output=0.5 < b", "when its name has characters other than letters"),
    ],
)
def test_says_what_is_wrong(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        parse(text)
    assert repr(text) in str(caught.value)


TEXT = """\
name: own
data: {use: gaussian, rows: 20}
model: {use: gaussian}
generations: 1
seeds: [3, 4, 5]
tuned_on: [0, 1, 2]
arms: {replace: {data: replace}, accumulate: {data: accumulate}}
metrics: [w2]
claims:
  - {that: "x", metric: w2, expect: accumulate < replace}
  - {that: "y", metric: w2, expect: accumulate < replace, seeds: [4, 5]}
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "own.yaml"
    path.write_text(TEXT)
    return path


def test_are_read_and_written_out(file: Path) -> None:
    recipe = load(file)
    assert recipe.tuned_on == (0, 1, 2)
    assert [claim.seeds for claim in recipe.claims] == [None, (4, 5)]
    assert recipe.document["tuned_on"] == [0, 1, 2]
    assert [claim.get("seeds") for claim in recipe.document["claims"]] == [None, [4, 5]]


def test_a_part_of_the_seeds_keeps_its_part_of_a_claims(file: Path) -> None:
    assert [claim.seeds for claim in load(file, seeds=[4]).claims] == [None, (4,)]
    assert [claim.seeds for claim in load(file, seeds=[3]).claims] == [None]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "seeds: [4, 5]",
            "seeds: [4, 9]",
            r"own.yaml:11: claims.1.seeds: found 9, which is not a seed of the recipe; al",
        ),
        ("seeds: [4, 5]", "seeds: []", r"own.yaml:11: claims.1.seeds: found \[\]; allowed: at least 1 entries"),
        ("tuned_on: [0", "tuned_on: [-1", r"own.yaml:6: tuned_on.0: found -1; allowed: at least 0"),
        ("tuned_on:", "tuned_in:", r"own.yaml:6: tuned_in: unknown key 'tuned_in', did you mean 'tuned_on'\?"),
    ],
)
def test_mistakes_have_a_line_and_say_what_is_allowed(file: Path, old: str, new: str, message: str) -> None:
    file.write_text(TEXT.replace(old, new))
    with pytest.raises(RecipeError, match=message):
        load(file)


def test_continuing_a_part_of_a_run_takes_no_seeds_from_its_claims(file: Path) -> None:
    def run(seeds: tuple[int, ...]) -> dict[str, Any]:
        recipe = load(file, seeds=seeds)
        rest = {key: recipe.document.get(key) for key in ("name", "generations", "seeds", "claims", "baseline")}
        metrics = {"w2": {"settings": {}}}
        empty = {"reference": None, "theory": {}, "fingerprint": ""}
        return {**rest, **empty, "arms": list(recipe.document["arms"]), "metrics": metrics, "settings": recipe.document}

    whole = run((3, 4, 5))
    for part in ((3,), (4,)):
        assert merge_runs(whole, run(part), file)["claims"] == whole["claims"]
