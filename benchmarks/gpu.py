"""Runs the tests and benchmarks that need a GPU: python benchmarks/gpu.py [--out DIR] [--minutes 8], or `make gpu`.

The tests that need CUDA, then every benchmark, one at a time, the most valuable first. Each result is written as soon
as it is complete, to three files: tests.txt (pytest's output), benchmarks.json (a list of what the benchmarks print)
and log.txt (their messages, and how long each took). Benchmarks that do not fit into the time are left out and named.
Exit code: 0, or 1 if a test or a benchmark failed or was left out.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import torch

HERE = Path(__file__).parent
# (time limit in seconds, the program and its arguments). With the tests they add up to eight minutes; the sizes are for
# a host on which a kernel launch takes 8 us, and have not been tested in their present form.
CASES: list[tuple[int, str]] = [
    (45, "fit_overhead.py --steps 300 --repeats 3"),
    (75, "text.py --shape gpt2-9m --steps 60 --repeats 1"),
    (60, "text.py --shape t5-small --steps 60 --repeats 1 --shard 128"),
    (80, "diffusion.py --preset celeba --batch 128 --steps 200 --repeats 1 --timesteps 100 --shard 128"),
    (30, "ensemble.py --seeds 200 --repeats 2"),
]
TESTS_S = 190


def run(command: list[str], seconds: float, out: Path, log: Path) -> int | str:
    """Run a program with its output in `out` and its errors in the log; its exit code, or why there is none."""
    started = time.perf_counter()
    with out.open("w") as output, log.open("a") as errors:
        errors.write(f"\n$ {' '.join(command[1:])}\n")
        errors.flush()
        code: int | str
        try:
            code = subprocess.run(command, stdout=output, stderr=errors, timeout=seconds, check=False).returncode
        except subprocess.TimeoutExpired:
            code = f"stopped after {seconds:.0f} s"
        errors.write(f"[{code}] {time.perf_counter() - started:.1f} s\n")
    return code


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/gpu"), metavar="DIR", help="where the results go")
    parser.add_argument("--minutes", type=float, default=8, help="time for everything")
    options = parser.parse_args()
    if not torch.cuda.is_available():
        print("no CUDA device here", file=sys.stderr)
        return 1
    end = time.perf_counter() + 60 * options.minutes
    options.out.mkdir(parents=True, exist_ok=True)
    log, last = options.out / "log.txt", options.out / "last.json"
    workers = min(12, os.cpu_count() or 1)
    parallel = ["-n", str(workers)] if importlib.util.find_spec("xdist") else []
    # pytest-benchmark, if installed, warns about pytest-xdist, and warnings are errors.
    tests = [sys.executable, "-m", "pytest", "-m", "gpu", "tests/gpu", *parallel, "-p", "no:benchmark"]
    codes = [run([*tests, "--durations", "10"], TESTS_S, options.out / "tests.txt", log)]
    print(f"tests: {codes[0]}", flush=True)
    reports = []
    for seconds, case in CASES:
        program, *arguments = case.split()
        left = end - time.perf_counter()
        if left < seconds / 2:
            code: int | str = "left out: no time"
        else:
            command = [sys.executable, str(HERE / program), *arguments, "--device", "cuda"]
            code = run(command, min(seconds, left), last, log)
        if code == 0:
            reports.append(json.loads(last.read_text()))
            (options.out / "benchmarks.json").write_text(json.dumps(reports, indent=1) + "\n")
        codes.append(code)
        print(f"{case}: {code}", flush=True)
    last.unlink(missing_ok=True)
    return int(any(codes))


if __name__ == "__main__":
    sys.exit(main())
