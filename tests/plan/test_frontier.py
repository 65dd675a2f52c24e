from __future__ import annotations

from dataclasses import dataclass

from collapse_sim.plan.frontier import Frontier


@dataclass(frozen=True)
class Stub:
    """A node of the graph, as far as the frontier looks at it."""

    after: tuple[int, ...]
    generation: int = 0
    ranked: bool = False


def frontier(*nodes: Stub) -> Frontier:
    return Frontier(nodes, lambda node: node.ranked)


def popped(of: Frontier, last: int | None = None) -> list[int]:
    numbers = []
    while (number := of.pop(last)) is not None:
        numbers.append(number)
    return numbers


def test_everything_is_submitted_at_once_in_the_plans_order():
    """What it waits for is the scheduler's business, since that has the references."""
    assert popped(frontier(Stub(()), Stub((0,)), Stub((0, 1)), Stub(()))) == [0, 1, 2, 3]


def test_no_node_beyond_the_last_generation_is_submitted():
    own = frontier(Stub(()), Stub((0,), 1), Stub((1,), 2))
    assert popped(own, 1) == [0, 1]
    assert popped(own, 2) == [2]


def test_a_node_that_is_added_later_does_not_wait_for_one_of_a_generation_to_come():
    nodes = [Stub(()), Stub((0,), 2)]
    own = Frontier(nodes, lambda node: node.ranked)
    assert popped(own, 1) == [0]
    nodes.append(Stub((0,), 1))
    own.extend()
    assert popped(own, 1) == [2]
    assert popped(own, 2) == [1]


def test_ranks_are_started_when_all_that_they_read_is_there_and_so_is_what_reads_theirs():
    own = frontier(Stub(()), Stub((0,), ranked=True), Stub((1,)), Stub((2,)), Stub((0,)))
    assert popped(own) == [0, 4]
    own.finish(0)
    assert popped(own) == [1]
    assert popped(own) == []
    own.finish(1)
    assert popped(own) == [2, 3]


def test_nodes_that_are_added_later_wait_for_what_is_neither_submitted_nor_finished():
    nodes = [Stub(()), Stub(()), Stub((), ranked=True)]
    own = Frontier(nodes, lambda node: node.ranked)
    assert popped(own) == [0, 1, 2]
    own.finish(0)
    nodes += [Stub((0,)), Stub((1,)), Stub((2,))]
    own.extend()
    assert popped(own) == [3, 4]
    own.finish(2)
    assert popped(own) == [5]
    assert own.finished == {0, 2}
