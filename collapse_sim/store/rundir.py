"""A run directory: run.json (what the run is), recipe.yaml, journal.jsonl, live.json, pictures/.

run.json:
  {"schema": 1, "name": ..., "recipe": DIGEST, "store": PATH (relative to the run directory), "generations": 5,
   "seeds": [...], "arms": [NAME, ...], "baseline": NAME, "show": METRIC, "metrics": {NAME: {"better": "lower"|"higher"|null}},
   "claims": [{"that", "metric", "generation", "expect"}, ...], "reference": {...} | null,
   "theory": {ARM: {METRIC: [value at generation 0, 1, ...]}}, "settings": {the resolved recipe}, "samples": rows a generation}
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from collapse_sim.errors import StoreError

SCHEMA = 1
RUN_FILE, RECIPE_FILE, JOURNAL_FILE, LIVE_FILE, PICTURES = "run.json", "recipe.yaml", "journal.jsonl", "live.json", "pictures"


def read_run(folder: Path) -> dict[str, Any]:
    """run.json of a run directory. Raises StoreError when it is no run directory, damaged, or of a newer schema."""
    path = folder / RUN_FILE
    if not path.is_file():
        raise StoreError(f"{folder}: no run here (no {RUN_FILE}); a run directory is what `collapse-sim run` prints at its end")
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        schema = int(content["schema"])
    except (ValueError, KeyError, TypeError) as error:
        raise StoreError(f"{path}: damaged ({error}); run the recipe again with the same --out to write it anew") from error
    if schema > SCHEMA:
        raise StoreError(
            f"{path}: written by a newer collapse-sim (schema {schema}, this one knows {SCHEMA}): update collapse-sim"
        )
    return content
