from __future__ import annotations

import importlib.util
import subprocess
import sys

import pytest

from collapse_sim.core.errors import MissingError, RecipeError
from collapse_sim.run.run_place import RayPlace, place_of


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
        ("dask", None, {}, "--on dask: allowed: ray "),
        ("ray:", None, {}, "--on ray:: allowed: ray "),
        ("rays", None, {}, "--on rays: allowed: ray "),
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
