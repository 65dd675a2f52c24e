"""What runs side by side: schedules of tasks that wait for each other, and the tasks of an experiment."""

from __future__ import annotations

import itertools
import random
from collections import Counter
from collections.abc import Sequence

import pytest

from collapse_sim.plan.costs import Rate, kind_of_spec, predict
from collapse_sim.plan.experiment import Experiment, prepare
from collapse_sim.plan.keeping import read_by, seeds_to_come, to_come
from collapse_sim.plan.side_by_side import Schedule, Task, schedule, tasks_of
from collapse_sim.recipe.loader import load
from tests.conftest import TINY, Sandbox


def check(tasks: Sequence[Task], result: Schedule) -> None:
    """A schedule that could be carried out, and is as short as its bounds say."""
    ends = {task.name: result.starts_s[task.name] + task.seconds for task in tasks}
    for task in tasks:
        assert all(result.starts_s[task.name] >= ends[other] for other in task.after)
    long = [task for task in tasks if task.seconds]
    for one, two in itertools.combinations(long, 2):
        if result.places[one.name] == result.places[two.name]:
            apart = ends[one.name] <= result.starts_s[two.name] or ends[two.name] <= result.starts_s[one.name]
            assert apart, "one slot does one thing at a time"
    assert set(result.places.values()) <= set(range(result.slots))
    assert result.makespan_s == pytest.approx(max(ends.values(), default=0))
    assert result.work_s == pytest.approx(sum(task.seconds for task in tasks))
    least = max(result.critical_s, result.work_s / result.slots)
    assert least - 1e-9 <= result.makespan_s <= result.work_s / result.slots + result.critical_s + 1e-9


def best(tasks: Sequence[Task], slots: int) -> float:
    """The shortest makespan of any list, by trying all orders."""
    shortest = float("inf")
    for order in itertools.permutations(tasks):
        free, ends = [0.0] * slots, dict[str, float]()
        for task in order:
            if not set(task.after) <= ends.keys():
                break
            start = max([min(free), *(ends[other] for other in task.after)])
            free[free.index(min(free))] = ends[task.name] = start + task.seconds
        else:
            shortest = min(shortest, max(ends.values()))
    return shortest


def test_independent_tasks_share_the_slots() -> None:
    tasks = [Task(f"t{number}", 2.0) for number in range(12)]
    assert [schedule(tasks, slots).makespan_s for slots in (1, 2, 5, 12, 99)] == [24, 12, 6, 2, 2]
    assert schedule(tasks, 99).widest == 12


def test_a_chain_takes_its_length_on_any_number_of_slots() -> None:
    tasks = [Task("a", 1.0), Task("b", 2.0, ("a",)), Task("c", 3.0, ("b",))]
    result = schedule(tasks, 4)
    assert (result.makespan_s, result.critical_s, result.widest) == (6, 6, 1)
    assert result.starts_s == {"a": 0, "b": 1, "c": 3}


def test_the_longest_chain_begins_first() -> None:
    """In the order of the list two slots would take 1 + 1 + 8."""
    tasks = [Task("x", 1.0), Task("y", 1.0), Task("long", 4.0), Task("end", 4.0, ("long",))]
    assert schedule(tasks, 2).makespan_s == 8


def test_four_arms_that_share_generation_zero() -> None:
    """Three seeds: 3 fits, then 4 chains of 5 more for each: on 12 slots 9 of them wait for generation 0."""
    tasks = [Task(f"0/{seed}", 10.0) for seed in range(3)]
    for arm, seed, k in itertools.product("abcd", range(3), range(1, 6)):
        tasks.append(Task(f"{arm}{k}/{seed}", 10.0, (f"{arm}{k - 1}/{seed}" if k > 1 else f"0/{seed}",)))
    assert schedule(tasks, 12).makespan_s == schedule(tasks, 99).makespan_s == schedule(tasks, 99).critical_s == 60
    assert schedule(tasks, 1).makespan_s == 630
    assert schedule(tasks, 2).makespan_s == 320, "an odd number of equal fits"
    assert schedule(tasks, 12).widest == 12


