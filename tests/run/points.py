"""A recipe of points in the plane, quick to run."""

from __future__ import annotations

GAUSSIAN = """
name: toy
data: {use: gaussian, dimensions: 2, rows: 60, fresh_rows: 40}
model: {use: gaussian}
generations: 3
samples: 60
seeds: [5, 3]
arms:
  replace: {data: replace}
  accumulate: {data: accumulate}
metrics: [variance_ratio]
"""
