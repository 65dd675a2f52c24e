"""What run.json keeps of a metric for verdicts: the least step of a share of rows, and what it measures of collapse."""

from pathlib import Path

import pytest

from collapse_sim.plan.experiment import prepare
from collapse_sim.recipe.loader import load
from collapse_sim.run.run_description import describe_run

TEXT = """\
data: {use: gaussian_mixture, rows: 40, held_out_rows: 20}
model: {use: gmm, components: 2}
generations: 1
samples: 25
seeds: [0]
arms: {replace: {data: replace}}
metrics: [mode_coverage, high_quality, w2]
"""


def test_run_json_has_it_where_it_is_known(tmp_path: Path) -> None:
    file = tmp_path / "own.yaml"
    file.write_text(TEXT)
    run = describe_run(prepare(load(file), tmp_path))
    found = {name: entry.get("resolution") for name, entry in run["metrics"].items()}
    assert found == {"mode_coverage": 1 / 2, "high_quality": 1 / 25, "w2": None}


def test_run_json_says_what_metrics_measure_of_collapse(tmp_path: Path) -> None:
    file = tmp_path / "own.yaml"
    file.write_text(TEXT)
    run = describe_run(prepare(load(file), tmp_path))
    measures = {name: entry.get("measures") for name, entry in run["metrics"].items()}
    assert measures == {"mode_coverage": ["modes"], "high_quality": None, "w2": ["drift"]}


def test_a_share_has_the_step_of_what_it_is_a_share_of(tmp_path: Path) -> None:
    """Precision is one of samples, recall one of real rows, and a class has a tenth of these."""
    file = tmp_path / "own.yaml"
    file.write_text(IMAGES)
    run = describe_run(prepare(load(file), tmp_path))
    found = {name: entry.get("resolution") for name, entry in run["metrics"].items()}
    assert found == pytest.approx({
        "precision": 1 / 100, "recall": 1 / 40, "coverage": 1 / 40, "class_recall": 10 / 40, "class_shares": 10 / 100,
        "memorisation": 0.5 / 100, "authenticity": 1 / 100,
    })  # fmt: skip
    better = {name: entry["better"] for name, entry in run["metrics"].items()}
    assert (better["authenticity"], better["memorisation"], better["precision"]) == (None, None, "higher")


IMAGES = """\
data: {use: digits, rows: 60, held_out_rows: 40}
model: {use: vae, hidden: 8, latent: 2}
train: {steps: 1}
generations: 1
samples: 100
seeds: [0]
arms: {replace: {data: replace}}
metrics: [precision, recall, coverage, class_recall, class_shares, memorisation, authenticity]
"""
