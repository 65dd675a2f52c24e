"""Hand-made run directories: run.json and a journal, as a run would leave them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner, Result

from collapse_sim.cli.compare_command import compare
from collapse_sim.store import journal, recorded, sealed

PARTS = {"names": ["0", "1"], "better": None, "dead_below": 0.1}
ENTRY = {"better": "higher", "unit": "of the real share", "bounds": [0.0, None], "note": "100 samples", "parts": PARTS}

Scores = Mapping[str, Mapping[str, Sequence[Sequence[float]]]]  # [arm][metric][generation][position of the seed]
WriteRun = Callable[..., Path]
Call = Callable[..., Result]


@pytest.fixture
def write_run(tmp_path: Path) -> WriteRun:
    """write_run(scores, ...) -> a run directory below tmp_path/runs."""

    def write(
        scores: Scores,
        *,
        name: str = "toy",
        folder: str | None = None,
        seeds: Sequence[int] = (0, 1, 2),
        generations: int | None = None,
        better: Mapping[str, str | None] | None = None,
        **extra: Any,
    ) -> Path:
        run_dir = tmp_path / "runs" / (folder or name)
        run_dir.mkdir(parents=True)
        metrics = list(dict.fromkeys(metric for by_metric in scores.values() for metric in by_metric))
        last = max((len(ks) for by_metric in scores.values() for ks in by_metric.values()), default=1) - 1
        run = {
            "schema": 1,
            "name": name,
            "recipe": "0" * 64,
            "store": "../../store",
            "generations": last if generations is None else generations,
            "seeds": list(seeds),
            "arms": list(scores),
            "baseline": next(iter(scores)),
            "show": metrics[0] if metrics else None,
            "metrics": {metric: {"better": (better or {}).get(metric, "lower")} for metric in metrics},
            "claims": [],
            "reference": None,
            "theory": {},
            "settings": {},
            "samples": 100,
            **extra,
        }
        (run_dir / "run.json").write_text(sealed.text(run))
        lines: list[dict[str, Any]] = [{"event": "session", "time": "2025-01-01T00:00:00Z"}]
        for k in range(last + 1):
            for arm, by_metric in scores.items():
                values = {metric: list(ks[k]) for metric, ks in by_metric.items() if k < len(ks)}
                if values:
                    lines.append(scores_line(arm, k, list(seeds), values))
        journal.append(run_dir / "journal.jsonl", lines)
        written: recorded.Scores = {}
        recorded.add(written, lines)
        recorded.write(run_dir, written)
        return run_dir

    return write


def scores_line(arm: str, generation: int, seeds: list[int], metrics: dict[str, Any]) -> dict[str, Any]:
    """One `scores` line of a journal."""
    return {"event": "scores", "generation": generation, "arm": arm, "seeds": seeds, "metrics": metrics}


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Call:
    """call("RUN", "--json", ...) in a folder with ./runs, without a terminal; errors are raised."""
    app = typer.Typer()
    app.command()(compare)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("COLUMNS", raising=False)
    return lambda *arguments: CliRunner().invoke(app, list(map(str, arguments)), catch_exceptions=False)


@pytest.fixture
def parts_run(write_run: WriteRun) -> Path:
    """Two seeds, four generations. Class 1 dies at 2 and 3 under replace, and is back once it was gone before."""
    return write_run(
        {
            "replace": {
                "shares": [[0.9, 0.9], [0.05, 0.5], [0.05, 0.2], [0.0, 0.01]],
                "shares[0]": [[1.1, 1.0], [1.4, 1.5], [1.9, 1.8], [2.0, 1.9]],
                "shares[1]": [[0.9, 0.9], [0.5, 0.5], [0.05, 0.2], [0.0, 0.01]],
            },
            "accumulate": {
                "shares": [[0.9, 0.9], [0.09, 0.5], [0.4, 0.5], [0.5, 0.6]],
                "shares[0]": [[1.1, 1.0], [1.9, 1.5], [1.6, 1.5], [1.5, 1.4]],
                "shares[1]": [[0.9, 0.9], [0.09, 0.5], [0.4, 0.5], [0.5, 0.6]],
            },
        },
        seeds=(0, 1),
        metrics={"shares": ENTRY},
    )
