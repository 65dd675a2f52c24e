"""Common to all drawings: a style without TeX, labels made of names, and files that are written atomically."""

from __future__ import annotations

import io
import secrets
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from collapse_sim.analysis.fonts import cells, families
from collapse_sim.core.files import explain_write_errors
from collapse_sim.ui import formatting

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LONGEST = 44  # letters of a name in a drawing
_END = 0.6  # share of a shortened name that its end gets, where the names of a grid differ
_SCRATCH = 40  # letters of the file's name in the name of its scratch file
_STYLE: Any = {  # matplotlib's stubs want every key as a literal
    "font.size": 8,
    "text.parse_math": False,  # a `$` in a name is a dollar sign
    "text.usetex": False,
    "axes.formatter.use_mathtext": False,
}
OUTLINES: Any = {"svg.fonttype": "path", "svg.hashsalt": "collapse-sim"}  # of SVG files whose fonts are anywhere


@contextmanager
def style(texts: Iterable[str], more: Mapping[str, Any] | None = None) -> Iterator[None]:
    """Set matplotlib's settings, independent of the user's own, with fonts for these texts."""
    from matplotlib import rc_context

    settings: Any = {**_STYLE, "font.family": families(texts)}
    settings.update(more or {})
    with rc_context(settings):
        yield


def save(drawing: Figure, path: Path, **options: Any) -> None:
    """Write a figure. Raises StoreError if the file cannot be written."""
    with scratch_file(path) as scratch, warnings.catch_warnings(), np.errstate(all="ignore"):  # ticks at 1e308 overflow
        warnings.filterwarnings("ignore", message="Glyph .* missing from")  # reported by `fonts.advice`
        drawing.savefig(scratch, **options)


def svg_bytes(drawing: Figure) -> bytes:
    """A figure as an SVG file, without the time at which it was drawn."""
    buffer = io.BytesIO()
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        if (layout := drawing.get_layout_engine()) is not None:
            layout.execute(drawing)  # here, since `savefig` would draw everything once more for it
            drawing.set_layout_engine("none")
        drawing.savefig(buffer, format="svg", metadata={"Date": None})
    return buffer.getvalue()


@contextmanager
def scratch_file(path: Path) -> Iterator[Path]:
    """A scratch file beside `path`, moved to it at the end, so that a reader never sees a partial picture.

    Each process has its own. Raises StoreError if the file cannot be written.
    """
    scratch = path.with_name(f".{path.stem[:_SCRATCH]}.{secrets.token_hex(4)}.tmp{path.suffix}")
    try:
        with explain_write_errors(path):
            yield scratch
            scratch.replace(path)
    finally:
        with suppress(OSError):
            scratch.unlink(missing_ok=True)


def labels(names: Iterable[str], longest: int = LONGEST) -> dict[str, str]:
    """{name: label}: one line, without control characters, long names cut in the middle, all labels distinct."""
    by_name: dict[str, str] = {}
    for name in dict.fromkeys(names):
        label = short(name, longest)
        number = 2
        while label in by_name.values():
            suffix = f" ({number})"
            label, number = short(name, longest - len(suffix)) + suffix, number + 1
        by_name[name] = label
    return by_name


def short(text: str, longest: int = LONGEST) -> str:
    """One line, at most as wide as `longest` letters, cut in the middle."""
    line = formatting.plain(text)
    if cells(line) <= longest:
        return line
    end = int(_END * (longest - 1))
    return f"{_start(line, longest - 1 - end)}…{_start(line[::-1], end)[::-1]}"


def _start(text: str, width: int) -> str:
    return next((text[:n] for n in range(min(len(text), width), 0, -1) if cells(text[:n]) <= width), "")
