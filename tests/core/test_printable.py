"""Nothing that is escaped steers a terminal, and what people write stays as it is."""

from __future__ import annotations

import json
import os
import sys
import unicodedata

import pytest

from collapse_sim.core import printable
from collapse_sim.core.printable import escaped, json_text, line, message

TURNS = ("LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI", "BN")  # bidirectional classes that steer
KEPT = "\u200c\u200d"  # zero-width joiners


def steers(sign: str) -> bool:
    """By Unicode's own properties: controls, lone surrogates, separators of lines, what turns or hides text."""
    kind = unicodedata.category(sign)
    if kind in ("Cc", "Cs", "Zl", "Zp"):
        return sign != "\n"
    return kind == "Cf" and (unicodedata.bidirectional(sign) in TURNS or sign in "\u061c\u200e\u200f\u200b")


EVERYTHING = [chr(code) for code in range(sys.maxunicode + 1)]
STEERING = [sign for sign in EVERYTHING if steers(sign) and sign not in KEPT]
TEXT = "é ü 漢字 日本語 עברית العربية हिन्दी 👩\u200d👩\u200d👧 ± ─ ✓ ×"


def test_everything_that_steers_is_escaped_and_no_letter_is():
    assert len(STEERING) > 2000
    left = [hex(ord(sign)) for sign in STEERING if escaped(sign) == sign and not 0x1BCA0 <= ord(sign) <= 0x1D17A]
    assert left == []  # but for signs within shorthand and musical notation
    letters = "".join(sign for sign in EVERYTHING if unicodedata.category(sign)[0] in "LNPSM")
    assert escaped(letters) == letters
    assert escaped(TEXT) == TEXT


@pytest.mark.parametrize("clean", [escaped, line, message, json_text])
def test_whatever_is_written_is_harmless(clean):
    text = clean("".join(EVERYTHING))
    assert [hex(ord(c)) for c in set(text) if steers(c) and c not in KEPT and not 0x1BCA0 <= ord(c) <= 0x1D17A] == []
    text.encode()  # nothing that UTF-8 lacks


def test_escapes_are_those_that_people_know():
    assert escaped("a\x1b[2J\x07\x9b\u202e\u2066\x7f\t\nb") == r"a\x1b[2J\x07\x9b\u202e\u2066\x7f\t" + "\nb"
    assert escaped(os.fsdecode(b"caf\xe9\xff") + "\ud800") == r"caf\xe9\xff\ud800"
    assert line(" a\n\tb\r\nc\x85 \x1b") == r"a b c \x1b"


def test_json_is_of_the_same_value():
    value = {"\x1b\u202ename": [" ".join(STEERING), TEXT, 1.5, None], "\udcff": "\U000e0041"}
    text = json_text(value, indent=2)
    assert json.loads(text) == value
    assert TEXT in text


def test_long_messages_are_cut():
    found = message("\n".join(["x" * 5000, "short", *["line"] * 500]))
    lines = found.split("\n")
    assert lines[0] == "x" * 2000 + "... (3000 more characters)"
    assert lines[1] == "short"
    assert lines[-1] == f"... ({502 - printable.MOST_LINES} more lines)"
    assert len(lines) == printable.MOST_LINES + 1
