"""What a machine with a GPU is borrowed for: python benchmarks/gpu.py [--out DIR] [--minutes 8], or `make gpu`.

The tests that need CUDA, then every benchmark on it, alone and one after the other; the most valuable first. Each
result is written as it ends, into three files: tests.txt (pytest's output), benchmarks.json (a list of what the
benchmarks print) and log.txt (what they said, and how long each took). What does not fit into the time is left out and
named.
Exit code: 0, or 1 when a test or a benchmark failed or was left out.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import subprocess
import sys
import time
from pathlib import Path

import torch

HERE = Path(__file__).parent
# (seconds it may take, the program and its arguments): sizes are such that all fit into eight minutes on one H100.
CASES: list[tuple[int, str]] = [
    (40, "fit_overhead.py --steps 1000"),
    (70, "text.py --shape gpt2-9m --repeats 2"),
    (70, "text.py --shape t5-small --repeats 2 --shard 128"),
    (90, "diffusion.py --preset celeba --batch 32 128 --steps 50 --repeats 2 --timesteps 250 --shard 128"),
    (60, "ensemble.py --seeds 200 --repeats 2"),
]
TESTS_S = 240


def run(command: list[str], seconds: float, log: Path) -> tuple[str, int | str]:
    """A program's output (its errors go to the log's end), and its exit code or why it has none."""
    started = time.perf_counter()
    with log.open("a") as errors:
        errors.write(f"\n$ {' '.join(command[1:])}\n")
        errors.flush()
        try:
            done = subprocess.run(
                command, stdout=subprocess.PIPE, stderr=errors, timeout=seconds, text=True, check=False
            )
            out, code = done.stdout, done.returncode
        except subprocess.TimeoutExpired as stopped:
            found = stopped.stdout or b""
            out, code = found.decode() if isinstance(found, bytes) else found, f"stopped after {seconds:.0f} s"
        errors.write(f"[{code}] {time.perf_counter() - started:.1f} s\n")
    return out, code


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/gpu"), metavar="DIR", help="where the results go")
    parser.add_argument("--minutes", type=float, default=8, help="for all of it")
    options = parser.parse_args()
    if not torch.cuda.is_available():
        print("no CUDA device here", file=sys.stderr)
        return 1
    end = time.perf_counter() + 60 * options.minutes
    options.out.mkdir(parents=True, exist_ok=True)
    log = options.out / "log.txt"
    parallel = ["-n", "6"] if importlib.util.find_spec("xdist") else []
    tests = [sys.executable, "-m", "pytest", "-m", "gpu", "tests/gpu", *parallel, "--durations", "10"]
    out, code = run(tests, TESTS_S, log)
    (options.out / "tests.txt").write_text(out)
    codes = [code]
    print(f"tests: {code}", flush=True)
    reports = []
    for seconds, case in CASES:
        program, *arguments = case.split()
        left = end - time.perf_counter()
        if left < seconds / 2:
            out, code = "", "left out: no time"
        else:
            command = [sys.executable, str(HERE / program), *arguments, "--device", "cuda"]
            out, code = run(command, min(seconds, left), log)
        if code == 0:
            reports.append(json.loads(out))
            (options.out / "benchmarks.json").write_text(json.dumps(reports, indent=1) + "\n")
        codes.append(code)
        print(f"{case}: {code}", flush=True)
    return int(any(codes))


if __name__ == "__main__":
    sys.exit(main())
