"""An arm's own model, training, sampling and numbers of rows: the same as a recipe that has them for all arms."""

from __future__ import annotations

import json

import pytest

from collapse_sim.analysis.results import read_results
from collapse_sim.core.errors import RecipeError
from collapse_sim.core.machine import open_device
from collapse_sim.plan.dry_run import plan_document
from collapse_sim.plan.experiment import prepare
from collapse_sim.recipe.loader import load

RECIPE = """
data: {use: digits, rows: 200, held_out_rows: 50}
model: {use: vae, hidden: 8, latent: 2, reconstruction: mse}
train: {steps: 20, batch_size: 32, learning_rate: 1e-3, evaluate: never}
retrain: {steps: 10, weight_decay: 0.1}
sampling: {shard: 50}
samples: 100
generations: 2
seeds: [0]
arms:
  plain: {data: accumulate}
  own: {data: accumulate OWN}
metrics: [test_loss, {use: fid, features: classifier, against: real}]
"""


def experiment(sandbox, own: str = "", **changes: str):
    """RECIPE with own settings of an arm, or with other settings for all arms."""
    text = RECIPE.replace(" OWN", f", {own}" if own else "")
    for old, new in changes.values():
        assert old in text
        text = text.replace(old, new)
    return prepare(load(sandbox.recipe(text)), sandbox.root)


def digests(experiment, arm: str) -> list[list[str]]:
    plan = next(plan for plan in experiment.arm_plans if plan.name == arm)
    return [[spec.digest for spec in generation.specs()] for generation in plan.generations]


@pytest.mark.parametrize(
    ("own", "change"),
    [
        ("model: {latent: 3}", ("latent: 2", "latent: 3")),
        ("train: {learning_rate: 1e-2}", ("learning_rate: 1e-3", "learning_rate: 1e-2")),
        ("train: {epochs: 3}", ("train: {steps: 20,", "train: {epochs: 3,")),
        ("retrain: {weight_decay: 0.2}", ("weight_decay: 0.1", "weight_decay: 0.2")),
        ("sampling: {shard: 25}", ("shard: 50", "shard: 25")),
        ("samples: 150", ("samples: 100", "samples: 150")),
    ],
)
def test_own_settings_are_those_of_a_recipe_for_all_arms(sandbox, own, change):
    ours, everyones = experiment(sandbox, own), experiment(sandbox, change=change)
    assert digests(ours, "own") == digests(everyones, "own")
    assert digests(ours, "plain") == digests(experiment(sandbox), "plain")
    assert digests(ours, "own") != digests(ours, "plain")


def test_own_rows_are_those_of_data_rows_in_all_but_the_name_of_the_data(sandbox):
    """The data's key has its settings, so that keys differ; row counts, plans and lengths are the same."""
    ours, everyones = experiment(sandbox, "rows: 120"), experiment(sandbox, change=("rows: 200", "rows: 120"))
    (_, own), (_, theirs) = ours.arm_plans, everyones.arm_plans
    assert own.counts._replace(pool=0) == theirs.counts._replace(pool=0)
    assert [plan.rows for plan in own.generations] == [plan.rows for plan in theirs.generations]
    assert own.generations[0].fit.data.digest == ours.arm_plans[0].generations[0].fit.data.digest  # decoded once
    real = {spec.which: spec for spec in own.generations[0].features}["real"]
    assert (real.count, real.description["part"]) == (120, 120)
    assert real.network is ours.arm_plans[0].generations[0].features[0].network  # one classifier for all arms


def test_generation_zero_is_shared_where_it_is_the_same(sandbox):
    """Other training from generation 1 on, another number of samples: the same first model."""
    for own in ("retrain: {steps: 5}", "samples: 150", "sampling: {shard: 25}"):
        plain, own_plan = (plan.generations[0].fit.digest for plan in experiment(sandbox, own).arm_plans)
        assert plain == own_plan
    for own in ("model: {latent: 3}", "train: {learning_rate: 1e-2}", "rows: 120"):
        plain, own_plan = (plan.generations[0].fit.digest for plan in experiment(sandbox, own).arm_plans)
        assert plain != own_plan


def test_a_grid_varies_any_of_them(sandbox):
    grid = "model.latent: [2, 3], train.learning_rate: [1e-3, 1e-2], samples: [100, 150], data.rows: [200, 120]"
    found = experiment(sandbox, f"grid: {{{grid}}}")
    assert len(found.arm_plans) == 1 + 16
    last = found.arm_plans[-1]
    assert last.name == "own latent=3 learning_rate=0.01 samples=150 rows=120"
    assert (last.recipe.model.latent, last.recipe.train.learning_rate) == (3, 1e-2)
    assert (last.counts.real, last.counts.samples) == (120, 150)
    by_name = {plan.name: plan for plan in found.arm_plans}
    first = by_name["own latent=2 learning_rate=0.001 samples=100 rows=200"]
    assert digests(found, first.name) == digests(found, "plain")


