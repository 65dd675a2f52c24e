"""What failed and what depends on it: everything made from it is left out, and nothing else."""

from __future__ import annotations

import random
from dataclasses import dataclass

import pytest

from collapse_sim.core.errors import DivergedError, StoreError
from collapse_sim.store.failures import Failures, missing_of
from collapse_sim.store.jobs import Job
from collapse_sim.store.spec import Spec

SEEDS = (0, 1, 2)


@dataclass(frozen=True, eq=False)
class Made(Spec):
    """An artefact that is made from others."""

    made_from: tuple[Spec, ...] = ()

    @property
    def parents(self) -> tuple[Spec, ...]:
        return self.made_from


def spec(name: str, *parents: Spec, seeded: bool = True, generation: int = 0) -> Made:
    return Made("fit", generation, {"name": name}, seeded=seeded, made_from=parents)


def job(of: Spec, *seeds: int) -> Job:
    return Job(of, seeds, ("replace",))


@pytest.mark.parametrize("seed", range(50))
def test_what_depends_on_a_failure_cannot_be_made_and_all_else_can(seed: int) -> None:
    """Random graphs, asked in the order of making; against a search through all ancestors."""
    dice = random.Random(seed)
    specs: list[Made] = []
    for i in range(12):
        seeded = i > 2
        earlier = [other for other in specs if seeded or not other.seeded]
        specs.append(spec(str(i), *dice.sample(earlier, min(len(earlier), dice.randrange(3))), seeded=seeded))
    broken = {(dice.choice(specs), dice.choice(SEEDS)) for _ in range(3)}

    def fails(of: Spec, s: int) -> bool:
        itself = any(of is one and (s == seed or not of.seeded) for one, seed in broken)
        return itself or any(fails(parent, s) for parent in of.parents)

    failures = Failures()
    for of in specs:
        for one, s in broken:
            if one is of and not any(fails(parent, s) for parent in of.parents):
                failures.add(job(of, *((s,) if of.seeded else ())), ValueError("broken"))
        assert missing_of(of, SEEDS, failures) == tuple(s for s in SEEDS if not fails(of, s))
        for s in SEEDS:
            cause = failures.cause(of, s)
            assert (cause is not None) == fails(of, s)
            if cause is not None:
                assert any(cause.job.spec is one for one, _ in broken)


def test_the_first_cause_is_told() -> None:
    data, other = spec("data", seeded=False), spec("other")
    fit = spec("fit", data, other)
    samples = spec("samples", fit)
    failures = Failures()
    first = failures.add(job(data), StoreError("disk full"))
    assert failures.blocks(fit, 1)
    assert failures.blocks(samples, 1)
    assert failures.cause(samples, 1) is first
    assert not failures.blocks(other, 1)
    assert failures.cause(other, 1) is None


def test_without_a_failure_everything_can_be_made() -> None:
    failures, fit = Failures(), spec("fit")
    assert not failures
    assert missing_of(fit, [3, 1], failures) == (3, 1)
    failures.add(job(fit, 3), ValueError("no"))
    assert failures
    assert missing_of(fit, [3, 1], failures) == (1,)


def test_divergence_ends_the_chains_that_it_names_and_is_a_result() -> None:
    fit = spec("fit", generation=3)
    failures = Failures()
    diverged = failures.add(job(fit, *SEEDS), DivergedError("loss is nan", (1, 7)))
    assert (diverged.diverged, diverged.seeds, diverged.generation) == (True, (1,), 3)
    assert missing_of(spec("samples", fit), SEEDS, failures) == (0, 2)
    bug = failures.add(job(fit, 0), ValueError("odd\nsecond line"))
    assert failures.diverged() == [diverged]
    assert failures.others() == [bug]
    assert bug.message == "replace, generation 3, seed 0: ValueError: odd"
    assert diverged.message == "loss is nan"


def test_divergence_that_names_no_seed_of_the_job_ends_all_of_it() -> None:
    failures = Failures()
    fit = spec("fit")
    assert failures.add(job(fit, 0, 2), DivergedError("all of it", ())).seeds == (0, 2)
    assert missing_of(fit, SEEDS, failures) == (1,)
