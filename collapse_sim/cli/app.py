"""The Typer application: registers the commands and turns errors into exit codes."""

from __future__ import annotations

import contextlib
import io
import signal
import threading
import traceback
from collections.abc import Iterator, Sequence
from typing import Annotated, cast

import typer

from collapse_sim import __version__
from collapse_sim.cli import (
    bench_command,
    cache_command,
    compare_command,
    curves_command,
    doctor_command,
    evaluate_command,
    export_command,
    list_command,
    recipes_command,
    report_command,
    run_command,
    sample_command,
    status_command,
    verify_command,
    watch_command,
)
from collapse_sim.cli.examples import examples
from collapse_sim.core.errors import (
    CollapseSimError,
    InterruptedRunError,
    OutOfMemoryError,
    RanksError,
    UnderWayElsewhereError,
)
from collapse_sim.core.memory_errors import first_line, out_of_memory
from collapse_sim.ui.console import exit_code, say, say_logs, say_warnings

LESS_MEMORY = "lower train.batch_size, sampling.shard or data.rows, or allow this process more memory (ulimit -v)"

app = typer.Typer(
    name="collapse-sim",
    help="Run, watch and compare model-collapse experiments over generations, strategies and seeds.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    rich_markup_mode=None,  # plain text: quicker, and flags are not shown as if they took a value
    pretty_exceptions_enable=False,
)
for _name, _command, _examples in (
    (
        "run",
        run_command.run,
        ("run quickstart", "run mine.yaml --seed 0 --seed 1 --set train.epochs=5", "run mine.yaml --dry-run"),
    ),
    (
        "bench",
        bench_command.bench,
        ("bench quickstart", "bench mine.yaml --seed 0 --generations 3 --seconds 10"),
    ),
    ("status", status_command.status, ("status", "status quickstart", "status quickstart --costs")),
    ("watch", watch_command.watch, ("watch quickstart",)),
    (
        "compare",
        compare_command.compare,
        (
            "compare quickstart",
            "compare quickstart --metric fid --plot fid.png",
            "compare phase-real-share --against data.share --plot curve.png",
        ),
    ),
    ("curves", curves_command.curves, ("curves vae-mnist-strategies --arm replace --plot curves.png",)),
    ("report", report_command.report, ("report quickstart", "report quickstart mine --out both.html")),
    ("verify", verify_command.verify, ("verify quickstart",)),
    (
        "evaluate",
        evaluate_command.evaluate,
        ("evaluate quickstart --metric vendi", "evaluate exported --data digits --metric coverage"),
    ),
    (
        "sample",
        sample_command.sample,
        ("sample quickstart --out samples.png", "sample quickstart --arm replace --out s.npz"),
    ),
    (
        "export",
        export_command.export,
        ("export quickstart --to exported", "export quickstart --to exported --all --reference"),
    ),
    ("doctor", doctor_command.doctor, ("doctor --data-dir ~/data",)),
):
    app.command(_name, epilog=examples(*_examples))(_command)
app.add_typer(recipes_command.app, name="recipes")
app.add_typer(list_command.app, name="list")
app.add_typer(cache_command.app, name="cache")

_USAGE = cast("type[typer.BadParameter]", typer.BadParameter.__mro__[1])  # raised for a wrong command line


def _version(requested: bool) -> None:
    if requested:
        typer.echo(f"collapse-sim {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Options that come before any command."""


@contextlib.contextmanager
def _noting_ctrl_c(interrupted: threading.Event) -> Iterator[None]:
    """Record Ctrl-C in `interrupted`: during an import, packages turn it into errors of their own."""

    def handle(number: int, frame: object) -> None:
        interrupted.set()
        raise KeyboardInterrupt

    in_main_thread = threading.current_thread() is threading.main_thread()
    if not in_main_thread or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield  # another handler is installed
        return
    signal.signal(signal.SIGINT, handle)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def run_app(argv: Sequence[str] | None = None) -> int:
    """Run one command line; returns the exit code (errors.py has the table)."""
    say_logs()
    say_warnings()
    return exit_code(_run(argv))


def _run(argv: Sequence[str] | None) -> int:
    interrupted = threading.Event()
    try:
        with _noting_ctrl_c(interrupted):
            code = app(args=list(argv) if argv is not None else None, prog_name="collapse-sim", standalone_mode=False)
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except _USAGE as error:
        buffer = io.StringIO()
        error.show(buffer)
        say(buffer.getvalue().rstrip())
        return error.exit_code
    except RanksError as error:
        if str(error):  # otherwise rank 0 has said it
            say(f"error: {error}")
        return error.code
    except InterruptedRunError as stop:
        say(str(stop))
        return stop.code
    except UnderWayElsewhereError as elsewhere:
        say(str(elsewhere))
        return elsewhere.exit_code
    except CollapseSimError as error:
        say(f"error: {error}")
        return error.exit_code
    except Exception as error:
        if interrupted.is_set():
            return 128 + signal.SIGINT
        if out_of_memory(error):
            say(f"error: out of memory: {first_line(error)}: finished work is kept; {LESS_MEMORY}")
            return OutOfMemoryError.exit_code
        say(traceback.format_exc().rstrip())
        say("error: this is a bug in collapse-sim; please report it with the lines above")
        return 1
    return code if isinstance(code, int) else 0
