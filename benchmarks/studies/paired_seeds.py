"""What pairing by seeds gains: how correlated two arms are over seeds, and how much narrower their difference becomes.

    python -m benchmarks.studies.paired_seeds RUN [--generation G] [--metric M]...

For every metric and every pair of arms: the correlation of their values over seeds, and the width of the paired 95 %
interval of their difference over that of the unpaired one (Welch's). Below 1 pairing helps; about 1 it gains nothing.
"""

from __future__ import annotations

import argparse
import itertools
import math
from pathlib import Path

import numpy as np
from scipy.stats import t

from collapse_sim.analysis.intervals import LEVEL
from collapse_sim.analysis.results import Results, read_results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="a run directory; with fewer than ten seeds a correlation says nothing")
    parser.add_argument("--generation", type=int, help="default: the last")
    parser.add_argument("--metric", action="append", help="only this one (may be repeated)")
    said = parser.parse_args()
    results = read_results(said.run)
    generation = results.generations if said.generation is None else said.generation
    pairs = list(itertools.combinations(results.arms, 2))
    print(
        f"{results.name}, generation {generation}, {len(results.seeds)} seeds: correlation, width paired / unpaired\n"
    )
    print(f"| metric | {' | '.join(f'{a}, {b}' for a, b in pairs)} |")
    print("| --- |" + " --- |" * len(pairs))
    for metric in said.metric or results.metrics_without_parts():
        print(f"| `{metric}` | {' | '.join(cell(results, metric, generation, a, b) for a, b in pairs)} |")


def cell(results: Results, metric: str, generation: int, a: str, b: str) -> str:
    """ "0.62, 0.63"; "-" if the values of one arm do not scatter."""
    of = [results.scores(arm, metric, generation) for arm in (a, b)]
    seeds = [seed for seed in results.seeds if all(seed in values for values in of)]
    x, y = (np.array([values[seed] for seed in seeds]) for values in of)
    if len(seeds) < 3 or not np.isfinite([x, y]).all() or x.std() == 0 or y.std() == 0:
        return "-"
    return f"{np.corrcoef(x, y)[0, 1]:.2f}, {paired_half(x - y) / unpaired_half(x, y):.2f}"


def paired_half(differences: np.ndarray) -> float:
    """Half the width of the Student-t interval for the mean difference."""
    n = len(differences)
    return _quantile(n - 1) * float(differences.std(ddof=1)) / math.sqrt(n)


def unpaired_half(x: np.ndarray, y: np.ndarray) -> float:
    """The same for independent seeds: Welch's interval for the difference of two means."""
    parts = [float(values.var(ddof=1)) / len(values) for values in (x, y)]
    freedom = sum(parts) ** 2 / sum(p * p / (len(v) - 1) for p, v in zip(parts, (x, y), strict=True))
    return _quantile(freedom) * math.sqrt(sum(parts))


def _quantile(freedom: float) -> float:
    return float(t.ppf((1 + LEVEL) / 2, freedom))


if __name__ == "__main__":
    main()
