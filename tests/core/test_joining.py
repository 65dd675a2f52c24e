"""How ranks meet: devices, who is missing, what they must have in common."""

from __future__ import annotations

import time

import pytest
import torch

from collapse_sim.core.errors import MissingError, RanksError, RecipeError, StoreError
from collapse_sim.core.joining import check_visible, compare, device_of, first_before_others, joined
from collapse_sim.core.launch import Launch
from collapse_sim.core.ranks import Ranks
from tests.rank_pool import free_port

SECOND = Launch(1, 2, 1, "127.0.0.1", 29500, host="node7")


def test_one_process_joins_nobody(tmp_path):
    with joined(None, "cpu") as ranks:
        assert type(ranks) is Ranks
        assert first_before_others(ranks, lambda: 3) == 3
        compare(ranks, lambda: pytest.fail("nobody to compare with"))
        check_visible(ranks, tmp_path)
    assert not list(tmp_path.iterdir())
    assert not torch.distributed.is_initialized()


@pytest.mark.parametrize(
    ("gpus", "device", "name"), [(2, "auto", "cuda:1"), (2, "cuda", "cuda:1"), (2, "cpu", "cpu"), (0, "auto", "auto")]
)
def test_each_rank_has_the_gpu_of_its_number(monkeypatch, gpus, device, name):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    assert device_of(SECOND, device) == name
    assert device_of(None, device) == device


def test_more_ranks_than_gpus_are_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(MissingError, match=r"rank 1 of 2 on node7: number 1 on its machine, which has 1 CUDA device:"):
        device_of(SECOND, "auto")
    with pytest.raises(RecipeError, match=r"--device cuda:0: 2 ranks would share it"):
        device_of(SECOND, "cuda:0")


def test_missing_ranks_are_named():
    port = free_port()
    with pytest.raises(RanksError, match=rf"ranks 1, 2 of 3 did not come to 127\.0\.0\.1:{port} in 0 s"):  # noqa: SIM117
        with joined(Launch(0, 3, 0, "127.0.0.1", port), "cpu", join_s=0.3):
            pass


def test_notes_of_an_attempt_before_a_restart_are_not_read():
    """torchrun --max-restarts keeps its store: a rank of an earlier attempt is not there any more."""
    port = free_port()
    kept = torch.distributed.TCPStore("127.0.0.1", port, is_master=True, wait_for_workers=False)
    for prefix in ("collapse-sim", "collapse-sim/0"):
        torch.distributed.PrefixStore(prefix, kept).set("host/1", "node1")
    with pytest.raises(RanksError, match="rank 1 of 2 did not come"):  # noqa: SIM117
        with joined(Launch(0, 2, 0, "127.0.0.1", port, hosted=True, attempt=1), "cpu", join_s=0.3):
            pass


def test_a_rank_that_reaches_nobody_says_where_it_looked():
    port = free_port()
    started = time.monotonic()
    with pytest.raises(RanksError, match=rf"rank 1 of 2 on .*: reached nobody in 1 s at 127\.0\.0\.1:{port}"):  # noqa: SIM117
        with joined(Launch(1, 2, 1, "127.0.0.1", port), "cpu", join_s=1.0):
            pass
    assert time.monotonic() - started < 20


def test_a_port_that_is_taken_is_named():
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(RanksError, match=rf"cannot serve 127\.0\.0\.1:{port}"):  # noqa: SIM117
            with joined(Launch(0, 2, 0, "127.0.0.1", port), "cpu", join_s=1.0):
                pass


def seen(ranks, folders):
    check_visible(ranks, folders[ranks.rank], 0.5)


def test_a_store_that_a_rank_does_not_see_is_named(pool, tmp_path):
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    there.mkdir()
    pool.both(seen, [here, here])
    (_, error), (_, other) = pool.outcomes(seen, [here, there])
    assert isinstance(error, StoreError)
    assert str(error).startswith(f"{here}: rank 1 on ")
    assert f"does not see it (there: {there})" in str(error)
    assert other is None
    assert not list(here.iterdir())


def facts(ranks, of):
    compare(ranks, lambda: {"program": "1", "recipe": of[ranks.rank]})


def test_what_ranks_must_have_in_common(pool):
    pool.both(facts, ["a", "a"])
    (_, error), (_, other) = pool.outcomes(facts, ["a", "b"])
    assert isinstance(error, RecipeError)
    assert "has another recipe than rank 0: b there, a here" in str(error)
    assert other is None


def order(ranks):
    def act():
        time.sleep(0.3 if ranks.first else 0.0)
        return time.time()

    return first_before_others(ranks, act)


def test_the_first_rank_prepares_before_the_others(pool):
    first, second = pool.both(order)
    assert first < second
