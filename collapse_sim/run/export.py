"""Exports a stored model and its samples as separate files, in formats that other programs read."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from safetensors.torch import load_file, save

from collapse_sim.core.errors import RecipeError
from collapse_sim.core.files import check_place
from collapse_sim.core.machine import open_device
from collapse_sim.data.base import Info
from collapse_sim.engine import artefacts
from collapse_sim.engine.sample import ROWS_FILE
from collapse_sim.families.hooks import Exports
from collapse_sim.run.cards import DATASET_CARD, MODEL_CARD, CardFacts, dataset_card, model_card, remedies_of
from collapse_sim.run.sample_files import StoredRows, write_dataset, write_jsonl, write_npz, write_png_folder
from collapse_sim.run.saved_run import StoredModel
from collapse_sim.run.text_samples import file_name

SampleFormat = Literal["npz", "png", "jsonl", "dataset", "none"]
_TEXT: tuple[SampleFormat, ...] = ("jsonl", "dataset", "npz", "none")
_NUMBERS: tuple[SampleFormat, ...] = ("npz", "dataset", "none")
FORMATS: Mapping[str, tuple[SampleFormat, ...]] = {  # by kind of data (others: _NUMBERS); default first
    "images": ("npz", "png", "dataset", "none"),
    "text": _TEXT,
    "pairs": _TEXT,
}


TOKENIZER = "tokenizer"  # a folder
LONGEST_NAME = 150  # bytes of an arm's name in a folder name


def check_folder(folder: Path) -> None:
    """Raise RecipeError when `folder` exists and is not empty, StoreError when it cannot be made or written to."""
    check_place(folder, "--to")
    if folder.exists() and any(folder.iterdir()):
        raise RecipeError(f"--to {folder}: not empty; name a new folder")


def check_format(samples: SampleFormat | None, info: Info) -> SampleFormat:
    """The format to write, by default this data's own. Raises RecipeError when its rows have no such format."""
    allowed = FORMATS.get(info.kind, _NUMBERS)
    if samples is None or samples in allowed:
        return samples or allowed[0]
    what = "rows of text" if info.kind == "text" else info.kind
    wrong = "make no pictures" if samples == "png" else "are no texts"
    raise RecipeError(f"--samples {samples}: {what} {wrong}; allowed: {', '.join(allowed)}")


def export(
    stored: StoredModel, folder: Path, samples: SampleFormat | None = None, facts: CardFacts | None = None
) -> Sequence[Path]:
    """Write a model, its configuration, its samples and its cards into `folder`, and return what was written.

    Always weights.safetensors and config.json, with tokenizer/ for texts; samples.npz, samples/ (PNG files),
    samples.jsonl or dataset/ as `samples` says (None: jsonl for texts, otherwise npz); and what the family's own
    `export` writes; README.md, and DATASET_CARD.md if the datasets library reads the samples' format. `facts`: of the
    run, if they were read before. Raises RecipeError and StoreError before anything is written.
    """
    info = stored.run.experiment.info
    check_folder(folder)
    samples = check_format(samples, info)
    facts = facts or CardFacts.read(stored.run)
    rows = None if samples == "none" else _sample_rows(stored)
    spec = stored.plan.model
    block = stored.run.store.block(spec, stored.seed)
    state = load_file(block.file(artefacts.MODEL_FILE))
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
    if isinstance(spec.family, Exports):
        paths += spec.family.export(
            artefacts.model(stored.run.store, spec, (stored.seed,), open_device("cpu")), info, folder
        )
    if rows is not None:
        paths.append(_write_rows(samples, folder, "dataset" if samples == "dataset" else "samples", rows, info))
    return [*paths, *_write_cards(stored, facts, folder, samples, rows)]


def export_all(models: Sequence[StoredModel], folder: Path, samples: SampleFormat | None = None) -> Iterator[Path]:
    """Write each model as `export` does, into FOLDER/NUMBER-ARM/generation-K/seed-S; yields what was written.

    Raises RecipeError and StoreError before anything is written.
    """
    check_folder(folder)
    experiment = models[0].run.experiment
    check_format(samples, experiment.info)
    arms = [plan.name for plan in experiment.arm_plans]
    facts = CardFacts.read(models[0].run)
    for stored in models:
        number, k = arms.index(stored.arm), stored.generation
        name = file_name(stored.arm).encode()[:LONGEST_NAME].decode(errors="ignore")
        yield from export(
            stored, folder / f"{number:02d}-{name}" / f"generation-{k:03d}" / f"seed-{stored.seed}", samples, facts
        )


