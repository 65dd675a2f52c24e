"""A stored model and its samples as files of their own, in formats that other programs read."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from safetensors.torch import load_file, save

from collapse_sim.afterwards import Stored
from collapse_sim.data.base import Info
from collapse_sim.engine import load
from collapse_sim.engine.device import open_machine
from collapse_sim.engine.sample import ROWS_FILE
from collapse_sim.errors import RecipeError
from collapse_sim.families.base import exporter_of
from collapse_sim.sample_files import StoredRows, write_dataset, write_jsonl, write_npz, write_png_folder
from collapse_sim.store.files import check_place

SampleFormat = Literal["npz", "png", "jsonl", "dataset", "none"]
_TEXT: tuple[SampleFormat, ...] = ("jsonl", "dataset", "npz", "none")
_NUMBERS: tuple[SampleFormat, ...] = ("npz", "dataset", "none")
FORMATS: Mapping[str, tuple[SampleFormat, ...]] = {  # by kind of data, of other kinds those of _NUMBERS; default first
    "images": ("npz", "png", "dataset", "none"),
    "text": _TEXT,
    "pairs": _TEXT,
}


TOKENIZER = "tokenizer"  # a folder


def check_folder(folder: Path) -> None:
    """Raise RecipeError when `folder` is there and not empty, StoreError when it cannot be made or written to."""
    check_place(folder, "--to")
    if folder.exists() and any(folder.iterdir()):
        raise RecipeError(f"--to {folder}: not empty; name a new folder")


def check_format(samples: SampleFormat | None, info: Info) -> SampleFormat:
    """The format to write, this data's own where none is said. Raises RecipeError when its rows have no such format."""
    allowed = FORMATS.get(info.kind, _NUMBERS)
    if samples is None or samples in allowed:
        return samples or allowed[0]
    what = "rows of text" if info.kind == "text" else info.kind
    wrong = "make no pictures" if samples == "png" else "are no texts"
    raise RecipeError(f"--samples {samples}: {what} {wrong}; allowed: {', '.join(allowed)}")


def export(stored: Stored, folder: Path, samples: SampleFormat | None = None) -> Sequence[Path]:
    """Write a model, its configuration and its samples into `folder`, and return what was written.

    weights.safetensors and config.json always, with tokenizer/ for texts; samples.npz, samples/ (PNG files),
    samples.jsonl or dataset/ as `samples` says (None: jsonl for texts, npz for all else); and what the family's own
    `export` writes. Raises RecipeError and StoreError before anything is written.
    """
    info = stored.experiment.info
    check_folder(folder)
    samples = check_format(samples, info)
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
    if info.tokenizer is not None:
        (folder / TOKENIZER).mkdir()
        paths += info.tokenizer.save(folder / TOKENIZER)
    write_own = exporter_of(spec.family)
    if write_own is not None:
        paths += write_own(load.model(stored.store, spec, (stored.seed,), open_machine("cpu", "fp32")), info, folder)
    if rows is not None:
        paths.append(_write_samples(samples, folder, rows, info))
    return paths


def _write_samples(samples: SampleFormat, folder: Path, rows: StoredRows, info: Info) -> Path:
    path = folder / {"png": "samples", "dataset": "dataset"}.get(samples, f"samples.{samples}")
    if samples == "png":
        write_png_folder(path, rows, info)
    elif samples == "dataset":
        write_dataset(path, rows, info)
    elif samples == "jsonl":
        write_jsonl(path, (columns for _, columns in rows.chunks()), info)
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
            **_text_config(info),
        },
    }


def _text_config(info: Info) -> dict[str, Any]:
    """What there is to know of texts: the tokenizer's file, its tokens with a meaning, and whether rows are packed."""
    if info.tokenizer is None:
        return {}
    tokenizer = info.tokenizer
    special = {"begin": tokenizer.begin, "end": tokenizer.end, "pad": tokenizer.pad}
    return {"tokenizer": {"file": f"{TOKENIZER}/tokenizer.json", **special}, "packed": info.packed}
