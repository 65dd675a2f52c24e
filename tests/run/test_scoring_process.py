from __future__ import annotations

import copy
import pickle
import subprocess
import time
from collections import Counter
from types import SimpleNamespace

import pytest
import torch

from collapse_sim.core.errors import InterruptedRunError, PluginError, RecipeError
from collapse_sim.core.events import JobFinished, Note
from collapse_sim.core.machine import Device
from collapse_sim.core.ranks import Ranks
from collapse_sim.engine import build
from collapse_sim.engine.work import Stop
from collapse_sim.plan.experiment import prepare
from collapse_sim.recipe.loader import load
from collapse_sim.run import scoring_process
from collapse_sim.run.scoring_child import Answer
from collapse_sim.run.scoring_process import ScoringProcess, check_overlap, may_overlap
from collapse_sim.store.jobs import Request
from collapse_sim.store.spec import Spec
from tests.conftest import Sandbox, changed
from tests.pruned import LAST, TOY, VAE, generations

RECIPE = changed(VAE, ("metrics: [test_loss]", "metrics: [test_loss, {use: fid, features: pixels}]"))
PLUGIN = """
from typing import ClassVar
from collapse_sim.api import Component

class Third(Component):
    version: ClassVar[int] = 1
    kinds: ClassVar = None
    better: ClassVar = "lower"
    needs: ClassVar = ("samples",)

    def check(self, info, family, samples):
        pass

    def score(self, evaluation):
        print("not for stdout")
        if evaluation.generation == 1:
            raise RuntimeError("no third")
        return float(evaluation.rows("samples")["image"].float().mean())
"""


class Ranked(Ranks):
    world = 2


@pytest.fixture
def twin(tmp_path_factory: pytest.TempPathFactory) -> Sandbox:
    """Another folder, with a store of its own."""
    return Sandbox(tmp_path_factory.mktemp("twin"))


