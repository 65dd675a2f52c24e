"""Tables of a results page, made from what `compare --json` gave, which is stored beside the page.

    python -m tests.docs.stored_results store docs/results/open-question/linear.json RUN replace,accumulate METRIC...
    python -m tests.docs.stored_results write docs/results/open-question.md

`store` runs `compare --json` once for every baseline; it keeps the differences to each, leaves out the values of single
seeds, and rounds to six digits. It also keeps what `verify`, `compare --definitions` and `status --costs` say.
In a page, a table stands between `<!-- table: FILE KIND ... -->` and `<!-- end -->`:

    means METRIC GENERATIONS [ARM|ARM...]      mean and 95 % interval of each arm by generation
    theory METRIC GENERATIONS [ARM|ARM...]     the same, with the closed form below
    last METRICS [ARM|ARM...]                  every metric at the last generation
    gains METRIC GENERATIONS [ARM-ARM|...]     paired differences; * below 5 % after Holm's correction for all arms
    published METRIC GENERATION BASELINE       each mean and published figure, and their distances to those of an arm
    percent METRIC GENERATION BASELINE         a column for each of several FILEs (a.json,b.json): means of generation 0
                                               and of the baseline, and paired differences in per cent of the latter
                                               (over held-out rows where there is one seed), for arms that all have
    claims                                     the recipe's claims, each with its verdict
    verdicts [ARM|ARM...]                      by definition of collapse, from generation 0 to the last
    costs [ARM|ARM...]                         updates, and batches that networks see, in all fits of an arm and seed
"""

from __future__ import annotations

import contextlib
import io
import json
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from collapse_sim.analysis.numbers import figure, with_interval
from collapse_sim.cli.app import run_app

Document = dict[str, Any]
TABLE = re.compile(r"<!-- table: (?P<file>\S+) (?P<kind>\S+)(?P<what>.*) -->\n(?P<text>(?s:.*?))<!-- end -->")


def rendered(page: Path) -> str:
    """The page with every table made anew from its stored document."""

    def table(match: re.Match[str]) -> str:
        paths = [page.parent / file for file in match["file"].split(",")]
        stored = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in paths}
        words = match["what"].lstrip().split(" ", KINDS_ARGUMENTS[match["kind"]] - 1)
        rows = KINDS[match["kind"]](stored if match["kind"] in OF_SEVERAL else stored[paths[0].stem], *words)
        head, *body = ["| " + " | ".join(row) + " |" for row in rows]
        lines = [head, "| " + " | ".join("---" for _ in rows[0]) + " |", *body]
        opening = match[0].split("\n", 1)[0]
        return "\n".join([opening, "", *lines, "", "<!-- end -->"])

    return TABLE.sub(table, page.read_text(encoding="utf-8"))


def _cell(entry: Document | None, *, signed: bool = False) -> str:
    if entry is None:
        return ""
    return with_interval(entry["mean"], entry["low"], entry["high"], signed=signed).replace("  ", " ").strip()


def _entry(entries: Sequence[Document], generation: int) -> Document | None:
    return next((entry for entry in entries if entry["generation"] == generation), None)


