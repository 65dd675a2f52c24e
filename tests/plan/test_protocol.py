"""How long fits to more rows are, and what a recipe of several protocols comes to."""

from __future__ import annotations

import pytest

from collapse_sim.core.errors import RecipeError
from collapse_sim.families.training import Train, learning_rate
from collapse_sim.plan.dry_run import plan_document
from collapse_sim.plan.experiment import prepare
from collapse_sim.plan.protocol import at_length, at_precision, protocol_of, training_of, warnings_of
from collapse_sim.recipe.loader import load
from tests.conftest import TINY

BY_STEPS, BY_EPOCHS = Train(steps=250), Train(epochs=20, batch_size=100)


@pytest.mark.parametrize(
    ("train", "protocol", "rows", "updates"),
    [
        (BY_STEPS, "updates", 8622, 250),
        (BY_STEPS, "epochs", 8622, 1417),  # 250 x 68 / 12 batches
        (BY_EPOCHS, "epochs", 3000, 600),
        (BY_EPOCHS, "updates", 3000, 300),  # 20 epochs of the 1,437 real rows: 15 batches
        (BY_STEPS, "converged", 8622, 20 * 1417),
    ],
)
def test_lengths(train, protocol, rows, updates):
    assert at_length(train, protocol, rows, 1437).steps == updates


def test_converged_warms_up_for_a_share_of_the_length_that_is_given():
    """Not of twenty times it, where a fit that never settles ends."""
    train = Train(steps=200, warmup_ratio=0.05)
    assert [learning_rate(at_length(train, "converged", 100, 100), step, 4000) for step in (0, 5, 10, 3000)] == [
        0.0, 5e-4, 1e-3, 1e-3,
    ]  # fmt: skip


def test_generation_0_is_the_same_fit_under_updates_and_epochs():
    for train in (BY_STEPS, BY_EPOCHS):
        first, second = (at_length(train, protocol, 1437, 1437) for protocol in ("updates", "epochs"))
        assert first == second
    assert [protocol_of(train, None) for train in (BY_STEPS, BY_EPOCHS)] == ["updates", "epochs"]
    assert protocol_of(BY_STEPS, "epochs") == "epochs"


BOTH = (
    TINY
    + """
protocol: [updates, epochs]
baseline: replace
reference: {source: s, metric: test_loss, values: {replace: 1.0}}
"""
)
GAUSSIAN = """
data: gaussian
model: gaussian
protocol: epochs
generations: 1
seeds: 1
arms: {a: {data: replace}}
metrics: [w2]
"""
UNSEEN = TINY.replace(", validation_rows: 40", "")


def test_a_list_of_protocols_gives_every_arm_under_each(sandbox):
    """Arms with as many rows in every generation are one chain under both, made once."""
    claims = 'claims: [{that: a, metric: test_loss, expect: "min(replace, accumulate+distill) < 0.9 * replace@0"}]\n'
    recipe = load(sandbox.recipe(BOTH.replace("samples: 150", "samples: 200") + claims))
    names = [f"{arm}.{protocol}" for protocol in ("updates", "epochs") for arm in ("replace", "accumulate+distill")]
    assert [arm.name for arm in recipe.arms] == names
    assert recipe.baseline == "replace.updates"
    assert [claim.expect for claim in recipe.claims] == [
        f'min("replace.{p}", "accumulate+distill.{p}") < 0.9 * "replace.{p}"@0' for p in ("updates", "epochs")
    ]
    (reference,) = recipe.references
    assert set(reference.values) == {"replace.updates", "replace.epochs"}
    experiment = prepare(recipe, sandbox.root)
    plans = {plan.name: plan.generations for plan in experiment.arm_plans}
    same = [[plan.fit.digest for plan in plans[f"replace.{p}"]] for p in ("updates", "epochs")]
    assert same[0] == same[1]
    more = [[plan.fit.digest for plan in plans[f"accumulate+distill.{p}"]] for p in ("updates", "epochs")]
    assert [a == b for a, b in zip(*more, strict=True)] == [True, False, False]
    training = training_of(next(plan for plan in experiment.arm_plans if plan.name == "accumulate+distill.epochs"))
    assert training is not None
    assert training["updates"] == [20, 37, 54]  # 7, 13 and 19 batches of 200, 400 and 600 rows
    assert training["epochs"] == pytest.approx([20 / 7] * 3, rel=0.02)
    again = load(sandbox.recipe(str(dict(recipe.document)).replace("None", "null"), "again.yaml"))
    assert again.document == recipe.document


