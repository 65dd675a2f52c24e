"""`collapse-sim` and `python -m collapse_sim`."""

from __future__ import annotations

import os
import sys
from collections.abc import MutableMapping

WAITING = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")  # how idle threads of torch wait for each other


def share_cores(environment: MutableMapping[str, str]) -> None:
    """Have torch's threads sleep while they wait for each other, unless the user has chosen otherwise.

    By default they spin, and take cores from other programs and from each other. Measured on two cores for an update
    of table 1's VAE (2026-11-28): 15 to 17 ms on an idle machine, 240 to 310 ms beside two or three busy programs;
    sleeping, 17 to 19 and 46 to 61 ms. It has to be set before torch is imported.
    """
    if not any(name in environment for name in WAITING):
        environment["OMP_WAIT_POLICY"] = "PASSIVE"


def main() -> None:
    """Run the command line and end with its exit code."""
    share_cores(os.environ)
    from collapse_sim.ui.streams import ignore_write_errors

    ignore_write_errors()
    from collapse_sim.cli.app import run_app

    sys.exit(run_app())


if __name__ == "__main__":
    main()
