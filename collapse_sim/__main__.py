"""`collapse-sim` and `python -m collapse_sim`."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line and end with its exit code."""
    from collapse_sim.ui.streams import ignore_write_errors

    ignore_write_errors()
    from collapse_sim.cli.app import run_app

    sys.exit(run_app())


if __name__ == "__main__":
    main()
