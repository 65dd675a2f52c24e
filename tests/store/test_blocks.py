"""Committed artefacts on disk: the seeds in their names, and whether they are intact."""

from __future__ import annotations

from collapse_sim.store.blocks import parse_block


def test_the_name_of_a_block_is_no_bomb():
    assert parse_block("s0-3,7") == (0, 1, 2, 3, 7)
    assert parse_block("s0-99999999999999") == parse_block("s5-1000000,0-999999") == ()
