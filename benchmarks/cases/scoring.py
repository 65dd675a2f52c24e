"""What scoring takes of a generation: FID, precision, recall, density and coverage of 10,000 rows."""

from __future__ import annotations

import statistics

from benchmarks.engine import image_rows, run
from benchmarks.harness import Case, Setting, Ways

UPDATES = 16_450  # of a fit in table 1
RECIPE = """
name: scoring
data: {use: image_folder, path: images.npy, held_out: ROWS, rows: ROWS}
model: {use: vae, hidden: 420, latent: 20}
train: {steps: STEPS, batch_size: 256, evaluate: never}
samples: ROWS
generations: 2
seeds: [0]
arms: {replace: {data: replace}}
metrics:
  - {use: fid, features: pixels}
  - {use: precision, features: pixels}
  - {use: recall, features: pixels}
  - {use: density, features: pixels}
  - {use: coverage, features: pixels}
"""


def prepare(setting: Setting) -> Ways:
    """Generations 1 and 2, for which the real rows' features are there. The fit has a few updates; its time is that
    of an update times UPDATES."""
    rows, steps = setting.sized(10_000, 10_000, 40), setting.sized(50, 500, 2)
    image_rows(setting.folder, 2 * rows, (16, 16, 1))
    parts: dict[str, list[float]] = {name: [] for name in ("scoring s", "sampling s", "ms per update")}

    def ours() -> float:
        made = [m for m in run(setting, RECIPE, rows=rows, steps=steps).manifests if m["generation"] > 0]
        seconds = {
            kind: [m["wall_s"] for m in made if m["kind"] == kind] for kind in ("fit", "samples", "features", "scores")
        }
        scoring = (sum(seconds["features"]) + sum(seconds["scores"])) / 2
        sampling, update = statistics.mean(seconds["samples"]), statistics.mean(seconds["fit"]) / steps
        for values, value in zip(parts.values(), (scoring, sampling, 1e3 * update), strict=True):
            values.append(value)
        return float(100 * scoring / (UPDATES * update + sampling))

    facts = {"rows": rows, "features": "256 pixels", "updates": UPDATES}
    return Ways({"collapse-sim": ours}, setting.device.with_precision("auto").precision, facts=facts, also=parts)


CASES = (
    Case(
        "scoring",
        f"FID and PRDC of 10,000 rows against {UPDATES:,} updates of table 1's VAE and its sampling",
        "% of fit and sampling",
        prepare,
        better="lower",
        at_most={"cpu": 10, "cuda": 10},
        warm_up=False,
    ),
)