@pytest.fixture
def scored_here(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """The metrics and generations of scores that this process makes."""
    here: list[tuple[str, int]] = []
    score = build.BUILDERS["scores"]

    def noted(job, folder, context):
        here.append((type(job.spec.metric).__name__, job.spec.generation))
        score(job, folder, context)

    monkeypatch.setitem(build.BUILDERS, "scores", noted)
    return here


def recorded(sandbox: Sandbox) -> list[dict]:
    """The journal, without times."""
    return [{k: v for k, v in line.items() if k not in ("hash", "time", "wall_s")} for line in sandbox.journal()]


def context_with(root=None, device: str = "cpu", stop: Stop | None = None) -> SimpleNamespace:
    store, events = SimpleNamespace(root=root), []
    return SimpleNamespace(
        store=store, data_dir=root, device=Device(torch.device(device), threads=1), ranks=Ranks(), stop=stop or Stop(),
        emit=events.append, events=events,
    )  # fmt: skip


@pytest.mark.slow
def test_another_process_makes_the_bytes_of_a_run_without_it(sandbox, twin, scored_here):
    """And the journal has the same lines in the same order. Scores that read a model are made here, and those of the
    last generation, after which nothing is fitted."""
    plain = sandbox.run(RECIPE)
    scored_here.clear()
    beside = twin.run(RECIPE, overlap="on")
    assert Counter(scored_here) == Counter({("TestLoss", 0): 1, ("TestLoss", 1): 2, ("TestLoss", 2): 2, ("FID", 2): 2})
    assert twin.artefacts() == sandbox.artefacts()
    assert recorded(twin) == recorded(sandbox)
    assert (beside["made"], beside["reused"]) == (plain["made"], plain["reused"])
    assert not list((twin.root / ".store" / "tmp").iterdir())


@pytest.mark.slow
def test_a_run_that_prunes_keeps_the_samples_that_a_score_still_needs(sandbox, twin):
    sandbox.run(RECIPE + LAST)
    twin.run(RECIPE + LAST, overlap="on")
    assert recorded(twin) == recorded(sandbox)
    assert twin.artefacts() == sandbox.artefacts()
    assert generations(twin.root / ".store", "samples") == {2}


@pytest.mark.slow
def test_a_metric_that_fails_there_fails_here(sandbox, monkeypatch, capfd, scored_here):
    """Its own cell only, and the error names it as in a run without the other process."""
    (sandbox.root / "thirds.py").write_text(PLUGIN)
    monkeypatch.syspath_prepend(sandbox.root)
    text = changed(RECIPE, ("{use: fid, features: pixels}", "{use: 'thirds:Third'}"))
    with pytest.raises(PluginError, match=r"replace, generation 1, seed 0: .*Third raised RuntimeError.*no third"):
        sandbox.run(text, overlap="on", plugins=True)
    assert Counter(of for of in scored_here if of[0] == "Third") == Counter({("Third", 1): 2, ("Third", 2): 2})
    values = {(line["generation"], line["arm"]): line["metrics"] for line in sandbox.journal(event="scores")}
    assert {
        "Third" in metrics or "third" in " ".join(metrics).lower() for (k, _), metrics in values.items() if k != 1
    } == {True}
    assert "not for stdout" not in capfd.readouterr().out


def test_without_the_other_process_the_scores_are_made_here(sandbox, twin, monkeypatch, scored_here):
    """One that ends at once, as after a kill: nothing is lost, and one warning says so."""
    monkeypatch.setattr(scoring_process, "START", "raise SystemExit(9)")
    events, emit = [], scoring_process.ScoringProcess._give_up
    monkeypatch.setattr(ScoringProcess, "_give_up", lambda self, why: (events.append(why), emit(self, why))[1])
    sandbox.run(RECIPE)
    count = len(scored_here)
    twin.run(RECIPE, overlap="on")
    assert len(events) == 1
    assert len(scored_here) == 2 * count
    assert twin.artefacts() == sandbox.artefacts()
    assert recorded(twin) == recorded(sandbox)


def test_a_stop_is_heard_while_it_computes_and_ends_it(tmp_path, monkeypatch):
    monkeypatch.setattr(scoring_process, "START", "import time; time.sleep(600)")
    monkeypatch.setattr(scoring_process, "GRACE_S", 0.05)
    stop = Stop()
    monkeypatch.setattr(ScoringProcess, "_missing", lambda self, requests: requests)
    with ScoringProcess(None, context_with(tmp_path, stop=stop), "on") as process:
        assert process.begin([Request(Spec("scores", 0, {}), (0,), ("replace",))], 1)
        child = process._child
        stop.signal_number = 2
        began = time.monotonic()
        with pytest.raises(InterruptedRunError):
            process.finish(lambda emit: Counter())
        assert time.monotonic() - began < 5
        assert child.poll() is None
    assert child.poll() is not None


def test_an_experiment_of_many_generations_can_be_sent(sandbox):
    """Each generation's specs refer to those before, too deep for pickle one by one; they arrive with the same keys."""
    taught = "replace: {data: replace, init: previous, teacher: {generation: previous, weights: {output: 0.5}}}"
    text = changed(RECIPE, ("generations: 2", "generations: 500"), ("replace: {data: replace}", taught))
    experiment = prepare(load(sandbox.recipe(text)), sandbox.root)
    arrived = pickle.loads(pickle.dumps(experiment))
    assert [spec.digest for spec in arrived.specs()] == [spec.digest for spec in experiment.specs()]


@pytest.mark.parametrize(
    ("mode", "device", "world", "may"),
    [
        ("auto", "cpu", 1, False), ("on", "cpu", 1, True), ("off", "cpu", 1, False),
        ("auto", "cuda", 1, True), ("off", "cuda", 1, False), ("auto", "cuda", 2, False),
    ],
)  # fmt: skip
def test_auto_is_for_a_gpu_of_one_process(mode, device, world, may):
    ranks = Ranked() if world == 2 else Ranks()
    assert may_overlap(mode, Device(torch.device(device), threads=1), ranks) == may


def test_auto_begins_when_the_scores_to_come_take_long_enough(monkeypatch):
    """The first scores are made here, and timed: 3 s, so 6 generations pay for a process, and 7 too."""
    times = iter([0.0, 3.0, 10.0, 10.0])
    monkeypatch.setattr(scoring_process.time, "perf_counter", lambda: next(times))
    monkeypatch.setattr(ScoringProcess, "_missing", lambda self, requests: requests)
    asked = []
    monkeypatch.setattr(ScoringProcess, "_ask", lambda self, requests: asked.append(requests))
    with ScoringProcess(None, context_with(device="cuda"), "auto") as process:
        assert not process.begin(["first"], 8)
        process.finish(lambda emit: Counter())
        process.begin(["second"], 6)
        assert asked == []
        process.begin(["second"], 7)
        assert asked == [["second"]]
        process.begin(["last"], 0)
        assert asked == [["second"]]


def test_what_the_other_process_made_is_shown_as_made():
    """Of three stored seeds two; events of other artefacts stay as they are."""
    shown = []
    made = scoring_process._AsMade(shown.append, Answer(made={("a", 1): 0.5, ("a", 2): 2.0}))
    event = JobFinished("scores", "a", 1, ("replace",), (0, 1, 2), True, 0.0)
    other = JobFinished("scores", "b", 1, ("replace",), (), True, 0.0)
    note = Note("something")
    for each in (event, other, note):
        made(copy.copy(each))
    assert shown == [
        JobFinished("scores", "a", 1, ("replace",), (1, 2), False, 2.0),
        JobFinished("scores", "a", 1, ("replace",), (0,), True, 0.0),
        other,
        note,
    ]
    assert made.count == 2


def test_what_is_not_allowed_is_an_error_before_any_work(sandbox):
    with pytest.raises(RecipeError, match="--overlap often: allowed: auto, on, off"):
        sandbox.run(RECIPE, overlap="often")
    assert not (sandbox.root / ".store").exists()
    with pytest.raises(RecipeError, match="with 2 ranks scores are computed between fits"):
        check_overlap("on", Ranked())
    check_overlap("auto", Ranked())


def test_the_module_of_the_other_process_imports_no_torch():
    """So it takes what it is sent at once, and the fit of its parent does not wait for its imports."""
    code = "import sys, collapse_sim.run.scoring_child; raise SystemExit('torch' in sys.modules)"
    assert subprocess.run([scoring_process.sys.executable, "-c", code], check=False).returncode == 0


def test_what_a_mirror_has_is_not_made_by_the_other_process(sandbox, twin, monkeypatch):
    """It has no mirror: the run fetches it before it asks for the rest."""
    url = f"file://{sandbox.root}/mirror"
    made = sandbox.run(TOY, mirror=url)["made"]
    started = []
    monkeypatch.setattr(ScoringProcess, "_start", lambda self: started.append(self))
    twice = twin.run(TOY, overlap="on", mirror=url)
    assert started == []
    assert (twice["made"], twice["reused"], twice["mirror"]["fetched"]) == (0, made, made)
    assert twin.artefacts() == sandbox.artefacts()


def test_patience_does_not_end_while_it_computes(sandbox, tmp_path, monkeypatch):
    """A run that would end because others make what comes next does not end its own scores."""
    monkeypatch.setattr(scoring_process, "START", "import time; time.sleep(600)")
    monkeypatch.setattr(scoring_process, "GRACE_S", 0.05)
    monkeypatch.setattr(ScoringProcess, "_missing", lambda self, requests: requests)
    with ScoringProcess(None, context_with(tmp_path), "on") as process:
        assert not process.working()
        process.begin([Request(Spec("scores", 0, {}), (0,), ("replace",))], 1)
        assert process.working()
        process._child.kill()
        process._child.wait()
        assert not process.working()
    _, store = sandbox.loop(TOY)
    assert isinstance(store.patience.working.__self__, ScoringProcess)
