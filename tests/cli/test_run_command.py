"""`run` and its options: what is computed, what is reused, what is printed where; `--dry-run`; `verify`."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from PIL import Image

from collapse_sim.engine import fit
from collapse_sim.plan.experiment import prepare
from collapse_sim.plan.specs import FitSpec
from collapse_sim.recipe.loader import load
from collapse_sim.store import waiting
from collapse_sim.store.machine_lock import MachineLock

ROOT = Path(__file__).parents[2]
SMOKE = "\nsmoke: {generations: 1, seeds: [3], samples: 100, train.steps: 2}\n"


def test_json_is_one_document_and_nothing_else(shell, recipe):
    done = shell("run", recipe(), "--json")
    assert done.json == {
        "schema": 1, "run": "runs/tiny", "name": "tiny", "made": 10, "reused": 0, "diverged": [],
        "wall_s": done.json["wall_s"],
    }  # fmt: skip
    assert "generation 1/1: test_loss replace " in done.err
    assert shell("run", recipe(), "--json", "-q").json["reused"] == 10


def test_json_tells_what_diverged(shell, recipe):
    wild = ["--set", "train.learning_rate=1e6", "--set", "train.optimizer=sgd"]
    (found,) = shell("run", recipe(), "--json", *wild, code=4).json["diverged"]
    assert (found["arms"], found["generation"], found["seeds"]) == (["replace", "accumulate+distill"], 0, [0])


def test_json_of_a_run_that_fails_is_nothing(shell, recipe, monkeypatch):
    def starved(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(fit, "backward", starved)
    assert shell("run", recipe(), "--json", code=2).out == ""


def test_stdout_is_the_run_directory(shell, recipe):
    done = shell("run", recipe(("keep: best", "keep: last")))
    assert done.out == "runs/tiny\n"
    assert done.err.endswith("compare: collapse-sim compare runs/tiny\n")
    quiet = shell("run", recipe(("keep: best", "keep: last")), "--quiet", "--out", "runs/deep/er")
    assert quiet == ("runs/deep/er\n", "")
    verbose = shell("run", recipe(("keep: best", "keep: last")), "-v").err
    assert "  fit, generation 1, accumulate+distill: found\n" in verbose


def test_dry_run_shows_the_steps_of_every_generation(shell, recipe):
    """Under epochs, accumulate's generation k takes k + 1 times the updates."""
    name = recipe(("steps: 20", "epochs: 3"), ("rows: 200", "rows: 160"), ("samples: 150", "samples: 160"))
    before = shell.files()
    plan = shell("run", name, "--generations", "4", "--seed", "0", "--seed", "7", "--dry-run", "--json").json
    assert [entry["steps"] for entry in plan["arms"]["replace"]] == [15] * 5
    assert [entry["steps"] for entry in plan["arms"]["accumulate+distill"]] == [15 * (k + 1) for k in range(5)]
    assert [entry["rows"] for entry in plan["arms"]["accumulate+distill"]] == [160 * (k + 1) for k in range(5)]
    assert [entry["teacher"] for entry in plan["arms"]["accumulate+distill"]] == [None, 0, 0, 0, 0]
    assert plan["arms"]["accumulate+distill"][2]["sources"] == [
        {"from": "real", "rows": 160}, {"from": 0, "rows": 160}, {"from": 1, "rows": 160},
    ]  # fmt: skip
    assert plan["seeds"] == [0, 7]
    kinds = 3  # a fit, samples, a score
    assert plan["artefacts"] == {"to_make": 1 + 2 * kinds * (1 + 4 + 4), "reused": 0}
    text = shell("run", name, "--generations", "4", "--dry-run").out
    assert "tiny: seeds 0; 160 samples per generation\n" in text
    assert "artefacts: 28 to make, 0 there already; about " in text
    head, *rows = text.partition("\naccumulate+distill (protocol: epochs)\n")[2].splitlines()
    assert head.split() == ["generation", "rows", "updates", "epochs", "teacher", "to", "fit", "made", "from"]
    found = [row.split()[:4] for row in rows]
    assert found == [[str(k), str(160 * (k + 1)), str(15 * (k + 1)), "3"] for k in range(5)]
    assert shell.files() == before, "a dry run makes nothing"


