"""How often `verify` is wrong: python -m benchmarks.false_alarms [--experiments N] [--forms TEXT] > rates.json

Experiments whose truth is known, each decided as a run's claims are. For every form of claim and number of seeds: how
often a claim holds that is false by the least there is (its truth lies on the border of what it says), and how often
one fails that is true, or true by the least there is. Chains are the Gaussian's of Shumailov et al. 2024 (replace,
N = 10 and 100): the variance ratio after t fits is a product of t independent chi-squared(N - 1) / N, expected
(1 - 1/N)^t, and late in a chain of N = 10 extremely skewed. Prints JSON and, on stderr, a table.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from collapse_sim.analysis.results import Claim, Results
from collapse_sim.analysis.verdicts import decide_all

SEEDS = (2, 3, 5, 10, 1000)
Values = NDArray[np.float64]  # (n,) or (generations, n)
Draw = Callable[[np.random.Generator, int], Mapping[str, Values]]


class Form(NamedTuple):
    """Claims about arms, what they may not be told of, and where the arms come from."""

    expects: tuple[str, ...]
    wrong: str  # "holds", "fails": which verdict would be wrong of them
    draw: Draw  # {arm: values}
    theory: Callable[[int], float] | None = None  # of generation k, where a claim is about it
    generation: Any = "last"


def noise(*means: float) -> Draw:
    """Arms a, b, c ... with these means and paired noise: what a seed does to all, and what it does to one."""

    def draw(rng: np.random.Generator, n: int) -> Mapping[str, Values]:
        common = rng.standard_normal(n)
        return {"abcdefgh"[i]: mean + common + 0.5 * rng.standard_normal(n) for i, mean in enumerate(means)}

    return draw


def chain(rows: int, fits: int, last: bool = False) -> Draw:
    """Variance ratios of a replaced Gaussian chain, one fit a generation; or the last one's alone."""

    def draw(rng: np.random.Generator, n: int) -> Mapping[str, Values]:
        ratios = np.cumprod(rng.chisquare(rows - 1, (fits, n)) / rows, axis=0)
        return {"a": ratios[-1:] if last else ratios}

    return draw


def falling(rows: int, first: int = 1, factor: float = 1.0) -> Callable[[int], float]:
    """The expected variance ratio, or so many times it."""
    return lambda k: factor * (1 - 1 / rows) ** (k + first)


def chains() -> dict[str, Form]:
    """Claims about theory. `border`: of a theory that is off by just what the claim allows, so that both are wrong."""
    found: dict[str, Form] = {}
    for rows in (10, 100):
        for fits in (1, 10, 51):
            at = chain(rows, fits, last=True)
            said = f"theory, N = {rows}, fit {fits}"
            found[f"{said}: true"] = Form(("a = theory within 10 %",), "fails", at, falling(rows, fits))
            for name, factor in (("above", 1 / 0.75), ("below", 1 / 1.25)):
                off = falling(rows, fits, factor)
                found[f"{said}: {name} the border"] = Form(("a = theory within 25 %",), "either", at, off)
            half = falling(rows, fits, 1.5)
            found[f"{said}: wrong by half"] = Form(("a = theory within 10 %",), "holds", at, half)
            if fits > 1:
                every = chain(rows, fits)
                said = f"theory, N = {rows}, every of {fits}"
                claim = ("a = theory within 10 %",)
                found[f"{said}: true"] = Form(claim, "fails", every, falling(rows), "every")
                half = falling(rows, factor=1.5)
                found[f"{said}: wrong by half"] = Form(claim, "holds", every, half, "every")
    return found


FORMS: dict[str, Form] = {
    "A < B, equal": Form(("a < b",), "holds", noise(5, 5)),
    "A > B, equal": Form(("a > b",), "fails", noise(5, 5)),
    "A < 5, equal": Form(("a < 5",), "holds", noise(5)),
    "A = B within 20 %, at the border": Form(("a = b within 20 %",), "holds", noise(6, 5)),
    "A = B within 20 %, just true": Form(("a = b within 20 %",), "fails", noise(6, 5)),
    "min of 3 < D, equal": Form(("min(a, b, c) < d",), "holds", noise(5, 5, 5, 5)),
    "max of 3 > D, equal": Form(("max(a, b, c) > d",), "holds", noise(5, 5, 5, 5)),
    "min of 3 < D, just true": Form(("min(a, b, c) < d",), "fails", noise(5, 5, 5, 5)),
    "4 arms < one, equal": Form(tuple(f"{arm} < a" for arm in "bcde"), "holds", noise(5, 5, 5, 5, 5)),
    **chains(),
}


def rate(form: Form, n: int, experiments: int) -> float:
    """The share of experiments in which any of the claims gets the wrong verdict."""
    rng = np.random.default_rng([n, experiments])
    wrong = 0
    for _ in range(experiments):
        drawn = {arm: np.atleast_2d(values) for arm, values in form.draw(rng, n).items()}
        verdicts = decide_all([Claim("", "m", form.generation, e) for e in form.expects], results(drawn, form))
        bad = ("holds", "fails") if form.wrong == "either" else (form.wrong,)
        wrong += any(verdict.status in bad for verdict in verdicts)
    return wrong / experiments


def results(drawn: Mapping[str, Values], form: Form) -> Results:
    """What a run with these scores has found."""
    last, n = next(iter(drawn.values())).shape
    values = {
        arm: {"m": {k: dict(enumerate(row)) for k, row in enumerate(rows.tolist())}} for arm, rows in drawn.items()
    }
    curve = [form.theory(k) for k in range(last)] if form.theory else None
    return Results(
        "simulated",
        tuple(drawn),
        tuple(range(n)),
        {"m": None},
        last - 1,
        "a",
        values,
        theory={} if curve is None else {"a": {"m": curve}},
        bounds={} if curve is None else {"m": (0.0, None)},
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--experiments", type=int, default=1000, help="of each form and number of seeds")
    parser.add_argument("--forms", default="", help="only forms whose name has this in it")
    options = parser.parse_args()
    chosen = {name: form for name, form in FORMS.items() if options.forms in name}
    print(f"{'% of experiments that are wrong':<44}" + "".join(f"{n:>8}" for n in SEEDS), file=sys.stderr)
    found: dict[str, dict[int, float]] = {}
    started = time.perf_counter()
    for name, form in chosen.items():
        few = max(1, options.experiments // (5 if form.generation == "every" else 1))
        found[name] = {n: rate(form, n, max(1, few // (5 if n > 100 else 1))) for n in SEEDS}
        print(f"{name:<44}" + "".join(f"{100 * found[name][n]:>8.1f}" for n in SEEDS), file=sys.stderr, flush=True)
    seconds = round(time.perf_counter() - started, 1)
    print(json.dumps({"experiments": options.experiments, "seconds": seconds, "wrong": found}, indent=1))


if __name__ == "__main__":
    main()
