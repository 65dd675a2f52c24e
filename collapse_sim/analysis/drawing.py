"""What all drawings share: a style that reads no TeX, names as labels, and files that are never seen half written."""

from __future__ import annotations

import secrets
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from collapse_sim.analysis.fonts import cells, families
from collapse_sim.core.files import explained
from collapse_sim.ui import formatting

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LONGEST = 44  # letters of a name in a drawing
_END = 0.6  # of a shortened name, what is kept of its end: names out of a grid differ there
_SCRATCH = 40  # letters of a file's name that its scratch file repeats
_STYLE: Any = {  # matplotlib's stubs want every key as a literal
    "font.size": 8,
    "text.parse_math": False,  # a `$` in a name is a dollar sign
    "text.usetex": False,
    "axes.formatter.use_mathtext": False,
}


@contextmanager
def style(texts: Iterable[str], more: Mapping[str, Any] | None = None) -> Iterator[None]:
    """Matplotlib's settings, whatever the user's own are, with fonts for these texts."""
    from matplotlib import rc_context

    settings: Any = {**_STYLE, "font.family": families(texts)}
    settings.update(more or {})
    with rc_context(settings):
        yield


def save(drawing: Figure, path: Path, **how: Any) -> None:
    """Write a figure. Raises StoreError when the disk or its permissions refuse."""
    with written(path) as scratch, warnings.catch_warnings(), np.errstate(all="ignore"):  # ticks at 1e308 overflow
        warnings.filterwarnings("ignore", message="Glyph .* missing from")  # `fonts.lacking` is what is said of it
        drawing.savefig(scratch, **how)


@contextmanager
def written(path: Path) -> Iterator[Path]:
    """A scratch file beside `path`, moved to it at the end, so that a reader never sees half a picture.

    Processes that draw the same picture do not share it. Raises StoreError when the disk or its permissions refuse.
    """
    scratch = path.with_name(f".{path.stem[:_SCRATCH]}.{secrets.token_hex(4)}.tmp{path.suffix}")
    try:
        with explained(path):
            yield scratch
            scratch.replace(path)
    finally:
        with suppress(OSError):
            scratch.unlink(missing_ok=True)


def labels(names: Iterable[str], longest: int = LONGEST) -> dict[str, str]:
    """How names are shown: one line, without control characters, long ones cut in the middle, no two alike."""
    found: dict[str, str] = {}
    for name in dict.fromkeys(names):
        label = short(name, longest)
        number = 2
        while label in found.values():
            mark = f" ({number})"
            label, number = short(name, longest - len(mark)) + mark, number + 1
        found[name] = label
    return found


def short(text: str, longest: int = LONGEST) -> str:
    """One line, at most as wide as so many letters, cut in the middle."""
    line = formatting.plain(text)
    if cells(line) <= longest:
        return line
    end = int(_END * (longest - 1))
    return f"{_start(line, longest - 1 - end)}…{_start(line[::-1], end)[::-1]}"


def _start(text: str, width: int) -> str:
    return next((text[:n] for n in range(min(len(text), width), 0, -1) if cells(text[:n]) <= width), "")
