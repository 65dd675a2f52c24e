"""Sealed JSON comes back as it was, or is refused."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

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


OF_2026 = b'{"a": [1, 2.5, null], "b": {"\\u00fc": true}, "sha256": "%s"}'


def test_the_seal_is_that_of_every_file_so_far() -> None:
    """The hash of the content's JSON with sorted keys and no spaces, written out here: stored files stay readable."""
    seal = hashlib.sha256(b'{"a":[1,2.5,null],"b":{"\\u00fc":true}}').hexdigest().encode()
    raw = OF_2026 % seal
    assert sealed.parse(raw) == {"a": [1, 2.5, None], "b": {"ü": True}}
    assert sealed.text({"a": [1, 2.5, None], "b": {"ü": True}}).encode() == raw


def test_neither_spaces_nor_the_order_of_keys_are_sealed() -> None:
    content = json.loads(sealed.text(VALUE))
    mixed = json.dumps(dict(sorted(content.items(), reverse=True)), indent=3, ensure_ascii=False)
    assert sealed.parse(mixed.encode()) == VALUE


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda content: content.pop("sha256"), "it has no hash of its own"),
        (lambda content: content.update(n=3), "it does not match its own hash"),
        (lambda content: content.pop("a"), "it does not match its own hash"),
        (lambda content: content.update(new=None), "it does not match its own hash"),
    ],
)
def test_what_is_wrong_is_said(tmp_path: Path, change: Callable[[dict[str, Any]], object], said: str) -> None:
    content = json.loads(sealed.text(VALUE))
    change(content)
    (tmp_path / "x.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match=said):
        sealed.read(tmp_path / "x.json")
