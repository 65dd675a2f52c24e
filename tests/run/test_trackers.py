"""Trackers by their names: built in, a plug-in's, unknown, not installed."""

from __future__ import annotations

import importlib.util
import tomllib
from pathlib import Path
from typing import ClassVar

import pytest

from collapse_sim.core.component import Component
from collapse_sim.core.errors import MissingError, RecipeError
from collapse_sim.core.registry import BUILT_IN, load
from collapse_sim.run import trackers
from collapse_sim.run.trackers import Tracker, trackers_of

ROOT = Path(__file__).parents[2]
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]


class OwnTracker(Component):
    """A plug-in's tracker."""

    package: ClassVar[str] = "json"
    extra: ClassVar[str] = "own-package"

    def place(self, run):
        return "somewhere"

    def open(self, run):
        raise NotImplementedError


class NoTracker(Component):
    """A component of another kind."""


@pytest.mark.parametrize("name", BUILT_IN["trackers"])
def test_a_tracker_that_is_not_installed_names_its_extra(name, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda package: None)
    with pytest.raises(MissingError, match=rf"--track {name}: .* pip install 'collapse-sim\[{name}\]'") as caught:
        trackers_of([name])
    assert caught.value.exit_code == 3
    (needed,) = EXTRAS[name]
    assert needed.startswith(load("trackers", name).extra.partition("[")[2].rstrip("]"))
    assert (needed in EXTRAS["dev"]) == (name != "trackio"), "its tests need it; trackio needs another pillow than dev"


@pytest.mark.parametrize("name", BUILT_IN["trackers"])
def test_what_is_built_in_keeps_the_contract(name, monkeypatch):
    monkeypatch.setattr(trackers, "_installed", lambda package: True)
    (tracker,) = trackers_of([name, name]).values()
    assert isinstance(tracker, Tracker)


def test_unknown_names_and_plugins():
    with pytest.raises(RecipeError, match="--track: unknown 'tensorbord', did you mean 'tensorboard'"):
        trackers_of(["tensorbord"])
    with pytest.raises(RecipeError, match="is no tracker: it has no extra, open, package, place"):
        trackers_of([f"{__name__}:NoTracker"])
    assert isinstance(trackers_of([f"{__name__}:OwnTracker"])[f"{__name__}:OwnTracker"], OwnTracker)
