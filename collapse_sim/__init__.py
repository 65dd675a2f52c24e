"""collapse-sim: a multi-generation model-collapse simulator.

    run = collapse_sim.run("quickstart", smoke=True)  # or collapse_sim.load_run("runs/quickstart")
    run.scores()

What is named here is imported when it is first used, and torch only for runs, models and texts. `collapse_sim.api` is
for authors of plug-ins.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collapse_sim.core.errors import CollapseSimError as CollapseSimError
    from collapse_sim.core.errors import DivergedError as DivergedError
    from collapse_sim.core.errors import InterruptedRunError as InterruptedRunError
    from collapse_sim.core.errors import MissingError as MissingError
    from collapse_sim.core.errors import RecipeError as RecipeError
    from collapse_sim.core.errors import StoreError as StoreError
    from collapse_sim.core.errors import UnderWayElsewhereError as UnderWayElsewhereError
    from collapse_sim.run.loaded_run import Run as Run
    from collapse_sim.run.loaded_run import Runs as Runs
    from collapse_sim.run.loaded_run import load_run as load_run
    from collapse_sim.run.loaded_run import load_runs as load_runs
    from collapse_sim.run.loaded_samples import Samples as Samples
    from collapse_sim.run.run_recipe import run_recipe as run

__version__ = "0.1.0"

_ERRORS = (
    "CollapseSimError", "DivergedError", "InterruptedRunError", "MissingError", "RecipeError", "StoreError",
    "UnderWayElsewhereError",
)  # fmt: skip
_FROM = {
    **dict.fromkeys(("Run", "Runs", "load_run", "load_runs"), "collapse_sim.run.loaded_run"),
    "Samples": "collapse_sim.run.loaded_samples",
    **dict.fromkeys(_ERRORS, "collapse_sim.core.errors"),
}
__all__ = [
    "CollapseSimError",
    "DivergedError",
    "InterruptedRunError",
    "MissingError",
    "RecipeError",
    "Run",
    "Runs",
    "Samples",
    "StoreError",
    "UnderWayElsewhereError",
    "__version__",
    "load_run",
    "load_runs",
    "run",
]


def __getattr__(name: str) -> Any:
    if name == "run":
        return import_module("collapse_sim.run")  # a package that can be called
    if name in _FROM:
        return getattr(import_module(_FROM[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
