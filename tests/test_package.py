"""`import collapse_sim`: what it exposes, and what it does not import."""

from __future__ import annotations

import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import collapse_sim
from collapse_sim.run.run_recipe import run_recipe

ROOT = Path(collapse_sim.__file__).parents[1]


def test_every_name_is_there() -> None:
    for name in collapse_sim.__all__:
        assert getattr(collapse_sim, name) is not None
        assert name in dir(collapse_sim)
    with pytest.raises(AttributeError, match=r"module 'collapse_sim' has no attribute 'lod_run'"):
        collapse_sim.lod_run  # noqa: B018


def test_importing_it_imports_nothing_else() -> None:
    program = (
        "import sys, collapse_sim\ncollapse_sim.__version__\n"
        "print([name for name in sys.modules if name.startswith('collapse_sim')])\n"
        "collapse_sim.run\n"
        "print(sorted({'torch', 'pandas', 'numpy', 'typer', 'yaml', 'rich', 'pydantic'} & set(sys.modules)))\n"
        "from collapse_sim.run import loaded_run\n"
        "print(collapse_sim.run.loaded_run is loaded_run, callable(collapse_sim.run))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines() == ["['collapse_sim']", "[]", "True True"]


def test_the_package_run_is_the_function_of_that_name() -> None:
    """Whatever of the package was imported before, and with the function's own arguments."""
    assert sys.modules["collapse_sim.run"] is collapse_sim.run
    assert inspect.signature(collapse_sim.run) == inspect.signature(run_recipe)