def test_dry_run_tells_what_is_reused(shell, recipe):
    name = recipe()
    shell("run", name, "-q")
    before = shell.files()
    assert shell("run", name, "--dry-run", "--json").json["artefacts"] == {"to_make": 0, "reused": 10}
    plan = shell("run", name, "--generations", "2", "--dry-run", "--json").json
    assert plan["artefacts"] == {"to_make": 6, "reused": 10}
    assert [entry["fits_to_make"] for entry in plan["arms"]["replace"]] == [0, 0, 1]
    assert "artefacts: 6 to make, 10 there already; about " in shell("run", name, "--generations", "2", "--dry-run").out
    assert shell.files() == before
    assert shell("run", name, "--generations", "2", "--json").json["made"] == 6


def test_a_dry_run_promises_what_the_run_then_does(shell, recipe):
    name = recipe(("[test_loss]", "[test_loss, {use: fid, features: pixels}]"), ("[0]", "[0, 1]"))
    plan = shell("run", name, "--dry-run", "--json").json
    result = shell("run", name, "--json", "-q").json
    assert (result["made"], result["reused"]) == (plan["artefacts"]["to_make"], plan["artefacts"]["reused"])
    assert shell("run", name, "--dry-run", "--json").json["bytes_to_come"] == 0


@pytest.mark.parametrize(
    ("more", "made"),
    [
        ([], 0),
        (["--arm", "replace"], 0),
        (["--seed", "5"], 9),
        (["--seed", "5", "--arm", "replace"], 6),
        (["--generations", "2"], 6),
        (["--generations", "2", "--arm", "replace"], 3),
    ],
)
def test_more_of_a_run_costs_only_what_is_new(shell, recipe, more, made):
    """In the same run directory, which then holds all of it."""
    name = recipe()
    shell("run", name, "-q")
    assert shell("run", name, *more, "--json").json["made"] == made
    status = shell("status", "tiny", "--json").json
    assert status["seeds"] == ([0, 5] if "--seed" in more else [0])
    assert list(status["arms"]) == ["replace", "accumulate+distill"]
    assert shell("run", name, *more, "--json").json["made"] == 0


def test_a_run_goes_on_with_its_own_store(shell, recipe):
    name = recipe()
    shell("run", name, "-q", "--store", "elsewhere/artefacts")
    assert shell("run", name, "--dry-run", "--json").json["artefacts"]["to_make"] == 0
    assert shell("run", name, "--json").json["made"] == 0
    assert not shell.store.exists()


def test_a_run_whose_store_is_gone_is_not_made_anew_in_silence(shell, recipe):
    """Nor in a store of other runs that lies beside it. Named, its place is remembered."""
    name = recipe()
    shell("run", name, "-q", "--store", "elsewhere/artefacts")
    (shell.root / "elsewhere").rename(shell.root / "moved")
    for _ in range(2):
        for words in (["run", name], ["run", name, "--dry-run"], ["sample", "tiny", "--out", "x.npz"]):
            text = shell.refused(*words, code=5)
            assert text.startswith("error: runs/tiny: its store is not where it was (")
            assert "with `collapse-sim run ... --store DIR`" in text
        shell("run", recipe(("steps: 20", "steps: 3")), "-q", "--out", "runs/other")  # makes runs/.store
        recipe()
    assert shell("run", name, "--json", "--store", "moved/artefacts").json["made"] == 0
    assert shell("run", name, "--json").json["made"] == 0


def test_a_moved_run_finds_its_store(shell, recipe):
    """Alone, or together with the store."""
    name = recipe()
    shell("run", name, "-q")
    (shell.root / "deep" / "er").mkdir(parents=True)
    (shell.root / "runs" / "tiny").rename(shell.root / "deep" / "er" / "tiny")
    assert shell("run", name, "--out", "deep/er/tiny", "--json").json["made"] == 0
    (shell.root / "runs").rename(shell.root / "was")
    (shell.root / "was" / ".store").rename(shell.root / "deep" / "er" / ".store")
    assert shell("run", name, "--out", "deep/er/tiny", "--json").json["made"] == 0
    assert not (shell.root / "runs").exists()


