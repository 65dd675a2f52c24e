"""Sealed JSON comes back as it was, or is refused."""

from __future__ import annotations

import json
import math

import pytest

from collapse_sim.store import sealed

VALUE = {"a": [1, 2.5, None, {"b": "ü\u202e"}], "n": math.inf, "1": True, "": {}}


@pytest.mark.parametrize("indent", [None, 1])
def test_sealed_json_comes_back_or_is_refused(indent):
    """Every single flipped bit, cut and byte set to zero: refused, unless what it says is the same."""
    text = sealed.text(VALUE, indent=indent).encode()
    assert sealed.parse(text) == VALUE
    assert list(sealed.parse(text)) == list(VALUE)
    assert json.loads(text)[sealed.SEAL]
    refused = 0
    for position in range(len(text)):
        for other in (*(text[position] ^ 1 << bit for bit in range(8)), 0):
            damaged = text[:position] + bytes([other]) + text[position + 1 :]
            try:
                assert sealed.parse(damaged) == VALUE
            except ValueError:
                refused += 1
        with pytest.raises(ValueError):  # noqa: PT011  # whatever is wrong with it
            sealed.parse(text[:position])
    assert refused > 8 * len(text)


@pytest.mark.parametrize(
    "raw", [b"", b"{", b"[]", b"null", b"\xff", b"[" * 100000, b'{"n": ' + b"9" * 5000 + b"}", b'{"sha256": []}', b"{}"]
)
def test_no_sealed_json(raw):
    with pytest.raises(ValueError):  # noqa: PT011
        sealed.parse(raw)
