"""Features of networks from files, through the engine: what is stored, shared, resumed, noted and refused."""

from __future__ import annotations

import json

import pytest
import torch

from collapse_sim.analysis.results import read_results
from collapse_sim.core.errors import InterruptedRunError, MissingError, RecipeError
from collapse_sim.engine import pieces, score
from collapse_sim.engine.artefacts import real_order
from collapse_sim.metrics.networks import TorchScript
from tests.conftest import TINY
from tests.metrics.networks import Small, save_script

NETWORK = "{use: torchscript, file: net.pt, size: 8}"
RECIPE = TINY.replace("[test_loss]", f"[{{use: fid, features: {NETWORK}}}, {{use: vendi, features: {NETWORK}}}]")


@pytest.fixture
def network(sandbox):
    (sandbox.root / "data").mkdir()
    return save_script(Small(), sandbox.root / "data" / "net.pt")


@pytest.fixture
def counted(monkeypatch):
    """Rows that went through a TorchScript network, a number a call."""
    seen: list[int] = []
    inner = TorchScript.features

    def features(self, model, images):
        seen.append(len(images))
        return inner(self, model, images)

    monkeypatch.setattr(TorchScript, "features", features)
    return seen


def kinds(sandbox) -> dict[str, int]:
    manifests = [json.loads(path.read_text()) for path in (sandbox.root / ".store").glob("objects/*/*/*/manifest.json")]
    return {kind: sum(m["kind"] == kind for m in manifests) for kind in ("fit", "features", "scores")}


def test_features_are_made_once(sandbox, network, counted):
    """Held-out rows once for all; samples once for both metrics; equal generations 0 once for both arms."""
    sandbox.run(RECIPE)
    samples = 2 * (1 + 2 * 2)  # seeds x (generation 0 + two generations of two arms)
    assert kinds(sandbox) == {"fit": samples, "features": 1 + samples, "scores": 2 * samples}
    assert sum(counted) == 50 + samples * 150
    counted.clear()
    (sandbox.root / "data" / "weights").mkdir()
    network.rename(sandbox.root / "data" / "weights" / "net.pt")  # the place is in no key
    assert sandbox.run(RECIPE)["made"] == 0
    sandbox.run(RECIPE.replace("vendi,", "precision, "))  # another metric costs its own evaluation only
    assert counted == []


def test_rows_that_no_metric_uses_are_not_described(sandbox, network, counted):
    """FID of 40 and KID of 30 rows: the same values as from the features of all 150, which vendi needs."""
    few = f"[{{use: fid, features: {NETWORK}, rows: 40}}, {{use: kid, features: {NETWORK}, rows: 30}}]"
    every = few.replace("]", f", {{use: vendi, features: {NETWORK}}}]")
    sandbox.run(TINY.replace("[test_loss]", few))
    assert sum(counted) == 50 + kinds(sandbox)["fit"] * 40
    counted.clear()
    (sandbox.root / ".store").rename(sandbox.root / "before")
    sandbox.run(TINY.replace("[test_loss]", every), run="every")
    assert sum(counted) == 50 + kinds(sandbox)["fit"] * 150
    some, all_of_them = (read_results(sandbox.root / name).values for name in ("run", "every"))
    for arm, scores in some.items():
        assert set(scores) == {"fid", "kid"}
        assert {metric: all_of_them[arm][metric] for metric in scores} == scores


def test_figures_say_what_they_are_from(sandbox, network):
    from collapse_sim.metrics.weights import hash_of

    sandbox.run(RECIPE)
    label = f"net.pt {hash_of(network)[:8]}"
    metrics = json.loads((sandbox.root / "run" / "run.json").read_text())["metrics"]
    assert metrics["fid"]["features"] == label
    assert metrics["fid"]["note"] == f"150 samples against 50 held-out rows; {label}"
    assert metrics["fid"]["warning"] == "biased: fewer than 10,000 samples and held-out rows"
    assert (metrics["vendi"]["note"], metrics["vendi"]["warning"]) == (f"150 samples; {label}", "")


def test_another_network_is_another_figure(sandbox, network):
    """Its figures don't mix with those that are there."""
    sandbox.run(RECIPE)
    before = kinds(sandbox)
    save_script(Small(2.0), network)
    with pytest.raises(RecipeError, match=r"metrics\.fid\.features: \"net\.pt \w{8}\" there, \"net\.pt \w{8}\" here"):
        sandbox.run(RECIPE)
    sandbox.run(RECIPE, run="beside")
    assert kinds(sandbox) == {"fit": before["fit"], "features": 2 * before["features"], "scores": 2 * before["scores"]}


