"""What N processes would do: earlier artefacts tell, and the kinds of work that the store lacks are measured."""

from __future__ import annotations

import time
from collections.abc import Mapping

import pytest
from torch import Tensor

from collapse_sim.core.machine import open_device
from collapse_sim.metrics.base import Evaluation
from collapse_sim.metrics.loss import TestLoss
from collapse_sim.plan.costs import Rate, kind_of_spec
from collapse_sim.plan.experiment import prepare
from collapse_sim.recipe.loader import load
from collapse_sim.run.on_processes import on_document, on_text
from collapse_sim.run.session import Session
from tests.conftest import SMALL, Sandbox


@pytest.fixture
def session(sandbox: Sandbox) -> Session:
    experiment = prepare(load(sandbox.recipe(SMALL), overrides=["seeds=4"]), sandbox.root / "data")
    return Session(experiment, open_device("cpu"), sandbox.root / "run", sandbox.root / ".store", sandbox.root / "data")


def test_known_rates_make_a_plan(session: Session) -> None:
    """A second for each artefact: 1 of data, then for each seed 3 of generation 0 and 3 of each of two arms; the
    longest chain is data, fit, samples, fit, and samples or score."""
    rates = {kind_of_spec(spec): Rate(0.0, 1.0) for spec in session.experiment.specs()}
    said = list[str]()
    result = on_document(session, 4, rates, said.append)
    assert said == [], "nothing is measured"
    assert (result["one_process_seconds"], result["longest_chain_seconds"]) == (1 + 4 * 9, 1 + 4)
    assert result["seconds"] == 1 + 9, "four seeds side by side, behind the data"
    assert [own["seconds"] for own in result["work"]] == [10, 9, 9, 9]
    wide = on_document(session, 16, rates, said.append)
    assert wide["seconds"] == 5
    lines = on_text(wide).splitlines()
    assert lines[0] == (
        "on 16 processes, each on cores or a GPU of its own: about 5 s; on one: about 35 s; on any number: at least "
        "5 s, the longest chain of work that waits for each other"
    )
    assert ("have work at one time" in lines[1]) == (wide["most_busy"] < 16)
    assert "  no more than 3 have work at one time" in on_text(wide | {"most_busy": 3})


def test_what_is_not_known_is_measured(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    """A score takes at least 0.02 s, so that the twelve count in a plan that is rounded to tenths of a second."""
    score_rows = TestLoss.score_rows

    def slow(self: TestLoss, evaluation: Evaluation) -> Mapping[str, Tensor]:
        time.sleep(0.02)
        return score_rows(self, evaluation)

    monkeypatch.setattr(TestLoss, "score_rows", slow)
    rates = {kind_of_spec(spec): Rate(0.0, 1.0) for spec in session.experiment.specs() if spec.kind != "scores"}
    said = list[str]()
    result = on_document(session, 2, rates, said.append)
    assert said == ["measuring scores: test_loss"]
    assert result["measured"] == ["scores"]
    assert result["one_process_seconds"] > 1 + 4 * 6


def test_more_processes_than_are_listed(session: Session) -> None:
    rates = {kind_of_spec(spec): Rate(0.0, 1.0) for spec in session.experiment.specs()}
    text = on_text(on_document(session, 100, rates, lambda text: None))
    assert text.count("  process ") == 16
    assert "\n  and 84 more\n" in text
