"""`collapse-sim` and `python -m collapse_sim`."""

from __future__ import annotations

import os
import sys


def main() -> None:
    """Run the command line and end with its exit code."""
    # Threads that wait for each other must not keep a core busy meanwhile: where several processes share the cores
    # (two terminals on one run, a shared node), spinning made small fits a hundred times slower. Torch reads it when it
    # is imported.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    from collapse_sim.cli.app import run_app

    sys.exit(run_app())


if __name__ == "__main__":
    main()
