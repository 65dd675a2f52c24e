"""How large a recipe may be. Checked before anything is expanded, so that no recipe takes all memory or hangs."""

from __future__ import annotations

FILE_BYTES = 1_000_000  # of one recipe file
EXTENDS = 16  # recipes over each other
VALUES = 100_000  # of one recipe, every alias counted as what it stands for
DEPTH = 40  # of mappings and lists within each other, and of a path's steps
WHOLE = 2**63  # whole numbers are smaller
ARMS = 1_000  # grids expanded
GENERATIONS = 5_000
METRICS = 200
CLAIMS = 1_000
FITS = 50_000  # arms x generations
CELLS = 10_000_000  # arms x generations x seeds
RECIPE_NAME = 100  # characters
ARM_NAME = 300
METRIC_NAME = 100
