"""A state as JSON and back. The input is untrusted: it may be damaged, or written by another program or version."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import asdict, fields
from typing import Any

from collapse_sim.ui import checked
from collapse_sim.ui.checked import amount, count, flag, integer, listed, mapping, number, optional, record, score, text
from collapse_sim.ui.state import KEPT_LOSSES, KEPT_NOTES, STAGES, Cell, Curve, JobUnderWay, State

SCHEMA = 1


def document(state: State) -> dict[str, Any]:
    """Plain JSON: non-finite numbers as strings, bit sets as "all" or the seeds that are done."""
    content = {item.name: getattr(state, item.name) for item in fields(state) if item.name != "cells"}
    content["schema"] = SCHEMA
    content["job"] = asdict(state.job) if state.job else None
    content["on_nodes"] = {key: asdict(job) for key, job in state.on_nodes.items()}
    content["curve"] = asdict(state.curve) if state.curve else None
    content["cells"] = {arm: [_cell_document(state, cell) for cell in cells] for arm, cells in state.cells.items()}
    plain: dict[str, Any] = _plain(content)
    return plain


def state(content: Any) -> State:
    """The state that `document` returned. Raises ValueError if it is not one, or of a newer schema."""
    try:
        newer = integer(content["schema"]) > SCHEMA
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"not the state of a run: {error!r}") from error
    if newer:
        raise ValueError(f"schema {content['schema']} is newer than {SCHEMA}: update collapse-sim")
    try:
        restored = State(**{name: check(content[name]) for name, check in _FIELDS.items()})
        restored.job = JobUnderWay(**_JOB(content["job"])) if content["job"] is not None else None
        on_nodes = mapping(_JOB)(content.get("on_nodes", {}))
        restored.on_nodes = {key: JobUnderWay(**job) for key, job in on_nodes.items()}
        restored.curve = Curve(**_CURVE(content["curve"])) if content["curve"] is not None else None
        restored.made, restored.reused = Counter(restored.made), Counter(restored.reused)
        restored.finished = {int(k): summary for k, summary in mapping(_SUMMARY)(content["finished"]).items()}
        rows = restored.generations + 1
        restored.fit_units = mapping(listed(count, rows))(content["fit_units"])
        restored.scores = mapping(mapping(listed(optional(score), rows)))(content["scores"])
        ended = mapping(_COUNTS)(content["ended"])
        restored.ended = {arm: {int(seed): k for seed, k in chains.items()} for arm, chains in ended.items()}
        restored.texts = mapping(_TEXTS)(content.get("texts", {}))
        cells = mapping(listed(_CELL, rows))(content["cells"])
        if len({*restored.seeds}) != len(restored.seeds) or list(cells) != restored.arms:
            raise ValueError("its arms or seeds are not those of its cells")
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"not the state of a run: {error!r}") from error
    restored.cells = {arm: [_cell(restored, cell) for cell in own] for arm, own in cells.items()}
    return restored


def _cell_document(state: State, cell: Cell) -> dict[str, Any]:
    content = {item.name: getattr(cell, item.name) for item in fields(cell)}
    for stage in STAGES:
        bits = content[stage]
        content[stage] = "all" if bits == state.all_seeds else [s for i, s in enumerate(state.seeds) if bits >> i & 1]
    return {name: entry for name, entry in content.items() if entry}


def _cell(state: State, content: Any) -> Cell:
    bits = {
        stage: state.all_seeds if seeds == "all" else state.bits_of(seeds) if seeds else 0
        for stage in STAGES
        if (seeds := content.get(stage, []))
    }
    return Cell(**{**content, **bits})


def _plain(entry: Any) -> Any:
    """A copy in JSON's types, with non-finite floats as "nan", "inf", "-inf"."""
    if isinstance(entry, float):
        return entry if math.isfinite(entry) else str(entry)
    if isinstance(entry, dict):
        return {str(key): _plain(item) for key, item in entry.items()}
    if isinstance(entry, list | tuple):
        return [_plain(item) for item in entry]
    return entry


def _seeds_done(value: Any) -> Any:
    return value if value == "all" else listed(integer)(value)


def _CELL(value: Any) -> dict[str, Any]:  # noqa: N802 - named like the other checks
    """A cell; zeros are left out of the file."""
    if not isinstance(value, dict):
        raise ValueError(f"found {type(value).__name__}, not a cell")
    return {name: _CELL_FIELDS[name](entry) for name, entry in value.items()}


_CELL_FIELDS: dict[str, checked.Check[Any]] = {
    **dict.fromkeys(STAGES, _seeds_done),
    "score_parts": count,
    "made": count,
    "reused": count,
    "work_s": amount,
    "fit_s": amount,
}
_JOB = record(
    kind=text, digest=text, generation=integer, arms=listed(text), seeds=listed(integer), started=number, done=count,
    total=count, unit=text, loss=optional(score), first_done=count, first_time=number, last_time=number,
)  # fmt: skip
_CURVE = record(
    digest=text, generation=integer, arms=listed(text), seeds=listed(integer), total=count, unit=text,
    losses=lambda value: listed(listed(score, 2))(value)[-KEPT_LOSSES:],
)  # fmt: skip
_COUNTS = mapping(count)  # also used for the end of chains, by seed
_SUMMARY = record(made=_COUNTS, reused=_COUNTS, wall_s=amount)
_TEXTS = record(generation=count, texts=listed(text))
_FIELDS: dict[str, checked.Check[Any]] = {
    "name": text,
    "run_dir": text,
    "arms": listed(text),
    "seeds": listed(integer),
    "generations": count,
    "metrics": listed(text),
    "lower_is_better": mapping(optional(flag)),
    "show": optional(text),
    "device": text,
    "precision": text,
    "started": optional(amount),
    "updated": optional(amount),
    "outcome": optional(text),
    "message": text,
    "wall_s": optional(amount),
    "pid": optional(checked.process),
    "host": text,
    "process_started": optional(amount),
    "memory_bytes": optional(count),
    "gpu_bytes": optional(count),
    "rows_per_s": optional(amount),
    "waiting": optional(record(kind=text, digest=text, generation=integer)),
    "made": _COUNTS,
    "reused": _COUNTS,
    "notes": lambda value: listed(record(message=text, level=text))(value)[-KEPT_NOTES:],
    "mark": amount,
}
