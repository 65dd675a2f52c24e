"""From specs to tensors: what the engine and the metrics read from the store."""

from __future__ import annotations

import functools
import itertools
import json
from collections.abc import Iterator, Sequence
from typing import Literal

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from collapse_sim.core.machine import Device
from collapse_sim.core.randomness import Draws
from collapse_sim.data.sources import REAL, Source
from collapse_sim.engine import choice
from collapse_sim.engine.rows import Table, TablePart
from collapse_sim.families.base import ClosedForm
from collapse_sim.plan.curation_specs import CurationSpec, PoolSpec, VerifierSpec
from collapse_sim.plan.specs import DataSpec, FitSpec, ModelSpec, SampleSpec
from collapse_sim.remedies.base import FittedVerifier
from collapse_sim.store.blocks import Block
from collapse_sim.store.rowfile import RowFile
from collapse_sim.store.spec import Spec
from collapse_sim.store.store import Store

Split = Literal["real", "validation", "held_out", "samples"]
Conditioning = Literal["real", "held_out"]
MODEL_FILE = "model.safetensors"
CURATION_FILE = (
    "curation.safetensors"  # "index" (n,) int64 into the candidates, "weights" (n,) float32 if there are any
)
VERIFIER_FILE = "verifier.safetensors"  # the tensors of each seed, (S, ...)
REPORT_FILE = "report.json"  # of curations and verifiers


def columns(
    store: Store, spec: DataSpec | SampleSpec | CurationSpec, seed: int, split: Split
) -> tuple[RowFile, dict[str, np.ndarray]]:
    """One seed's memory-mapped columns, (n, ...) each; of a curation those of the rows that it changed."""
    block = store.block(spec, seed)
    file = RowFile(block.file(f"{split}.safetensors"))
    if not block.stacked:
        return file, file.columns
    slot = block.seeds.index(seed)
    return file, {name: column[slot] for name, column in file.columns.items()}


def stacked_columns(
    store: Store, spec: DataSpec | SampleSpec | CurationSpec, seeds: Sequence[int], split: Split
) -> dict[str, Tensor]:
    """All seeds' columns, (S, n, ...) each; of a curation those of the rows that it kept."""
    if isinstance(spec, CurationSpec) and not changes_rows(store, spec, seeds[0]):
        return _picked(candidates_stack(store, spec, seeds), _kept_index(store, spec, seeds))
    pieces = []
    for block, part in runs(store, spec, seeds):
        columns = RowFile(block.file(f"{split}.safetensors")).columns
        pieces.append({name: column[part] if block.stacked else column[None] for name, column in columns.items()})
    if len(pieces) == 1:
        return {name: torch.from_numpy(column) for name, column in pieces[0].items()}
    return {name: torch.from_numpy(np.concatenate([piece[name] for piece in pieces])) for name in pieces[0]}


def kept(store: Store, spec: CurationSpec, seed: int) -> dict[str, np.ndarray]:
    """What a curation keeps of one seed's candidates: "index" (n,) int64 and, if it gives them, "weights" (n,)
    float32."""
    block = store.block(spec, seed)
    stored = RowFile(block.file(CURATION_FILE)).columns
    slot = block.seeds.index(seed) if block.stacked else 0
    return {name: column[slot] if block.stacked else column for name, column in stored.items()}


def _kept_index(store: Store, spec: CurationSpec, seeds: Sequence[int]) -> list[np.ndarray]:
    """The index of every seed, (n,) int64; each file is opened once."""
    indexes: list[np.ndarray] = []
    for block, part in runs(store, spec, seeds):
        index = RowFile(block.file(CURATION_FILE)).columns["index"]
        indexes += list(index[part]) if block.stacked else [index]
    return indexes


def curation_weights(store: Store, spec: CurationSpec, seed: int) -> np.ndarray | None:
    """The importance weight of each kept row, (n,) float32; None: all 1."""
    return kept(store, spec, seed).get("weights")


