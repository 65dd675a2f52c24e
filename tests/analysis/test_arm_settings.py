"""The settings in which arms differ stand beside their figures in JSON and CSV."""

from __future__ import annotations

import csv
import json

from collapse_sim.analysis.arm_settings import arm_settings, shared_settings
from tests.analysis.conftest import WriteRun

SCORES = {"replace": {"loss": [[1, 1], [2, 2]]}, "mix": {"loss": [[1, 1], [1.5, 1.5]]}}
RECIPE = {
    "data": {"use": "digits", "rows": 1000},
    "model": {"use": "vae", "latent": 20, "hidden": 420},
    "train": {"steps": 250, "learning_rate": 0.001, "betas": [0.9, 0.999]},
    "samples": None,
    "arms": {
        "replace": {"data": {"use": "replace"}, "init": "fresh", "teacher": None},
        "mix": {
            "data": {"use": "mix", "real": 0.5},
            "init": "fresh",
            "teacher": {"generation": 0, "weights": {"output": 0.5}},
            "train": {"steps": 250, "learning_rate": 0.01, "betas": [0.8, 0.999]},
            "rows": 500,
        },
    },
}
DIFFERING = {
    "replace": {
        "train.learning_rate": 0.001,
        "train.betas": "[0.9, 0.999]",
        "rows": 1000,
        "data.use": "replace",
        "data.real": None,
        "teacher.generation": None,
        "teacher.weights.output": None,
    },
    "mix": {
        "train.learning_rate": 0.01,
        "train.betas": "[0.8, 0.999]",
        "rows": 500,
        "data.use": "mix",
        "data.real": 0.5,
        "teacher.generation": 0,
        "teacher.weights.output": 0.5,
    },
}


def test_an_arm_has_the_recipes_own_value_where_it_has_none() -> None:
    assert arm_settings(RECIPE) == DIFFERING


def test_what_all_arms_share_is_left_out() -> None:
    alone = {**RECIPE, "arms": {"replace": RECIPE["arms"]["replace"]}}  # type: ignore[index]
    assert arm_settings(alone) == {"replace": {}}
    assert arm_settings({}) == {}


def test_they_are_in_json_and_columns_of_csv(call, write_run: WriteRun) -> None:
    write_run(SCORES, seeds=[0, 1], settings=RECIPE)
    assert json.loads(call("toy", "--json").stdout)["arm_settings"] == DIFFERING
    rows = list(csv.DictReader(call("toy", "--csv").stdout.splitlines()))
    assert len(rows) == 2 * 2 * 2
    by_arm = {row["arm"]: {key: value for key, value in row.items() if key.startswith("arm.")} for row in rows}
    for arm, settings in DIFFERING.items():
        assert by_arm[arm] == {f"arm.{path}": "" if value is None else str(value) for path, value in settings.items()}


def test_runs_with_other_settings_have_the_columns_of_both(call, write_run: WriteRun) -> None:
    write_run(SCORES, folder="first", seeds=[0, 1], settings=RECIPE)
    write_run(SCORES, folder="second", seeds=[0, 1])
    rows = list(csv.DictReader(call("first", "second", "--csv").stdout.splitlines()))
    assert {row["arm.rows"] for row in rows if row["run"].endswith("second")} == {""}
    assert {row["arm.rows"] for row in rows if row["run"].endswith("first")} == {"1000", "500"}


def test_what_arms_have_in_common_is_without_numbers_of_rows() -> None:
    shared = shared_settings(RECIPE | {"generation_0": {"model": "elsewhere"}})
    assert shared["data"] == {"use": "digits"}
    assert (shared["model"], shared["train"]) == (RECIPE["model"], RECIPE["train"])
    assert shared["generation_0"] == {"model": "elsewhere"}
    assert "samples" not in shared
    assert shared_settings({}) == dict.fromkeys(("data", "model", "train", "retrain", "sampling", "generation_0"))
