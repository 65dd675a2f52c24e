"""Requests to the store and the jobs that they need: every missing seed is made once, under a name that fits."""

from __future__ import annotations

import random

import pytest

from collapse_sim.store.blocks import parse_block
from collapse_sim.store.jobs import MAX_STACK, Job, Request, merge, split, where
from collapse_sim.store.spec import Spec


def spec(name: str, *, seeded: bool = True, stacked: bool = False) -> Spec:
    return Spec("fit", 2, {"name": name}, seeded=seeded, stacked=stacked)


@pytest.mark.parametrize("seed", range(20))
def test_equal_requests_become_one_and_nothing_that_was_asked_for_is_lost(seed: int) -> None:
    dice = random.Random(seed)
    asked = [
        Request(spec(dice.choice("abc")), tuple(dice.sample(range(6), dice.randrange(1, 5))), (dice.choice("xyz"),))
        for _ in range(12)
    ]
    merged = merge(asked)
    digests = [request.spec.digest for request in merged]
    assert digests == list(dict.fromkeys(request.spec.digest for request in asked))
    for request in merged:
        same = [one for one in asked if one.spec.digest == request.spec.digest]
        assert sorted(request.seeds) == sorted({s for one in same for s in one.seeds})
        assert sorted(request.arms) == sorted({arm for one in same for arm in one.arms})


@pytest.mark.parametrize("count", [1, 3, MAX_STACK, 2 * MAX_STACK + 7])
@pytest.mark.parametrize("step", [1, 2, 999_983])
def test_every_missing_seed_is_in_one_job_with_a_name_for_it(count: int, step: int) -> None:
    """Seeds far apart have long names, which file systems do not take."""
    missing = tuple(range(0, count * step, step))
    jobs = list(split(Request(spec("a", stacked=True), missing, ("x",)), missing))
    assert tuple(s for job in jobs for s in job.seeds) == missing
    for job in jobs:
        assert parse_block(job.block) == job.seeds
        assert len(job.block) < 200  # of the 255 bytes of a name, with a suffix behind it
        assert len(job.seeds) <= MAX_STACK
    if step == 1:
        assert len(jobs) == -(-count // MAX_STACK)


def test_a_job_a_seed_unless_seeds_are_made_together_or_do_not_matter() -> None:
    plain, shared = spec("a"), spec("b", seeded=False)
    assert list(split(Request(plain, (3, 1), ("x",)), (3, 1))) == [Job(plain, (3,), ("x",)), Job(plain, (1,), ("x",))]
    assert list(split(Request(shared, (3, 1), ("x",)), (3, 1))) == [Job(shared, (), ("x",))]
    assert list(split(Request(plain, (3, 1), ("x",)), ())) == list(split(Request(shared, (3,), ("x",)), ())) == []


def test_a_job_in_words() -> None:
    job = Job(spec("a"), tuple(range(9)), ("replace", "mix"))
    assert where(job, (1,)) == "replace / mix, generation 2, seed 1"
    assert where(job, (1, 4)) == "replace / mix, generation 2, seeds 1, 4"
    assert where(job, tuple(range(9))) == "replace / mix, generation 2, seeds 0, 1, 2, 3, 4 ..."
    assert where(job, ()) == "replace / mix, generation 2"
