"""The journal of a run: append-only JSON lines, each with its own hash. A line that a kill cut off does not count.

Lines (`event` says which):
  {"event": "session", "time": ..., "command": [...], "environment": {...}, "revision": ...}:
   `revision`: of git, if it is run from a checkout
  {"event": "scores", "generation": k, "arm": NAME, "seeds": [...], "metrics": {NAME: [one value per seed, ...]},
   "fit": DIGEST, "samples": DIGEST, "rows": {NAME: DIGEST}, "updates": [...]}: `rows`: scores that may keep values per
   held-out row; `updates`: of each seed's fit, where a fit may end early
  {"event": "curation", "generation": k, "arm": NAME, "seeds": [...], "figures": {NAME: [one value per seed, ...]},
   "curation": DIGEST}: what was kept of the generated rows before a model is fitted to them
  {"event": "diverged", "generation": k, "arm": NAME, "seed": s, "message": ...}: scores are nan from there on
  {"event": "generation", "generation": k, "made": {KIND: n}, "reused": {KIND: n}, "wall_s": s}
A later `scores` line of the same arm, generation, seed and metric replaces an earlier one. In the file, a line begins
with its hash, `{"hash":"0123456789abcdef",...`: the first 64 bits of the sha256 of everything after the comma.
"""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from collapse_sim.core.files import explain_write_errors, read_bytes, readable, require_file, write_atomic
from collapse_sim.store.sealed import loads

HEAD, DIGITS = b'{"hash":"', 16
BODY = len(HEAD) + DIGITS + len(b'",')
MAX_GENERATION = 10**6  # the highest generation that a line may name


@dataclass(frozen=True)
class Journal:
    """Its intact lines, and the numbers (from 1) of damaged ones, which are not caused by a kill."""

    lines: list[dict[str, Any]]
    damaged: list[int]
    torn: bool = False  # the last line has no end: it is being written, or was cut off by a kill


def read(path: Path) -> list[dict[str, Any]]:
    """All intact lines of a journal; [] when there is none yet. Raises StoreError when it cannot be read."""
    return load(path).lines


def load(path: Path) -> Journal:
    """The same, with damaged and cut-off lines noted."""
    with readable(path):
        try:
            content = read_bytes(path)
        except FileNotFoundError:
            if os.path.lexists(path):
                raise FileNotFoundError(errno.ENOENT, "it is a link to nothing") from None
            return Journal([], [])
    *complete, rest = content.split(b"\n")
    lines, damaged = [], []
    for number, raw in enumerate(complete, 1):
        if not raw:
            continue
        line = _line(raw)
        if line is None:
            damaged.append(number)
        else:
            lines.append(line)
    return Journal(lines, damaged, bool(rest))


def scores_of(lines: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, dict[int, dict[int, float]]]]:
    """{arm: {metric: {generation: {seed: value}}}} as recorded; an unknown value (null) is nan.

    The last value of an (arm, metric, generation, seed) counts. A seed's scores from the generation at which its chain
    diverged are dropped if they were recorded before that; nan, which says the same, stays.
    """
    scores: dict[str, dict[str, dict[int, dict[int, float]]]] = {}
    for line in lines:
        if line.get("event") == "diverged":
            for by_generation in scores.get(line["arm"], {}).values():
                for k, by_seed in by_generation.items():
                    if k >= line["generation"] and math.isfinite(by_seed.get(line["seed"], math.nan)):
                        del by_seed[line["seed"]]
        elif line.get("event") == "scores":
            for metric, values in line["metrics"].items():
                by_metric = scores.setdefault(line["arm"], {}).setdefault(metric, {})
                by_seed = by_metric.setdefault(line["generation"], {})
                for seed, value in zip(line["seeds"], values, strict=True):
                    by_seed[seed] = math.nan if value is None else float(value)
    return scores


def diverged(lines: Iterable[Mapping[str, Any]]) -> dict[str, dict[int, int]]:
    """{arm: {seed: generation}} of the chains that ended: the earliest generation with a `diverged` line.

    A later attempt, on another machine, may have succeeded: scores of that generation that were nan are now finite, and
    so are all others. (A finite test loss alone does not show this: a model whose samples diverged has one.)
    """
    later_scores: dict[tuple[str, int, int], dict[str, list[float | None]]] = {}
    for line in lines:
        if line.get("event") == "diverged":
            later_scores[line["arm"], line["seed"], line["generation"]] = {}
        elif later_scores and line.get("event") == "scores":
            for seed, *values in zip(line["seeds"], *line["metrics"].values(), strict=True):
                by_metric = later_scores.get((line["arm"], seed, line["generation"]))
                if by_metric is not None:
                    for metric, value in zip(line["metrics"], values, strict=True):
                        by_metric.setdefault(metric, []).append(value)
    ended: dict[str, dict[int, int]] = {}
    for (arm, seed, k), by_metric in later_scores.items():
        if not _recovered(by_metric.values()):
            ends = ended.setdefault(arm, {})
            ends[seed] = min(k, ends.get(seed, k))
    return ended


