"""Figures over the settings of a grid in a report, and only where there is a grid."""

from __future__ import annotations

import pytest

from collapse_sim.analysis.numbers import with_interval
from collapse_sim.analysis.report.report_document import ReportFold, ReportPicture, ReportTable
from collapse_sim.analysis.report.report_settings import setting_blocks
from collapse_sim.analysis.results import read_results


@pytest.fixture
def grid(write_run):
    def write(**arms):
        scores = {arm: {"m": [[1.0, 1.1, 1.2], [1.0 + i, 1.2 + i, 1.1 + i]]} for i, arm in enumerate(arms)}
        return read_results(write_run(scores, settings={"arms": arms}))

    return write


def test_one_number_has_curves_with_their_table(grid):
    results = grid(**{f"w={w}": {"teacher": {"weight": w}} for w in (0.1, 0.2, 0.4)})
    picture, fold = setting_blocks(results)
    assert isinstance(picture, ReportPicture)
    assert picture.alt.startswith("m over teacher.weight at generation 1.")
    assert isinstance(fold, ReportFold)
    table = fold.blocks[0]
    assert isinstance(table, ReportTable)
    texts = " ".join(cell.text for row in table.rows for cell in row)
    for arm in results.arms:
        mean = results.mean(arm, "m", 1)
        assert mean is not None
        assert with_interval(mean.mean, mean.low, mean.high) in texts


def test_two_numbers_have_a_map(grid):
    arms = {f"w={w} r={r}": {"teacher": {"weight": w}, "real": r} for w in (1, 2, 3) for r in (10, 20, 30)}
    picture, _ = setting_blocks(grid(**arms))
    assert isinstance(picture, ReportPicture)
    assert picture.alt.startswith("m over teacher.weight and real at generation 1.")


def test_arms_that_are_no_grid_have_none(grid):
    assert setting_blocks(grid(a={"use": "replace"}, b={"use": "accumulate"}, c={"use": "fresh", "x": 1})) == []
