"""A process's place among the ranks, from the environment."""

from __future__ import annotations

import pytest

from collapse_sim.core.errors import RecipeError
from collapse_sim.core.launch import Launch, launched

TWO = {"WORLD_SIZE": "2", "RANK": "1", "MASTER_ADDR": "node0", "MASTER_PORT": "29500"}


@pytest.mark.parametrize("environment", [{}, {"WORLD_SIZE": "1"}, {"WORLD_SIZE": "1", "RANK": "0"}, {"RANK": "3"}])
def test_one_process_needs_no_launcher(environment):
    assert launched(environment) is None


def test_what_torchrun_sets_is_read():
    place = launched({**TWO, "LOCAL_RANK": "0", "TORCHELASTIC_USE_AGENT_STORE": "True"})
    assert place == Launch(1, 2, 0, "node0", 29500, hosted=True)
    assert place.name == f"rank 1 of 2 on {place.host}"
    assert launched(TWO).local_rank == 1
    assert place.attempt == 0
    assert launched({**TWO, "TORCHELASTIC_USE_AGENT_STORE": "True", "TORCHELASTIC_RESTART_COUNT": "2"}).attempt == 2
    assert not launched(TWO).hosted


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"RANK": "2"}, "RANK=2: WORLD_SIZE=2 allows 0 to 1; start the run with torchrun, or remove WORLD_SIZE"),
        ({"RANK": ""}, "WORLD_SIZE=2, but RANK is not set"),
        ({"RANK": "-1"}, "RANK=-1: needed: a whole number from 0"),
        ({"WORLD_SIZE": "two"}, "WORLD_SIZE=two: needed: a whole number from 0"),
        ({"MASTER_ADDR": ""}, "WORLD_SIZE=2, but MASTER_ADDR, the machine of rank 0, is not set"),
        ({"MASTER_PORT": ""}, "WORLD_SIZE=2, but MASTER_PORT is not set"),
        ({"MASTER_PORT": "70000"}, "MASTER_PORT=70000: allowed: 1 to 65535"),
    ],
)
def test_what_cannot_be_is_refused(changes, message):
    with pytest.raises(RecipeError) as refused:
        launched({**TWO, **changes})
    assert str(refused.value).startswith(message)
