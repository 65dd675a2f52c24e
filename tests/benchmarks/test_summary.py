"""The README's tables, from recorded reports."""

from __future__ import annotations

import json

import pytest

from benchmarks.__main__ import RESULTS
from benchmarks.catalogue import CASES
from benchmarks.harness import Case
from benchmarks.summary import BEGIN, END, summary

CASE = Case(
    "vae-fit", "one fit", "updates/s", lambda setting: None,  # type: ignore[arg-type, return-value]
    targets={"a loop": {"cpu": 3, "cuda": 5}}, at_most={"cuda": 7},
)  # fmt: skip


def report(date: str, ours: list[float], loop: list[float], **changes):
    entry = {
        "case": "vae-fit", "compares": "one fit", "quantity": "updates/s", "better": "higher", "precision": "fp32",
        "facts": {"updates": 1000}, "ours": "collapse-sim", "measured": {"collapse-sim": ours, "a loop": loop},
        "medians": {"collapse-sim": ours[0]}, "ratios": {"a loop": ours[0] / loop[0]}, "targets": {"a loop": 3},
        "at_most": None, "matrix_share": 0.25,
    }  # fmt: skip
    return {
        "schema": 1, "date": date, "revision": "abc", "load": [0.1],
        "machine": {"kind": "cpu", "cpu": "AMD EPYC", "threads": 2, "gpu": None}, "versions": {"torch": "2.15"},
        "limits": {"matrix_gflops": {"fp32": 206.4}, "memory_gb_per_s": 21.5}, "cases": [entry], **changes,
    }  # fmt: skip


def write(folder, **reports) -> None:
    for name, content in reports.items():
        (folder / f"{name}.json").write_text(json.dumps(content))


def test_the_newest_figures_of_each_machine_are_shown(tmp_path):
    gpu = {"kind": "cuda", "gpu": "NVIDIA H100", "cpu": "Xeon", "threads": 16}
    write(
        tmp_path,
        b=report("2026-11-01", [10, 10], [10, 10]),
        a=report("2026-11-28", [40, 44], [10, 10]),
        gpu=report("2026-10-01", [90], [30], machine=gpu),
        note={"what": "another record"},
    )
    text = summary([CASE], tmp_path)
    assert "| `vae-fit` | one fit | 3 x a loop | 5 x a loop; at most 7 updates/s |" in text
    assert (
        "| `vae-fit` | 40 updates/s (updates 1,000) | a loop: **4.00** (4.00 to 4.40), target 3 met "
        "| 25 % of fp32 | AMD EPYC, 2 threads, 2026-11-28 |"
    ) in text
    assert "a loop: **3.00** (one round), target 3 met | 25 % of fp32 | NVIDIA H100, 2026-10-01 |" in text
    assert "**1.00**" not in text
    assert "| AMD EPYC, 2 threads, 2026-11-28 | fp32 206 | 21.5 | 2.15 | abc | 0.1 |" in text


def test_failed_cases_leave_the_last_good_figure(tmp_path):
    later = report("2026-11-28", [1], [1])
    later["cases"] = [{"case": "vae-fit", "failed": "ValueError"}]
    write(tmp_path, a=report("2026-11-01", [40], [10]), b=later)
    assert "**4.00**" in summary([CASE], tmp_path)


def test_a_report_of_another_schema_is_an_error(tmp_path):
    write(tmp_path, a={"schema": 2})
    with pytest.raises(ValueError, match=r"a\.json: schema 2; this program reads 1"):
        summary([CASE], tmp_path)


def test_the_readme_has_the_tables_of_the_recorded_reports():
    readme = (RESULTS.parent / "README.md").read_text(encoding="utf-8")
    written = readme[readme.index(BEGIN) : readme.index(END)]
    expected = summary(CASES.values(), RESULTS)
    assert written == expected[: expected.index(END)], "python -m benchmarks --summary, into benchmarks/README.md"
