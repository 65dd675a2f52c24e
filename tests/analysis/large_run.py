"""A run directory of any size with its store, as a real run would leave them, but with made-up figures."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from collapse_sim.store import journal, recorded, sealed
from collapse_sim.store.blocks import object_folder

METRICS = {
    "test_loss": {"better": "lower", "unit": "nats per pixel", "measures": ["risk"], "note": "360 held-out rows"},
    "fid": {"better": "lower", "bounds": [0.0, None], "measures": ["drift"]},
    "coverage": {"better": "higher", "bounds": [0.0, 1.0], "measures": ["tail"]},
    "class_entropy": {"better": "higher", "bounds": [0.0, None], "measures": ["modes"]},
    "latent_std": {"better": "higher", "measures": ["variance"]},
    "memorisation": {"better": "lower", "bounds": [0.0, 1.0]},
}


def write_large_run(
    root: Path, arms: int = 20, generations: int = 20, seeds: int = 5, *, store: bool = True, pixels: int = 1000
) -> Path:
    """A finished run below `root`: scores, claims, pictures (of noise, which does not compress), and with `store` the
    manifest and the losses of every fit."""
    random = np.random.default_rng(0)
    names = [f"arm {i}" for i in range(arms)]
    folder = root / "runs" / "large"
    (folder / "pictures").mkdir(parents=True)
    claims = [
        {"that": f"{name} is worse", "metric": "fid", "generation": "last", "expect": f'"{name}" > "{names[0]}"'}
        for name in names[1:]
    ]
    trained = {"protocol": "updates", "rows": [1437] * (generations + 1), "updates": [250] * (generations + 1)}
    run: dict[str, Any] = {
        "schema": 1,
        "name": "large",
        "recipe": "0" * 64,
        "store": "../store",
        "generations": generations,
        "seeds": list(range(seeds)),
        "arms": names,
        "baseline": names[0],
        "metrics": METRICS,
        "claims": claims,
        "settings": {"name": "large", "arms": {name: {"samples": 100 + i} for i, name in enumerate(names)}},
        "training": {name: {**trained, "epochs": [20.8] * (generations + 1)} for name in names},
    }
    (folder / "run.json").write_text(sealed.text(run))
    lines: list[dict[str, Any]] = [
        {
            "event": "session",
            "time": "2026-01-01T00:00:00Z",
            "command": ["collapse-sim", "run", "large"],
            "device": "cpu",
        }
    ]
    for k in range(generations + 1):
        for i, name in enumerate(names):
            digest = hashlib.sha256(f"fit {k} {i if k else 0}".encode()).hexdigest()
            values = {m: list(0.5 * (0.3 + 0.01 * i * k) + 0.05 * random.random(seeds)) for m in METRICS}
            line = {"event": "scores", "generation": k, "arm": name, "seeds": list(range(seeds)), "metrics": values}
            lines.append({**line, "fit": digest, "samples": digest[::-1], "rows": {}})
            for seed in range(seeds) if store and (k or not i) else ():
                _write_fit(root / "runs" / "store", digest, seed, k)
        created = {"fit": arms * seeds if k else seeds, "samples": arms * seeds, "scores": arms * seeds * len(METRICS)}
        lines.append({"event": "generation", "generation": k, "made": created, "reused": {}, "wall_s": 60.0})
    journal.append(folder / "journal.jsonl", lines)
    written: recorded.Scores = {}
    recorded.add(written, lines)
    recorded.write(folder, written)
    noise = random.integers(0, 256, (pixels, pixels, 3), dtype=np.uint8)
    for name in ("arms-by-generations", "00-arm-0-generation-000", *(f"{i:02d}-a-generation-020" for i in range(arms))):
        Image.fromarray(noise if name[0] == "a" else noise[:200, :200]).save(folder / "pictures" / f"{name}.png")
    return folder


def _write_fit(store: Path, digest: str, seed: int, generation: int) -> None:
    place = object_folder(store, digest) / f"s{seed}"
    place.mkdir(parents=True)
    evaluations = [
        {
            "step": step,
            "epoch": step / 12,
            "train_loss": 1 / step + seed / 100,
            "validation_loss": 1.1 / step + seed / 100,
        }
        for step in range(25, 275, 25)
    ]
    history = json.dumps({"updates": 250, "evaluations": evaluations}).encode()
    (place / "history.json").write_bytes(history)
    manifest = {
        "kind": "fit",
        "digest": digest,
        "seeds": [seed],
        "generation": generation,
        "files": {"history.json": {"bytes": len(history), "sha256": hashlib.sha256(history).hexdigest()}},
        "description": {"train": {"batch_size": 128}},
        "machine": {"device": "cpu", "precision": "fp32"},
        "wall_s": 2.5,
        "created": "2026-01-01T01:00:00Z",
    }
    (place / "manifest.json").write_text(sealed.text(manifest))
