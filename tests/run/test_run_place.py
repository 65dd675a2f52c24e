from __future__ import annotations

import importlib.util
import subprocess
import sys

import pytest

from collapse_sim.core.errors import MissingError, RecipeError
from collapse_sim.run.run_place import SENSIBLE, RayPlace, place_of, processes_of


@pytest.fixture
def _with_ray(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())


@pytest.mark.usefixtures("_with_ray")
@pytest.mark.parametrize(
    ("on", "ranks", "expected"),
    [
        (None, None, None),
        ("ray", None, RayPlace("local")),
        ("ray:auto", 2, RayPlace("auto", 2)),
        ("ray:head.example:6379", None, RayPlace("head.example:6379")),
        ("ray:[::1]:6379", None, RayPlace("[::1]:6379")),
    ],
)
def test_places(on, ranks, expected):
    assert place_of(on, ranks, {"WORLD_SIZE": "1"}) == expected
    assert expected is None or str(expected) == on


@pytest.mark.usefixtures("_with_ray")
@pytest.mark.parametrize(
    ("on", "ranks", "environment", "message"),
    [
        ("dask", None, {}, "--on dask: allowed: here "),
        ("ray:", None, {}, "--on ray:: allowed: here "),
        ("rays", None, {}, "--on rays: allowed: here "),
        ("ray:head", None, {}, "--on ray:head: HOST:PORT"),
        ("ray:head:99999", None, {}, "HOST:PORT"),
        ("ray:ray://head:10001", None, {}, "start it on one of its nodes"),
        ("ray", 0, {}, "--ranks 0: allowed: from 1"),
        (None, 2, {}, "--ranks: it is for --on ray"),
        ("ray", None, {"WORLD_SIZE": "2"}, "not under torchrun"),
    ],
)
def test_what_is_no_place_is_refused(on, ranks, environment, message):
    with pytest.raises(RecipeError) as caught:
        place_of(on, ranks, environment)
    assert message in str(caught.value)


def test_without_ray_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingError, match=r"pip install 'collapse-sim\[ray\]', on all nodes"):
        place_of("ray", None, {})


def test_a_run_in_this_process_imports_neither_ray_nor_what_uses_it():
    code = (
        "import sys, collapse_sim.run.session, collapse_sim.run.loop\n"
        "print([name for name in sys.modules if 'ray' in name.split('.')[-1].split('_')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("on", "expected"),
    [
        (None, None), ("ray", None), ("ray:auto", None), ("dask", None),
        ("here", 1), ("processes", SENSIBLE), ("processes:1", 1), ("processes:256", 256),
    ],
)  # fmt: skip
def test_processes_of_this_machine(on, expected):
    assert processes_of(on, {"WORLD_SIZE": "1"}) == expected


@pytest.mark.parametrize("on", ["processes:", "processes:0", "processes:257", "processes:-1", "processes:two"])
def test_other_numbers_of_processes_are_refused(on):
    with pytest.raises(RecipeError, match=f"--on {on}: allowed: processes:N, N from 1 to 256, or processes"):
        processes_of(on, {})


def test_a_plan_may_be_about_more_processes_and_ranks_are_no_processes():
    assert processes_of("processes:10000", {}, dry_run=True) == 10_000
    with pytest.raises(RecipeError, match="N from 1 to 10,000"):
        processes_of("processes:10001", {}, dry_run=True)
    with pytest.raises(RecipeError, match="not with torchrun"):
        processes_of("processes", {"WORLD_SIZE": "2"})
