"""The commands and options as users know them, plain output, and `--help` without torch."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer.main

from collapse_sim import __version__
from collapse_sim.cli.app import app

ROOT = Path(__file__).parents[2]

# What scripts and habits rely on. A change here is a change for every user: make it on purpose.
COMMANDS = {
    "": ["--version", "--install-completion", "--show-completion"],
    "run": [
        "RECIPE", "--arm", "--seed", "--generations", "--set", "--out", "--store", "--data-dir", "--device",
        "--checkpoint-seconds", "--ensemble", "--keep-weights", "--keep-samples", "--compile", "--track",
        "--track-project", "--on", "--ranks", "--smoke", "--dry-run",
        "--plugins", "--json", "--quiet -q", "--verbose -v",
    ],
    "bench": [
        "RECIPE", "--arm", "--seed", "--generations", "--set", "--out", "--store", "--data-dir", "--device",
        "--ensemble", "--smoke", "--seconds", "--plugins", "--json", "--quiet -q",
    ],
    "status": ["RUN", "--costs", "--json"],
    "watch": ["RUN", "--once"],
    "compare": [
        "RUN", "--metric", "--generation", "--baseline", "--all", "--against", "--arm", "--collapse-at",
        "--definitions", "--rates", "--json", "--csv", "--latex", "--markdown", "--plot", "--size",
    ],
    "curves": ["RUN", "--arm", "--generation", "--seed", "--plot", "--store", "--json"],
    "report": ["RUN", "--out", "--markdown"],
    "verify": ["RUN", "--json"],
    "evaluate": [
        "RUN", "--metric", "--data", "--rows", "--out", "--store", "--data-dir", "--device", "--plugins", "--json",
        "--quiet -q",
    ],
    "sample": [
        "RUN", "--out", "--rows", "--arm", "--generation", "--seed", "--draw-seed", "--store", "--data-dir", "--device",
        "--plugins",
    ],
    "export": ["RUN", "--to", "--samples", "--arm", "--generation", "--seed", "--all", "--reference", "--store",
        "--data-dir", "--plugins"],
    "doctor": ["--data-dir", "--json"],
    "recipes list": ["--json"],
    "recipes show": ["NAME"],
    "recipes copy": ["NAME", "DEST"],
    "recipes validate": ["FILE", "--plugins", "--json"],
    "recipes schema": [],
    "list families": ["NAME", "--json"],
    "list strategies": ["NAME", "--json"],
    "list metrics": ["NAME", "--json"],
    "list remedies": ["NAME", "--json"],
    "list data": ["NAME", "--json"],
    "cache list": ["--store", "--by-run", "--json"],
    "cache gc": ["--store", "--delete", "--forget-missing", "--json"],
    "cache verify": ["--store", "--json"],
}  # fmt: skip


def commands(command: Any, name: str = "") -> dict[str, list[str]]:
    """{command: its arguments and options}, of an application or a group of commands."""
    inner = getattr(command, "commands", {})
    options = [" ".join(p.opts) if p.opts[0].startswith("-") else p.metavar for p in command.params]
    found = {name: options} if options or not inner else {}
    for word, part in inner.items():
        found |= commands(part, f"{name} {word}".strip())
    return found


def test_commands_and_options_are_these():
    assert commands(typer.main.get_command(app)) == COMMANDS


@pytest.mark.parametrize("command", [name for name in COMMANDS if name])
def test_every_command_has_help_that_is_not_cut_off(shell, command):
    shell.monkeypatch.setenv("COLUMNS", "80")
    text = shell(*command.split(), "--help").out
    assert shell(*command.split(), "-h").out == text
    assert ("Examples:\n" in text) == (not command.startswith(("cache", "recipes schema")))
    assert text.startswith(f"Usage: collapse-sim {command} ")
    assert all(len(line) <= 80 for line in text.splitlines())
    *group, word = command.split()
    (summary,) = [line for line in shell(*group, "--help").out.splitlines() if line.split()[:1] == [word]]
    assert not summary.endswith("...")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("run text-q", "text-quickstart"),
        ("status my-", "my-run"),
        ("list families conv", "conv_vae"),
        ("com", "compare"),
    ],
)
def test_the_shell_completes_commands_and_names(shell, monkeypatch, words, expected):
    (shell.root / "runs" / "my-run").mkdir(parents=True)
    (shell.root / "runs" / "my-run" / "run.json").write_text("{}")
    monkeypatch.setenv("_COLLAPSE_SIM_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", f"collapse-sim {words}")
    monkeypatch.setenv("COMP_CWORD", str(len(words.split())))
    assert shell().out.split() == [expected]


def test_version(shell):
    assert shell("--version") == (f"collapse-sim {__version__}\n", "")


@pytest.mark.parametrize("words", [["--help"], ["run", "--help"], ["--version"]])
def test_help_imports_nothing_slow(words):
    """What takes long to import, or imports what does; how long help takes is measured elsewhere, not asserted."""
    code = (
        "import sys; from collapse_sim.cli.app import run_app; found = run_app(sys.argv[1:])\n"
        "slow = {'torch', 'numpy', 'yaml', 'scipy', 'matplotlib', 'rich.console', 'psutil', 'filelock', 'PIL',\n"
        "        'huggingface_hub', 'asyncio', 'multiprocessing', 'http.client', 'urllib.request'} & set(sys.modules)\n"
        "own = [name for name, module in sys.modules.items() if name.startswith('collapse_sim.')\n"
        "       and '.cli' not in name and not hasattr(module, '__path__')]\n"
        "sys.exit(f'imported {slow}' if slow else f'imported {own}' if len(own) > 8 else found)"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code, *words], env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(("Usage: ", "collapse-sim "))


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


ESCAPE, COLOUR = re.compile("\x1b"), re.compile(r"\x1b\[[0-9;]*(3[0-8]|4[0-8]|9[0-7])[0-9;]*m")


@pytest.mark.parametrize(
    "words", [["run", "r.yaml"], ["status", "tiny"], ["compare", "tiny"], ["verify", "tiny"], ["--help"]]
)
@pytest.mark.parametrize(
    ("environment", "escapes", "colours"),
    [
        ({"TERM": "xterm-256color"}, True, True),
        ({"TERM": "xterm-256color", "NO_COLOR": "1"}, None, False),
        ({"TERM": "dumb"}, False, False),
    ],
    ids=["colour", "NO_COLOR", "dumb"],
)  # fmt: skip
def test_colours_only_where_they_are_wanted(shell, recipe, monkeypatch, words, environment, escapes, colours):
    """On a terminal: NO_COLOR has no colours (bold and cursor moves stay), TERM=dumb no escape codes at all."""
    claims = "metrics: [test_loss]\nclaims: [{that: x, metric: test_loss, expect: replace < 100}]"
    recipe(("metrics: [test_loss]", claims), ("[0]", "[0, 1]"))
    shell("run", "r.yaml", "-q")
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("COLORTERM", raising=False)
    from collapse_sim.cli.app import run_app

    out, err = Terminal(), Terminal()
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", out)
        patch.setattr(sys, "stderr", err)
        assert run_app(words) == 0
    text = out.getvalue() + err.getvalue()
    assert text
    if words == ["--help"]:
        escapes = colours = False
    if escapes is not None:
        assert bool(ESCAPE.search(text)) == escapes
    assert bool(COLOUR.search(text)) == colours