def changes_rows(store: Store, spec: CurationSpec, seed: int) -> bool:
    """Whether a curation stored changed rows, which fits take in place of the candidates."""
    return store.block(spec, seed).file("samples.safetensors").exists()


def candidates(store: Store, spec: PoolSpec, seed: int, device: Device) -> dict[str, Tensor]:
    """One seed's candidates on the CPU, (N, ...) each: draw after draw, or all rows that a strategy offers."""
    if spec.offer is not None:
        table = training_table(store, spec.offer, seed, device)
        return table.gather(torch.arange(len(table)))
    parts = [columns(store, draw, seed, "samples")[1] for draw in spec.draws]
    return {name: torch.from_numpy(np.concatenate([part[name] for part in parts])) for name in parts[0]}


def candidates_stack(store: Store, spec: PoolSpec, seeds: Sequence[int]) -> dict[str, Tensor]:
    """The same for all seeds at once, (S, N, ...) each."""
    if spec.offer is not None:
        return training_stack(store, spec.offer, seeds)
    parts = [stacked_columns(store, draw, seeds, "samples") for draw in spec.draws]
    return {name: torch.cat([part[name] for part in parts], dim=1) for name in parts[0]}


def verifier(store: Store, spec: VerifierSpec, seed: int) -> FittedVerifier:
    """What was fitted for one seed."""
    block = store.block(spec, seed)
    slot = block.seeds.index(seed) if block.seeds else 0
    tensors = {name: tensor[slot] for name, tensor in load_file(block.file(VERIFIER_FILE)).items()}
    figures = json.loads(block.file(REPORT_FILE).read_text())["figures"]
    return FittedVerifier(tensors, {name: float(values[slot]) for name, values in figures.items()})


def runs(store: Store, spec: Spec, seeds: Sequence[int]) -> Iterator[tuple[Block, slice]]:
    """The blocks that hold `seeds`, in the order of `seeds`, each with the slice of its ensemble axis."""
    position = 0
    while position < len(seeds):
        block = store.block(spec, seeds[position])
        start = block.seeds.index(seeds[position]) if block.stacked else 0
        pairs = zip(block.seeds[start:], seeds[position:], strict=False) if block.stacked else ()
        length = sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], pairs)) or 1
        yield block, slice(start, start + length)
        position += length


def model(store: Store, spec: ModelSpec, seeds: Sequence[int], device: Device) -> nn.Module:
    """A fitted model ready for use: eval mode, no gradients, on the device. Stacked specs: leading axis S."""
    family, info = spec.family, spec.data.info
    if not isinstance(family, ClosedForm):
        (seed,) = seeds or (0,)
        state = load_file(store.block(spec, seed).file(MODEL_FILE))
        with torch.random.fork_rng(devices=[]):
            built = family.build(info)
        built.load_state_dict(state)
        return device.for_inference(built)
    states = [
        {name: tensor[part] for name, tensor in load_file(block.file(MODEL_FILE)).items()}
        for block, part in runs(store, spec, seeds)
    ]
    built = family.build_ensemble(info, len(seeds))
    built.load_state_dict({name: torch.cat([state[name] for state in states]) for name in states[0]})
    return device.for_inference(built)


def real_order(spec: DataSpec, seed: int) -> np.ndarray | None:
    """The order in which a seed sees the real rows; `rows`, `mix` and `fresh` take its first rows.

    None for simulated rows, which have no order to change.
    """
    return None if spec.data.seeded else _order(spec.info.pool, seed)


def part(spec: DataSpec, seed: int) -> np.ndarray | None:
    """Which real rows generation 0 of a seed is fitted to; None: all."""
    if spec.info.rows == spec.info.pool:
        return None
    order = real_order(spec, seed)
    return np.arange(spec.info.rows) if order is None else order[: spec.info.rows]


@functools.lru_cache(maxsize=4)
def _order(rows: int, seed: int) -> np.ndarray:
    """Never modify the result: it is cached for every shard of a sampling."""
    return Draws((seed,), "real order", 0).permutation(rows).numpy()


