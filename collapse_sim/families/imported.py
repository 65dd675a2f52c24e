"""Models from outside as generation 0: which files there are, what is in them, and whether a family can use it.

For every family: a folder that `collapse-sim export` wrote, or a file with a state dict. What else a family reads is
its hook `ImportsModel`. No code in a file is run.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from collapse_sim.core import hub
from collapse_sim.core.errors import MissingError
from collapse_sim.core.plugins import plugin_errors
from collapse_sim.core.readable import file_problem, path_exists
from collapse_sim.data.base import Info
from collapse_sim.data.text.tokens import Tokenizer
from collapse_sim.families.base import ClosedForm, ModelFamily
from collapse_sim.families.hooks import FromWeights, ImportsModel
from collapse_sim.families.same_tokenizer import tokenizer_differences
from collapse_sim.families.state_files import names_in_lines, read_state, unlike_module

WEIGHTS_FILE, CONFIG_FILE = "weights.safetensors", "config.json"  # as run/export.py writes them
Settings = Mapping[str, Any]


@dataclass(frozen=True)
class GivenModel:
    """A model from outside. The hash of its tensors goes into keys, the place does not."""

    name: str  # as in the recipe
    path: Path
    sha256: str


def find_model(name: str, family: ModelFamily, data_dir: Path, revision: str | None = None) -> Path:
    """A file or folder by its path, or by its name below the data folder; else, for a family that begins with weights
    by name (`pretrained`), from a hub. Raises MissingError: what was searched, and what is allowed."""
    candidates = [Path(name).expanduser(), data_dir / name]
    existing = next((path for path in candidates if path_exists(path)), None)
    if existing is not None:
        if revision is not None:
            raise MissingError(f"{existing.absolute()}: a file or folder has no revisions; remove `revision`")
        problem = "" if existing.is_dir() else file_problem(existing)
        if problem:
            raise MissingError(f"{existing.absolute()}: {problem}; needed: {_allowed(family)}")
        return existing.absolute()
    if isinstance(family, FromWeights):
        folder = hub.find(name, data_dir, "model", revision).folder
        with contextlib.suppress(MissingError):  # to compare it with the data's
            hub.find(name, data_dir, "tokenizer", revision)
        return folder
    searched = " or ".join(dict.fromkeys(str(path.absolute()) for path in candidates))
    raise MissingError(f"{name}: no such file or folder: {searched}; needed: {_allowed(family)}")


def read_model(family: ModelFamily, path: Path, info: Info) -> dict[str, Tensor]:
    """The model's state as the family stores it, on the CPU; of a closed form without the ensemble axis.

    Raises ValueError with a line for every mismatch, MissingError for files that are missing or damaged.
    """
    problems: list[str] = []
    if not path.is_dir():
        state = read_state(path)
    elif (path / WEIGHTS_FILE).is_file() and (path / CONFIG_FILE).is_file():
        state = read_state(path / WEIGHTS_FILE)
        problems += _unlike_export(family, path, info)
    elif isinstance(family, ImportsModel):
        with plugin_errors(family, "import_model", (ValueError, MissingError)):
            state = dict(family.import_model(path, info))
    else:
        raise ValueError(f"{path}: {_contents(path)}; needed: {_allowed(family)}")
    state, mismatches = _as_stored(family, info, state)
    problems += mismatches
    if problems:
        raise ValueError("\n".join(f"{path}: {problem}" for problem in problems))
    return state


def digest_of_state(state: Mapping[str, Tensor]) -> str:
    """sha256 over names, types, shapes and values, whatever file they were read from."""
    total = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].detach().cpu().contiguous()
        total.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        total.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return total.hexdigest()


def given_model(name: str, path: Path, family: ModelFamily, info: Info) -> GivenModel:
    """The model at `path`, read and checked. Raises what `read_model` does."""
    return GivenModel(name, path, digest_of_state(read_model(family, path, info)))


def _as_stored(family: ModelFamily, info: Info, state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
    """The state in the types of the family's own, and how it differs from that in names, shapes and values."""
    with plugin_errors(family, "build", (ValueError,)), torch.device("meta"):
        module = family.build_ensemble(info, 1) if isinstance(family, ClosedForm) else family.build(info)
    if not isinstance(family, ClosedForm):
        return unlike_module(module, state)
    stored, problems = unlike_module(module, {name: tensor[None] for name, tensor in state.items()}, first_axes=1)
    return {name: tensor[0] for name, tensor in stored.items()}, problems


def _unlike_export(family: ModelFamily, folder: Path, info: Info) -> Iterator[str]:
    """How a model that was exported differs from this family and this data."""
    try:
        config = json.loads((folder / CONFIG_FILE).read_text(encoding="utf-8"))
        theirs, data = dict(config["family"]), dict(config["data"])
        columns = {name: (tuple(shape), str(dtype)) for name, (shape, dtype) in data["columns"].items()}
        entry = data.get("tokenizer")
        places = (entry["file"], entry["begin"], entry["end"], entry["pad"]) if entry else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        yield (
            f"{CONFIG_FILE} is not one that `collapse-sim export` wrote; needed: {_allowed(family)}, or the file "
            f"{WEIGHTS_FILE} itself"
        )
        return
    settings = list(_other_settings(theirs, family))
    yield from settings
    if settings:
        yield f"to take its weights whatever these settings say, give the file {folder / WEIGHTS_FILE}"
    if info.tokenizer is None:
        for name in family.columns:
            if name in info.columns and columns.get(name) != info.columns[name]:
                yield f"data: {name} was {_column(columns.get(name))} there, and is {_column(info.columns[name])} here"
    elif places is None:
        yield "data: it is a model of other than texts"
    else:
        file, begin, end, pad = places
        try:
            definition = (folder / str(file)).read_text(encoding="utf-8")
        except OSError as error:
            raise MissingError(
                f"{folder / str(file)}: {error.strerror}; it is needed to compare the tokenizers"
            ) from None
        yield from tokenizer_differences(Tokenizer(definition, begin, end, pad), info.tokenizer)


def _other_settings(theirs: Settings, family: ModelFamily) -> Iterator[str]:
    """Settings of fits that differ; where a fit begins and how samples are drawn is left to the recipe."""
    ours = family.describe()
    if theirs.get("use") != ours["use"]:
        yield f"model: {theirs.get('use')} there, {ours['use']} here"
        return
    left_out = {*getattr(family, "sampling", ()), *(("pretrained",) if isinstance(family, FromWeights) else ())}
    neutral = {name: value for base in type(family).__mro__ for name, value in vars(base).get("added", {}).items()}
    for name in dict.fromkeys((*ours, *theirs)):
        one, other = (settings.get(name, neutral.get(name)) for settings in (theirs, ours))
        if name not in left_out and one != other:
            yield f"model.{name}: {json.dumps(one)} there, {json.dumps(other)} here"


def _column(column: tuple[tuple[int, ...], str] | None) -> str:
    return "not there" if column is None else f"{column[1]} of shape {column[0]}"


def _allowed(family: ModelFamily) -> str:
    """What can be imported into a family, in words."""
    own = f", {family.importable}" if isinstance(family, ImportsModel) else ""
    return f"a folder that `collapse-sim export` wrote, a state dict (.safetensors, or saved by torch.save){own}"


def _contents(folder: Path) -> str:
    names = sorted(path.name for path in folder.iterdir())
    return f"a folder with {names_in_lines(names[:8])[0]}{' ...' if len(names) > 8 else ''}" if names else "empty"
