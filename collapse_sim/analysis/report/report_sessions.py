"""What was run, where and when, and how to run it again: from run.json and the journal of a run."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from collapse_sim.analysis.report.report_document import Block, ReportCode, ReportFacts, ReportFold, ReportNote
from collapse_sim.analysis.report.report_gaps import ranges
from collapse_sim.analysis.report.report_tables import text_table
from collapse_sim.analysis.results import Results
from collapse_sim.store.run_directory import RECIPE_FILE
from collapse_sim.ui import formatting
from collapse_sim.ui.console import program

_SHOWN = ("data", "model")  # keys of a recipe that are shown as facts
_LONGEST = 400  # characters of a fact
_UNKNOWN = "not recorded"


@dataclass
class RecordedSession:
    """One invocation of `run` or `evaluate`, and what it made and took from the store."""

    started: str = _UNKNOWN
    command: tuple[str, ...] = ()
    device: str = _UNKNOWN
    precision: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)
    revision: str = ""
    created: Counter[str] = field(default_factory=Counter)
    reused: Counter[str] = field(default_factory=Counter)
    wall_s: float = 0.0

    @property
    def command_line(self) -> str:
        """As it can be given again; "" if it is not recorded."""
        return shlex.join([*program(self.command[0]), *self.command[1:]]) if self.command else ""


def sessions_of(lines: Iterable[Mapping[str, Any]]) -> list[RecordedSession]:
    """The sessions of a journal, in their order. Lines before the first one belong to one that is not recorded."""
    sessions: list[RecordedSession] = []
    for line in lines:
        if line["event"] == "session":
            sessions.append(
                RecordedSession(
                    str(line.get("time", _UNKNOWN)),
                    tuple(map(str, line.get("command", ()))),
                    str(line.get("device", _UNKNOWN)),
                    str(line.get("precision", "")),
                    line["environment"] if isinstance(line.get("environment"), dict) else {},
                    str(line.get("revision", "")),
                )
            )
        elif line["event"] == "generation":
            if not sessions:
                sessions.append(RecordedSession())
            sessions[-1].created.update(line["made"])
            sessions[-1].reused.update(line["reused"])
            sessions[-1].wall_s += float(line["wall_s"])
    return sessions


def what_was_run(
    folder: Path, run: Mapping[str, Any], results: Results, sessions: list[RecordedSession]
) -> list[Block]:
    """Facts, the sessions, the settings in which arms differ, and the recipe."""
    settings = _settings(run)
    rows = [
        ("arms", f"{', '.join(results.arms)} ({len(results.arms)})"),
        ("generations", f"0 to {results.generations}; generation 0 is fitted to real rows"),
        ("seeds", f"{ranges(results.seeds)} ({len(results.seeds)})"),
        ("baseline", results.baseline),
        ("metrics", ", ".join(results.metrics_without_parts()) or "none"),
    ]
    if run.get("samples"):
        rows.append(("rows generated per generation", formatting.count(run["samples"])))
    if results.tuned_on is not None:
        rows.append(("seeds that settings were chosen on", ranges(results.tuned_on) or "none"))
    rows += [(key, _cut(in_flow(settings[key]))) for key in _SHOWN if settings.get(key)]
    rows += _where(sessions)
    rows += [("folder of the run", str(folder)), ("recipe's digest", str(run.get("recipe", _UNKNOWN)))]
    blocks: list[Block] = [ReportFacts(rows)]
    if differing := _differing(results):
        blocks.append(ReportFold("What the arms differ in", differing))
    if settings:
        blocks.append(ReportFold("The recipe, with all defaults", [ReportCode(recipe_yaml(settings), "yaml")]))
    else:
        blocks.append(ReportNote(f"the recipe is {_UNKNOWN} in this folder", "warning"))
    return blocks


def reuse(sessions: Sequence[RecordedSession]) -> list[Block]:
    """What every session made, and what it found in the store: there from earlier sessions, or from other runs."""
    if not sessions:
        return [ReportNote(f"what was made and what was reused is {_UNKNOWN}")]
    headings = ["session", "started (UTC)", "device", "took", "made", "found in the store"]
    rows = [
        [
            str(number),
            session.started,
            f"{session.device}, {session.precision}" if session.precision else session.device,
            formatting.duration(session.wall_s),
            _counted(session.created),
            _counted(session.reused),
        ]
        for number, session in enumerate(sessions, 1)
    ]
    note = "Numbers of artefacts: a fit, samples, scores ... of one seed. What is in the store is not made again."
    return [text_table("Sessions of this run", [headings, *rows], prose=True), ReportNote(note, "faint")]


def again(folder: Path, run: Mapping[str, Any], sessions: Sequence[RecordedSession], finished: bool) -> list[Block]:
    """Commands that check this run, continue it, and make all of it anew."""
    recipe, name = shlex.quote(str(folder / RECIPE_FILE)), shlex.quote(str(folder))
    data = _data_dir(sessions)
    lines = [
        "# its tables, and its claims",
        f"collapse-sim compare {name} --all",
        f"collapse-sim verify {name}",
        "# the same run again: continues it, and makes nothing that is in the store" if finished else "# continue it",
        f"collapse-sim run {recipe} --out {name}{data}",
        "# everything anew, in another folder with a store of its own",
        f"collapse-sim run {recipe} --out again --store again-store{data}",
    ]
    blocks: list[Block] = [ReportCode("\n".join(lines), "sh")]
    commands = dict.fromkeys(session.command_line for session in sessions if session.command)
    if commands:
        blocks += [ReportNote("It was run by:"), ReportCode("\n".join(commands), "sh")]
    if _settings(run):
        where = "without the folder: save the recipe above as a file, and run that"
        versions = "; ".join(dict.fromkeys(_versions(session) for session in sessions if session.environment))
        blocks.append(ReportNote(f"From this page, {where}" + (f" ({versions})." if versions else "."), "faint"))
    return blocks


def _data_dir(sessions: Sequence[RecordedSession]) -> str:
    """The option with the folder of data sets that the last session was given, to append to a command; else ""."""
    for session in reversed(sessions):
        for number, word in enumerate(session.command):
            name, _, value = word.partition("=")
            if name == "--data-dir" and (value or session.command[number + 1 :]):
                return f" --data-dir {shlex.quote(value or session.command[number + 1])}"
    return ""


def recipe_yaml(settings: Mapping[str, Any]) -> str:
    """The recipe as the run's folder has it."""
    return yaml.safe_dump(dict(settings), sort_keys=False, allow_unicode=True, width=100)


