"""A stand-in for the engine's Evaluation: what a metric looks at, given directly."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import Tensor

from collapse_sim.core.randomness import Draws
from collapse_sim.data.base import Info
from collapse_sim.metrics.base import rows_drawn

DIGITS = Info(
    "images", {"image": ((1, 8, 8), "uint8"), "label": ((), "int64")}, 1437, 1437, 360, classes=10, fingerprint="abc"
)


@dataclass
class FakeMachine:
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    entered: int = 0

    @contextlib.contextmanager
    def autocast(self) -> Iterator[None]:
        self.entered += 1
        yield


@dataclass
class FakeEvaluation:
    """Asking for anything that was not given is a KeyError, so a metric looks only at what a test hands it."""

    given: dict[str, Any]
    info: Info = DIGITS
    family: Any = None
    data: Any = None
    stacked: bool = False
    seeds: tuple[int, ...] = (0,)
    generation: int = 3
    machine: FakeMachine = field(default_factory=FakeMachine)
    asked: set[str] = field(default_factory=set)

    def _give(self, what: str, need: str) -> Any:
        self.asked.add(need)
        return self.given[what]

    def model(self) -> Any:
        return self._give("model", "model")

    def origin(self) -> Any:
        return self._give("origin", "origin")

    def rows(self, which: str) -> Any:
        return self._give(f"{which} rows", which)

    def features(self, feature_map: Any, which: Any, most: int | None = None) -> Tensor:
        features: Tensor = self._give(f"{which} features", which)
        drawn = rows_drawn(self.draws, which, len(features), most)
        return features if drawn is None else features[drawn]

    def probabilities(self, feature_map: Any, which: str) -> Tensor:
        probabilities: Tensor = self._give(f"{which} probabilities", which)
        return probabilities

    def draws(self, role: str) -> Draws:
        return Draws(self.seeds, role, 0, stacked=self.stacked)


@pytest.fixture
def evaluation() -> type[FakeEvaluation]:
    return FakeEvaluation


@pytest.fixture
def machine() -> FakeMachine:
    return FakeMachine()


@pytest.fixture
def digits_info() -> Info:
    return DIGITS
