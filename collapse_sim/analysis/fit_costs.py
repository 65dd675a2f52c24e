"""The output of `status --costs`: what fits and their samples took."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean
from typing import Any

from collapse_sim.analysis.fit_records import FitRecord, grouped
from collapse_sim.ui import formatting

HEADINGS = ("generation", "arm", "seeds", "updates", "fit", "rows/s", "model", "sampling", "samples", "device")


def costs_table(records: Sequence[FitRecord], arms: int) -> list[list[str]]:
    """Rows of cells, the first one with the headings. Means over fits, which are one for each seed, or one for all if
    they are solved together; `arms`: the number of the run's arms."""
    rows = [list(HEADINGS)]
    for (k, names, _), fits in grouped(records).items():
        speeds = [speed for fit in fits if (speed := fit.rows_per_s) is not None]
        sampling = [fit.sampling_s for fit in fits if fit.sampling_s is not None]
        without_updates = "imported" if fits[0].imported else "solved"
        made_on = dict.fromkeys(f"{fit.device}, {fit.precision}" for fit in fits)
        rows.append(
            [
                str(k),
                formatting.arms(names, arms),
                str(sum(len(fit.seeds) or 1 for fit in fits)),
                f"{fmean(fit.updates for fit in fits):,.0f}" if speeds else without_updates,
                formatting.duration(fmean(fit.seconds for fit in fits)),
                formatting.count(fmean(speeds)) if speeds else "-",
                formatting.size(fmean(fit.size for fit in fits)),
                formatting.duration(fmean(sampling)) if sampling else "-",
                formatting.size(fmean(fit.samples_size for fit in fits)) if sampling else "-",
                "; ".join(made_on),
            ]
        )
    return rows


def costs_total(records: Sequence[FitRecord]) -> str:
    """What all fits and samples took together, each counted once."""
    fits, sampling = sum(r.seconds for r in records), sum(r.sampling_s or 0.0 for r in records)
    size = sum(r.size + r.samples_size for r in records)
    return (
        f"{formatting.plural(len(records), 'fit')}: {formatting.duration(fits)} of fitting, "
        f"{formatting.duration(sampling)} of sampling, {formatting.size(size)}"
    )


def costs_document(run: str, records: Sequence[FitRecord], problems: Sequence[str]) -> dict[str, Any]:
    """Seconds and bytes of each fit. A fit that was computed together with others has its share of their time."""
    return {
        "schema": 1,
        "run": run,
        "fits": list(map(cost_entry, records)),
        "problems": list(problems),
    }


def cost_entry(record: FitRecord) -> dict[str, Any]:
    """One fit of the document."""
    return {
        **record.identity(),
        "fit_s": record.seconds,
        "rows_per_s": record.rows_per_s,
        "bytes": record.size,
        "sampling_s": record.sampling_s,
        "samples_bytes": record.samples_size,
        "device": record.device,
        "precision": record.precision,
    }
