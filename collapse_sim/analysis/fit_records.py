"""What the store recorded of each fit of a run: how its losses went, and what it and its samples cost."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

from collapse_sim.core.files import read_bytes
from collapse_sim.store import journal, sealed
from collapse_sim.store.blocks import MANIFEST, blocks_or_records, parse_block, seconds_of
from collapse_sim.store.run_directory import JOURNAL_FILE, store_of

HISTORY_FILE = "history.json"


class LossRecord(NamedTuple):
    """The losses of a fit after a step: the mean of its batches since the evaluation before, and of validation rows."""

    step: int
    epoch: float
    train_loss: float
    validation_loss: float


@dataclass(frozen=True)
class FitRecord:
    """One fit: a model of one seed, or of all seeds together if it is solved in closed form."""

    digest: str
    imported: bool  # generation 0 from outside, which was not fitted
    generation: int
    arms: tuple[str, ...]  # all whose fit it is
    seeds: tuple[int, ...]
    updates: int  # 0: solved, or imported
    seconds: float  # if it was computed together with others, its share
    size: int  # bytes of its files
    rows: int  # that its batches had, one after another
    device: str
    precision: str
    evaluations: tuple[LossRecord, ...]
    sampling_s: float | None = None  # of its samples; None: they are not in the store
    samples_size: int = 0  # bytes
    created: str = ""  # UTC, as 2026-01-31T12:00:00Z

    def identity(self) -> dict[str, Any]:
        """Which fit it is, for documents."""
        return {
            "generation": self.generation,
            "arms": list(self.arms),
            "seeds": list(self.seeds),
            "digest": self.digest,
            "updates": self.updates,
        }

    @property
    def rows_per_s(self) -> float | None:
        """Rows that passed through the network in a second; None for fits that are solved."""
        return self.rows / self.seconds if self.updates and self.seconds > 0 else None


Grouped = dict[tuple[int, tuple[str, ...], str], list[FitRecord]]  # (generation, arms, digest) -> one fit for each seed


def fit_records(
    folder: Path, store: Path | None = None, lines: Iterable[Mapping[str, Any]] | None = None
) -> tuple[list[FitRecord], list[str]]:
    """The fits behind a run's scores, in the order of the journal, each once; and which could not be read, and why.

    `lines`: only those of these lines of its journal. Raises StoreError when the run's store cannot be found.
    """
    root = store or store_of(folder)
    arms: dict[tuple[str, str], list[str]] = {}  # (fit, samples) -> arms
    seeds_of: dict[tuple[str, str], set[int]] = {}  # the store may have those of other runs, too
    for line in journal.read(folder / JOURNAL_FILE) if lines is None else lines:
        if line["event"] == "scores" and line.get("fit"):
            names = arms.setdefault((line["fit"], line["samples"]), [])
            seeds_of.setdefault((line["fit"], line["samples"]), set()).update(line["seeds"])
            names += [line["arm"]] * (line["arm"] not in names)
    records: dict[tuple[str, tuple[int, ...]], FitRecord] = {}
    problems: list[str] = []
    for (digest, samples), names in arms.items():
        own = seeds_of[digest, samples]
        drawn = dict(_blocks(root, samples, own, problems))
        for seeds, (manifest, place) in _blocks(root, digest, own, problems):
            known = records.get((digest, seeds))
            if known is not None:
                records[digest, seeds] = replace(known, arms=tuple(dict.fromkeys((*known.arms, *names))))
                continue
            try:
                of_fit = [facts for of, (facts, _) in drawn.items() if seeds == (-1,) or {*of} <= {*seeds}]
                records[digest, seeds] = _record(digest, seeds, names, manifest, place, of_fit)
            except (OSError, ValueError, LookupError, TypeError) as error:
                problems.append(f"{place}: {error}")
    return list(records.values()), problems


def _blocks(
    root: Path, digest: str, of: set[int], problems: list[str]
) -> Iterable[tuple[tuple[int, ...], tuple[dict[str, Any], Path]]]:
    """The blocks with any of these seeds, or the same for all."""
    for place in blocks_or_records(root, digest):
        seeds = parse_block(place.name)
        if -1 not in seeds and of.isdisjoint(seeds):
            continue
        try:
            yield seeds, (sealed.read(place / MANIFEST), place)
        except (OSError, ValueError) as error:
            problems.append(f"{place / MANIFEST}: {error}")


def _record(
    digest: str,
    seeds: tuple[int, ...],
    arms: Iterable[str],
    manifest: Mapping[str, Any],
    place: Path,
    samples: Sequence[Mapping[str, Any]],
) -> FitRecord:
    raw = read_bytes(place / HISTORY_FILE)
    if sha256(raw).hexdigest() != manifest["files"][HISTORY_FILE]["sha256"]:
        raise ValueError(f"{HISTORY_FILE} does not match its hash")
    history, machine = sealed.loads(raw), manifest["machine"]
    train = manifest["description"].get("train")
    updates = int(history["updates"])
    return FitRecord(
        digest,
        manifest["kind"] == "import",
        int(manifest["generation"]),
        tuple(arms),
        () if seeds == (-1,) else seeds,
        updates,
        seconds_of(manifest),
        _size(manifest),
        updates * int(train["batch_size"]) if updates else 0,
        str(machine.get("device", "")),
        str(machine.get("precision", "")),
        tuple(
            LossRecord(int(e["step"]), float(e["epoch"]), float(e["train_loss"]), float(e["validation_loss"]))
            for e in history["evaluations"]
        ),
        sum(map(seconds_of, samples)) if samples else None,
        sum(map(_size, samples)),
        str(manifest.get("created", "")),
    )


def _size(manifest: Mapping[str, Any]) -> int:
    return sum(int(file["bytes"]) for file in manifest["files"].values())


def grouped(records: Sequence[FitRecord]) -> Grouped:
    """The fits of equal settings, which differ by seed."""
    groups: Grouped = {}
    for record in records:
        groups.setdefault((record.generation, record.arms, record.digest), []).append(record)
    return dict(sorted(groups.items(), key=lambda item: item[0][0]))


def mean_curve(records: Iterable[FitRecord]) -> list[LossRecord]:
    """The means over fits (one for each seed) at the steps at which all of them were evaluated."""
    curves = [{evaluation.step: evaluation for evaluation in record.evaluations} for record in records]
    steps = sorted(set.intersection(*map(set, curves))) if curves else []
    return [LossRecord(step, *(fmean(curve[step][i] for curve in curves) for i in (1, 2, 3))) for step in steps]