def in_flow(value: Any) -> str:
    """Settings in one line, without those that are null."""
    if isinstance(value, Mapping):
        value = {key: each for key, each in value.items() if each is not None}
    return yaml.safe_dump(value, default_flow_style=True, sort_keys=False, allow_unicode=True, width=10**9).strip(
        " {}\n"
    )


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]} … (all of it is in the recipe below)"


def _settings(run: Mapping[str, Any]) -> Mapping[str, Any]:
    settings = run.get("settings")
    return settings if isinstance(settings, Mapping) else {}


def _where(sessions: Sequence[RecordedSession]) -> list[tuple[str, str]]:
    if not sessions:
        return [("sessions", _UNKNOWN)]
    rows = [("first started (UTC)", sessions[0].started)]
    if len(sessions) > 1:
        rows.append(("last continued (UTC)", sessions[-1].started))
    devices = dict.fromkeys(", ".join(filter(None, (session.device, session.precision))) for session in sessions)
    revisions = dict.fromkeys(session.revision for session in sessions if session.revision)
    versions = dict.fromkeys(_versions(session) for session in sessions if session.environment)
    rows += [
        (
            "time",
            f"{formatting.duration(sum(s.wall_s for s in sessions))} in {formatting.plural(len(sessions), 'session')}",
        ),
        ("device", "; ".join(devices)),
        ("versions", "; then ".join(versions) or _UNKNOWN),
        (
            "git revision of collapse-sim",
            "; then ".join(revisions) or f"{_UNKNOWN} (not run from a checkout, or by an older version)",
        ),
    ]
    return rows


def _versions(session: RecordedSession) -> str:
    return ", ".join(f"{name} {version}" for name, version in session.environment.items())


def _counted(by_kind: Mapping[str, int]) -> str:
    return ", ".join(f"{formatting.count(n)} {kind}" for kind, n in by_kind.items() if n) or "nothing"


def _differing(results: Results) -> list[Block]:
    paths = list(dict.fromkeys(path for own in results.differing.values() for path in own))
    if not paths:
        return []
    rows = [["arm", *paths]]
    for arm in results.arms:
        own = results.differing.get(arm, {})
        rows.append([arm, *("-" if own.get(path) is None else str(own[path]) for path in paths)])
    return [text_table("Settings of the recipe that are not the same for all arms", rows)]
