"""The tables of benchmarks/README.md: the cases, and the newest figures of each, from the reports in results/."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.harness import Case
from benchmarks.report import SCHEMA

Report = Mapping[str, Any]
BEGIN, END = "<!-- python -m benchmarks --summary -->", "<!-- end of the summary -->"


def read_reports(folder: Path) -> list[Report]:
    """The harness's reports in a folder, oldest first. Other records there have no "schema". Raises ValueError for a
    report of another schema."""
    reports = []
    for path in sorted(folder.glob("*.json")):
        content = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(content, dict) or "schema" not in content:
            continue
        if content["schema"] != SCHEMA:
            raise ValueError(f"{path}: schema {content['schema']}; this program reads {SCHEMA}")
        reports.append(content)
    return sorted(reports, key=lambda report: str(report["date"]))


def summary(cases: Iterable[Case], folder: Path) -> str:
    """Both tables in Markdown."""
    cases, reports = list(cases), read_reports(folder)
    return "\n".join((BEGIN, "", *_cases(cases), "", *_figures(cases, reports), "", *_limits(reports), "", END, ""))


def _cases(cases: Sequence[Case]) -> Iterable[str]:
    yield "| case | what is measured | target on two CPU cores | on one H100 or H200 |"
    yield "| --- | --- | --- | --- |"
    for case in cases:
        targets = (_target(case, kind) for kind in ("cpu", "cuda"))
        yield f"| `{case.name}` | {case.compares} | {' | '.join(targets)} |"


def _target(case: Case, kind: str) -> str:
    if kind not in case.devices:
        return "-"
    goals = [f"{goal[kind]:g} x {peer}" for peer, goal in case.targets.items() if kind in goal]
    if kind in case.at_most:
        goals.append(f"at most {case.at_most[kind]:g} {case.quantity}")
    return "; ".join(goals) or "none"


def _figures(cases: Sequence[Case], reports: Sequence[Report]) -> Iterable[str]:
    """The newest entry of each case on each kind of machine, in the order of the cases; earlier cases last."""
    newest: dict[tuple[str, str], tuple[Report, Mapping[str, Any]]] = {}
    for report in reports:
        for entry in report["cases"]:
            if "failed" not in entry and "missing" not in entry:
                newest[entry["case"], machine(report)] = report, entry
    order = {case.name: number for number, case in enumerate(cases)}
    yield "| case | ours | times as good as | share of the matrix rate | machine, date |"
    yield "| --- | --- | --- | --- | --- |"
    for (name, where), (report, entry) in sorted(
        newest.items(), key=lambda item: (order.get(item[0][0], len(order)), item[0])
    ):
        facts = ", ".join(f"{key} {_fact(value)}" for key, value in entry["facts"].items())
        ours = f"{entry['medians'][entry['ours']]:g} {entry['quantity']}" + (f" ({facts})" if facts else "")
        goal = _verdict(entry, entry["medians"][entry["ours"]], entry["at_most"], above=False)
        peers = [_ratio(entry, peer, ratio) for peer, ratio in entry["ratios"].items()]
        share = entry.get("matrix_share")
        reached = "-" if share is None else f"{100 * share:.0f} % of {entry['precision']}"
        yield f"| `{name}` | {ours}{goal} | {'; '.join(peers) or '-'} | {reached} | {where}, {report['date']} |"


def _ratio(entry: Mapping[str, Any], peer: str, ratio: float) -> str:
    spread = _spread(entry, peer)
    return f"{peer}: **{ratio:.2f}**{spread}" + _verdict(entry, ratio, entry["targets"].get(peer), above=True)


def _spread(entry: Mapping[str, Any], peer: str) -> str:
    """The range of the ratios of single rounds."""
    pairs = zip(entry["measured"][entry["ours"]], entry["measured"][peer], strict=False)
    single = [ours / theirs if entry["better"] == "higher" else theirs / ours for ours, theirs in pairs]
    return f" ({min(single):.2f} to {max(single):.2f})" if len(single) > 1 else " (one round)"


def _verdict(entry: Mapping[str, Any], value: float, target: float | None, *, above: bool) -> str:
    if target is None:
        return ""
    met = value >= target if above else value <= target
    return f", target {'' if above else 'at most '}{target:g} {'met' if met else 'missed'}"


def _fact(value: Any) -> str:
    if isinstance(value, Mapping):
        return " + ".join(f"{number}" for number in value.values())
    if isinstance(value, list):
        return " and ".join(map(str, value))
    return f"{value:,}" if isinstance(value, int) else str(value)


def machine(report: Report) -> str:
    """ "AMD EPYC, 2 cores, 2 threads" or "NVIDIA H100"."""
    about = report["machine"]
    if about["kind"] == "cuda":
        return str(about["gpu"])
    return f"{about['cpu']}, {about['threads']} thread{'' if about['threads'] == 1 else 's'}"


def _limits(reports: Sequence[Report]) -> Iterable[str]:
    yield "| machine, date | matrix products, GFLOP/s | memory, GB/s | torch | revision | load at the start |"
    yield "| --- | --- | --- | --- | --- | --- |"
    for report in reports:
        limits = report["limits"]
        if not limits["matrix_gflops"]:
            continue  # an earlier report
        rates = ", ".join(f"{name} {rate:,.0f}" for name, rate in limits["matrix_gflops"].items())
        copying, load = limits["memory_gb_per_s"], report["load"]
        facts = (
            f"{machine(report)}, {report['date']}",
            rates,
            "not measured" if copying is None else f"{copying:g}",
            report["versions"]["torch"],
            report["revision"] or "not recorded",
            "not recorded" if load is None else f"{load[0]:g}",
        )
        yield f"| {' | '.join(facts)} |"
