"""Out of memory, in whatever words, is told from other errors."""

from __future__ import annotations

import resource

import numpy as np
import torch

from collapse_sim.core.memory_errors import out_of_memory, tight_limit


def test_memory_that_is_not_to_be_had_is_told_from_other_errors():
    def raised(act):
        try:
            act()
        except Exception as error:
            return error
        raise AssertionError("nothing was raised")

    assert out_of_memory(raised(lambda: torch.empty(2**50)))
    assert out_of_memory(raised(lambda: np.empty(2**50)))
    assert out_of_memory(raised(lambda: bytearray(2**60)))
    assert out_of_memory(OSError(12, "Cannot allocate memory"))
    assert out_of_memory(RuntimeError("can't start new thread"))
    assert not out_of_memory(raised(lambda: torch.empty(2) @ torch.empty(3)))
    assert not out_of_memory(OSError(28, "No space left on device"))
    chained = RuntimeError("fit")
    chained.__cause__ = MemoryError()
    assert out_of_memory(chained)


def test_a_tight_limit_of_address_space_is_told_before_anything_is_imported(monkeypatch):
    monkeypatch.setattr(resource, "getrlimit", lambda _: (2**31, 2**31))
    assert "2.0 GiB of address space (ulimit -v)" in tight_limit()
    monkeypatch.setattr(resource, "getrlimit", lambda _: (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    assert tight_limit() == ""
