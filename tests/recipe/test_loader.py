"""A good recipe: what it comes to, its document, `where`, and what the command line changes."""

from __future__ import annotations

import json

import pytest
import yaml

from collapse_sim.plan.strategies import Mix, Replace
from collapse_sim.recipe.loader import load

from .helpers import FAKE, GOOD, changed, problems, write


def test_every_key_arrives() -> None:
    recipe = load(write(GOOD))
    assert recipe.name == "good"
    assert recipe.generations == 5
    assert recipe.samples == 60_000
    assert isinstance(recipe.samples, int)
    assert recipe.seeds == (0, 1, 2)
    assert recipe.train is not None
    assert recipe.train.epochs == 3
    assert recipe.train.learning_rate == 1e-4
    assert recipe.model.width == 16  # type: ignore[attr-defined]
    assert [arm.name for arm in recipe.arms] == ["replace", "distill", "mixed"]
    assert [arm.init for arm in recipe.arms] == ["fresh", "fresh", "previous"]
    assert recipe.arms[0].strategy == Replace()
    assert recipe.arms[2].strategy == Mix(synthetic=0.5)
    assert recipe.arms[1].teacher is not None
    assert recipe.arms[1].teacher.weights == {"output": 0.5}
    assert list(recipe.metrics) == ["FakeMetric", "test_loss"]
    assert recipe.metrics["FakeMetric"].k == 3  # type: ignore[attr-defined]
    assert (recipe.baseline, recipe.show) == ("replace", "test_loss")
    assert recipe.claims[0].expect == "distill < replace"
    assert recipe.references
    assert recipe.references[0].values == {"replace": 1.5, "distill": 1.25}


def test_short_forms() -> None:
    recipe = load(write(changed(("seeds: [0, 1, 2]", "seeds: 4"), (f"{{use: {FAKE}:FakeData}}", f"{FAKE}:FakeData"))))
    assert recipe.seeds == (0, 1, 2, 3)
    assert type(recipe.data).__name__ == "FakeData"


def test_the_name_is_the_files_by_default() -> None:
    assert load(write(GOOD.replace("name: good\n", ""), "some-name.yaml")).name == "some-name"


@pytest.mark.parametrize(
    "options", [{}, {"smoke": True}, {"arms": ["mixed"], "seeds": [9], "overrides": ["samples=7"]}]
)
def test_the_document_loads_as_the_same_recipe(options: dict[str, object]) -> None:
    first = load(write(GOOD), **options)  # type: ignore[arg-type]
    text = json.dumps(first.document, allow_nan=False)  # plain JSON
    again = load(write(yaml.safe_dump(json.loads(text), sort_keys=False), "recipe.yaml"))
    assert again.document == first.document
    for key in ("name", "data", "model", "train", "sampling", "generations", "samples", "seeds", "arms", "metrics"):
        assert getattr(again, key) == getattr(first, key), key
    assert (again.claims, again.references) == (first.claims, first.references)
    assert (again.baseline, again.show) == (first.baseline, first.show)
    assert not {"extends", "smoke"} & set(first.document)


def test_the_document_keeps_the_settings_of_a_feature_map() -> None:
    text = """\
data: digits
model: vae
train: {steps: 1}
generations: 1
seeds: 1
arms: {replace: {data: replace}}
metrics:
  - {use: fid, as: a, features: {use: classifier, classifier: {width: 4}}}
  - {use: fid, features: pixels}
"""
    first = load(write(text))
    again = load(write(json.dumps(first.document), "recipe.yaml"))
    assert [metric.describe() for metric in again.metrics.values()] == [m.describe() for m in first.metrics.values()]
    assert list(again.metrics) == ["a", "fid"]
    assert first.metrics["a"].features.classifier.width == 4  # type: ignore[attr-defined]


def test_where_names_the_nearest_line() -> None:
    where = load(write(GOOD), overrides=["samples=10"]).where
    assert where("train.learning_rate") == "r.yaml:8"
    assert where("train.batch_size") == "r.yaml:6"  # a default: the block it would be in
    assert where("arms.distill.teacher.weights.output") == "r.yaml:16"
    assert where("metrics.1") == "r.yaml:20"
    assert where("samples") == "--set samples=10"
    assert where("no.such.thing") == "r.yaml:1"


def test_a_dot_in_an_arms_name() -> None:
    text = changed(("  mixed:\n", "  mix0.5:\n"))
    recipe = load(write(text), overrides=["arms.mix0.5.data.synthetic=0.25"])
    assert recipe.arms[2].name == "mix0.5"
    assert recipe.arms[2].strategy == Mix(synthetic=0.25)
    assert recipe.where("arms.mix0.5.init") == "r.yaml:19"


def test_overrides_win_over_smoke_which_wins_over_the_file() -> None:
    recipe = load(write(GOOD), smoke=True, overrides=["train.epochs=2", "model.shape=square"])
    assert (recipe.generations, recipe.seeds) == (2, (7,))
    assert recipe.train is not None
    assert recipe.train.epochs == 2
    assert (recipe.model.width, recipe.model.shape) == (4, "square")  # type: ignore[attr-defined]


