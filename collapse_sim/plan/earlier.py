"""What artefacts of a store took to make, as their manifests say: the rates that `run --dry-run` predicts with."""

from __future__ import annotations

import itertools
import json
import math
import statistics
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from collapse_sim.core.files import children, read_bytes
from collapse_sim.plan.costs import Rate, kind_of
from collapse_sim.store import sealed
from collapse_sim.store.blocks import MANIFEST, seconds_of
from collapse_sim.store.rowfile import RowFile

MOST = 2000  # manifests that are read: about a second


def earlier_rates(store: Path, device: str) -> dict[str, Rate]:
    """{kind: rate} of artefacts that were made on a device of this description.

    Short artefacts cost more than their work, so only the larger half of each kind counts. The store need not exist.
    """
    manifests = list(itertools.islice(_manifests(store), MOST))
    models = {m["digest"]: m for _, m in manifests if m["kind"] in ("import", "fit", "own fit", "merge")}
    rates: dict[str, list[tuple[float, float]]] = {}  # of each kind: (units, seconds per unit)
    for folder, manifest in manifests:
        try:
            if not _same(str(manifest["machine"].get("device", "")), device):
                continue
            kind, units = _kind_and_units(folder, manifest, models)
            wall_s = seconds_of(manifest)
        except (OSError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError, StopIteration):
            continue  # another version's, damaged, or just removed
        if kind and units > 0:
            rates.setdefault(kind, []).append((units, wall_s / units))
    return {kind: Rate(_typical(entries)) for kind, entries in rates.items()}


def _manifests(store: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    folders = (block for two in children(store / "objects") for digest in children(two) for block in children(digest))
    for folder in folders:
        try:
            manifest = sealed.read(folder / MANIFEST)
        except (OSError, ValueError):
            continue
        if isinstance(manifest.get("kind"), str) and isinstance(manifest.get("digest"), str):
            yield folder, manifest


def _kind_and_units(
    folder: Path, manifest: Mapping[str, Any], models: Mapping[str, Mapping[str, Any]]
) -> tuple[str | None, float]:
    """The kind of an artefact and its units of work, over all its seeds; (None, 0) where they are not known."""
    kind, description, seeds = manifest["kind"], manifest["description"], max(1, len(manifest["seeds"]))
    if kind in ("fit", "own fit"):
        if description["train"] is not None:
            return kind_of(kind, description, {}), json.loads(read_bytes(folder / "history.json"))["updates"]
        if description["budget"] is not None or isinstance(description["sources"], dict):
            return None, 0  # of a long list of sources only a hash is kept
        return kind_of(kind, description, {}), seeds * sum(source[2] for source in description["sources"])
    if "imported" in description:
        return kind_of(kind, description, {}), seeds * description["rows"]
    if kind in ("samples", "own samples") and description["model"] in models:
        model = models[description["model"]]
        if model["kind"] == "merge":  # its first model is the generation's fit
            model = models[model["description"]["models"][0][0]]
        return kind_of(kind, description, model["description"]), seeds * description["rows"]
    if kind in ("curation", "verifier"):
        candidates = json.loads(read_bytes(folder / "report.json"))["candidates"]
        return kind_of(kind, description, {}), seeds * candidates
    if kind in ("scores", "merge", "import"):
        return kind_of(kind, description, {}), seeds
    if kind in ("data", "features"):
        axes = 2 if manifest["stacked"] else 1
        shapes = [next(iter(RowFile(file).columns.values())).shape for file in sorted(folder.glob("*.safetensors"))]
        return kind_of(kind, description, {}), sum(math.prod(shape[:axes]) for shape in shapes)
    return None, 0


def _typical(entries: list[tuple[float, float]]) -> float:
    most = max(units for units, _ in entries)
    return statistics.median(each for units, each in entries if units >= most / 2)


def _same(made_on: str, device: str) -> bool:
    """Whether two descriptions (`Device.describe`) are of the same GPU, or both of a CPU: threads don't count."""
    kinds = [text.partition(" (")[0].partition(":")[0] for text in (made_on, device)]
    names = [text.partition(" (")[2] for text in (made_on, device)]
    return kinds[0] == kinds[1] and (kinds[0] == "cpu" or names[0] == names[1])
