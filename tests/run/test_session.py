"""A session of a run: the line that resumes it, and its warnings."""

from __future__ import annotations

import sys

import pytest

from collapse_sim.core import machine


@pytest.mark.parametrize("first_word", ["bin/collapse-sim", "collapse-sim", "/usr/bin/python3 -c"])
def test_the_line_that_resumes_can_be_pasted(tmp_path, monkeypatch, first_word):
    """A program that is not on the PATH is called as it was called."""
    from collapse_sim.run.session import resume_command

    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "collapse-sim").write_text("")
    (tmp_path / "bin" / "collapse-sim").chmod(0o755)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setattr(sys, "argv", [first_word, "run", "my recipe.yaml"])
    expected = first_word if first_word == "bin/collapse-sim" else "collapse-sim"
    assert resume_command() == f"{expected} run 'my recipe.yaml'"
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    assert resume_command() == "collapse-sim run 'my recipe.yaml'"


def test_the_line_that_resumes_has_no_password(monkeypatch):
    from collapse_sim.run.session import resume_command

    monkeypatch.setattr(sys, "argv", ["collapse-sim", "run", "a.yaml", "--mirror", "ftp://me:hush@host/dir"])
    assert "hush" not in resume_command()
    assert "ftp://***@host/dir" in resume_command()


@pytest.mark.parametrize(("precision", "warned"), [("fp32", 0), ("bf16", 1)])
def test_a_run_warns_once_of_a_slow_precision(sandbox, precision, warned, monkeypatch, capsys):
    from tests.conftest import SMALL

    monkeypatch.setattr(machine, "bf16_speed", lambda width: 0.05)
    sandbox.run(SMALL.replace("evaluate:", f"precision: {precision}, evaluate:"))
    assert capsys.readouterr().err.count("a training step was measured 20.0 times as slow as in fp32") == warned


def test_one_process_says_that_it_divides_nothing_and_shard_may_change(sandbox, capsys):
    """In a run that exists: no number depends on it."""
    from tests.conftest import SMALL

    sandbox.run(SMALL)
    assert "train.shard" not in capsys.readouterr().err
    before = sandbox.artefacts()
    sandbox.run(SMALL.replace("evaluate:", "shard: true, evaluate:"))
    assert capsys.readouterr().err.count("train.shard: this one process holds whole models") == 1
    assert sandbox.artefacts() == before


@pytest.mark.parametrize(("on", "late"), [(None, False), ("local", True)])
def test_on_ray_the_disk_must_hold_the_next_generation_before_one_is_pruned(sandbox, monkeypatch, on, late):
    """Tasks are one ahead."""
    from collapse_sim.core.machine import open_device
    from collapse_sim.plan.experiment import prepare
    from collapse_sim.recipe.loader import load
    from collapse_sim.run import session as module
    from collapse_sim.run.run_place import RayPlace
    from tests.conftest import SMALL

    asked = []
    monkeypatch.setattr(module, "check_space", lambda *of, late: asked.append(late))
    experiment = prepare(load(sandbox.recipe(SMALL)), sandbox.root / "data")
    places = sandbox.root / "run", sandbox.root / ".store", sandbox.root / "data"
    module.Session(experiment, open_device("cpu"), *places, place=on and RayPlace(on)).check()
    assert asked == [late]
