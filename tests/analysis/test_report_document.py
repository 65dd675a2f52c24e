"""Numbers that columns are sorted by, and the pictures of a report."""

from __future__ import annotations

import pytest

from collapse_sim.analysis.numbers import with_interval
from collapse_sim.analysis.report.report_document import (
    Report,
    ReportFold,
    ReportGallery,
    ReportPicture,
    ReportSection,
    sort_value,
)


@pytest.mark.parametrize(
    ("mean", "low", "high"),
    [
        (0.4251, 0.41, 0.44),
        (-3.0e-5, -5e-5, -1e-5),
        (0.047, 0.020, 0.103),
        (1.2e7, 1.1e7, 1.35e7),
        (12345.0, None, None),
        (2e-9, None, None),
    ],
)
def test_a_figure_is_sorted_by_its_mean(mean, low, high):
    value = sort_value(with_interval(mean, low, high))
    assert value == pytest.approx(mean, rel=0.3)
    assert (value > 0) == (mean > 0)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("+2.1 %", 2.1),
        ("1,204", 1204.0),
        ("< 0.0001", 0.0001),
        ("0.42 ± 0.11 *", 0.42),
        ("- ", None),
        ("nan", None),
        ("seen", None),
    ],
)
def test_other_cells(text, value):
    assert sort_value(text) == value


def test_pictures_are_those_in_folds_and_galleries_too():
    pictures = [ReportPicture(name, ".svg", b"", "") for name in "abc"]
    section = ReportSection("s", "S", [ReportFold("more", [ReportGallery(pictures[1:])])])
    assert list(Report("t", [pictures[0]], [section], "", "", "").pictures()) == pictures
