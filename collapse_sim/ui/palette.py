"""One palette for the terminal and the plots, safe for colour-blind readers, on dark and light backgrounds.

The colours are Okabe & Ito's (2008) without yellow (1.3:1 against white, unreadable in a plot), with grey instead of
black (invisible on a dark terminal). There are 7 colours and 9 markers, and the line style changes after every 7 arms:
no two of 63 arms look the same, and none differ by colour alone.
"""

from __future__ import annotations

COLORS = (
    "#0072B2",  # blue
    "#E69F00",  # orange
    "#009E73",  # bluish green
    "#D55E00",  # vermillion
    "#CC79A7",  # reddish purple
    "#56B4E9",  # sky blue
    "#808080",  # grey
)
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*", "h")  # matplotlib's names
LINESTYLES = ("-", "--", "-.", ":")

DONE, RUNNING, REUSED, WARNING = COLORS[2], COLORS[1], COLORS[5], COLORS[3]  # states of a cell, and notes


def color(i: int) -> str:
    """Hex colour of the i-th arm."""
    return COLORS[i % len(COLORS)]


def marker(i: int) -> str:
    """Matplotlib marker of the i-th arm."""
    return MARKERS[i % len(MARKERS)]


def linestyle(i: int) -> str:
    """Matplotlib line style of the i-th arm: solid for the first seven, then dashed ..."""
    return LINESTYLES[i // len(COLORS) % len(LINESTYLES)]
