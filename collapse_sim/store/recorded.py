"""Which scores a run has ever written to its journal: it shows a reader that lines were lost, for whatever reason.

recorded.json, sealed: {"scores": {ARM: {METRIC: {SEEDS: [[first generation, last generation], ...]}}}}, SEEDS as in the
name of a block ("s0-9"). It is written after the journal, so it never names scores that the journal has not had.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from collapse_sim.core.files import write_atomic
from collapse_sim.store import sealed
from collapse_sim.store.blocks import block_name, parse_block
from collapse_sim.store.journal import MAX_GENERATION

RECORDED_FILE = "recorded.json"
Runs = list[list[int]]
Scores = dict[str, dict[str, dict[str, Runs]]]


def read(folder: Path) -> Scores:
    """What was recorded in a run directory. Raises OSError when it cannot be read, ValueError when it is damaged."""
    try:
        scores: Scores = sealed.read(folder / RECORDED_FILE)["scores"]
        for _, _, _, runs in _entries(scores):
            if any(not 0 <= first <= last <= MAX_GENERATION for first, last in runs):
                raise ValueError("invalid generations")
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{type(error).__name__}: {error}") from error
    return scores


def write(folder: Path, scores: Scores) -> None:
    """Replace recorded.json."""
    write_atomic(folder / RECORDED_FILE, sealed.text({"scores": scores}), durable=False)


def add(scores: Scores, lines: Iterable[Mapping[str, Any]]) -> None:
    """Add what the `scores` lines among `lines` contain."""
    for line in lines:
        if line["event"] != "scores" or not line["seeds"]:
            continue
        k, seeds = line["generation"], block_name(tuple(sorted(set(line["seeds"]))))
        for metric in line["metrics"]:
            runs = scores.setdefault(line["arm"], {}).setdefault(metric, {}).setdefault(seeds, [])
            if any(first <= k <= last for first, last in runs):
                continue
            runs.append([k, k])
            runs.sort()
            merged: Runs = []
            for first, last in runs:
                if merged and first == merged[-1][1] + 1:
                    merged[-1][1] = last
                else:
                    merged.append([first, last])
            runs[:] = merged


def lost_scores(scores: Scores, lines: Iterable[Mapping[str, Any]]) -> list[str]:
    """Which of these scores are in none of the lines, in words: one text per arm and metric."""
    present: dict[tuple[str, str], dict[int, set[int]]] = {}
    for line in lines:
        if line["event"] == "scores":
            for metric in line["metrics"]:
                present.setdefault((line["arm"], metric), {}).setdefault(line["generation"], set()).update(
                    line["seeds"]
                )
    absent: dict[tuple[str, str], set[int]] = {}
    for arm, metric, name, runs in _entries(scores):
        seeds, by_generation = set(parse_block(name)), present.get((arm, metric), {})
        for first, last in runs:
            lost = {k for k in range(first, last + 1) if not seeds <= by_generation.get(k, set())}
            if lost:
                absent.setdefault((arm, metric), set()).update(lost)
    return [
        f"{metric} of {arm}, {'generation' if len(lost) == 1 else 'generations'} {block_name(tuple(sorted(lost)))[1:]}"
        for (arm, metric), lost in absent.items()
    ]


def _entries(scores: Scores) -> Iterator[tuple[str, str, str, Runs]]:
    for arm, by_metric in scores.items():
        for metric, by_seeds in by_metric.items():
            for name, runs in by_seeds.items():
                yield arm, metric, name, runs
