"""Files with the tensors of a model: read without running code, and compared with a module."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from collapse_sim.core.errors import MissingError
from collapse_sim.core.memory_errors import out_of_memory
from collapse_sim.core.readable import check_pointer, file_problem
from collapse_sim.families.pretrained import reason

LINE = 900  # characters of a line with names
SAVE = "torch.save(model.state_dict(), FILE), or safetensors.torch.save_file(model.state_dict(), FILE)"


def read_state(path: Path) -> dict[str, Tensor]:
    """The tensors of a file, by name: safetensors by its suffix, otherwise torch's format, as weights only.

    Raises MissingError for what is not a file or is damaged, ValueError for a file with more than tensors.
    """
    problem = file_problem(path)
    if problem:
        raise MissingError(f"{path}: {problem}")
    check_pointer(path)
    try:
        content: Any = _safetensors(path) if path.suffix == ".safetensors" else _torchs(path)
    except OSError as error:
        raise MissingError(f"{path}: cannot be read: {error.strerror or error}") from error
    if not isinstance(content, Mapping):
        raise ValueError(
            f"{path}: it holds a {type(content).__name__}, not the tensors of a model by name; save {SAVE}"
        )
    others = sorted(str(name) for name, value in content.items() if not isinstance(value, Tensor))
    if others or not content:
        what = f"{', '.join(others[:5])}{' ...' * (len(others) > 5)}, which are no tensors" if others else "nothing"
        raise ValueError(f"{path}: it holds {what}; needed: only the tensors of a model by name, as of {SAVE}")
    return {str(name): tensor for name, tensor in content.items()}


def read_parts(folder: Path, stem: str) -> dict[str, Tensor]:
    """The tensors of a folder's weights: STEM.safetensors or STEM.bin, or their parts, which an index names.

    Raises what `read_state` does, MissingError when there are none.
    """
    for suffix in ("safetensors", "bin"):
        whole, index = folder / f"{stem}.{suffix}", folder / f"{stem}.{suffix}.index.json"
        if whole.is_file() or whole.is_symlink():
            return read_state(whole)
        if index.is_file():
            return {name: tensor for part in _parts(index) for name, tensor in read_state(folder / part).items()}
    raise MissingError(f"{folder}: no {stem}.safetensors in it")


def _parts(index: Path) -> list[str]:
    try:
        files = {str(file) for file in json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise MissingError(f"{index}: not a valid index of weights ({error}); save the model again") from None
    outside = sorted(file for file in files if Path(file).name != file)
    if outside:
        raise MissingError(f"{index}: it names {outside[0]}, which is not a file in the same folder")
    return sorted(files)


def _safetensors(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return dict(load_file(path))
    except SafetensorError as error:
        raise MissingError(f"{path}: not a whole file of safetensors ({error}); get it again") from error


def _torchs(path: Path) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except Exception as error:  # torch raises many types for unexpected files
        if out_of_memory(error):
            raise
        raise ValueError(f"{path}: {reason(error)}; save {SAVE}") from error


def unlike_module(
    module: nn.Module, state: Mapping[str, Tensor], first_axes: int = 0
) -> tuple[dict[str, Tensor], list[str]]:
    """The state in the types of the module's own, and a line for every way in which it differs from that: names,
    shapes, types, and values that are not finite. Shapes are shown without `first_axes` axes.

    `module` may be without values (device "meta"). Its hooks may adapt it to the state.
    """
    try:
        with warnings.catch_warnings():  # values are not copied to the device "meta"
            warnings.simplefilter("ignore")
            module.load_state_dict(state, strict=False)
    except (RuntimeError, KeyError, IndexError):
        pass  # what differs is said below
    own = module.state_dict()
    missing, extra = ([name for name in one if name not in other] for one, other in ((own, state), (state, own)))
    problems = [f"it lacks the tensors {line}" for line in names_in_lines(missing)]
    problems += [f"it has tensors that the model does not have: {line}" for line in names_in_lines(extra)]
    stored: dict[str, Tensor] = {}
    for name, expected in own.items():
        if name not in state:
            continue
        tensor = state[name]
        if tensor.shape != expected.shape:
            shapes = (tuple(each.shape[first_axes:]) for each in (tensor, expected))
            problems.append("{}: shape {} there, {} here".format(name, *shapes))
        elif tensor.is_floating_point() != expected.is_floating_point() or tensor.is_complex():
            problems.append(f"{name}: {tensor.dtype} there, {expected.dtype} here")
        elif not bool(tensor.isfinite().all()):
            problems.append(f"{name}: it has values that are not finite")
        else:
            stored[name] = tensor.to(expected.dtype)
    return stored, problems


def names_in_lines(names: list[str]) -> list[str]:
    """Names separated by commas, in as many lines as they need; [] for none."""
    lines: list[str] = []
    for name in names:
        if lines and len(lines[-1]) + len(name) < LINE:
            lines[-1] += f", {name}"
        else:
            lines.append(name)
    return lines
