"""`collapse_sim.run` in a Python program."""

from __future__ import annotations

import json
import signal
import threading
from pathlib import Path

import numpy as np
import pytest
import yaml

import collapse_sim
from collapse_sim import InterruptedRunError, MissingError, RecipeError, StoreError, UnderWayElsewhereError
from collapse_sim.core.events import GenerationFinished
from collapse_sim.plan.experiment import prepare
from collapse_sim.recipe.loader import load
from collapse_sim.run import run_recipe
from collapse_sim.store import waiting
from collapse_sim.store.machine_lock import MachineLock
from collapse_sim.ui.lines import Lines
from collapse_sim.ui.run_status import run_status
from tests.conftest import SMALL, artefacts

from .points import GAUSSIAN

POINTS = yaml.safe_load(GAUSSIAN)


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_a_mapping_gives_the_run_of_the_same_file(tmp_path, capsys):
    run = collapse_sim.run(POINTS)
    assert run.path == Path("runs/toy")
    (tmp_path / "toy.yaml").write_text(GAUSSIAN)
    of_file = collapse_sim.run("toy.yaml", out="file", store="other", quiet=True)
    assert run.scores().equals(of_file.scores())
    assert artefacts(Path("runs/.store")) == artefacts(Path("other"))
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("toy: 2 arms, 2 seeds, generations 0 to 3, on cpu")
    assert [line.split(":")[0] for line in lines[1:5]] == [f"generation {k}/3" for k in range(4)]
    assert lines[5].startswith("finished after ")
    assert len(lines) == 6  # nothing of the quiet run


def test_what_is_given_beside_the_recipe(capsys):
    run = collapse_sim.run(
        POINTS, out="here", arms="replace", seeds=[7, 8, 9], generations=1, settings={"samples": 40, "data.rows": 50}
    )
    assert (run.arms, run.seeds, run.generations) == (("replace",), (7, 8, 9), 1)
    assert run.recipe["data"]["rows"] == 50
    assert len(run.samples()) == 40
    assert run.scores().set_index(["generation", "seed"]).index.is_unique
    wider = collapse_sim.run(
        POINTS, out="here", seeds=4, arms=["accumulate"], generations=1, settings=["samples=40", "data.rows=50"],
        verbose=True,
    )  # fmt: skip
    assert wider.arms == ("replace", "accumulate")
    assert wider.seeds == (7, 8, 9, 4)
    assert "fit, generation 1" in capsys.readouterr().err


def test_numbers_of_numpy_and_none_are_arguments():
    run = collapse_sim.run(POINTS, seeds=np.arange(7, 9), generations=np.int64(1), arms=None, settings=None, quiet=True)
    assert (run.seeds, run.generations, len(run.arms)) == ((7, 8), 1, 2)
    assert json.loads((run.path / "run.json").read_text())["seeds"] == [7, 8]
    assert collapse_sim.run(POINTS, out="one", seeds=np.int64(3), generations=1, quiet=True).seeds == (3,)
    with pytest.raises(RecipeError, match=r"seeds\.0: found 'a'; allowed: a whole number"):
        collapse_sim.run(POINTS, out="two", seeds="a")


@pytest.mark.parametrize("settings", [{"samples": 40}, ["samples=40"], None])
def test_pruning_and_trackers_are_those_of_the_command_line(settings):
    pytest.importorskip("tensorboard")
    run = collapse_sim.run(
        POINTS, settings=settings, keep_samples="last", track="tensorboard", track_project="mine", quiet=True
    )
    assert list(Path("runs/.store/pruned").rglob("*.json"))
    assert list((run.path / "tensorboard").rglob("events.*"))
    with pytest.raises(RecipeError, match="keep_weights"):
        collapse_sim.run(POINTS, keep_weights="some", quiet=True)
    with pytest.raises(RecipeError, match="tensorbord"):
        collapse_sim.run(POINTS, track=["tensorbord"], quiet=True)


def test_a_shipped_recipe_at_its_smoke_size():
    run = collapse_sim.run("gaussian-strategies", smoke=True, quiet=True)
    assert run.path == Path("runs/gaussian-strategies-smoke")
    assert len(run.seeds) == 8
    again = collapse_sim.load_run("gaussian-strategies-smoke")
    assert again.claims().equals(run.claims())
    assert len(run.claims()) == 6


