"""`rows_from`, and recipes without a model: what they mean, and every mistake with its line."""

from __future__ import annotations

import json

import pytest

from collapse_sim.families.elsewhere import EnsembleElsewhere
from collapse_sim.plan.settings import RowsFrom
from collapse_sim.plan.strategies import Mix, Replace
from collapse_sim.recipe.loader import load

from .helpers import GOOD, changed, problems, write

WITHOUT = """\
data: {use: gaussian, rows: 30}
generations: 2
seeds: 2
arms:
  one: {rows_from: "a/{generation}/{seed}.npz"}
  two: {data: mix, rows_from: {0: x.npz, 1: "y-{seed:02d}.npz", 2: "z{{1}}.npz"}}
metrics: [sample_variance_ratio]
"""


def without(*changes: tuple[str, str]) -> str:
    text = WITHOUT
    for old, new in changes:
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    return text


def test_a_recipe_without_a_model() -> None:
    recipe = load(write(WITHOUT))
    assert isinstance(recipe.model, EnsembleElsewhere)
    assert not recipe.has_model
    one, two = recipe.arms
    assert (one.strategy, two.strategy) == (Replace(), Mix())
    assert one.rows_from == RowsFrom("a/{generation}/{seed}.npz")
    assert two.rows_from == RowsFrom({0: "x.npz", 1: "y-{seed:02d}.npz", 2: "z{{1}}.npz"})
    assert "model" not in recipe.document
    again = load(write(json.dumps(recipe.document), "again.yaml"))
    assert (again.arms, again.document) == (recipe.arms, recipe.document)


def test_files_of_some_generations_beside_a_model() -> None:
    text = changed(("  replace: {data: replace}", "  replace: {data: replace, rows_from: {2: a.npz}}"))
    recipe = load(write(text))
    assert recipe.has_model
    assert [arm.rows_from is not None for arm in recipe.arms] == [True, False, False]
    assert recipe.arms[0].rows_from is not None
    assert [recipe.arms[0].rows_from.of(k) for k in range(4)] == [None, None, "a.npz", None]
    assert "rows_from" not in recipe.document["arms"]["mixed"]


def test_a_shorter_run_leaves_files_of_later_generations_out() -> None:
    text = changed(("  replace: {data: replace}", "  replace: {data: replace, rows_from: {5: a.npz}}"))
    assert load(write(text), generations=3).generations == 3


ONE = '  one: {rows_from: "a/{generation}/{seed}.npz"}'
ALL = "allowed: a path with {generation}, and {seed} where seeds have files of their own, or {generation: path}"
WRONG = [
    ("rows_from: 3", f"found 3; {ALL}"),
    ("rows_from: [a, b]", f'found ["a", "b"]; {ALL}'),
    ("rows_from: {}", f"found {{}}; {ALL}"),
    ("rows_from: a.npz", f"found 'a.npz', the same rows for all generations; {ALL}"),
    (
        'rows_from: "{generation}/{sed}.npz"',
        "found '{sed}' in '{generation}/{sed}.npz'; allowed: {generation} and {seed}",
    ),
    (
        'rows_from: "{generation}{seed:x}"',
        "found '{seed:x}' in '{generation}{seed:x}'; allowed: {generation} and {seed}",
    ),
    ('rows_from: "{generation!r}"', "found '{generation!r}' in '{generation!r}'; allowed: "),
    ('rows_from: "{generation"', "found '{generation': expected '}' before end of string; a brace that is part of"),
    ("rows_from: {first: a.npz, 1: b, 2: c}", ".first: found the key 'first'; allowed: a generation's number"),
    ("rows_from: {0: 5, 1: b, 2: c}", ".0: found 5; allowed: a path"),
    ("rows_from: {0: a, 1: b, 2: c, 7: d}", ".7: there is no generation 7; allowed: 0 to 2"),
    ("rows_from: {1: b}", "no files for generation 0, 2, and there is no `model` that could generate rows"),
]


@pytest.mark.parametrize(("text", "message"), WRONG)
def test_what_is_wrong_with_files(text: str, message: str) -> None:
    (line,) = problems(without((ONE, f"  one: {{{text}}}")))
    dot = "" if message.startswith(".") else ": "
    assert line.startswith(f"r.yaml:5: arms.one.rows_from{dot}{message}")


NONE = "there is no `model`, so nothing is fitted or generated; remove it, or add `model`"


@pytest.mark.parametrize(
    ("path", "setting"),
    [
        ("train", "train: {steps: 3}"),
        ("retrain", "retrain: {steps: 3}"),
        ("protocol", "protocol: updates"),
        ("arms.one.teacher", "teacher: {weights: {output: 1.0}}"),
        ("arms.one.curation", "curation: random"),
        ("arms.one.weighting", "weighting: golden"),
        ("arms.one.merge", "merge: {use: neon, w: 1.0}"),
        ("arms.one.guidance", "guidance: {use: temperature, b: 0.5}"),
        ("arms.one.model", "model: {components: 3}"),
        ("arms.one.train", "train: {steps: 3}"),
        ("arms.one.retrain", "retrain: {steps: 3}"),
        ("arms.one.protocol", "protocol: updates"),
        ("arms.one.init", "init: previous"),
    ],
)
def test_nothing_of_a_model_has_a_meaning_without_one(path: str, setting: str) -> None:
    plain = WITHOUT
    if path.startswith("arms"):
        text = plain.replace(ONE, ONE.removesuffix("}") + f", {setting}}}")
    else:
        text = plain + setting + "\n"
    lines = problems(text)
    assert any(line.endswith(f"{path}: {NONE}") for line in lines), lines


@pytest.mark.parametrize(
    ("metric", "needs"),
    [
        ("test_loss", "the model of each generation"),
        ("variance_ratio", "the model of each generation"),
    ],
)
def test_metrics_of_a_model_are_refused(metric: str, needs: str) -> None:
    text = without(("[sample_variance_ratio]", f"[{metric}]"))
    (line,) = problems(text)
    assert line == (
        f"r.yaml:7: metrics.0: {metric!r} needs {needs}, and this recipe has no `model`; allowed: metrics of samples"
    )


def test_a_model_is_missing_where_one_arm_has_no_files() -> None:
    text = without((ONE, "  one: {data: replace}"))
    assert "r.yaml:1: model: missing; only a recipe whose arms all have `rows_from` needs none" in problems(text)
    no_model = GOOD[: GOOD.index("model:")] + GOOD[GOOD.index("train:") :]
    assert "r.yaml:1: model: missing; only a recipe whose arms all have `rows_from` needs none" in problems(no_model)
