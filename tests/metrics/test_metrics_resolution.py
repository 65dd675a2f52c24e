"""The least step that a share of rows can make, as run.json keeps it for verdicts."""

from pathlib import Path

from collapse_sim.experiment import prepare
from collapse_sim.recipe.load import load
from collapse_sim.session import describe_run

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