def training_table(store: Store, spec: FitSpec, seed: int, device: Device) -> Table:
    """All rows that a fit uses, as one table of the family's columns."""
    if spec.curation is not None and changes_rows(store, spec.curation, seed):
        return Table([_part_of(*columns(store, spec.curation, seed, "samples"), spec.family.columns)], device)
    parts, rows = _parts(store, (spec.curation and spec.curation.offer) or spec, seed)
    pick = picked(store, spec, seed)
    return Table(parts, device, pick if rows is None else rows if pick is None else rows[pick])


def picked(store: Store, spec: FitSpec, seed: int) -> np.ndarray | None:
    """Which of the rows of its sources together, source after source, a fit takes, (n,) int64; None: all of them."""
    return choice.subsample(spec, seed) if spec.curation is None else kept(store, spec.curation, seed)["index"]


def _parts(store: Store, spec: FitSpec, seed: int) -> tuple[list[TablePart], np.ndarray | None]:
    """What the plan's sources offer: the files' rows, and which of these, in their order; None: all of them."""
    parts: list[TablePart] = []
    rows: list[np.ndarray] = []
    start, picked = 0, False
    for source, rows_spec, drawn in zip(spec.plan.sources, spec.sources, choice.drawn(spec, seed), strict=True):
        if isinstance(rows_spec, CurationSpec):
            own, index = _curated_parts(store, rows_spec, seed, spec.family.columns)
            chosen = np.arange(source.first, source.first + source.rows) if drawn is None else drawn
            rows.append(start + index[chosen])
            picked = True
        else:
            own = [_part(store, spec, source, rows_spec, seed, drawn)]
            rows.append(start + np.arange(source.rows))
        parts += own
        start += sum(part.rows for part in own)
    return parts, np.concatenate(rows) if picked else None


def _curated_parts(
    store: Store, spec: CurationSpec, seed: int, names: Sequence[str]
) -> tuple[list[TablePart], np.ndarray]:
    """The files of a generation's candidates, or of its changed rows, and which of their rows are kept."""
    if changes_rows(store, spec, seed):
        return [_part_of(*columns(store, spec, seed, "samples"), names)], np.arange(spec.rows)
    parts = [_part_of(*columns(store, draw, seed, "samples"), names) for draw in spec.draws]
    return parts, kept(store, spec, seed)["index"]


def _part_of(file: RowFile, stored: dict[str, np.ndarray], names: Sequence[str]) -> TablePart:
    """All rows of a file."""
    wanted = {name: stored[name] for name in names if name in stored}
    return TablePart(file, wanted, len(next(iter(wanted.values()))))


def _part(
    store: Store, spec: FitSpec, source: Source, rows_spec: DataSpec | SampleSpec, seed: int, drawn: np.ndarray | None
) -> TablePart:
    """The rows of one source that is not curated."""
    real = source.generation == REAL
    file, stored = columns(store, rows_spec, seed, "real" if real else "samples")
    wanted = {name: stored[name] for name in spec.family.columns if name in stored}
    whole = source.first == 0 and source.rows == spec.data.info.pool
    plain = whole and spec.plan.budget is None  # all rows: their order makes no difference
    order = real_order(spec.data, seed) if real and not plain else None
    if drawn is None:
        return TablePart(file, wanted, source.rows, source.first, order)
    return TablePart(file, wanted, source.rows, 0, drawn if order is None else order[drawn])


def training_stack(store: Store, spec: FitSpec, seeds: Sequence[int]) -> dict[str, Tensor]:
    """The same for all seeds at once: columns (S, n, ...)."""
    if spec.curation is not None:
        return stacked_columns(store, spec.curation, seeds, "samples")
    drawn = choice.drawn_by_all(spec, seeds)
    blocks = [
        _rows_of(store, part, spec, source, seeds, rows)
        for source, part, rows in zip(spec.plan.sources, spec.sources, drawn, strict=True)
    ]
    rows = {name: torch.cat([block[name] for block in blocks], dim=1) for name in spec.family.columns}
    if spec.plan.budget is None:
        return rows
    return _picked(rows, [choice.subsample(spec, seed) for seed in seeds])


