"""Reports: complete after every case, with the machine and its limits."""

from __future__ import annotations

import json
import math

import torch

from benchmarks.harness import Case, Ways
from benchmarks.report import line, measure_all
from benchmarks.surroundings import limits
from collapse_sim.core.machine import Device

CPU = Device(torch.device("cpu"))


def test_the_file_has_every_case_as_soon_as_it_is_measured(tmp_path):
    file, seen = tmp_path / "report.json", []

    def prepare(number: int) -> Ways:
        seen.append([entry["case"] for entry in json.loads(file.read_text())["cases"]])
        if number == 1:
            raise ValueError("broken")
        return Ways({"ours": lambda: 2.0, "theirs": lambda: 1.0}, operations=1e6)

    cases = [
        Case(f"case-{number}", "", "rows/s", lambda setting, number=number: prepare(number)) for number in range(3)
    ]
    report = measure_all(cases, CPU, 0.01, file, tiny=True)
    assert seen == [[], ["case-0"], ["case-0", "case-1"]]
    assert json.loads(file.read_text()) == json.loads(json.dumps(report))
    assert [path.name for path in tmp_path.iterdir()] == ["report.json"]
    first, failed, _ = report["cases"]
    assert failed["failed"] == "ValueError: broken"
    rate = report["limits"]["matrix_gflops"]["fp32"]
    assert math.isclose(first["matrix_share"], 0.002 / rate, rel_tol=0.01)


def test_the_report_says_where_when_and_with_what():
    report = measure_all([], CPU, 1, tiny=True)
    assert report["machine"]["kind"] == "cpu"
    assert report["machine"]["threads"] == torch.get_num_threads()
    assert report["machine"]["cpu"]
    assert {"python", "torch", "numpy", "diffusers", "transformers"} <= report["versions"].keys()
    assert report["versions"]["torch"].split("+")[0] == torch.__version__.split("+")[0]
    assert len(report["date"]) == 10


def test_limits_are_rates_of_what_was_computed():
    """A product of 256 x 256 and a copy of 1 MB take more than a nanosecond and less than a second."""
    measured = limits(CPU, size=256, repeats=2)
    assert 2 * 256**3 / 1e9 < measured["matrix_gflops"]["fp32"] < 2 * 256**3
    assert 0.002 < measured["memory_gb_per_s"] < 2e6


def test_lines_name_ratios_targets_and_failures():
    entry = {
        "case": "vae-fit", "quantity": "updates/s", "ours": "collapse-sim", "medians": {"collapse-sim": 74.1},
        "ratios": {"a loop": 1.5}, "targets": {"a loop": 3}, "at_most": None, "seconds": 14.2,
    }  # fmt: skip
    assert line(entry) == "vae-fit: 74.1 updates/s; 1.50 x a loop (target 3); 14 s"
    assert line({"case": "x", "failed": "ValueError: broken"}) == "x: FAILED: ValueError: broken"
    assert line({"case": "x", "missing": "for cpu only"}) == "x: not measured: for cpu only"
