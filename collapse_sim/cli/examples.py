"""What helps on the command line: examples below `--help`, and words for the shell's completion."""

from __future__ import annotations

from collections.abc import Callable


def examples(*commands: str) -> str:
    """An epilog with one command a line, without the program's name in front."""
    lines = "\n".join(f"  collapse-sim {command}" for command in commands)
    return f"\b\nExamples:\n{lines}"


def completing(*rooms: str) -> Callable[[str], list[str]]:
    """Names of components."""

    def found(incomplete: str) -> list[str]:
        from collapse_sim.core import registry

        return [name for room in rooms for name in registry.names(room) if name.startswith(incomplete)]

    return found


def complete_recipe(incomplete: str) -> list[str]:
    """Shipped recipes; files, where the shell finds none of that name."""
    from collapse_sim.recipe import shipped

    return [name for name in shipped.names() if name.startswith(incomplete)]


def complete_run(incomplete: str) -> list[str]:
    """Runs below ./runs; folders, where the shell finds none of that name."""
    from collapse_sim.store.run_directory import runs_here

    return [folder.name for folder in runs_here() if folder.name.startswith(incomplete)]