def test_what_takes_no_time_takes_no_slot() -> None:
    tasks = [Task("a", 1.0), Task("b", 0.0, ("a",)), Task("c", 1.0, ("b",)), Task("d", 2.0), Task("e", 0.0)]
    result = schedule(tasks, 2)
    assert result.makespan_s == 2
    assert result.starts_s == {"a": 0, "b": 1, "c": 1, "d": 0, "e": 0}
    assert set(result.places) == {"a", "c", "d"}


@pytest.mark.parametrize("number", range(30))
def test_random_graphs_keep_the_rules(number: int) -> None:
    """Precedence, one task a slot, and the bounds; small ones are within Graham's factor of the best list."""
    draw = random.Random(number)
    count, slots = draw.randint(1, 6 if number % 2 else 40), draw.randint(1, 4)
    tasks = []
    for position in range(count):
        earlier = [task.name for task in tasks if draw.random() < 0.2]
        tasks.append(Task(f"t{position}", draw.choice([0.0, 1.0, 2.5, draw.random()]), tuple(earlier)))
    draw.shuffle(tasks)
    result = schedule(tasks, slots)
    check(tasks, result)
    if number % 2 and all(task.seconds for task in tasks):
        assert result.makespan_s <= (2 - 1 / slots) * best(tasks, slots) + 1e-9


def test_nothing_to_do() -> None:
    assert schedule([], 3) == Schedule(3, {}, {}, 0, 0, 0)


@pytest.mark.parametrize(
    ("tasks", "slots", "problem"),
    [
        ([Task("a", 1)], 0, "0 slots"),
        ([Task("a", 1), Task("a", 2)], 1, "two tasks are named a"),
        ([Task("a", -1)], 1, "a takes -1 seconds"),
        ([Task("a", float("nan"))], 1, "a takes nan seconds"),
        ([Task("a", 1, ("b",))], 1, "a waits for b, which is no task"),
        ([Task("a", 1, ("b",)), Task("b", 1, ("a",)), Task("c", 1)], 1, "in a circle: among a, b"),
    ],
)
def test_what_is_no_schedule(tasks: list[Task], slots: int, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        schedule(tasks, slots)


@pytest.fixture
def experiment(sandbox: Sandbox) -> Experiment:
    return prepare(load(sandbox.recipe(TINY)), sandbox.root)


def test_the_tasks_of_an_experiment(experiment: Experiment, sandbox: Sandbox) -> None:
    """Every artefact once, behind what it reads; their seconds are the prediction's."""
    rates = {kind_of_spec(spec): Rate(0.01, 0.5) for spec in experiment.specs()}
    store = sandbox.root / "none"
    tasks = tasks_of(experiment, seeds_to_come(experiment, store), rates)
    names = [task.name for task in tasks]
    by_digest = {spec.digest: spec for spec in experiment.specs()}
    count = to_come(experiment, store)
    assert Counter(name.split("/")[0] for name in names) == {digest: count(by_digest[digest]) for digest in by_digest}
    for task in tasks:
        digest, block = task.name.split("/")
        expected = {f"{parent.digest}/{block if parent.seeded else 'all'}" for parent in read_by(by_digest[digest])}
        assert set(task.after) == expected
        assert all(names.index(other) < names.index(task.name) for other in task.after)
    result = schedule(tasks, 4)
    assert result.work_s == pytest.approx(predict(experiment, count, rates).total_s)
    assert result.widest == 4, "two arms of two seeds"


def test_what_is_stored_is_no_task(experiment: Experiment) -> None:
    def missing(spec):  # type: ignore[no-untyped-def]
        return {1} if spec.generation == 2 else set()

    tasks = tasks_of(experiment, missing, {})
    assert {task.name.split("/")[1] for task in tasks} == {"s1"}
    assert {task.seconds for task in tasks} == {0.0}
    digests = {spec.digest for spec in experiment.specs() if spec.generation == 2}
    assert {other.split("/")[0] for task in tasks for other in task.after} < digests