def export_reference(
    models: Sequence[StoredModel], folder: Path, samples: SampleFormat | None = None
) -> Iterator[Path]:
    """Write the rows that samples are compared with, in the format of the samples, into FOLDER/reference.

    `real` are the rows that generation 0 was fitted to, `held_out` those that nothing is fitted to. Where seeds have
    different rows, each has its own folder reference/seed-S.
    """
    stored, info = models[0], models[0].run.experiment.info
    samples = check_format(None if samples == "none" else samples, info)
    data = stored.run.experiment.data
    apart = data.seeded or info.rows < info.pool
    seeds = dict.fromkeys(model.seed for model in models)
    for seed in seeds if apart else (stored.seed,):
        place = folder / "reference" / (f"seed-{seed}" if apart and len(seeds) > 1 else "")
        place.mkdir(parents=True)
        block = stored.run.store.block(data, seed)
        slot = block.seeds.index(seed) if block.stacked else None
        real = StoredRows(block.file("real.safetensors"), slot, artefacts.part(data, seed))
        yield _write_rows(samples, place, "real", real, info)
        yield _write_rows(samples, place, "held_out", StoredRows(block.file("held_out.safetensors"), slot), info)


def _write_cards(
    stored: StoredModel, facts: CardFacts, folder: Path, samples: SampleFormat, rows: StoredRows | None
) -> Iterator[Path]:
    """Write the model's card, and the rows' if they are in a format of the datasets library."""
    labelled = rows is not None and "label" in rows.open()[1]
    pattern = {"jsonl": "samples.jsonl", "dataset": "dataset/*.arrow", "png": f"samples/{'*/' * labelled}*.png"}
    data_files = [pattern[samples]] if samples in pattern else []
    for name, card in ((MODEL_CARD, model_card), (DATASET_CARD, dataset_card)):
        if name == MODEL_CARD or data_files:
            (folder / name).write_text(card(stored, facts, data_files, labelled), encoding="utf-8")
            yield folder / name


def _write_rows(samples: SampleFormat, folder: Path, name: str, rows: StoredRows, info: Info) -> Path:
    """Write rows into one file or folder, named after them."""
    path = folder / (name if samples in ("png", "dataset") else f"{name}.{samples}")
    if samples == "png":
        write_png_folder(path, rows, info)
    elif samples == "dataset":
        write_dataset(path, rows, info)
    elif samples == "jsonl":
        write_jsonl(path, (columns for _, columns in rows.chunks()), info)
    else:
        columns = rows.open()[1]
        write_npz(path, columns if rows.order is None else {n: c[rows.order] for n, c in columns.items()})
    return path


def _sample_rows(stored: StoredModel) -> StoredRows:
    block = stored.run.store.block(stored.plan.samples, stored.seed)
    return StoredRows(block.file(ROWS_FILE), block.seeds.index(stored.seed) if block.stacked else None)


def _config(stored: StoredModel) -> dict[str, Any]:
    """Everything needed to rebuild the model, and where it comes from."""
    spec, info = stored.plan.model, stored.run.experiment.info
    return {
        "schema": 1,
        "run": stored.run.experiment.recipe.name,
        "arm": stored.arm,
        "generation": stored.generation,
        "seed": stored.seed,
        "digest": spec.digest,
        "family": spec.family.describe(),
        "train": spec.train.describe() if spec.train else None,
        "remedies": remedies_of(stored),
        "data": {
            "kind": info.kind,
            "columns": {name: [list(shape), dtype] for name, (shape, dtype) in info.columns.items()},
            "classes": info.classes,
            **_text_config(info),
        },
    }


def _text_config(info: Info) -> dict[str, Any]:
    """What config.json says about texts: the tokenizer's file, its special tokens, and whether rows are packed."""
    if info.tokenizer is None:
        return {}
    tokenizer = info.tokenizer
    special = {"begin": tokenizer.begin, "end": tokenizer.end, "pad": tokenizer.pad}
    return {"tokenizer": {"file": f"{TOKENIZER}/tokenizer.json", **special}, "packed": info.packed}