def test_an_interrupted_call_is_continued_by_the_same_call(monkeypatch):
    whole, display_of = collapse_sim.run(POINTS, out="whole", store="whole-store", quiet=True), run_recipe._display

    def interrupted(**options: bool):
        def display(state):
            def show(event):
                if isinstance(event, GenerationFinished) and event.generation == 1:
                    signal.raise_signal(signal.SIGINT)

            return show

        return display

    monkeypatch.setattr(run_recipe, "_display", interrupted)
    with pytest.raises(InterruptedRunError, match="everything finished is kept; to continue: the same call"):
        collapse_sim.run(POINTS)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    part = collapse_sim.load_run("toy")
    assert part.status == "interrupted"
    assert part.scores().generation.max() == 1
    assert run_status(part.path).command == "collapse-sim run runs/toy/recipe.yaml --out runs/toy"
    monkeypatch.setattr(run_recipe, "_display", display_of)
    done = collapse_sim.run(POINTS)
    assert done.status == "finished"
    assert done.scores().equals(whole.scores())
    assert artefacts(Path("runs/.store")) == artefacts(Path("whole-store"))


def test_it_runs_outside_the_main_thread():
    """As in a server; only the main thread can be interrupted."""
    runs = []
    thread = threading.Thread(target=lambda: runs.append(collapse_sim.run(POINTS, quiet=True)))
    thread.start()
    thread.join()
    assert runs[0].status == "finished"


@pytest.mark.parametrize(
    ("recipe", "options", "message"),
    [
        ({**POINTS, "generations": 0}, {}, "^recipe: generations: found 0; allowed: at least 1$"),
        ({**POINTS, "modle": 1}, {}, "^recipe: modle: unknown key 'modle', did you mean 'model'"),
        (POINTS, {"settings": {"data.rwos": 3}}, "^settings: data.rwos: unknown key 'rwos', did you mean 'rows'"),
        (POINTS, {"arms": ["distill"]}, "^arms: unknown arm 'distill'; allowed: replace, accumulate$"),
        (POINTS, {"seeds": [-1]}, "^seeds: seeds.0: found -1; allowed: at least 0$"),
        (POINTS, {"smoke": True}, "^recipe: this recipe has no `smoke:` block, so it cannot be run with smoke=True$"),
        ("quikstart", {}, "^quikstart: no such file, and no shipped recipe of that name, did you mean 'quickstart'"),
    ],
)
def test_mistakes_name_the_key_and_what_is_allowed(recipe, options, message):
    with pytest.raises(RecipeError, match=message):
        collapse_sim.run(recipe, **options)
    assert not Path("runs").exists()


def test_other_errors_are_the_package_s(monkeypatch):
    with pytest.raises(MissingError, match="cuda:77"):
        collapse_sim.run(POINTS, device="cuda:77")
    collapse_sim.run(POINTS, out="one", quiet=True)
    with pytest.raises(RecipeError, match="one: holds a run of a different recipe"):
        collapse_sim.run({**POINTS, "samples": 10}, out="one")
    Path("file").touch()
    with pytest.raises(StoreError, match="file"):
        collapse_sim.run(POINTS, out="file/run")


def test_a_diverged_chain_is_a_result(capsys):
    recipe = yaml.safe_load(SMALL)
    recipe["arms"]["accumulate+distill"]["teacher"]["weights"]["output"] = 1e38
    run = collapse_sim.run(recipe, quiet=True)
    assert run.diverged == {"accumulate+distill": {0: 1}}
    assert "warning: diverged: " in capsys.readouterr().err


def test_in_a_notebook_there_is_a_display(monkeypatch):
    from collapse_sim.ui.notebook import NotebookDisplay

    assert run_recipe._display(quiet=False, verbose=False).func is Lines
    monkeypatch.setattr("collapse_sim.ui.notebook.in_notebook", lambda modules: True)
    assert run_recipe._display(quiet=False, verbose=False) is NotebookDisplay
    assert run_recipe._display(quiet=True, verbose=False).func is Lines


def test_what_other_processes_make_is_awaited_if_asked_for(tmp_path, monkeypatch):
    """Otherwise the call ends with an error that says what they make, and how to wait."""
    monkeypatch.setattr(waiting, "GRACE_S", 0.2)
    fit = prepare(load(POINTS), tmp_path).arm_plans[0].generations[0].fit
    locks = tmp_path / "runs" / ".store" / "locks"
    locks.mkdir(parents=True)
    lock = MachineLock(locks / f"{fit.digest}.lock")
    lock.acquire()
    with pytest.raises(UnderWayElsewhereError, match=r"fit: .*, generation 0.*: the same call with wait=True$"):
        collapse_sim.run(POINTS, quiet=True)
    threading.Timer(1.0, lock.release).start()
    assert collapse_sim.run(POINTS, quiet=True, wait=True).status == "finished"
