"""The stop flag that all work looks at: signals set it, and each ends with the code of its own."""

from __future__ import annotations

import os
import signal

import pytest

from collapse_sim.core.errors import InterruptedRunError
from collapse_sim.engine.work import Stop


def test_a_hangup_takes_a_checkpoint_unless_it_is_ignored():
    old = signal.signal(signal.SIGHUP, signal.SIG_DFL)  # whatever these tests are started with
    try:
        stop = Stop()
        with stop.on_signals(lambda text: None):
            os.kill(os.getpid(), signal.SIGHUP)
            with pytest.raises(InterruptedRunError) as caught:
                stop.check()
        assert caught.value.code == 129
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        stop = Stop()
        with stop.on_signals(lambda text: None):
            os.kill(os.getpid(), signal.SIGHUP)
            stop.check()
    finally:
        signal.signal(signal.SIGHUP, old)