def test_overrides_replace_and_remove() -> None:
    recipe = load(
        write(GOOD),
        overrides=[
            "train.epochs=null",
            "train.steps=1e3",
            f"data={FAKE}:FakeData",
            "metrics=[test_loss]",
            "reference=null",
        ],
    )
    assert recipe.train is not None
    assert (recipe.train.epochs, recipe.train.steps) == (None, 1000)
    assert list(recipe.metrics) == ["test_loss"]
    assert not recipe.references


def test_a_setting_goes_over_a_component_that_is_only_named() -> None:
    recipe = load(write(GOOD), overrides=["arms.replace.data=mix", "arms.replace.data.real=0.5"])
    assert recipe.arms[0].strategy == Mix(real=0.5)


def test_a_component_in_smoke_replaces_the_whole_component() -> None:
    text = changed(("model: {width: 4}", f"model: {{use: {FAKE}:FakeFamily, shape: square}}"))
    model = load(write(text), smoke=True).model
    assert (model.width, model.shape) == (8, "square")  # type: ignore[attr-defined]


def test_filters_narrow() -> None:
    recipe = load(write(GOOD), arms=["mixed", "replace"], seeds=[2, 11], generations=4, metrics=["FakeMetric"])
    assert [arm.name for arm in recipe.arms] == ["replace", "mixed"]  # in the recipe's order
    assert recipe.seeds == (2, 11)
    assert recipe.generations == 4
    assert list(recipe.metrics) == ["FakeMetric"]
    assert recipe.metrics["FakeMetric"].k == 3  # type: ignore[attr-defined]  # as the recipe sets it up


def test_a_metric_that_the_recipe_has_not() -> None:
    assert list(load(write(GOOD), metrics=["latent_std"]).metrics) == ["latent_std"]


def test_what_was_narrowed_away_takes_its_claims_along() -> None:
    path = write(GOOD)
    assert load(path, arms=["replace", "distill"]).claims
    assert load(path, arms=["replace"]).claims == ()
    assert load(path, generations=4).claims
    assert load(path, generations=3).claims == ()
    assert load(path, metrics=["FakeMetric"]).claims == ()
    assert load(path, smoke=True).claims == ()  # it is of generation 4
    narrowed = load(path, arms=["distill"])
    assert narrowed.baseline is None
    assert narrowed.references
    assert narrowed.references[0].values == {"distill": 1.25}
    assert not load(path, arms=["mixed"]).references
    assert load(path, metrics=["FakeMetric"]).show is None


def test_a_claim_that_never_applied_is_an_error_all_the_same() -> None:
    text = changed(("expect: distill < replace", "expect: distil < replace"))
    assert problems(text, arms=["mixed"]) == [
        "r.yaml:27: claims.0.expect: unknown arm 'distil', did you mean 'distill'?; allowed: replace, distill, mixed"
    ]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"arms": ["replaced"]},
            "--arm: unknown arm 'replaced', did you mean 'replace'?; allowed: replace, distill, mixed",
        ),
        ({"seeds": [1, 1]}, "--seed: seeds: each seed once; found more than once: 1"),
        ({"generations": 0}, "--generations: generations: found 0; allowed: at least 1"),
        ({"metrics": ["test_los"]}, "--metric test_los: metrics.0.use: unknown 'test_los', did you mean 'test_loss'?"),
        ({"overrides": ["train.epochs"]}, "--set train.epochs: allowed: path=value"),
        ({"overrides": ["train.epochs="]}, "--set train.epochs=: allowed: path=value"),
        (
            {"overrides": ["train.epoch=3"]},
            "--set train.epoch=3: train.epoch: unknown key 'epoch', did you mean 'epochs'?",
        ),
        ({"overrides": ["train.epochs=[1"]}, "--set train.epochs=[1: not valid YAML: "),
        ({"overrides": ["metrics.0.k=3"]}, "--set metrics.0.k=3: metrics.0.k: metrics is not a mapping"),
        ({"overrides": ["train..epochs=3"]}, "--set train..epochs=3: train..epochs: a path is keys with dots between"),
        ({"overrides": ["smoke.seeds=[1]"]}, "--set smoke.seeds=[1]: extends and smoke are for files"),
    ],
)
def test_wrong_options(options: dict[str, object], message: str) -> None:
    found = problems(GOOD, **options)
    assert len(found) == 1
    assert found[0].startswith(message)


def test_a_path_of_a_smoke_block_that_says_nothing() -> None:
    text = changed(("smoke: {", "smoke: {'': 1, "))
    assert problems(text, smoke=True)[0].startswith("r.yaml:29: a path is keys with dots between")


def test_smoke_needs_a_block() -> None:
    text = GOOD[: GOOD.index("smoke:")]
    assert problems(text, smoke=True) == [
        "r.yaml:1: this recipe has no `smoke:` block, so it cannot be run with --smoke"
    ]
    assert load(write(text)).generations == 5
