"""A user's own functions of rows, named in recipes as module:function."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from types import FunctionType

import torch
from torch import Tensor

from collapse_sim.core.errors import PluginError
from collapse_sim.core.plugins import error_text
from collapse_sim.core.registry import UnknownNameError, load_function


def row_function(name: str) -> FunctionType:
    """The function of a name such as my_rewards:brightness: columns of n rows, (n, ...) each, -> (n,).

    Raises ValueError when it cannot, or may not, be imported.
    """
    try:
        return load_function(name)
    except UnknownNameError as error:
        raise ValueError(str(error)) from error


def known_name(name: str, known: Collection[str]) -> str:
    """A name that is one of these or a function's. Raises ValueError for any other."""
    if name not in known:
        if ":" not in name:
            raise ValueError(f"unknown {name!r}; allowed: {', '.join(known)}, or your own module:function")
        row_function(name)
    return name


def values(name: str, columns: Mapping[str, Tensor]) -> Tensor:
    """(n,) float64 from a function of that name. Raises PluginError when it raises or returns anything else."""
    function = row_function(name)
    rows = len(next(iter(columns.values())))
    try:
        result = function({column: tensor.clone() for column, tensor in columns.items()})
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        raise PluginError(f"{name} raised {error_text(error)}") from error
    if not isinstance(result, Tensor) or result.shape != (rows,) or result.is_complex():
        given = f"a tensor of {tuple(result.shape)}" if isinstance(result, Tensor) else type(result).__name__
        raise PluginError(f"{name} gave {given}; needed: a tensor of ({rows},), one number per row")
    return result.detach().to("cpu", torch.float64)
