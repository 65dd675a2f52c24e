"""Recipes without a network, quick to run."""

from __future__ import annotations

from tests.conftest import changed

POINTS = """
name: points
data: {use: gaussian, dimensions: 2, rows: 30}
model: {use: gaussian}
generations: 1
seeds: 3
arms: {replace: {data: replace}}
metrics: [variance_ratio]
"""
REGRESSION = changed(
    POINTS, ("name: points", "name: lines"), ("use: gaussian, dimensions: 2", "use: linear, dimensions: 3"),
    ("{use: gaussian}", "{use: linear}"), ("variance_ratio", "excess_test_error"),
)  # fmt: skip
