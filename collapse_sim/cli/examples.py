"""Help on the command line: examples below `--help`, and shell completion."""

from __future__ import annotations

from collections.abc import Callable


def examples(*commands: str) -> str:
    """An epilog with one command per line; `commands` come without the program's name."""
    lines = "\n".join(f"  collapse-sim {command}" for command in commands)
    return f"\b\nExamples:\n{lines}"


def completing(*rooms: str) -> Callable[[str], list[str]]:
    """A completion function for the names of components in these rooms of the registry."""

    def complete(incomplete: str) -> list[str]:
        from collapse_sim.core import registry

        return [name for room in rooms for name in registry.names(room) if name.startswith(incomplete)]

    return complete


def complete_recipe(incomplete: str) -> list[str]:
    """Names of shipped recipes; the shell completes file names if none matches."""
    from collapse_sim.recipe import shipped

    return [name for name in shipped.names() if name.startswith(incomplete)]


def complete_run(incomplete: str) -> list[str]:
    """Names of runs below ./runs; the shell completes folder names if none matches."""
    from collapse_sim.store.run_directory import runs_here

    return [folder.name for folder in runs_here() if folder.name.startswith(incomplete)]
