"""Recipes of runs that prune, and what is in their stores."""

from __future__ import annotations

import json
from pathlib import Path

from tests.conftest import TINY, changed

TOY = """
name: toy
data: {use: gaussian, dimensions: 2, rows: 30, held_out_rows: 10}
model: gaussian
generations: 2
seeds: 2
arms:
  replace: {data: replace}
  accumulate: {data: accumulate}
metrics: [variance_ratio]
"""
LAST = "keep_weights: last\nkeep_samples: last\n"
VAE = changed(
    TINY, ("rows: 200, held_out_rows: 50, validation_rows: 40", "rows: 40, held_out_rows: 20, validation_rows: 10"),
    ("steps: 20", "steps: 4"), ("every 5 steps", "every 2 steps"), ("samples: 150", "samples: 40"),
    ("seeds: [0, 1]", "seeds: [0]"),
)  # fmt: skip


def manifests(store: Path, place: str = "objects") -> dict[str, dict]:
    """{digest/block: manifest} of the artefacts, or of the records of the pruned ones."""
    paths = store.glob(f"{place}/*/*/*/manifest.json")
    return {f"{path.parts[-3]}/{path.parts[-2]}": json.loads(path.read_text()) for path in paths}


def generations(store: Path, kind: str) -> set[int]:
    """The generations of which artefacts of a kind are in the store."""
    return {manifest["generation"] for manifest in manifests(store).values() if manifest["kind"] == kind}


def payload(store: Path) -> int:
    """Bytes of weights and rows on the disk, other than real ones."""
    return sum(
        path.stat().st_size
        for path in store.rglob("*.safetensors")
        if path.name in ("model.safetensors", "samples.safetensors")
    )
