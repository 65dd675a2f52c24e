"""Runs the tests and the cases that need a GPU: python -m benchmarks.gpu [--out DIR] [--minutes 8], or `make gpu`.

The tests that need CUDA, then the cases, the most valuable first. Everything is written as it ends, to at most five
files: tests.txt (pytest's output), benchmarks.json (the report, complete after every case) and log.txt (messages); if a
case ends the process, the next ones are in benchmarks-2.json and benchmarks-3.json. Cases that do not fit into the time
are named. Exit code: 0, or 1 if a test or a case failed or was left out.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

CASES = (  # by value
    "vae-table1",
    "diffusion-step",
    "vae-fit",
    "decoding-gpt2-9m",
    "diffusion-sampling",
    "groups-unet",
    "text-t5-small",
    "decoding-t5-small",
    "decoding-gpt2-124m",
    "text-gpt2-9m",
    "groups-quickstart",
    "overhead",
)
TESTS_S = 190.0
CASE_S = 11.0
PARTS = 3  # processes that cases may end
Run = Callable[[Sequence[str], float, Path], int | str]


def run_program(command: Sequence[str], seconds: float, out: Path) -> int | str:
    """Run a program with its output in `out`; its exit code, or why there is none."""
    with out.open("a") as output:
        output.write(f"$ {' '.join(command[1:])}\n")
        output.flush()
        started = time.perf_counter()
        code: int | str
        try:
            code = subprocess.run(
                command, stdout=output, stderr=subprocess.STDOUT, timeout=seconds, check=False
            ).returncode
        except subprocess.TimeoutExpired:
            code = f"stopped after {seconds:.0f} s"
        output.write(f"[{code}] {time.perf_counter() - started:.1f} s\n")
    return code


def measured(file: Path) -> dict[str, bool]:
    """{case: whether it was measured} of a report."""
    if not file.exists():
        return {}
    entries = json.loads(file.read_text(encoding="utf-8"))["cases"]
    return {entry["case"]: "failed" not in entry for entry in entries}


def measure(
    cases: Sequence[str], out: Path, end: float, run: Run, clock: Callable[[], float] = time.perf_counter
) -> dict[str, str]:
    """Measure cases until `end`. Returns {case: "measured", "failed", "ended the process" or "left out: no time"}."""
    fate = dict.fromkeys(cases, "left out: no time")
    for part in range(1, PARTS + 1):
        todo = [case for case in cases if fate[case].startswith("left out")]
        left = end - clock()
        if not todo or left < CASE_S:
            break
        file = out / ("benchmarks.json" if part == 1 else f"benchmarks-{part}.json")
        command = [sys.executable, "-m", "benchmarks", *todo, "--device", "cuda", "--seconds", f"{CASE_S:g}"]
        code = run([*command, "--json", str(file)], left, out / "log.txt")
        done = measured(file)
        fate.update({case: "measured" if well else "failed" for case, well in done.items()})
        if isinstance(code, str):
            break  # out of time
        if code not in (0, 1) or not done:
            ended = next((case for case in todo if case not in done), None)
            if ended is not None:
                fate[ended] = f"ended the process with {code}"
    return fate


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/gpu"), metavar="DIR", help="where the results go")
    parser.add_argument("--minutes", type=float, default=8, help="time for everything")
    options = parser.parse_args()
    end = time.perf_counter() + 60 * options.minutes
    import torch

    if not torch.cuda.is_available():
        print("no CUDA device here", file=sys.stderr)
        return 1
    options.out.mkdir(parents=True, exist_ok=True)
    for old in (*options.out.glob("benchmarks*.json"), options.out / "tests.txt", options.out / "log.txt"):
        old.unlink(missing_ok=True)
    workers = min(12, os.cpu_count() or 1)
    parallel = ["-n", str(workers)] if importlib.util.find_spec("xdist") else []
    # pytest-benchmark, if installed, warns about pytest-xdist, and warnings are errors.
    tests = [sys.executable, "-m", "pytest", "-m", "gpu", "tests/gpu", *parallel, "-p", "no:benchmark"]
    tested = run_program([*tests, "--durations", "10"], TESTS_S, options.out / "tests.txt")
    print(f"tests: {tested}", flush=True)
    fate = measure(CASES, options.out, end, run_program)
    for case, what in fate.items():
        print(f"{case}: {what}")
    return int(tested != 0 or set(fate.values()) != {"measured"})


if __name__ == "__main__":
    sys.exit(main())