def test_arms_are_chosen_by_any_of_their_names(sandbox):
    path = sandbox.recipe(BOTH)
    for wanted, count in (("replace", 2), ("replace.epochs", 1), ("accumulate+distill", 2)):
        assert len(load(path, arms=[wanted]).arms) == count
    with pytest.raises(RecipeError, match=r"unknown arm 'replaced', did you mean 'replace'"):
        load(path, arms=["replaced"])


def test_an_arm_may_have_a_protocol_and_training_of_its_own(sandbox):
    text = BOTH.replace(
        "  replace: {data: replace}", "  replace: {data: replace, protocol: updates, retrain: {epochs: 3, keep: last}}"
    )
    experiment = prepare(load(sandbox.recipe(text)), sandbox.root)
    plans = {plan.name: plan.generations for plan in experiment.arm_plans}
    assert list(plans) == ["replace", "accumulate+distill.updates", "accumulate+distill.epochs"]
    trains = [plan.fit.train for plan in plans["replace"]]
    assert [train and train.steps for train in trains] == [20, 21, 21]  # 3 epochs of the 200 real rows in 7 batches
    assert [train and train.keep for train in trains] == ["best", "last", "last"]
    again = load(sandbox.recipe(str(dict(experiment.recipe.document)).replace("None", "null"), "again.yaml"))
    assert again.document == experiment.recipe.document


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (TINY + "protocol: epoch\n", r"recipe.yaml:\d+: protocol: "),
        (TINY.replace("evaluate: every 5 steps, keep: best", "evaluate: never") + "protocol: converged\n", "evaluate"),
        (TINY.replace("keep: best", "schedule: cosine") + "protocol: converged\n", "set train.schedule: constant"),
        (GAUSSIAN, "nothing to train"),
        (
            BOTH.replace("arms:\n", "arms:\n  replace.updates: {data: replace, protocol: epochs}\n"),
            "'replace.updates' and 'replace' are both called 'replace.updates' under these protocols",
        ),
        (UNSEEN, r"recipe.yaml:5: train.keep: .*data.validation_rows"),
        (UNSEEN.replace("keep: best", "patience: 3"), "train.patience: .*validation"),
    ],
)
def test_what_does_not_go_together_is_said_before_any_work(sandbox, text, problem):
    with pytest.raises(RecipeError, match=problem):
        prepare(load(sandbox.recipe(text)), sandbox.root)


def test_an_arms_own_training_is_what_converged_is_checked_for(sandbox):
    """And not the recipe's, which it replaces."""
    text = TINY.replace("keep: best", "keep: last").replace(
        "  replace: {data: replace}", "  replace: {data: replace, protocol: converged, retrain: {schedule: constant}}"
    )
    experiment = prepare(load(sandbox.recipe(text + "retrain: {schedule: cosine}\n")), sandbox.root)
    schedules = [
        [plan.fit.train and plan.fit.train.schedule for plan in arm.generations] for arm in experiment.arm_plans
    ]
    assert schedules == [["constant"] * 3, ["constant", "cosine", "cosine"]]


def test_real_rows_that_choose_for_an_arm_without_them_are_warned_of(sandbox):
    experiment = prepare(load(sandbox.recipe(TINY)), sandbox.root)
    (warning,) = warnings_of(experiment)
    assert warning.startswith("replace: fitted to no real rows, and train.keep")
    assert plan_document(experiment, sandbox.root / "store")["warnings"] == [warning]
    last = prepare(load(sandbox.recipe(TINY + "retrain: {keep: last}\n")), sandbox.root)
    assert warnings_of(last) == []


def test_precision_is_in_the_keys_as_what_auto_means(sandbox):
    """A store that a CPU and a GPU share would mix fits in fp32 and bf16 under one key."""
    recipe = load(sandbox.recipe(TINY))
    by = {
        p: prepare(load(sandbox.recipe(TINY), overrides=[f"train.precision={p}"]), sandbox.root)
        for p in ("fp32", "bf16")
    }
    digests = {p: experiment.arm_plans[0].generations[0].fit.digest for p, experiment in by.items()}
    assert digests["fp32"] != digests["bf16"]
    assert prepare(recipe, sandbox.root).arm_plans[0].generations[0].fit.digest == digests["fp32"]  # on a CPU
    assert at_precision(recipe).document["train"]["precision"] == "fp32"
