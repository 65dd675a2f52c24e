"""What a run does and leaves behind: the generation loop, sessions, saved runs, exports, figures.

The package can be called: `collapse_sim.run(recipe, ...)` is run_recipe.run_recipe, whose docstring describes it.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from inspect import Signature

    from collapse_sim.run.loaded_run import Run


class CallablePackage(ModuleType):
    """A package has its name in the package above it, so the function of that name is the package itself."""

    def __call__(self, *args: Any, **options: Any) -> Run:
        """Run a recipe's experiment, or continue it, and return the run: see run_recipe.run_recipe."""
        from collapse_sim.run.run_recipe import run_recipe

        return run_recipe(*args, **options)

    @property
    def __signature__(self) -> Signature:
        """The function's own, for `inspect`, IPython and other tools."""
        from inspect import signature

        from collapse_sim.run.run_recipe import run_recipe

        return signature(run_recipe)


sys.modules[__name__].__class__ = CallablePackage
