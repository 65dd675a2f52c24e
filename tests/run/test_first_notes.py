"""What a run says before it begins."""

from __future__ import annotations

import pytest
import torch

from collapse_sim.core.machine import Device
from collapse_sim.plan.experiment import Experiment, prepare
from collapse_sim.recipe.loader import load
from collapse_sim.run.first_notes import first_notes
from tests.conftest import TINY, Sandbox, changed

CPU = Device(torch.device("cpu"))
HINT = "10 short fits, 50,000 updates in all: --compile auto looks at each fit alone"  # 5 fits of 2 seeds


@pytest.fixture
def many(sandbox: Sandbox) -> Experiment:
    """Two arms and three generations, 50,000 updates for two seeds."""
    return of_length(sandbox, 5000)


def of_length(sandbox: Sandbox, steps: int) -> Experiment:
    text = changed(TINY, ("steps: 20", f"steps: {steps}"), ("evaluate: every 5 steps, keep: best", "evaluate: never"))
    return prepare(load(sandbox.recipe(text), overrides=["protocol=updates"]), sandbox.root)


def said(experiment: Experiment, mode="auto", coming=2, *, alone=True) -> list[str]:
    return [note.message for note in first_notes(experiment, CPU, mode, lambda spec: coming, alone=alone)]


@pytest.fixture(autouse=True)
def compiler(monkeypatch):
    """There is one, whatever machine this is."""
    monkeypatch.setattr(Device, "compiler_problem", lambda self: None)


def test_many_short_fits_are_told_of_compiling(many):
    (message,) = said(many)
    assert message.startswith(HINT)
    (note,) = first_notes(many, CPU, "auto", lambda spec: 2, alone=True)
    assert note.level == "info"


@pytest.mark.parametrize("mode", ["on", "off"])
def test_who_has_decided_is_told_nothing(many, mode):
    assert said(many, mode) == []


def test_nothing_is_said_of_what_is_stored_of_few_updates_or_of_long_fits(many, sandbox):
    assert said(many, coming=0) == []
    assert said(of_length(sandbox, 4999)) == []
    assert said(of_length(sandbox, 5001)) == []


def test_nothing_is_said_without_a_compiler_or_to_several_ranks(many, monkeypatch):
    assert said(many, alone=False) == []
    monkeypatch.setattr(Device, "compiler_problem", lambda self: "none here")
    assert said(many) == []
