"""Metrics that model and data bring along: measured besides the recipe's own, unless it has them itself."""

from __future__ import annotations

import json
from typing import ClassVar

import pytest

from collapse_sim.recipe.loader import load

from .fakes import FakeData, FakeFamily, FakeMetric
from .helpers import FAKE, GOOD, changed, problems, write

HERE = __name__
TAIL = f"{HERE}:Tail"
OWN = f"metrics: [{{use: {FAKE}:FakeMetric, k: 3}}, test_loss]"


class Tail(FakeMetric):
    """What data of its kind brings along."""


class BringingData(FakeData):
    metrics: ClassVar[tuple[str, ...]] = (TAIL,)


class BringingFamily(FakeFamily):
    metrics: ClassVar[tuple[str, ...]] = ("test_loss", TAIL)


def bringing(metrics: str = OWN, *, both: bool = True) -> str:
    """GOOD with data (and a family) that bring metrics."""
    text = changed((f"{FAKE}:FakeData", f"{HERE}:BringingData"), (OWN, metrics))
    return text.replace(f"use: {FAKE}:FakeFamily", f"use: {HERE}:BringingFamily") if both else text


def test_they_come_behind_the_recipes_own() -> None:
    recipe = load(write(bringing()))
    assert list(recipe.metrics) == ["FakeMetric", "test_loss", "Tail"]
    assert type(recipe.metrics["Tail"]) is Tail
    assert list(load(write(bringing(both=False))).metrics) == ["FakeMetric", "test_loss", "Tail"]
    assert list(load(write(GOOD)).metrics) == ["FakeMetric", "test_loss"]


def test_they_are_all_when_the_recipe_names_none() -> None:
    """The model's before the data's, each once; the first is what is shown, and claims can name them."""
    recipe = load(write(bringing("# none").replace("show: test_loss", "show: Tail")))
    assert list(recipe.metrics) == ["test_loss", "Tail"]
    assert recipe.show == "Tail"
    assert recipe.claims[0].metric == "test_loss"


@pytest.mark.parametrize(
    ("written", "names"),
    [
        (f"[test_loss, {{use: '{TAIL}', k: 7}}]", ["test_loss", "Tail"]),
        (f"[test_loss, {{use: '{TAIL}', as: end}}]", ["test_loss", "end"]),
        (f"[{{use: {FAKE}:FakeMetric, as: test_loss}}]", ["test_loss", "Tail"]),
    ],
)
def test_not_those_of_a_kind_or_name_that_is_there(written: str, names: list[str]) -> None:
    recipe = load(write(bringing(f"metrics: {written}")))
    assert list(recipe.metrics) == names
    assert getattr(recipe.metrics.get("Tail"), "k", None) in (None, 5, 7)


def test_the_command_line_has_the_last_word() -> None:
    recipe = load(write(bringing()), metrics=["FakeMetric"])
    assert list(recipe.metrics) == ["FakeMetric"]
    text = bringing("# none").replace("metric: test_loss\n    generation", "metric: Tail\n    generation")
    assert load(write(text), metrics=["test_loss"]).claims == ()  # narrowed away, not unknown


def test_the_document_has_them_written_out() -> None:
    first = load(write(bringing("# none")))
    again = load(write(json.dumps(first.document), "recipe.yaml"))
    assert again.document == first.document
    assert list(again.metrics) == ["test_loss", "Tail"]


def test_without_them_metrics_are_needed() -> None:
    assert "r.yaml:1: metrics: missing; it has no default" in problems(changed((OWN, "# none")))
    assert any("metrics: found 7" in line for line in problems(bringing("metrics: 7")))
    found = problems(bringing("metrics: [[1], {use: {a: 1}}, 3]"))
    assert [line.split(": found")[0] for line in found if "found" in line] == [
        "r.yaml:20: metrics.0", "r.yaml:20: metrics.1.use", "r.yaml:20: metrics.2",
    ]  # fmt: skip


def test_text_brings_perplexities_and_the_tail() -> None:
    text = """\
data: {use: text_files, train: a.txt, validation: b.txt, tokenizer: {bpe: 300}}
model: {use: causal_lm, preset: tiny}
train: {steps: 1}
generations: 1
seeds: 1
arms: {replace: {data: replace}}
"""
    assert list(load(write(text)).metrics) == ["perplexity", "sample_perplexity", "rare_words"]
    recipe = load(write(f"{text}metrics: [distinct_n, {{use: rare_words, at_most: 3}}]"))
    assert list(recipe.metrics) == ["distinct_n", "rare_words", "perplexity", "sample_perplexity"]
    assert recipe.metrics["rare_words"].at_most == 3  # type: ignore[attr-defined]


def test_a_model_that_is_out_of_place_brings_no_further_mistakes() -> None:
    text = """\
data: digits
model: {use: causal_lm, preset: tiny}
train: {steps: 1}
generations: 1
seeds: 1
arms: {replace: {data: replace}}
metrics: [rare_words]
"""
    assert problems(text) == [
        "r.yaml:2: model: 'causal_lm' is for data of text, but the data 'digits' is of images",
        "r.yaml:7: metrics.0: 'rare_words' is for data of text or pairs, but the data 'digits' is of images",
    ]
