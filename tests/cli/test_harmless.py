"""Whatever names, claims, keys, file names and plug-ins hold, no raw control character or mark leaves the program."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from collapse_sim.cli.app import run_app
from tests.cli.test_app import Terminal
from tests.core.test_printable import KEPT, steers

EVIL = "\x1b[31m\x07\x9b\u202e\u2066\x7f\u200b\x1b]0;title\x07"
SPELT = r"\e[31m\a\x9b\u202e\u2066\x7f\u200b\e]0;title\a"  # the same in YAML's double quotes
SEEN = r"\x1b[31m\x07\x9b\u202e\u2066\x7f\u200b\x1b]0;title\x07"
RECIPE = f"""
description: "d{SPELT}"
data: {{use: gaussian, rows: 30}}
model: {{use: gaussian}}
generations: 1
seeds: 3
arms: {{replace: {{data: replace}}, accumulate: {{data: accumulate}}}}
metrics: [{{use: variance_ratio, as: "vr{SPELT}"}}, mean_error]
claims: [{{that: "c{SPELT}", metric: "vr{SPELT}", expect: accumulate < 100}}]
reference: {{source: "paper{SPELT}", metric: mean_error, values: {{replace: 0.5}}}}
"""
OWN = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b\]8;[^\x1b]*\x1b\\")  # styles, cursor moves: only on a terminal


def unsafe(text: str) -> list[str]:
    return [f"{ord(sign):x} in {text[max(i - 40, 0) : i + 40]!r}" for i, sign in enumerate(text) if bad(sign)]


def bad(sign: str) -> bool:
    return steers(sign) and sign not in KEPT


def texts_of(value: Any) -> Iterator[str]:
    """All texts in a JSON document, names among them."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for part in [*value, *value.values()] if isinstance(value, dict) else value:
            yield from texts_of(part)


@pytest.fixture
def evil(shell):
    Path("evil.yaml").write_text(RECIPE)
    done = shell("run", "evil.yaml", "-v")
    assert unsafe(done.out + done.err) == []
    assert f"vr{SEEN}" in done.err
    return shell


COMMANDS = [
    "status", "status evil", "status evil --json", "status --json", "watch evil --once", "compare evil",
    "compare evil --csv", "compare evil --json", "compare evil --generation last", "verify evil", "verify evil --json",
    "recipes validate evil.yaml", "recipes validate evil.yaml --json", "run evil.yaml --dry-run",
    "run evil.yaml --dry-run --json", "run evil.yaml --json", "cache list", "cache list --json", "cache verify",
    "evaluate evil --metric w2 -q", "export evil --to new --all", "sample evil --out new.npz", "list strategies",
    "doctor", "recipes list",
]  # fmt: skip


@pytest.mark.slow
def test_a_run_of_such_names(evil, monkeypatch):
    """All commands, into a pipe and on a terminal, and all files of words."""
    for command in COMMANDS:
        done = evil(*command.split())
        assert unsafe(done.out + done.err) == [], command
        if command in ("status evil", "watch evil --once", "compare evil", "compare evil --csv", "verify evil"):
            assert r"\x1b[31m" in done.out, command
        if command in ("status evil --json", "compare evil --json", "verify evil --json"):
            assert any(EVIL in text for text in texts_of(done.json)), command  # a program reads what it is called
    monkeypatch.setenv("TERM", "xterm-256color")
    for command in ("status evil", "compare evil", "verify evil", "run evil.yaml"):
        screens = Terminal(), Terminal()
        with monkeypatch.context() as patch:
            patch.setattr(sys, "stdout", screens[0])
            patch.setattr(sys, "stderr", screens[1])
            assert run_app(command.split()) == 0
        text = "".join(screen.getvalue() for screen in screens)
        assert unsafe(OWN.sub("", text).replace("\r", "")) == [], command
    files = [path for path in Path().rglob("*") if path.suffix in (".json", ".jsonl", ".csv", ".md", ".yaml")]
    assert len(files) > 10
    for path in files:
        if path.name != "evil.yaml":
            assert unsafe(path.read_text(encoding="utf-8")) == [], path