def curated_weights(store: Store, spec: FitSpec, seed: int) -> np.ndarray | None:
    """The weights that curations give to the rows of a fit, (n,) float32, in the order of `training_table` and
    `training_stack`; None: all 1."""
    if spec.curation is not None:
        return curation_weights(store, spec.curation, seed)
    if not any(isinstance(rows_spec, CurationSpec) for rows_spec in spec.sources):
        return None
    weights: list[np.ndarray] = []
    weighted = False
    for source, rows_spec, drawn in zip(spec.plan.sources, spec.sources, choice.drawn(spec, seed), strict=True):
        own = curation_weights(store, rows_spec, seed) if isinstance(rows_spec, CurationSpec) else None
        chosen = slice(source.first, source.first + source.rows) if drawn is None else drawn
        weights.append(np.ones(source.rows, np.float32) if own is None else own[chosen])
        weighted = weighted or own is not None
    if not weighted:
        return None
    pick = choice.subsample(spec, seed)
    return np.concatenate(weights) if pick is None else np.concatenate(weights)[pick]


def _rows_of(
    store: Store,
    part: DataSpec | SampleSpec | CurationSpec,
    spec: FitSpec,
    source: Source,
    seeds: Sequence[int],
    drawn: Sequence[np.ndarray | None],
) -> dict[str, Tensor]:
    """One source's rows, (S, n, ...) each; `drawn` has each seed's rows where they are not a contiguous range."""
    real = source.generation == REAL
    columns = stacked_columns(store, part, seeds, "real" if real else "samples")
    wanted = {name: columns[name] for name in spec.family.columns}
    stretch = slice(source.first, source.first + source.rows)
    return ordered(wanted, spec.data, seeds, [stretch if rows is None else rows for rows in drawn], real=real)


def ordered(
    columns: dict[str, Tensor],
    data: DataSpec,
    seeds: Sequence[int],
    chosen: Sequence[slice | np.ndarray],
    *,
    real: bool,
) -> dict[str, Tensor]:
    """Each seed's `chosen` rows of columns (S, n, ...), real ones in the seed's own order."""
    first = chosen[0]
    if isinstance(first, slice) and not (real and not data.data.seeded):
        return {name: column[:, first] for name, column in columns.items()}
    orders = [real_order(data, seed) if real else None for seed in seeds]
    n = next(iter(columns.values())).shape[1]
    return _picked(columns, [(np.arange(n) if o is None else o)[c] for o, c in zip(orders, chosen, strict=True)])


def _picked(columns: dict[str, Tensor], rows: Sequence[np.ndarray | None]) -> dict[str, Tensor]:
    """Rows `rows[s]` of seed s of columns (S, n, ...)."""
    index = torch.from_numpy(np.stack([picked for picked in rows if picked is not None]))
    return {name: column[torch.arange(len(index))[:, None], index] for name, column in columns.items()}


def conditions(
    store: Store,
    spec: DataSpec,
    names: Sequence[str],
    seeds: Sequence[int],
    first: int,
    last: int,
    *,
    of: Conditioning = "real",
    stacked: bool = False,
) -> dict[str, Tensor]:
    """Columns of the rows whose conditions generated rows first, ..., last - 1 are made for.

    Samples are made for real rows (choice.conditions_at gives their places in the seed's order), outputs for held-out
    rows in their order. (n, ...) each; for an ensemble (S, n, ...).
    """
    if not names:
        return {}
    places = choice.conditions_at(spec.info.rows, first, last) if of == "real" else np.arange(first, last)
    if stacked:
        stacked_rows = stacked_columns(store, spec, seeds, of)
        return ordered(
            {name: stacked_rows[name] for name in names}, spec, seeds, [places] * len(seeds), real=of == "real"
        )
    (seed,) = seeds or (0,)
    file, single = columns(store, spec, seed, of)
    order = real_order(spec, seed) if of == "real" else None
    index = places if order is None else order[places]
    given = {name: torch.from_numpy(single[name][index]) for name in names}
    file.release()
    return given