@pytest.mark.parametrize("words", [["run", "runs/tiny/recipe.yaml"], ["sample", "tiny", "--out", "x.npz"]])
def test_a_recipe_that_a_run_keeps_proves_itself(shell, recipe, words):
    """Edited or damaged it is not run; gone it is written anew."""
    shell("run", recipe(), "-q")
    kept = shell.root / "runs" / "tiny" / "recipe.yaml"
    before = kept.read_bytes()
    kept.write_bytes(before.replace(b"generations: 1", b"generations: 3"))
    text = shell.refused(*words, code=5)
    assert "runs/tiny/recipe.yaml: edited or damaged, it is not what the run wrote; " in text
    kept.unlink()
    assert "it is rewritten from run.json" in shell("run", "runs/tiny/recipe.yaml").err
    assert kept.read_bytes() == before
    shell(*words)


def test_set_and_smoke(shell, recipe):
    name = recipe(("metrics: [test_loss]", "metrics: [test_loss]" + SMOKE))
    done = shell("run", name, "--smoke", "--json")
    assert done.json["run"] == "runs/tiny-smoke"
    plan = shell("run", name, "--smoke", "--dry-run", "--json").json
    assert (plan["seeds"], plan["samples"], plan["arms"]["replace"][1]["steps"]) == ([3], 100, 2)
    assert plan["artefacts"]["to_make"] == 0
    settings = ["--set", "train.steps=7", "--set", "arms.replace.data=accumulate", "--out", "runs/other"]
    plan = shell("run", name, "--smoke", *settings, "--dry-run", "--json").json
    assert plan["arms"]["replace"][1] == {
        "generation": 1, "rows": 300, "samples": 100, "steps": 7, "epochs": 0.7, "teacher": None, "fits_to_make": 1,
        "sources": [{"from": "real", "rows": 200}, {"from": 0, "rows": 100}],
    }  # fmt: skip