def _generations(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


def _arms(stored: Document, chosen: str) -> list[str]:
    return chosen.split("|") if chosen else list(stored["arms"])


def means(stored: Document, metric: str, generations: str, chosen: str = "") -> list[list[str]]:
    numbers = _generations(generations)
    rows = [["arm", *(f"generation {k}" for k in numbers)]]
    for arm in _arms(stored, chosen):
        rows.append([f"`{arm}`", *(_cell(_entry(stored["arms"][arm][metric], k)) for k in numbers)])
    return rows


def theory(stored: Document, metric: str, generations: str, chosen: str = "") -> list[list[str]]:
    numbers = _generations(generations)
    rows = means(stored, metric, generations, chosen)
    for row, arm in zip(rows[1:], _arms(stored, chosen), strict=True):
        curve = stored["theory"].get(arm, {}).get(metric)
        for column, k in enumerate(numbers, start=1):
            row[column] += f" ({figure(curve[k], 3)})" if curve else " (no closed form)"
    return rows


def last(stored: Document, metrics: str, chosen: str = "") -> list[list[str]]:
    names, k = metrics.split(","), stored["common_generation"]
    rows = [["arm", *(f"`{name}`" for name in names)]]
    for arm in _arms(stored, chosen):
        rows.append([f"`{arm}`", *(_cell(_entry(stored["arms"][arm].get(name, []), k)) for name in names)])
    return rows


def gains(stored: Document, metric: str, generations: str, pairs: str) -> list[list[str]]:
    numbers = _generations(generations)
    rows = [["difference", *(f"generation {k}" for k in numbers)]]
    for pair in pairs.split("|"):
        arm, baseline = pair.split("-", 1)
        cells = [_entry(stored["differences"][baseline][arm][metric], k) for k in numbers]
        starred = [
            _cell(cell, signed=True) + ("*" if cell and cell["p_holm"] is not None and cell["p_holm"] < 0.05 else "")
            for cell in cells
        ]
        rows.append([f"`{arm}` - `{baseline}`", *starred])
    return rows


def published(stored: Document, metric: str, generation: str, baseline: str) -> list[list[str]]:
    k = int(generation)
    found = (entry for entry in stored["references"] if (entry["metric"], entry["generation"]) == (metric, k))
    figures = [{arm: _entry(stored["arms"][arm][metric], k)["mean"] for arm in stored["arms"]}, next(found)["figures"]]
    rows = [["arm", "here", f"from `{baseline}`", "published", f"from `{baseline}`"]]
    for arm in stored["arms"]:
        cells = [
            cell
            for values in figures
            for cell in (figure(values[arm], 4), f"{100 * (values[arm] / values[baseline] - 1):+.1f} %")
        ]
        rows.append([f"`{arm}`", *cells])
    return rows


def percent(stored: Mapping[str, Document], metric: str, generation: str, baseline: str) -> list[list[str]]:
    first = next(iter(stored.values()))
    arms = [arm for arm in first["arms"] if arm != baseline and all(arm in each["arms"] for each in stored.values())]
    k = int(generation)
    means = {name: _entry(each["arms"][baseline][metric], k)["mean"] for name, each in stored.items()}
    rows = [
        ["model", *(f"`{name}`" for name in stored)],
        ["generation 0", *(figure(_entry(each["arms"][baseline][metric], 0)["mean"], 4) for each in stored.values())],
        [f"`{baseline}`", *(figure(mean, 4) for mean in means.values())],
    ]
    for arm in arms:
        cells = []
        for name, each in stored.items():
            entry = _entry(each["differences"][baseline][arm][metric], k)
            ends = entry["rows"] if entry["low"] is None else entry  # one seed: over held-out rows
            values = {"mean": entry["mean"], "low": ends["low"], "high": ends["high"]}
            scaled = {key: 100 * value / means[name] for key, value in values.items()}
            cells.append(f"{_cell(scaled, signed=True)} %")
        rows.append([f"`{arm}`", *cells])
    return rows


def claims(stored: Document, _: str = "") -> list[list[str]]:
    rows = [["claim", "", "verdict", "difference"]]
    for claim in stored["claims"]:
        entry = claim | {"mean": claim["difference"]}
        cell = _cell(entry, signed=True) if claim["difference"] is not None else ""
        expect = claim["expect"].replace("|", "\\|")
        rows.append([claim["that"], f"`{claim['metric']}`: `{expect}`", claim["status"], cell])
    return rows


def verdicts(stored: Document, chosen: str = "") -> list[list[str]]:
    measured = (entry for entry in stored["definitions"] if entry["status"] != "not measured")
    definitions = list(dict.fromkeys(entry["definition"] for entry in measured))
    rows = [["arm", *definitions]]
    status = {(entry["arm"], entry["definition"]): entry["status"] for entry in stored["definitions"]}
    for arm in _arms(stored, chosen):
        rows.append([f"`{arm}`", *(status.get((arm, definition), "") for definition in definitions)])
    return rows


def costs(stored: Document, chosen: str = "") -> list[list[str]]:
    rows = [["arm", "updates", "batches seen by the student", "by its teacher"]]
    for arm in _arms(stored, chosen):
        cost = stored["costs"][arm]
        rows.append([f"`{arm}`", f"{cost['updates']:,}", f"{cost['updates']:,}", f"{cost['taught']:,}"])
    return rows


KINDS: dict[str, Callable[..., list[list[str]]]] = {
    "means": means,
    "theory": theory,
    "last": last,
    "gains": gains,
    "published": published,
    "percent": percent,
    "claims": claims,
    "verdicts": verdicts,
    "costs": costs,
}
KINDS_ARGUMENTS = {
    "means": 3,
    "theory": 3,
    "last": 2,
    "gains": 3,
    "published": 3,
    "percent": 3,
    "claims": 1,
    "verdicts": 1,
    "costs": 1,
}
OF_SEVERAL = ("percent",)
PART = re.compile(r'("(?:arms|differences|theory|claims|definitions|costs)":|\},)')  # a line ends after it
LEFT_OUT = ("values", "rows", "n", "p")
CLAIM = ("that", "metric", "expect", "status", "difference", "low", "high")


def _json_of(*words: str) -> Document:
    with contextlib.redirect_stdout(io.StringIO()) as output, contextlib.suppress(SystemExit):
        run_app([*words, "--json"])
    document: Document = json.loads(output.getvalue())
    return document


def _costs(run: str, arms: Document) -> Document:
    """Of all fits of an arm after generation 0, a mean over seeds: updates, and those with a teacher."""
    fits = [fit for fit in _json_of("status", run, "--costs")["fits"] if fit["generation"]]
    taught = {
        arm
        for arm, settings in arms.items()
        if any(key.startswith("teacher.") and value is not None for key, value in settings.items())
    }
    found = {}
    for arm in arms:
        own = [fit for fit in fits if arm in fit["arms"]]
        seeds = max(1, len({seed for fit in own for seed in fit["seeds"]}))
        updates = sum(fit["updates"] * len(fit["seeds"]) for fit in own) // seeds
        found[arm] = {"updates": updates, "taught": updates if arm in taught else 0}
    return found


def store(target: Path, run: str, baselines: Sequence[str], metrics: Sequence[str]) -> None:
    """Write what `compare --json` says of a run, with the differences to each of the baselines."""
    documents = {}
    for baseline in baselines:
        chosen = [part for metric in metrics for part in ("--metric", metric)]
        documents[baseline] = _json_of("compare", run, "--baseline", baseline, *chosen)
    first = documents[baselines[0]]
    kept = {key: first[key] for key in ("schema", "run", "generations", "common_generation", "metrics", "diverged")}
    stored = kept | {
        "seeds": len(first["seeds"]),
        "theory": first["theory"],
        "references": [{**entry, "figures": entry["values"]} for entry in first["references"]],  # values are left out
        "arms": first["arms"],
        "differences": {baseline: document["differences"] for baseline, document in documents.items()},
        "claims": [{key: claim[key] for key in CLAIM} for claim in _json_of("verify", run)["claims"]],
        "definitions": [
            {key: verdict[key] for key in ("arm", "definition", "status")}
            for verdict in _json_of("compare", run, "--definitions")["definitions"]
        ],
        "costs": _costs(run, first["arm_settings"]),
    }
    text = json.dumps(_rounded(stored), separators=(",", ":"), ensure_ascii=False)
    target.write_text(PART.sub("\\1\n", text) + "\n", encoding="utf-8")


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, dict):
        one_seed = value.get("low", 0) is None and value.get("rows") is not None
        return {
            key: _rounded(part)
            for key, part in value.items()
            if key not in LEFT_OUT or (key == "rows" and one_seed)  # whose only intervals these are
        }
    return [_rounded(part) for part in value] if isinstance(value, list) else value


if __name__ == "__main__":
    command, path, *others = sys.argv[1:]
    if command == "store":
        store(Path(path), others[0], others[1].split(","), others[2:])
    else:
        Path(path).write_text(rendered(Path(path)), encoding="utf-8")