def test_the_document_gives_the_same_experiment_again(sandbox):
    own = (
        "model: {latent: 3}, train: {epochs: 2}, retrain: {keep: last}, sampling: {shard: 25}, samples: 150, rows: 120"
    )
    first = experiment(sandbox, own)
    again = prepare(load(sandbox.recipe(json.dumps(first.recipe.document), "again.yaml")), sandbox.root)
    assert digests(again, "own") == digests(first, "own")
    assert again.recipe.document == first.recipe.document
    plan = plan_document(again, sandbox.root / ".store")
    assert [entry["samples"] for entry in plan["arms"]["own"]] == [150] * 3
    assert [entry["rows"] for entry in plan["arms"]["own"]] == [120, 270, 420]


@pytest.mark.parametrize(
    ("own", "message"),
    [
        ("rows: 100000", r"arms\.own\.rows: 100000 asked for, but the data has \d+ real rows: lower it, or raise"),
        ("model: {use: ddpm}", r"arms\.own\.model\.use: found 'ddpm'; allowed: the recipe's own, 'vae'"),
        ("model: 3", r"arms\.own\.model: found 3; allowed: a mapping of settings of the model 'vae'"),
        ("model: {latnet: 3}", r"arms\.own\.model\.latnet: unknown .*did you mean 'latent'"),
        ("train: {learning_rate: fast}", r"arms\.own\.train\.learning_rate: found 'fast'"),
        (
            "grid: {data.rows: [200], rows: [120]}",
            r"arms\.own\.grid\.rows: the same as `data\.rows`, which is there too",
        ),
        ("samples: 0", r"arms\.own\.samples: found 0; allowed: .*1"),
    ],
)
def test_mistakes(sandbox, own, message):
    with pytest.raises(RecipeError, match=message):
        experiment(sandbox, own)


def test_a_closed_form_has_nothing_to_train(sandbox):
    text = """
    data: {use: gaussian, rows: 10}
    model: gaussian
    generations: 1
    seeds: [0]
    arms: {own: {data: replace, train: {steps: 3}}}
    metrics: [variance_ratio]
    """
    with pytest.raises(RecipeError, match=r"arms\.own\.train"):
        load(sandbox.recipe(text))


@pytest.mark.slow
def test_arms_of_their_own_settings_run(sandbox):
    """Fits, samples and scores of each arm by its own settings, in one run."""
    own = "model: {hidden: 4}, train: {steps: 5}, samples: 60, rows: 120"
    sandbox.run(RECIPE.replace(" OWN", f", {own}").replace("generations: 2", "generations: 1"))
    lines = {(line["arm"], line["generation"]): line["metrics"] for line in sandbox.journal(event="scores")}
    assert set(lines) == {(arm, k) for arm in ("plain", "own") for k in (0, 1)}
    assert lines["plain", 0]["fid"] != lines["own", 0]["fid"]


def test_notes_of_figures_name_the_arms_that_they_are_of(sandbox):
    """Also after a session of one arm only, which knows nothing of the other's rows."""
    own = "samples: 60"
    recipe = RECIPE.replace(" OWN", f", {own}").replace("generations: 2", "generations: 1")
    sandbox.run(recipe)
    whole = (sandbox.root / "run" / "run.json").read_text()
    note = read_results(sandbox.root / "run").notes["fid"]
    assert note.startswith("100 samples against 200 real rows")
    assert "(plain); 60 samples against 200 real rows" in note
    assert note.endswith("(own)")
    assert json.loads(whole)["metrics"]["test_loss"]["note"] == "50 held-out rows"  # the same for both
    for arm in ("own", "plain"):
        sandbox.run(recipe, arms=[arm])
        assert json.loads((sandbox.root / "run" / "run.json").read_text())["metrics"] == json.loads(whole)["metrics"]


def test_problems_of_all_arms_are_listed_together(sandbox):
    """Of their data, the sizes of their models and their precisions, each with the arm's own path."""
    arms = """
  many: {data: accumulate, rows: 100000}
  more: {data: accumulate, rows: 200000}
  wide: {data: accumulate, model: {hidden: 100000000}}
metrics:"""
    recipe = RECIPE.replace(" OWN", "").replace("\nmetrics:", arms)
    with pytest.raises(RecipeError) as raised:
        prepare(load(sandbox.recipe(recipe)), sandbox.root)
    paths = [problem.split(": ")[1] for problem in raised.value.problems]
    assert paths == ["arms.many.rows", "arms.more.rows", "arms.wide.model"]

    recipe = RECIPE.replace(" OWN", ", train: {precision: fp16}, retrain: {precision: fp16}")
    with pytest.raises(RecipeError) as raised:
        prepare(load(sandbox.recipe(recipe)), sandbox.root, open_device("cpu"))
    paths = [problem.split(": ")[1] for problem in raised.value.problems]
    assert paths == ["arms.own.train.precision", "arms.own.retrain.precision"]
