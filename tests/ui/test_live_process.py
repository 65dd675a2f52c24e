"""Whether the process that live.json names is at work."""

from __future__ import annotations

import os
import socket
import time

import psutil

from collapse_sim.ui.live_process import presence
from collapse_sim.ui.state import State


def test_a_process_of_the_same_number_is_another_one():
    state = State(pid=os.getpid(), host=socket.gethostname(), updated=time.time())
    assert presence(state) == "here"
    state.process_started = psutil.Process().create_time() - 1000
    assert presence(state) == "gone"


def test_another_machine_is_believed_while_it_is_heard_of():
    state = State(pid=1, host="elsewhere.example", updated=time.time() - 5)
    assert presence(state) == "here"
    state.updated = time.time() - 3600
    assert presence(state) == "gone"