def test_nothing_is_made_without_the_file(sandbox):
    with pytest.raises(MissingError, match=r"net\.pt: the network of the feature map `torchscript` is in none of: "):
        sandbox.run(RECIPE)
    assert not (sandbox.root / ".store").exists()


def test_models_are_found_without_it(sandbox, network):
    """What draws from a model or exports it scores nothing."""
    from collapse_sim.run.saved_run import ModelChoice, SavedRun

    sandbox.run(RECIPE)
    network.unlink()
    assert SavedRun.open(sandbox.root / "run", sandbox.root / "data").model(ModelChoice()).generation == 2


def test_a_stop_repeats_at_most_one_piece(sandbox, network, counted, monkeypatch):
    """Ctrl-C in the middle of the held-out rows' features, then the same command."""
    monkeypatch.setattr(score, "PIECE_ROWS", 7)
    sandbox.run(RECIPE, run="whole")
    reference = sandbox.artefacts()
    whole = list(counted)
    other = type(sandbox)(sandbox.root / "other")
    (other.root / "data").mkdir(parents=True)
    network.rename(other.root / "data" / "net.pt")
    counted.clear()

    def interrupting(name):
        if name == "shard" and len(counted) == 4:
            import os
            import signal

            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(pieces, "boundary", interrupting)
    with pytest.raises(InterruptedRunError):
        other.run(RECIPE)
    assert len(counted) == 4
    monkeypatch.setattr(pieces, "boundary", lambda name: None)
    other.run(RECIPE)
    assert counted == whole  # not even the fourth was made again: the wish to stop is heard after it is kept
    assert other.artefacts() == reference


def test_progress_is_reported_by_rows(sandbox, network, monkeypatch):
    from collapse_sim.engine import work

    monkeypatch.setattr(score, "PIECE_ROWS", 20)
    monkeypatch.setattr(work, "PROGRESS_S", 0.0)
    reports = []
    inner = work.JobContext.report

    def report(self, job, done, total, unit, rows, loss=None):
        if job.spec.kind == "features":
            reports.append((done, total, unit, rows))
        inner(self, job, done, total, unit, rows, loss)

    monkeypatch.setattr(work.JobContext, "report", report)
    sandbox.run(RECIPE)
    assert reports[:3] == [(20, 50, "rows", 20), (40, 50, "rows", 20), (50, 50, "rows", 10)]


def test_real_rows_are_those_of_generation_0(sandbox, network):
    """With `data.rows` below what there is, every seed has its own; the figure is that of these rows."""
    from collapse_sim.metrics.features import FID
    from collapse_sim.plan.experiment import prepare
    from collapse_sim.recipe.loader import load
    from collapse_sim.store.rowfile import RowFile
    from collapse_sim.store.store import Store

    metric = f"{{use: fid, against: real, features: {NETWORK}}}"
    sandbox.run(TINY.replace("[test_loss]", f"[{metric}, {{use: fid, against: real, features: pixels, as: pixels}}]"))
    lines = [line for line in sandbox.journal("run", "scores") if line["generation"] == 0]

    def rows(spec, seed, split):
        return RowFile(store.block(spec, seed).file(f"{split}.safetensors")).columns["image"]

    def value(samples, real):
        given = {"samples": samples, "real": real}
        seen = type("Seen", (), {"features": lambda self, feature_map, which, most: given[which]})
        return FID(against="real").score(seen())

    experiment = prepare(load(sandbox.root / "recipe.yaml"), sandbox.root / "data")
    store, plan = Store(sandbox.root / ".store"), experiment.arm_plans[0].generations[0]
    feature_map = TorchScript(file="net.pt", size=8)
    model = feature_map.load(feature_map.weights(sandbox.root / "data"))
    maps = {"fid": lambda x: feature_map.features(model, x), "pixels": lambda x: x.flatten(1).float() / 255}
    for seed in (0, 1):
        drawn = torch.from_numpy(rows(plan.samples, seed, "samples"))
        fitted = torch.from_numpy(rows(experiment.data, seed, "real")[real_order(experiment.data, seed)[:200]])
        for name, features in maps.items():
            expected = value(features(drawn), features(fitted))
            assert lines[0]["metrics"][name][seed] == pytest.approx(expected, rel=1e-5)


def test_class_coverage_looks_at_labels_of_real_rows_only(sandbox):
    quick = "{use: classifier, classifier: {width: 4}, train: {steps: 2}}"
    sandbox.run(TINY.replace("[test_loss]", f"[{{use: class_coverage, features: {quick}}}]"))
    assert kinds(sandbox) == {"fit": 11, "features": 10, "scores": 10}
