"""Fonts for names in any script: installed fonts for characters that matplotlib's own font lacks.

Characters that no installed font has are drawn as boxes; `lacking` returns them, so that one warning is enough.
matplotlib, which takes most of a second to import, is only used for names beyond ASCII.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from functools import cache

from PIL import ImageFont

BASE = "DejaVu Sans"  # comes with matplotlib
_FIRST = ("noto sans", "source han", "wenquanyi", "hiragino", "pingfang", "yahei", "yu gothic", "malgun", "droid sans")
_BOXES = "last resort"  # has a box for every character


def families(texts: Iterable[str]) -> list[str]:
    """matplotlib's `font.family` for these texts: each character is drawn by the first font that has it."""
    return [BASE, *_choose_families(_beyond_base(texts))[0]]


def lacking(texts: Iterable[str]) -> str:
    """The characters that no installed font has, each once."""
    return "".join(sorted(_choose_families(_beyond_base(texts))[1]))


def advice(texts: Iterable[str]) -> str:
    """The warning for characters that are drawn as boxes; "" if there are none."""
    missing = lacking(texts)
    shown = missing if len(missing) <= 8 else f"{missing[:8]}..."
    return f"no installed font has {shown}: drawn as boxes; install one, such as Noto Sans CJK" if missing else ""


def for_pillow(text: str, size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """The font that has most of the text's characters, because Pillow has no fallback fonts."""
    if text.isascii():
        return ImageFont.load_default(size)
    paths = [_base_path(), *(path for family, path in _installed() if family in families([text]))]
    best = max(paths, key=lambda path: sum(ord(c) in _characters(path) for c in text))
    return ImageFont.truetype(best, size)


def cells(text: str) -> int:
    """The text's width in letters; a CJK character is as wide as two."""
    return sum(2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


def _beyond_base(texts: Iterable[str]) -> frozenset[str]:
    characters = {c for text in texts if not text.isascii() for c in text if c.isprintable() and not c.isspace()}
    return frozenset(c for c in characters if ord(c) not in _characters(_base_path())) if characters else frozenset()


@cache
def _choose_families(characters: frozenset[str]) -> tuple[tuple[str, ...], frozenset[str]]:
    """Families that together have as many of the characters as possible, and the remaining characters."""
    chosen: list[str] = []
    for family, path in _installed() if characters else ():
        available = {c for c in characters if ord(c) in _characters(path)}
        if available:
            chosen.append(family)
            characters -= available
        if not characters:
            break
    return tuple(chosen), characters


@cache
def _installed() -> tuple[tuple[str, str], ...]:
    """(family, file) of one regular font per family, those with many scripts first."""
    from matplotlib import font_manager

    files: dict[str, str] = {}
    for entry in sorted(font_manager.fontManager.ttflist, key=lambda e: (e.style != "normal", str(e.weight) != "400")):
        if _BOXES not in entry.name.lower():
            files.setdefault(entry.name, entry.fname)
    hinted = {family: any(hint in family.lower() for hint in _FIRST) for family in files}
    return tuple(sorted(files.items(), key=lambda pair: (not hinted[pair[0]], pair[0])))


@cache
def _base_path() -> str:
    from matplotlib import font_manager

    return str(font_manager.findfont(BASE))


@cache
def _characters(path: str) -> frozenset[int]:
    """The code points of a font; none if its file cannot be read."""
    from matplotlib.ft2font import FT2Font

    try:
        return frozenset(FT2Font(path).get_charmap())
    except (OSError, RuntimeError):
        return frozenset()
