"""The reference of the command line, from the Typer application."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import typer

from collapse_sim.cli.app import app
from collapse_sim.core import errors

from .tables import cell, code, prose, table

HEAD = """# Command line

Every command, from the program itself; `-h` after a command prints the same. Data goes to stdout and messages go to
stderr; a run continues even if it can no longer write to either. `RUN` is a run directory, or the name of a run below
`./runs`; `RECIPE` is a file, or the name of a shipped recipe. `collapse-sim --install-completion` sets up shell
completion of commands, options and names.
"""

AFTER_CODES = """A chain that diverges or a job that fails does not stop the others: the run finishes everything that it
can, and reports the failure in its exit code.
"""


def commands() -> Iterator[tuple[str, Any]]:
    """Each command's name, such as "cache gc", with its object; groups themselves are left out."""
    group: Any = typer.main.get_command(app)

    def walk(prefix: str, command: Any) -> Iterator[tuple[str, Any]]:
        for name, inner in command.commands.items():
            full = f"{prefix} {name}".strip()
            if hasattr(inner, "commands"):
                yield from walk(full, inner)
            else:
                yield full, inner

    yield from walk("", group)


def pages() -> dict[str, str]:
    """The page `commands`."""
    parts = [HEAD, _exit_codes()]
    parts += [_command(name, command) for name, command in commands()]
    return {"commands": "\n".join(parts)}


def _exit_codes() -> str:
    codes: dict[int, str] = {0: "success", 1: "a bug: please report it", 2: "wrong usage, or an invalid recipe"}
    for value in vars(errors).values():
        if isinstance(value, type) and issubclass(value, errors.CollapseSimError):
            summary = (value.__doc__ or "").strip().split("\n")[0].rstrip(".")
            if value is not errors.CollapseSimError and isinstance(getattr(value, "exit_code", None), int):
                codes.setdefault(value.exit_code, re.split(r"[.;] ", summary[:1].lower() + summary[1:])[0])
    codes |= {
        129: "stopped because the terminal was closed (a checkpoint was taken)",
        130: "stopped by Ctrl-C (a checkpoint was taken)",
        143: "stopped by SIGTERM (a checkpoint was taken)",
    }
    rows = ((code(str(number)), cell(text)) for number, text in sorted(codes.items()))
    return f"## Exit codes\n\n{table(('code', 'meaning'), rows)}\n\n{AFTER_CODES}"


def _command(name: str, command: Any) -> str:
    context = type(command).context_class(command, info_name=f"collapse-sim {name}")
    usage = re.sub(r"\{(\w+)\}", r"\1", command.get_usage(context).partition(": ")[2])
    lines = [f"## {name}", "", "```text", " ".join(usage.split()), "```", "", prose(_help(command)), ""]
    arguments, options = [], []
    for parameter in command.params:
        record = parameter.get_help_record(context)
        if record is None or parameter.name == "help":
            continue
        row = (code(re.sub(r" <\w+>", "", record[0])), cell(prose(record[1])))
        (options if record[0].startswith("-") else arguments).append(row)
    for title, rows in (("argument", arguments), ("option", options)):
        if rows:
            lines += [table((title, "meaning"), rows), ""]
    examples = re.findall(r"^\s+(collapse-sim .*)$", command.epilog or "", flags=re.MULTILINE)
    if examples:
        lines += ["```sh", *examples, "```", ""]
    return "\n".join(lines)


def _help(command: Any) -> str:
    """The help text, its paragraphs as they are; lists that `\\b` keeps from being wrapped become code."""
    paragraphs = (command.help or "").strip().split("\n\n")
    done = []
    for paragraph in paragraphs:
        if paragraph.lstrip().startswith("\b"):
            done.append("```text\n" + paragraph.lstrip().removeprefix("\b").strip("\n") + "\n```")
        else:
            done.append(" ".join(paragraph.split()))
    return "\n\n".join(done)
