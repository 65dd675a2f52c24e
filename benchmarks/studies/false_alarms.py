"""How often `verify` is wrong: python -m benchmarks.studies.false_alarms [--experiments N] > rates.json

Experiments with a known truth. For every form of claim and number of seeds: how often a claim holds although it is
false by the smallest possible margin (the truth is exactly on the border of the claim), and how often one fails that is
true by the smallest margin. Claims about arms are decided like those of a run. Claims about theory use the same p
values, computed for all experiments at once, for chains of Gaussians (replace and accumulate, N = 10 and 100): late in
a replaced chain of N = 10 the variance ratio is extremely skewed. Claims about arms with 1,000 seeds use a fifth of the
experiments. Prints JSON and, on stderr, a table in per cent.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from collapse_sim.analysis.contrast import p_values
from collapse_sim.analysis.evidence import ALPHA
from collapse_sim.analysis.results import RecordedClaim, Results
from collapse_sim.analysis.scale import Scale
from collapse_sim.analysis.verdicts import decide_all

SEEDS = (2, 3, 5, 10, 1000)
FITS = (1, 10, 51)
POSITIVE = Scale((0.0, None))
Array = NDArray[np.float64]


class Form(NamedTuple):
    """Claims about arms a, b, c ... with these means, and which verdict on them would be wrong."""

    expects: tuple[str, ...]
    wrong: str
    means: tuple[float, ...]


FORMS: dict[str, Form] = {
    "A < B, equal: holds": Form(("a < b",), "holds", (5, 5)),
    "A < B, equal: fails": Form(("a < b",), "fails", (5, 5)),
    "A < 5, equal: holds": Form(("a < 5",), "holds", (5,)),
    "A = B within 20 %, at the border: holds": Form(("a = b within 20 %",), "holds", (6, 5)),
    "A = B within 20 %, at the border: fails": Form(("a = b within 20 %",), "fails", (6, 5)),
    "min of 3 < D, all equal: holds": Form(("min(a, b, c) < d",), "holds", (5, 5, 5, 5)),
    "max of 3 > D, all equal: holds": Form(("max(a, b, c) > d",), "holds", (5, 5, 5, 5)),
    "max of 3 < D, all equal: holds": Form(("max(a, b, c) < d",), "holds", (5, 5, 5, 5)),
    "4 arms < one, all equal: any holds": Form(tuple(f"{arm} < a" for arm in "bcde"), "holds", (5,) * 5),
}


def rate(form: Form, n: int, experiments: int) -> float:
    """The share of experiments in which any of the claims gets the wrong verdict; noise is paired, like seeds."""
    rng = np.random.default_rng([n, experiments])
    wrong = 0
    for _ in range(experiments):
        common = rng.standard_normal(n)
        arms = {"abcde"[i]: mean + common + 0.5 * rng.standard_normal(n) for i, mean in enumerate(form.means)}
        verdicts = decide_all([RecordedClaim("", "m", "last", expect) for expect in form.expects], results(arms))
        wrong += any(verdict.status == form.wrong for verdict in verdicts)
    return wrong / experiments


def results(arms: Mapping[str, Array]) -> Results:
    """The results of a run with these scores at generation 0."""
    values = {arm: {"m": {0: dict(enumerate(row.tolist()))}} for arm, row in arms.items()}
    seeds = tuple(range(len(next(iter(arms.values())))))
    return Results("simulated", tuple(arms), seeds, {"m": None}, 0, "a", values)


def replaced(rng: np.random.Generator, rows: int, shape: tuple[int, int]) -> Iterator[tuple[Array, float]]:
    """Variance ratios (experiments, n) after fit 1, 2, ..., each with its expectation (Shumailov et al. 2024)."""
    ratios, expected = np.ones(shape), 1.0
    while True:
        ratios = ratios * rng.chisquare(rows - 1, shape) / rows
        expected *= 1 - 1 / rows
        yield ratios, expected


def accumulated(rng: np.random.Generator, rows: int, shape: tuple[int, int]) -> Iterator[tuple[Array, float]]:
    """Likewise, fitted to the rows of all generations (Kazdan et al. 2024)."""
    mean, ratios, expected = np.zeros(shape), np.ones(shape), 1.0
    total, squares = np.zeros(shape), np.zeros(shape)
    fit = 0
    while True:
        fit += 1
        own = mean + np.sqrt(ratios / rows) * rng.standard_normal(shape)
        squares = squares + ratios * rng.chisquare(rows - 1, shape) + rows * own**2
        total = total + rows * own
        mean = total / (rows * fit)
        ratios = squares / (rows * fit) - mean**2
        expected *= 1 - 1 / (rows * fit**2)
        yield ratios, expected


def near(ratios: Array, theory: float, part: float, looks: int = 1) -> tuple[Array, Array]:
    """Two-sided p values for `A = theory within` a fraction: that it holds, and that it fails."""
    low = p_values(ratios, theory * (1 - part), POSITIVE, looks=looks)
    high = p_values(ratios, theory * (1 + part), POSITIVE, looks=looks)
    return 2 * np.maximum(low[1], high[0]), 2 * np.minimum(low[0], high[1])


def theory_rates(kind: str, rows: int, n: int, experiments: int) -> dict[str, float]:
    """{form: share of experiments with a wrong verdict}."""
    draw = {"replace": replaced, "accumulate": accumulated}[kind]
    shape = (experiments, n)
    steps = draw(np.random.default_rng([rows, n]), rows, shape)
    off = {"10 % off: holds": (1 / 1.1, 0.1), "25 % off: holds": (1 / 1.25, 0.25), "25 % off: fails": (1 / 0.75, 0.25)}
    found: dict[str, float] = {}
    every = {fits: (np.ones(shape[0]), np.zeros(shape[0]), np.zeros(shape[0])) for fits in FITS[1:]}
    for fit, (ratios, expected) in zip(range(1, FITS[-1] + 1), steps, strict=False):
        if fit in FITS:
            said = f"{kind}, N = {rows}, fit {fit}"
            found[f"{said}, true: fails"] = float((near(ratios, expected, 0.1)[1] <= ALPHA).mean())
            for name, (factor, part) in off.items():
                p = near(ratios, factor * expected, part)["fails" in name]
                found[f"{said}, {name}"] = float((p <= ALPHA).mean())
            found[f"{said}, off by half: holds"] = float((near(ratios, 1.5 * expected, 0.1)[0] <= ALPHA).mean())
        for fits, (fails, edge, half) in every.items():
            if fit <= fits:
                np.minimum(fails, fits * near(ratios, expected, 0.1, fits)[1], out=fails)
                np.maximum(edge, near(ratios, expected / 1.25, 0.25, fits)[0], out=edge)
                np.maximum(half, near(ratios, 1.5 * expected, 0.1, fits)[0], out=half)
    for fits, (fails, edge, half) in every.items():
        said = f"{kind}, N = {rows}, every of {fits}"
        found[f"{said}, true: fails"] = float((fails <= ALPHA).mean())
        found[f"{said}, 25 % off: holds"] = float((edge <= ALPHA).mean())
        found[f"{said}, off by half: holds"] = float((half <= ALPHA).mean())
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--experiments", type=int, default=1000, help="experiments per form and number of seeds")
    options = parser.parse_args()
    started = time.perf_counter()

    def number(n: int) -> int:
        return max(1, options.experiments // (5 if n > 100 else 1))

    found = {name: {n: rate(form, n, number(n)) for n in SEEDS} for name, form in FORMS.items()}
    for kind in ("replace", "accumulate"):
        for rows in (10, 100):
            for n in SEEDS:
                for name, share in theory_rates(kind, rows, n, options.experiments).items():
                    found.setdefault(name, {})[n] = share
    print(f"{'% of experiments with a wrong verdict':<48}" + "".join(f"{n:>8}" for n in SEEDS), file=sys.stderr)
    for name, rates in found.items():
        print(f"{name:<48}" + "".join(f"{100 * rates[n]:>8.1f}" for n in SEEDS), file=sys.stderr)
    seconds = round(time.perf_counter() - started, 1)
    print(json.dumps({"experiments": options.experiments, "seconds": seconds, "wrong": found}, indent=1))


if __name__ == "__main__":
    main()
