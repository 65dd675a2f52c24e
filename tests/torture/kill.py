"""Kills a small run at random moments and continues it, again and again.

python -m tests.torture.kill --seconds S --seed N. The same bytes must come out, nothing may be left lying
about, and nothing may end in a traceback.
"""

from __future__ import annotations

import os
import random
import signal
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from tests.torture.bench import RUN, call, comparison, contents, finish, fresh, leftovers, main, start, warm


def run(seconds: float, seed: int, at_least: int = 0) -> dict[str, Any]:
    """Kill for `seconds`, and `at_least` so many runs. Counts; `cases` says what was wrong."""
    dice = random.Random(seed)
    counts: Counter[str] = Counter(runs=0, kills=0, together=0, differing=0, traceback=0, leftovers=0, warnings=0)
    cases: list[str] = []
    with tempfile.TemporaryDirectory() as name:
        here, begun = Path(name) / "here", time.monotonic()
        fresh(here)
        warm(RUN)
        fresh(here)
        started = time.monotonic()
        assert finish(start(RUN)).code == 0
        takes = time.monotonic() - started
        whole, compared = contents(Path("runs/.store")), comparison()
        while time.monotonic() - begun < seconds or counts["runs"] < at_least:
            fresh(here)
            counts["runs"] += 1
            for _ in range(dice.randint(1, 6)):
                pids = [start(RUN) for _ in range(dice.choice((1, 1, 2)))]
                counts["together"] += len(pids) == 2
                for pid in pids:
                    time.sleep(dice.uniform(0, takes))
                    os.kill(pid, signal.SIGKILL)
                ends = [finish(pid) for pid in pids]
                counts["kills"] += sum(end.code == -signal.SIGKILL for end in ends)
                if any(end.code == 1 or "Traceback" in end.err for end in ends):
                    counts["traceback"] += 1
                    cases += [end.err[-800:] for end in ends]
            done = call(*RUN)
            if done.code != 0:
                counts["traceback"] += 1
                cases.append(f"exit {done.code}: {done.err[-800:]}")
            elif contents(Path("runs/.store")) != whole or comparison() != compared:
                counts["differing"] += 1
                cases.append(f"other bytes: {sorted(set(contents(Path('runs/.store')).items()) ^ set(whole.items()))}")
            elif left := leftovers(Path("runs/.store")):
                counts["leftovers"] += 1
                cases.append(f"left: {left}")
            elif "warning" in (said := call("compare", "small").err + done.err):
                counts["warnings"] += 1
                cases.append(said[-800:])
        os.chdir("/")
    return {**counts, "cases": cases}


if __name__ == "__main__":
    main(run)
