"""FID between the training and the test images of CIFAR-10: python -m benchmarks.studies.fid_cifar10_train_test
--data-dir DIR.

The known value with the standard Inception network is about 3.15 for the full sets, so this checks a network, its
preprocessing and the arithmetic; increasing numbers of rows show the bias of FID with few rows. Features are kept in
pieces in --out: a second start continues where the first was stopped. Prints JSON lines.

--features accepts the same values as a recipe's `features:`, such as inception, or "{torchscript: inception.pt}" for a
file in --data-dir.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path

import numpy as np
import torch
import yaml

from collapse_sim.core.machine import Machine, open_machine
from collapse_sim.core.randomness import Draws
from collapse_sim.data.base import RowSource
from collapse_sim.data.images.cifar10 import CIFAR10
from collapse_sim.metrics.base import WeightedMap
from collapse_sim.metrics.feature_maps import resolve
from collapse_sim.metrics.features import FID, KID, Precision, Recall
from collapse_sim.metrics.weights import WeightsFile

PIECE_ROWS = 500
SIZES = (2_000, 5_000, 10_000)  # rows on either side, before all rows


class Compared:
    """Features of two sets of rows, with the interface that metrics use."""

    def __init__(self, train: torch.Tensor, test: torch.Tensor) -> None:
        self._features = {"samples": train, "held_out": test}

    def features(self, feature_map: object, which: str) -> torch.Tensor:
        return self._features[which]

    def draws(self, role: str) -> Draws:
        return Draws((0,), role, 0)


def kept_features(
    rows: RowSource, feature_map: WeightedMap, weights: WeightsFile, folder: Path, name: str, machine: Machine
) -> torch.Tensor:
    """Features of all rows, (n, F); pieces that exist in `folder` are read, the others are computed."""
    network = None
    pieces = []
    for first in range(0, len(rows), PIECE_ROWS):
        path, last = folder / f"{name}-{first:06d}.npy", min(first + PIECE_ROWS, len(rows))
        if not path.exists():
            network = network or feature_map.load(weights).to(machine.device)
            started = time.perf_counter()
            images = torch.from_numpy(np.ascontiguousarray(rows.read(first, last)["image"]))
            with torch.no_grad(), machine.autocast():
                found = feature_map.features(network, images).numpy()
            np.save(path.with_suffix(".part.npy"), found)
            path.with_suffix(".part.npy").replace(path)
            rate = (last - first) / (time.perf_counter() - started)
            print(json.dumps({"features of": name, "done": last, "of": len(rows), "per_s": round(rate, 1)}), flush=True)
        pieces.append(torch.from_numpy(np.load(path)))
    return torch.cat(pieces)


def fid_of_parts(train: torch.Tensor, test: torch.Tensor, rows: int, feature_map: WeightedMap) -> dict[str, object]:
    """FID of all disjoint parts of `rows` rows in the test set, at most five."""
    started = time.perf_counter()
    parts = [slice(first, first + rows) for first in range(0, len(test) - rows + 1, rows)][:5]
    values = [FID(features=feature_map).score(Compared(train[part], test[part])) for part in parts]
    spread = round(statistics.stdev(values), 3) if len(values) > 1 else None
    seconds = round((time.perf_counter() - started) / len(values), 1)
    mean = round(statistics.mean(values), 3)
    return {"train": rows, "test": rows, "fid": mean, "parts": len(values), "spread": spread, "seconds_each": seconds}


def figures(train: torch.Tensor, test: torch.Tensor, feature_map: WeightedMap) -> dict[str, object]:
    """All metrics of two sets of rows."""
    metrics = {
        "fid": FID(features=feature_map),
        "kid": KID(features=feature_map),
        "kid_100_blocks_of_1000": KID(features=feature_map, subsets=100, subset_size=1000),
        "precision": Precision(features=feature_map),
        "recall": Recall(features=feature_map),
    }
    found: dict[str, object] = {"train": len(train), "test": len(test)}
    for name, metric in metrics.items():
        started = time.perf_counter()
        found[name] = float(metric.score(Compared(train, test)))
        found[f"{name}_s"] = round(time.perf_counter() - started, 1)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--features", default="{torchscript: inception.pt}")
    parser.add_argument("--out", type=Path, default=Path("fid-cifar10"))
    parser.add_argument("--device", default="auto")
    arguments = parser.parse_args()
    feature_map, machine = resolve(yaml.safe_load(arguments.features)), open_machine(arguments.device, "fp32")
    assert isinstance(feature_map, WeightedMap), "a network from a file: inception, {torchscript: FILE}, or dinov2"
    weights = feature_map.weights(arguments.data_dir)
    folder = arguments.out / weights.sha256[:16]
    folder.mkdir(parents=True, exist_ok=True)
    train_rows, test_rows = CIFAR10().open(arguments.data_dir)
    test = kept_features(test_rows, feature_map, weights, folder, "test", machine)
    train = kept_features(train_rows, feature_map, weights, folder, "train", machine)
    network = f"{weights.label} {weights.sha256[:8]}"
    print(json.dumps({"network": network, "dimensions": weights.dimensions, "device": machine.describe()}), flush=True)
    for rows in SIZES:
        print(json.dumps(fid_of_parts(train, test, rows, feature_map)), flush=True)
    print(json.dumps(figures(train[: len(test)], test, feature_map)), flush=True)
    print(json.dumps(figures(train, test, feature_map)), flush=True)


if __name__ == "__main__":
    main()
