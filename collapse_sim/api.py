"""What programs and plug-ins import, in one place: reading recipes and runs, and the contracts of components.

A component is a frozen pydantic model (Component) that follows one of the contracts: ModelFamily, Data, Metric,
FeatureMap, Strategy, Curation, Weighting, Merge, Guidance or Tracker.
Optional abilities are contracts of their own, such as ClosedForm or RowMetric.
`collapse_sim.testing` tests a component against its contract.
"""

from __future__ import annotations

from collapse_sim.analysis.results import Results
from collapse_sim.analysis.results import read_results as load_run
from collapse_sim.core.component import Component
from collapse_sim.core.errors import CollapseSimError, MissingError, RecipeError
from collapse_sim.core.machine import Device, Machine, open_device
from collapse_sim.core.randomness import Draws, ShapedDraws
from collapse_sim.data.base import Columns, Data, FileData, Info, RowSource, SimulatedData
from collapse_sim.data.sources import REAL, Chain, Plan, RowCounts, Source, StrategyError, Taught
from collapse_sim.families.base import ClosedForm, Conditions, Inputs, ModelFamily, Prediction, Rows
from collapse_sim.families.hooks import RowLosses
from collapse_sim.families.training import Train
from collapse_sim.metrics.base import (
    ClassifyingMap,
    DrawnRows,
    Evaluation,
    FeatureMap,
    FeatureSpace,
    HeldOutRows,
    Metric,
    MetricNote,
    Need,
    PartsMetric,
    RowMetric,
    WeightedMap,
    Which,
)
from collapse_sim.plan.experiment import Experiment, prepare
from collapse_sim.plan.settings import Arm, Recipe, Teacher
from collapse_sim.plan.strategies import Strategy
from collapse_sim.recipe.loader import load as load_recipe
from collapse_sim.remedies.base import (
    Choice,
    Curation,
    FittedVerifier,
    Guidance,
    Merge,
    Pool,
    RowWeighting,
    TokenWeighting,
    Verifier,
    Weighting,
)
from collapse_sim.run.session import Session
from collapse_sim.run.trackers import Sender, TrackedBatch, TrackedRun, Tracker

__all__ = [
    "REAL",
    "Arm",
    "Chain",
    "Choice",
    "ClassifyingMap",
    "ClosedForm",
    "CollapseSimError",
    "Columns",
    "Component",
    "Conditions",
    "Curation",
    "Data",
    "Device",
    "DrawnRows",
    "Draws",
    "Evaluation",
    "Experiment",
    "FeatureMap",
    "FeatureSpace",
    "FileData",
    "FittedVerifier",
    "Guidance",
    "HeldOutRows",
    "Info",
    "Inputs",
    "Machine",
    "Merge",
    "Metric",
    "MetricNote",
    "MissingError",
    "ModelFamily",
    "Need",
    "PartsMetric",
    "Plan",
    "Pool",
    "Prediction",
    "Recipe",
    "RecipeError",
    "Results",
    "RowCounts",
    "RowLosses",
    "RowMetric",
    "RowSource",
    "RowWeighting",
    "Rows",
    "Sender",
    "Session",
    "ShapedDraws",
    "SimulatedData",
    "Source",
    "Strategy",
    "StrategyError",
    "Taught",
    "Teacher",
    "TokenWeighting",
    "TrackedBatch",
    "TrackedRun",
    "Tracker",
    "Train",
    "Verifier",
    "WeightedMap",
    "Weighting",
    "Which",
    "load_recipe",
    "load_run",
    "open_device",
    "prepare",
]