def test_what_could_not_be_drawn_is_said_once_more_at_the_end(shell, recipe, monkeypatch):
    def refuse(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", refuse)
    said = shell("run", recipe()).err
    assert "warning: could not be drawn: samples (" in said
    assert said.index("could not be drawn: samples") > said.index("generation 1/1")


FIRST_STEP = """
import os, sys
from collapse_sim.engine import fit
from collapse_sim.__main__ import main
slow = {"torch._dynamo", "sympy", "sklearn", "pandas", "scipy", "matplotlib", "torchvision", "torch_fidelity",
        "transformers", "diffusers", "datasets", "torchmetrics"}
def take(step, members):
    os.write(1, " ".join(["imported:", *sorted(slow & set(sys.modules))]).encode())
    os._exit(0)
fit.SingleStep.take = take
main()
"""


def test_nothing_slow_is_imported_before_the_first_step(shell, recipe):
    """Once the digits have been read on this machine; before that, scikit-learn is needed for them."""
    name = recipe(
        ("metrics: [test_loss]", "metrics: [test_loss, {use: fid, features: pixels}]"), ("keep: best", "keep: last")
    )
    shell("run", name, "--dry-run")
    words = [sys.executable, "-c", FIRST_STEP, "run", name, "-q"]
    done = subprocess.run(words, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("imported:", "")


def test_dry_run_says_how_long_and_whence(shell, recipe):
    """Without such artefacts in the store: which command measures it. Afterwards: the sum of what they took."""
    name = recipe()
    plan = shell("run", name, "--dry-run", "--json", "--seed", "3", "--set", "train.steps=30").json
    assert plan["time"] == {
        "seconds": None, "from": None, "without": {},
        "bench": f"collapse-sim bench {name} --seed 3 --set train.steps=30",
    }  # fmt: skip
    out = shell("run", name, "--dry-run").out
    assert (
        f"time: not known, as this store has no such fits or samples; to measure it: collapse-sim bench {name}\n" in out
    )
    shell("run", name, "-q")
    assert "time:" not in shell("run", name, "--dry-run").out
    manifests = [json.loads((folder / "manifest.json").read_text()) for folder in shell.folders("fit")]
    taught = {manifest["digest"]: manifest for manifest in manifests if manifest["description"]["teacher"]}
    more = shell("run", name, "--dry-run", "--json", "--generations", "2", "--arm", "accumulate+distill").json
    assert more["time"]["from"] == "earlier artefacts"
    (own,) = taught.values()
    others = [
        manifest["wall_s"]
        for kind in ("samples", "scores")
        for manifest in (json.loads((folder / "manifest.json").read_text()) for folder in shell.folders(kind))
    ]
    least, most = own["wall_s"] + 2 * min(others), own["wall_s"] + 2 * max(others)
    assert least - 0.1 <= more["time"]["seconds"] <= most + 0.1
    assert "time: about " in shell("run", name, "--dry-run", "--generations", "2").out
    metrics = "metrics=[test_loss, {use: fid, features: pixels}]"
    words = ["--generations", "2", "--set", metrics, "--store", "runs/.store", "--out", "runs/other"]
    other = shell("run", name, "--dry-run", *words).out
    assert "; without 5 of scores, which it has none of; to measure all: collapse-sim bench r.yaml " in other


def test_a_tracker_is_refused_before_any_work(shell, recipe, monkeypatch):
    name = recipe()
    assert "--track: unknown 'tensorbord', did you mean 'tensorboard'?" in shell.refused(
        "run", name, "--track", "tensorbord", code=2
    )
    monkeypatch.setattr(importlib.util, "find_spec", lambda package: None)
    text = shell.refused("run", name, "--track", "wandb", code=3)
    assert "--track wandb: the package wandb is not installed: pip install 'collapse-sim[wandb]'" in text
    assert shell.refused("run", name, "--track", "wandb", "--dry-run", code=3) == text


def test_trackers_of_the_command_line(shell, recipe):
    """The example of docs/trackers.md, twice in one command, beside TensorBoard."""
    Path("lines.py").write_text((ROOT / "docs" / "trackers.md").read_text().split("```python\n")[1].split("```")[0])
    options = ["--track", "lines:Lines", "--track", "tensorboard", "--track", "lines:Lines", "--track-project", "mine"]
    done = shell("run", recipe(), "--json", *options)
    assert done.json["made"] == 10
    assert "note: lines:Lines: runs/tiny/points.txt\n" in done.err
    points = Path("runs/tiny/points.txt").read_text().splitlines()
    assert len(points) == len(set(points))
    (scores,) = [line for line in shell.journal("scores") if (line["arm"], line["generation"]) == ("replace", 1)]
    assert f"test_loss/replace/seed 0 1 {scores['metrics']['test_loss'][0]}" in points
    assert list(Path("runs/tiny/tensorboard/replace/seed-0").iterdir())
    again = shell("run", "r.yaml", *options)
    assert Path("runs/tiny/points.txt").read_text().splitlines() == points
    assert "warning" not in again.err.replace("warning: replace", "")


@pytest.mark.parametrize(
    "words", [pytest.param([], id="ends"), pytest.param(["--wait"], id="waits", marks=pytest.mark.slow)]
)
def test_when_another_process_makes_all_that_is_left(shell, recipe, monkeypatch, words):
    """By itself the command ends with what is under way elsewhere, and with a code of its own; --wait goes on."""
    name = recipe()
    monkeypatch.setattr(waiting, "GRACE_S", 0.2)
    shell("run", name, "-q", "--arm", "replace")
    (taught,) = (
        spec for spec in prepare(load(name), Path("data")).specs() if isinstance(spec, FitSpec) and spec.teacher
    )
    lock = MachineLock(shell.store / "locks" / f"{taught.digest}-s0.lock")
    lock.acquire()
    if words:
        threading.Timer(1.0, lock.release).start()
        assert shell("run", name, "-q", *words).out == "runs/tiny\n"
        assert shell("run", name, "--dry-run", "--json").json["artefacts"]["to_make"] == 0
        return
    done = shell("run", name, code=7)
    *_, before, last = done.err.splitlines()
    assert before.startswith("unfinished after ")
    assert last.startswith(
        "nothing to begin for 0 s: 1 artefact is under way elsewhere: fit: accumulate+distill, generation 1, seed 0, "
        f"by process {os.getpid()} on "
    )
    assert last.endswith("; this process ends; to wait for the others and go on: collapse-sim run r.yaml --wait")
    assert done.out == ""
    lock.release()
    shell("run", name, "-q")
