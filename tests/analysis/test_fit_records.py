"""What the store recorded of the fits of a real run: losses and costs, each fit once."""

from __future__ import annotations

import json
from statistics import fmean

import pytest

from collapse_sim.analysis.fit_costs import costs_document, costs_table, costs_total
from collapse_sim.analysis.fit_records import LossRecord, fit_records, grouped, mean_curve
from collapse_sim.analysis.training_curves import curves_document, curves_figure, curves_table
from collapse_sim.core.errors import StoreError
from collapse_sim.run.export import export
from collapse_sim.run.saved_run import ModelChoice, SavedRun
from tests.conftest import TINY, changed

ARMS = ("replace", "accumulate+distill")


@pytest.fixture
def run(sandbox):
    sandbox.run(TINY)
    return sandbox.root / "run"


def test_every_fit_is_there_once_with_what_its_files_say(run, sandbox):
    records, problems = fit_records(run)
    assert problems == []
    assert [(r.generation, r.arms, r.seeds) for r in records] == [
        (0, ARMS, (0,)), (0, ARMS, (1,)),
        (1, ARMS[:1], (0,)), (1, ARMS[:1], (1,)), (1, ARMS[1:], (0,)), (1, ARMS[1:], (1,)),
        (2, ARMS[:1], (0,)), (2, ARMS[:1], (1,)), (2, ARMS[1:], (0,)), (2, ARMS[1:], (1,)),
    ]  # fmt: skip
    for record in records:
        (place,) = sandbox.root.glob(f"*/objects/{record.digest[:2]}/{record.digest}/s{record.seeds[0]}")
        history = json.loads((place / "history.json").read_text())
        assert [e._asdict() for e in record.evaluations] == history["evaluations"]
        assert record.updates == history["updates"] == 20
        assert record.rows == 20 * 32
        assert record.size == sum(p.stat().st_size for p in place.iterdir() if p.name != "manifest.json")
        manifest = json.loads((place / "manifest.json").read_text())
        assert (record.seconds, record.precision) == (manifest["wall_s"], "fp32")
        assert record.sampling_s is not None
        assert record.samples_size >= 150 * 64


def test_means_are_over_seeds(run):
    records, _ = fit_records(run)
    for fits in grouped(records).values():
        assert len(fits) == 2
        for i, mean in enumerate(mean_curve(fits)):
            assert mean.validation_loss == fmean(fit.evaluations[i].validation_loss for fit in fits)
            assert mean.step == 5 * (i + 1)


def test_means_are_of_steps_that_all_fits_have():
    class Fit:
        def __init__(self, *steps: int) -> None:
            self.evaluations = tuple(LossRecord(step, step / 10, 1.0 * step, 2.0 * step) for step in steps)

    assert [e.step for e in mean_curve([Fit(10, 20, 30), Fit(10, 20)])] == [10, 20]
    assert mean_curve([Fit(10), Fit()]) == []
    assert mean_curve([]) == []


def test_tables_have_a_row_for_each_fit_of_all_seeds(run):
    records, _ = fit_records(run)
    heading, *rows = curves_table(records, 2)
    assert [row[:4] for row in rows] == [
        ["0", "all arms", "2", "20"],
        ["1", "replace", "2", "20"],
        ["1", "accumulate+distill", "2", "20"],
        ["2", "replace", "2", "20"],
        ["2", "accumulate+distill", "2", "20"],
    ]
    assert all(len(row) == len(heading) for row in rows)
    costs = costs_table(records, 2)
    assert [row[:4] for row in costs[1:]] == [row[:4] for row in rows]
    assert costs_total(records).startswith("10 fits: ")
    entries = costs_document("tiny", records, [])["fits"]
    assert sum(entry["fit_s"] for entry in entries) == pytest.approx(sum(r.seconds for r in records))
    for entry in entries:
        assert entry["rows_per_s"] * entry["fit_s"] == pytest.approx(640)