def _recovered(scores: Collection[list[float | None]]) -> bool:
    """Whether scores, one list per metric in the order of time, are all finite at the end, and some were not before."""
    finite = [[value is not None and math.isfinite(value) for value in values] for values in scores]
    return all(values[-1] for values in finite) and not all(map(all, finite))


def check(path: Path) -> None:
    """Raise StoreError when the path exists and is not a regular file; nothing is opened."""
    if os.path.lexists(path):
        with readable(path):
            require_file(path, path.stat().st_mode)


def append(path: Path, lines: Iterable[Mapping[str, Any]], *, durable: bool = True) -> None:
    """Append lines in one write. `durable`: and flush the file to disk, these lines and all before them."""
    block = b"".join(map(_sealed, lines))
    check(path)
    with explain_write_errors(path, "--out"), path.open("ab+") as file:
        if file.tell() > 0:
            file.seek(-1, os.SEEK_END)
            if file.read(1) != b"\n":
                block = b"\n" + block  # the last line was cut off: start a new one
        file.write(block)
        file.flush()
        if durable:
            os.fsync(file.fileno())


def rewrite(path: Path, lines: Iterable[Mapping[str, Any]]) -> None:
    """Replace a journal by these lines."""
    write_atomic(path, b"".join(map(_sealed, lines)))


def _sealed(line: Mapping[str, Any]) -> bytes:
    body = json.dumps(line, separators=(",", ":"), allow_nan=True).encode()[1:]
    return HEAD + _hash(body) + b'",' + body + b"\n"


def _hash(body: bytes) -> bytes:
    return hashlib.sha256(body).hexdigest()[:DIGITS].encode()


def _line(raw: bytes) -> dict[str, Any] | None:
    """A line's content without its hash; None when the hash does not match, or the content is not valid."""
    body = raw[BODY:]
    if raw[:BODY] != HEAD + _hash(body) + b'",':
        return None
    try:
        line = loads(b"{" + body)
    except ValueError:
        return None
    return line if _is_valid(line) else None


def _is_valid(line: Any) -> bool:
    """Whether everything that readers use has the type and the size that they rely on."""
    if not isinstance(line, dict):
        return False
    for key, value in line.items():
        if key in SHAPES and not SHAPES[key](value):
            return False
    if any(key not in line for key in NEEDED.get(line.get("event", ""), ("event",))):
        return False
    rows = len(line.get("seeds", ()))
    values = (*line.get("metrics", {}).values(), *line.get("figures", {}).values())
    return all(len(of) == rows for of in values)


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value < 2**63


def _is_value(value: Any) -> bool:
    return value is None or type(value) is float or (type(value) is int and abs(value) < 2**63)


def _mapping_of(allowed: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, dict) and all(map(allowed, value.values()))


def _list_of(allowed: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, list) and all(map(allowed, value))


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_digest(value: Any) -> bool:
    return isinstance(value, str) and value.isalnum() and len(value) <= 64


SHAPES: Mapping[str, Callable[[Any], bool]] = {
    "event": _is_text,
    "generation": lambda value: _is_count(value) and value <= MAX_GENERATION,
    "arm": _is_text,
    "seeds": _list_of(_is_count),
    "seed": _is_count,
    "message": _is_text,
    "metrics": _mapping_of(_list_of(_is_value)),
    "figures": _mapping_of(_list_of(_is_value)),
    "curation": _is_digest,
    "updates": _list_of(lambda value: value is None or _is_count(value)),
    "fit": _is_digest,
    "samples": _is_digest,
    "rows": _mapping_of(_is_digest),
    "made": _mapping_of(_is_count),
    "reused": _mapping_of(_is_count),
    "wall_s": lambda value: value is not None and _is_value(value) and 0 <= value < 2**63,
    "command": _list_of(_is_text),
    "revision": _is_text,
}
NEEDED = {
    "scores": ("generation", "arm", "seeds", "metrics"),
    "curation": ("generation", "arm", "seeds", "figures"),
    "diverged": ("generation", "arm", "seed", "message"),
    "generation": ("generation", "made", "reused", "wall_s"),
}
