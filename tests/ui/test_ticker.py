"""A thread that calls a function periodically."""

from __future__ import annotations

import time

from collapse_sim.ui.ticker import Ticker


def test_the_ticker_hands_over_an_exception_and_rests_as_long_as_it_is_told():
    errors, calls = [], []

    def tick() -> float:
        calls.append(time.monotonic())
        if len(calls) == 3:
            raise RuntimeError("over")
        return 0.2

    ticker = Ticker(tick, 0.01, errors.append)
    ticker.start()
    deadline = time.monotonic() + 10
    while not errors and time.monotonic() < deadline:
        time.sleep(0.01)
    ticker.stop()
    assert [str(error) for error in errors] == ["over"]
    assert calls[2] - calls[0] >= 0.4