def test_losses_that_are_not_finite_are_null(run):
    records, _ = fit_records(run)
    bad = [LossRecord(5, 1.0, float("inf"), float("nan"))]
    broken = type(records[0])(**{**vars(records[0]), "evaluations": tuple(bad)})
    (entry,) = curves_document("tiny", [broken], [])["fits"]
    assert entry["evaluations"] == [{"step": 5, "epoch": 1.0, "train_loss": None, "validation_loss": None}]
    assert "nan" in curves_table([broken], 2)[1]


def test_the_plot_has_a_panel_for_each_arm_and_both_losses_of_each_generation(run):
    records, _ = fit_records(run)
    drawing = curves_figure("tiny", records, ARMS, "nats per pixel")
    panels = [axes for axes in drawing.axes if axes.has_data()]
    assert [axes.get_title() for axes in panels] == list(ARMS)
    by_digest = grouped(records)
    for axes, arm in zip(panels, ARMS, strict=True):
        curves = [mean_curve(fits) for (_, arms, _), fits in by_digest.items() if arm in arms]
        drawn = [list(line.get_ydata()) for line in axes.get_lines()]
        assert drawn == [[e[i] for e in curve] for curve in curves for i in (3, 2)]


def test_a_damaged_history_is_reported_and_left_out(run, sandbox):
    record = fit_records(run)[0][0]
    (path,) = sandbox.root.glob(f"*/objects/*/{record.digest}/s0/history.json")
    path.write_text(path.read_text().replace("20", "21"))
    records, problems = fit_records(run)
    assert len(records) == 9
    assert problems == [f"{path.parent}: history.json does not match its hash"]


def test_solved_models_have_no_speed(sandbox):
    recipe = changed(
        TINY,
        ("data: {use: digits, rows: 200, held_out_rows: 50, validation_rows: 40}", "data: {use: gaussian, rows: 50}"),
        ("model: {use: vae, hidden: 16, latent: 2}", "model: gaussian"),
        ("train: {steps: 20, batch_size: 32, evaluate: every 5 steps, keep: best}\n", ""),
        (", teacher: {generation: 0, weights: {output: 0.5, mean: 1.0, variance: 1.0}}", ""),
        ("metrics: [test_loss]", "metrics: [variance_ratio]"),
    )
    sandbox.run(recipe)
    records, _ = fit_records(sandbox.root / "run")
    assert {record.seeds for record in records} == {(0, 1)}
    assert {record.rows_per_s for record in records} == {None}
    assert costs_table(records, 2)[1][2:4] == ["2", "solved"]
    assert len(curves_table(records, 2)) == 1


def test_a_model_from_outside_took_no_updates(sandbox):
    sandbox.run(TINY, "first")
    stored = SavedRun.open(sandbox.root / "first", sandbox.root / "data").model(ModelChoice(None, 0, 0))
    export(stored, sandbox.root / "data" / "given", "none")
    sandbox.run(changed(TINY, ("samples: 150", "samples: 150\ngeneration_0: {model: given}")), "second")
    first, *later = fit_records(sandbox.root / "second")[0]
    assert (first.imported, first.generation, first.seeds, first.updates) == (True, 0, (), 0)
    assert {record.imported for record in later} == {False}
    assert costs_table([first], 2)[1][:4] == ["0", "all arms", "1", "imported"]


def test_a_run_without_its_store(run, sandbox, tmp_path):
    for store in sandbox.root.glob("*/objects"):
        store.rename(tmp_path / "gone")
    with pytest.raises(StoreError, match="its store is not where it was"):
        fit_records(run)


def test_fits_of_other_runs_in_the_same_store_are_not_this_runs(sandbox):
    """Two runs of one recipe with other seeds have the same digests."""
    sandbox.run(TINY, "one", seeds=[0])
    sandbox.run(TINY, "two", seeds=[1])
    for name, seed in (("one", 0), ("two", 1)):
        records, problems = fit_records(sandbox.root / name)
        assert problems == []
        assert len(records) == 5
        assert {record.seeds for record in records} == {(seed,)}
