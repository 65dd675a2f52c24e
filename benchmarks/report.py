"""Reports: measured case by case, and written after each."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from benchmarks.harness import Case, measure
from benchmarks.surroundings import limits, surroundings
from collapse_sim.core.files import write_atomic
from collapse_sim.core.machine import Device
from collapse_sim.ui.console import say

SCHEMA = 1


def measure_all(
    cases: Iterable[Case], device: Device, seconds: float, file: Path | None = None, *, tiny: bool = False
) -> dict[str, Any]:
    """The report of all cases, which `file` has after each of them."""
    report: dict[str, Any] = {
        "schema": SCHEMA,
        **surroundings(device),
        "limits": limits(device, **({"size": 64, "repeats": 1} if tiny else {})),
        "seconds": seconds,
        "cases": [],
    }
    write(report, file)
    for case in cases:
        entry = measure(case, device, seconds, tiny=tiny)
        entry["matrix_share"] = matrix_share(entry, report["limits"]["matrix_gflops"])
        report["cases"].append(entry)
        write(report, file)
        say(line(entry))
    return report


def matrix_share(entry: dict[str, Any], rates: dict[str, float]) -> float | None:
    """Which part of the measured rate of matrix products, in the case's precision, it reaches."""
    rate, reached = rates.get(entry.get("precision", "")), entry.get("gflops")
    return None if rate is None or reached is None else float(f"{reached / rate:.3g}")


def write(report: dict[str, Any], file: Path | None) -> None:
    if file is not None:
        write_atomic(file, text(report))


def text(report: dict[str, Any]) -> str:
    return json.dumps(report, indent=1) + "\n"


def line(entry: dict[str, Any]) -> str:
    """ "vae-fit: 74.1 updates/s; 1.52 x the example's loop (target 3); 14 s"."""
    if problem := entry.get("failed") or entry.get("missing"):
        return f"{entry['case']}: {'FAILED' if 'failed' in entry else 'not measured'}: {problem}"
    ours = f"{entry['medians'][entry['ours']]:g} {entry['quantity']}"
    limit = "" if entry["at_most"] is None else f" (at most {entry['at_most']:g})"
    peers = (
        f"{ratio:.2f} x {peer}" + (f" (target {entry['targets'][peer]:g})" if peer in entry["targets"] else "")
        for peer, ratio in entry["ratios"].items()
    )
    return f"{entry['case']}: " + "; ".join([ours + limit, *peers, f"{entry['seconds']:.0f} s"])