BROKEN = {
    "a key": f'"k{SPELT}": 1\n{RECIPE}',
    "a key within": RECIPE.replace("rows: 30", f'"rows{SPELT}": 30'),
    "a value": RECIPE.replace("seeds: 3", f'seeds: "{SPELT}"'),
    "a name": f'name: "n{SPELT}"\n{RECIPE}',
    "a component": RECIPE.replace("use: gaussian}", f'use: "gaussian{SPELT}"}}'),
    "an arm": RECIPE.replace("replace: {", f'"replace{SPELT}": {{'),
    "a claim": RECIPE.replace("accumulate < 100", f'"{SPELT} < 3"'),
    "what is extended": f'extends: "x{SPELT}"\n{RECIPE}',
    "not YAML": f"{RECIPE}\n{EVIL}: [",
    "a module": RECIPE.replace("use: gaussian}", 'use: "evil_module:Family"}'),
}


@pytest.mark.parametrize("recipe", BROKEN.values(), ids=BROKEN)
def test_what_is_said_of_a_broken_recipe(shell, recipe, monkeypatch):
    monkeypatch.syspath_prepend(str(shell.root))
    Path("evil_module.py").write_text(f"raise RuntimeError({EVIL!r})\n")
    Path("broken.yaml").write_text(recipe, encoding="utf-8")
    for words in (["run", "broken.yaml"], ["recipes", "validate", "broken.yaml"]):
        code = run_app(words)
        done = shell.capsys.readouterr()
        assert code != 0
        assert done.err or done.out
        assert unsafe(done.out + done.err) == []


@pytest.mark.parametrize(
    "words",
    [
        ["run", f"no{EVIL}"], ["status", f"no{EVIL}"], ["compare", f"no{EVIL}"], ["run", "evil.yaml", f"--no{EVIL}"],
        [f"no{EVIL}"], ["run", "evil.yaml", "--seed", EVIL], ["run", "evil.yaml", "--set", f"train.{EVIL}=1"],
        ["run", "evil.yaml", "--arm", EVIL], ["list", "families", EVIL], ["recipes", "show", EVIL],
        ["compare", "evil", "--metric", EVIL], ["run", "evil.yaml", "--device", EVIL],
        ["run", "evil.yaml", "--set", "data={use: mnist}", "--data-dir", EVIL],
        ["run", os.fsdecode(b"caf\xe9.yaml")], ["status", os.fsdecode(b"caf\xe9")],
        ["cache", "list", "--store", os.fsdecode(b"caf\xe9")], ["export", "evil", "--to", f"evil.yaml/{EVIL}"],
    ],
    ids=lambda words: " ".join(words)[:20].encode("unicode_escape", "surrogateescape").decode(),
)  # fmt: skip
def test_what_is_said_of_a_wrong_command(shell, words):
    Path("evil.yaml").write_text(RECIPE)
    code = run_app(words)
    done = shell.capsys.readouterr()
    assert code != 0
    assert done.err
    assert unsafe(done.out + done.err) == []


def test_a_bug_is_told_harmlessly(shell, monkeypatch):
    def broken(*_: object) -> None:
        raise RuntimeError(EVIL)

    monkeypatch.setattr("collapse_sim.cli.doctor_command._report", broken)
    done = shell("doctor", code=1)
    assert "this is a bug" in done.err
    assert unsafe(done.err) == []


def test_a_line_is_cut_where_nobody_reads_on(shell):
    done = shell("recipes", "show", "x" * 100_000, code=2)
    assert max(map(len, done.err.splitlines())) < 2100
    assert "xxx..." in done.err


def test_a_strangers_live_json_is_harmless(evil):
    """All texts of it are evil, and all of the right type."""
    path = Path("runs/evil/live.json")
    live = json.loads(path.read_text())
    wild = {
        **live, "device": EVIL, "precision": EVIL, "message": EVIL, "outcome": "failed", "host": EVIL,
        "notes": [{"message": EVIL, "level": "warning"}],
        "job": {
            "kind": EVIL, "digest": EVIL, "generation": 0, "arms": [EVIL], "seeds": [0], "started": 1.0, "done": 1,
            "total": 2, "unit": EVIL, "loss": 1.0, "first_done": 0, "first_time": 1.0, "last_time": 2.0,
        },
        "texts": {"replace": {"generation": 0, "texts": [EVIL]}},
    }  # fmt: skip
    for change in ({}, {"outcome": None, "pid": os.getpid(), "process_started": None, "host": os.uname().nodename}):
        path.write_text(json.dumps(wild | change))
        for command in ("status evil", "status evil --json", "watch evil --once", "status"):
            done = evil(*command.split())
            assert unsafe(done.out + done.err) == []
