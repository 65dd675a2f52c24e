"""Out of memory, in whatever words, is told from other errors."""

from __future__ import annotations

import resource

import numpy as np
import pytest
import torch

from collapse_sim.core.memory_errors import first_line, out_of_memory, tight_limit


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


def test_causes_in_a_circle_come_to_an_end() -> None:
    one, other = ValueError("one"), ValueError("other")
    one.__cause__, other.__cause__ = other, one
    assert not out_of_memory(one)
    other.__cause__, other.__context__ = None, MemoryError()
    assert out_of_memory(one)


def test_what_only_quotes_the_words_is_another_error() -> None:
    """A file or a setting may be called so."""
    assert not out_of_memory(ValueError("no such setting: out of memory"))
    assert not out_of_memory(KeyError("bad_alloc"))
    assert out_of_memory(ImportError("libcudnn.so: failed to map segment from shared object"))
    assert out_of_memory(type("OutOfMemoryError", (RuntimeError,), {})("CUDA"))


@pytest.mark.parametrize(("gib", "told"), [(3.9, True), (4.0, False), (64.0, False)])
def test_a_limit_is_tight_below_four_gib(monkeypatch: pytest.MonkeyPatch, gib: float, told: bool) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (int(gib * 2**30), resource.RLIM_INFINITY))
    assert bool(tight_limit()) == told


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("one\ntwo"), "one"),
        (ValueError("\n\n  later \nx"), "later"),
        (ValueError(), "ValueError"),
        (KeyError("x"), "'x'"),
        (MemoryError(" \n"), "MemoryError"),
    ],
)
def test_the_first_line_of_an_error(error: Exception, line: str) -> None:
    assert first_line(error) == line
