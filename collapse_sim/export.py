"""A stored model and its samples as files of their own, in formats that other programs read."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, get_args

from safetensors.torch import load_file, save

from collapse_sim.afterwards import Stored
from collapse_sim.data.base import Info
from collapse_sim.engine import load
from collapse_sim.engine.device import open_machine
from collapse_sim.engine.sample import ROWS_FILE
from collapse_sim.errors import RecipeError
from collapse_sim.families.base import exporter_of
from collapse_sim.sample_files import StoredRows, write_dataset, write_npz, write_png_folder
from collapse_sim.store.files import check_place

SampleFormat = Literal["npz", "png", "dataset", "none"]


def check_folder(folder: Path) -> None:
    """Raise RecipeError when `folder` is there and not empty, StoreError when it cannot be made or written to."""
    check_place(folder, "--to")
    if folder.exists() and any(folder.iterdir()):
        raise RecipeError(f"--to {folder}: not empty; name a new folder")


def check_format(samples: SampleFormat, info: Info) -> None:
    """Raise RecipeError when rows of this data cannot be written in this format."""
    if samples == "png" and info.kind != "images":
        allowed = ", ".join(name for name in get_args(SampleFormat) if name != "png")
        raise RecipeError(f"--samples png: {info.kind} make no pictures; allowed: {allowed}")


def export(stored: Stored, folder: Path, samples: SampleFormat = "npz") -> Sequence[Path]:
    """Write a model, its configuration and its samples into `folder`, and return what was written.

    weights.safetensors and config.json always; samples.npz, samples/ (PNG files) or dataset/ as `samples` says; and
    what the family's own `export` writes. Raises RecipeError and StoreError before anything is written.
    """
    info = stored.experiment.info
    check_folder(folder)
    check_format(samples, info)
    rows = None if samples == "none" else _sample_rows(stored)
    spec = stored.line.fits[stored.generation]
    block = stored.store.block(spec, stored.seed)
    state = load_file(block.file(load.MODEL_FILE))
    if block.stacked:
        slot = block.seeds.index(stored.seed)
        state = {name: tensor[slot].clone() for name, tensor in state.items()}

    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / "weights.safetensors", folder / "config.json"]
    paths[0].write_bytes(save(state))
    paths[1].write_text(json.dumps(_config(stored), indent=1))
    write_own = exporter_of(spec.family)
    if write_own is not None:
        paths += write_own(load.model(stored.store, spec, (stored.seed,), open_machine("cpu", "fp32")), info, folder)
    if rows is not None:
        paths.append(_write_samples(samples, folder, rows, info))
    return paths


def _write_samples(samples: SampleFormat, folder: Path, rows: StoredRows, info: Info) -> Path:
    path = folder / {"npz": "samples.npz", "png": "samples", "dataset": "dataset"}[samples]
    if samples == "png":
        write_png_folder(path, rows, info)
    elif samples == "dataset":
        write_dataset(path, rows, info)
    else:
        write_npz(path, rows.open()[1])
    return path


def _sample_rows(stored: Stored) -> StoredRows:
    block = stored.store.block(stored.line.samples[stored.generation], stored.seed)
    return StoredRows(block.file(ROWS_FILE), block.seeds.index(stored.seed) if block.stacked else None)


def _config(stored: Stored) -> dict[str, Any]:
    """All that is needed to build the model again, and where it comes from."""
    spec, info = stored.line.fits[stored.generation], stored.experiment.info
    return {
        "schema": 1,
        "run": stored.experiment.recipe.name,
        "arm": stored.line.arm.name,
        "generation": stored.generation,
        "seed": stored.seed,
        "digest": spec.digest,
        "family": spec.family.describe(),
        "train": spec.train.describe() if spec.train else None,
        "data": {
            "kind": info.kind,
            "columns": {name: [list(shape), dtype] for name, (shape, dtype) in info.columns.items()},
            "classes": info.classes,
        },
    }
