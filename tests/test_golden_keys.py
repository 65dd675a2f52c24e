"""Content keys of all shipped recipes, pinned: what is stored today is found by every later version.

A change of layout or names changes no key. Where a key must change because a computation does, raise the component's
`version`; where a setting is added, put it into the component's `added`. Then write the file anew:

    python -m tests.test_golden_keys
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import ClassVar

import pytest

from collapse_sim.core.component import Component
from collapse_sim.data.base import Info
from collapse_sim.data.split import divided
from collapse_sim.metrics.base import WeightedMap
from collapse_sim.metrics.weights import WeightsFile
from collapse_sim.plan.experiment import Experiment, counts_of, lay_out, plans_of
from collapse_sim.plan.experiment import info_of as info_of_arm
from collapse_sim.plan.protocol import at_precision
from collapse_sim.plan.settings import Recipe
from collapse_sim.recipe import shipped
from collapse_sim.recipe.loader import load
from collapse_sim.store.spec import Spec

GOLDEN = Path(__file__).with_name("golden_keys.json")


def info_of(recipe: Recipe) -> Info:
    """Of simulated data its own; of data from files one of this test, so that no file is needed."""
    data = recipe.data
    if data.seeded:
        return divided(data, data.inspect(Path("nowhere")))
    rows: int = getattr(data, "rows", None) or 1000
    return divided(data, Info(data.kind, {}, rows, 20 * rows, 500, classes=10, fingerprint="golden"))


def experiment_of(recipe: Recipe) -> Experiment:
    recipe, info = at_precision(recipe), info_of(recipe)
    plans = {
        arm.name: plans_of(arm, recipe.generations, counts_of(recipe.for_arm(arm), info_of_arm(recipe, arm, info)))
        for arm in recipe.arms
    }
    weights = WeightsFile("weights.pt", Path("nowhere"), "0" * 64, 2048)
    files = {
        name: weights if isinstance(getattr(metric, "feature_map", None), WeightedMap) else None
        for name, metric in recipe.metrics.items()
    }
    return lay_out(recipe, info, plans, files, {})


def pinned(specs: Iterable[Spec]) -> list[str]:
    """The first key, and a hash of all of them in their order."""
    digests = [spec.digest for spec in specs]
    return [digests[0][:16], hashlib.sha256("".join(digests).encode()).hexdigest()[:16]] if digests else []


def keys_of(recipe: Recipe) -> dict[str, list[str]]:
    experiment = experiment_of(recipe)
    keys = {"shared": pinned(experiment.shared)}
    for arm_plan in experiment.arm_plans:
        name, plans = arm_plan.name, arm_plan.generations
        keys[f"{name} | fits"] = pinned(plan.fit for plan in plans)
        keys[f"{name} | samples"] = pinned(spec for plan in plans for spec in plan.generated())
        if own := [spec for plan in plans for spec in (*plan.between, *plan.curations())]:
            keys[f"{name} | remedies"] = pinned(own)
        keys[f"{name} | features"] = pinned(spec for plan in plans for spec in plan.features)
        for metric in recipe.metrics:
            keys[f"{name} | {metric}"] = pinned(plan.scores[metric] for plan in plans)
    return keys


@pytest.mark.parametrize("smoke", [False, True], ids=["full", "smoke"])
@pytest.mark.parametrize("name", shipped.names())
def test_keys_of_shipped_recipes_are_those_pinned(name: str, smoke: bool) -> None:
    golden = json.loads(GOLDEN.read_text())[f"{name}{' --smoke' if smoke else ''}"]
    assert keys_of(load(name, smoke=smoke)) == golden


class Before(Component):
    width: int = 8
    version: ClassVar[int] = 3


class After(Before):
    width: int = 8
    depth: int = 2
    place: str = "here"
    added: ClassVar[dict[str, object]] = {"depth": 1}
    not_in_key: ClassVar[tuple[str, ...]] = ("place",)


class Later(After):
    height: int = 5
    added: ClassVar[dict[str, object]] = {"height": 5}


def test_a_setting_that_came_later_is_in_the_key_only_where_it_does_something() -> None:
    before = {name: value for name, value in Before().describe().items() if name != "use"}
    assert before == {"version": 3, "width": 8}
    for neutral in (After(depth=1), After(depth=1, place="there"), Later(depth=1), Later(depth=1, height=5)):
        assert {name: value for name, value in neutral.describe().items() if name != "use"} == before
    assert After().describe()["depth"] == 2  # a default that does something is in the key
    assert Later(depth=3, height=6).describe() == Later(depth=3, height=6, place="x").describe()
    assert {**before, "depth": 3, "height": 6}.items() <= Later(depth=3, height=6).describe().items()


@pytest.mark.slow
def test_a_key_names_no_file_of_this_package() -> None:
    said = json.dumps([experiment_of(load(name)).data.description for name in shipped.names()])
    for name in shipped.names():
        experiment = experiment_of(load(name))
        said += json.dumps([spec.description for spec in experiment.shared], default=str)
        said += json.dumps(
            [spec.description for plan in experiment.arm_plans[-1].generations[:2] for spec in plan.specs()],
            default=str,
        )
    assert "collapse_sim" not in said
    assert After().describe()["use"] == f"{__name__}:After"  # a class of the user's own is named in full


def _written(golden: dict[str, dict[str, list[str]]]) -> str:
    """JSON with a line for each arm and kind."""
    recipes = (
        f"{json.dumps(recipe)}: {{\n"
        + ",\n".join(f" {json.dumps(k)}: {json.dumps(v)}" for k, v in keys.items())
        + "\n}"
        for recipe, keys in golden.items()
    )
    return "{\n" + ",\n".join(recipes) + "\n}\n"


if __name__ == "__main__":
    sizes = [(name, smoke) for name in shipped.names() for smoke in (False, True)]
    GOLDEN.write_text(
        _written({f"{name}{' --smoke' if smoke else ''}": keys_of(load(name, smoke=smoke)) for name, smoke in sizes})
    )
