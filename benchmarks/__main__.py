"""python -m benchmarks [CASE...] [--device cpu|cuda] [--seconds N] [--json FILE] [--list] [--summary]

Measures cases side by side with what a user would run instead: all, or those that are named. Messages go to stderr, the
report to FILE, which is complete after every case, or at the end to stdout. Exit code 1 if a case failed.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

RESULTS = Path(__file__).parent / "results"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("case", nargs="*", metavar="CASE", help="default: all")
    parser.add_argument("--device", default="auto", metavar="cpu|cuda")
    parser.add_argument("--seconds", type=float, default=20.0, metavar="N", help="for a case; default: 20")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where the report goes")
    parser.add_argument("--list", action="store_true", help="print the cases")
    parser.add_argument("--summary", action="store_true", help="print the README's tables, from results/*.json")
    parser.add_argument("--tiny", action="store_true", help="as little work as possible, to see whether cases run")
    options = parser.parse_args(arguments)

    from benchmarks.catalogue import CASES

    unknown = [name for name in options.case if name not in CASES]
    if unknown:
        parser.error(f"no such case: {', '.join(unknown)}; there are: {', '.join(CASES)}")
    if not options.seconds > 0:
        parser.error(f"--seconds {options.seconds:g}: must be above 0")
    chosen = [CASES[name] for name in options.case or CASES]
    if options.list:
        for case in chosen:
            print(f"{case.name:<26} {case.compares}")
        return 0
    if options.summary:
        from benchmarks.summary import summary

        print(summary(chosen, RESULTS), end="")
        return 0
    from benchmarks.report import measure_all, text
    from collapse_sim.core.errors import CollapseSimError
    from collapse_sim.core.machine import open_device

    if options.json is not None and not options.json.absolute().parent.is_dir():
        parser.error(f"--json {options.json}: {options.json.absolute().parent} is not a folder")
    try:
        device = open_device(options.device)
    except CollapseSimError as error:
        parser.error(str(error))
    report = measure_all(chosen, device, options.seconds, options.json, tiny=options.tiny)
    if options.json is None:
        print(text(report), end="")
    return int(any("failed" in entry for entry in report["cases"]))


if __name__ == "__main__":
    sys.exit(main())
