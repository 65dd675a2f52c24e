"""Notes between ranks: they arrive, or it is said why they do not."""

from __future__ import annotations

import threading
import time

import pytest
import torch.distributed as dist

from collapse_sim.core import board as module
from collapse_sim.core.board import Board, EndedError
from collapse_sim.core.errors import InterruptedRunError, RanksError
from collapse_sim.core.launch import Launch


@pytest.fixture
def boards(monkeypatch):
    """Three ranks' boards, which look often."""
    monkeypatch.setattr(module, "CHECK_S", 0.01)
    monkeypatch.setattr(module, "FAREWELL_S", 0.2)
    store = dist.HashStore()
    made = [Board(Launch(rank, 3, rank, "node0", 29500, host=f"node{rank}"), store) for rank in range(3)]
    for board in made:
        board.sign()
    return made


def test_a_note_is_waited_for(boards):
    threading.Timer(0.1, lambda: boards[0].put("x", b"content")).start()
    assert boards[1].get("x", 30, 0) == b"content"
    boards[0].forget("x")
    assert not boards[2].has("x")


def test_who_does_not_answer_is_named(boards):
    with pytest.raises(RanksError, match=r"rank 0 of 3 on node0: no answer from rank 2 on node2 in 0 s"):
        boards[0].get("x", 0.05, 2)


def test_the_failure_of_the_sender_ends_the_wait_with_its_exit_code(boards):
    boards[2].fail(5, "the disk is full")
    with pytest.raises(RanksError, match=r"rank 2 on node2 ended: the disk is full") as failed:
        boards[0].get("x", None, 2)
    assert failed.value.code == 5


def test_when_the_first_rank_ends_the_others_end_with_its_code(boards):
    threading.Timer(0.05, lambda: boards[0].end(4, 0)).start()
    with pytest.raises(EndedError) as ended:
        boards[1].get("x", None, 0)
    assert ended.value.code == 4
    assert str(ended.value) == ""
    boards[0].ended()  # itself is no other


def test_the_first_rank_waits_until_the_others_know(boards, monkeypatch):
    monkeypatch.setattr(module, "FAREWELL_S", 60.0)

    def leave(board):
        with pytest.raises(EndedError):
            board.get("x", None, 0)

    threads = [threading.Thread(target=leave, args=(board,)) for board in boards[1:]]
    for thread in threads:
        thread.start()
    started = time.monotonic()
    boards[0].end(0, 0)
    assert time.monotonic() - started < 30
    for thread in threads:
        thread.join()


def test_a_rank_that_is_asked_to_stop_tells_the_first_and_waits_for_a_while(boards, monkeypatch):
    monkeypatch.setattr(module, "STOPPED_S", 0.1)
    assert boards[0].signal() == 0
    boards[1].wanted = lambda: 15
    with pytest.raises(InterruptedRunError, match="rank 0 does not answer") as stopped:
        boards[1].get("x", None, 0)
    assert stopped.value.code == 143
    assert boards[0].signal() == 15


def test_notes_that_cannot_be_reached_say_where_they_were(boards):
    class Gone:
        def set(self, *_):
            raise dist.DistNetworkError("Broken pipe")

        check = set

    lost = Board(boards[1].launch, Gone())
    for act in (lambda: lost.put("x", b""), lambda: lost.get("x", None, 0)):
        with pytest.raises(RanksError, match=r"rank 1 of 3 on node1: lost the connection to node0:29500.*Broken pipe"):
            act()
