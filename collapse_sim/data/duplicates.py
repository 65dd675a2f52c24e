"""Rows that are both held out and trained on: the same content twice, on either side of the split."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np

from collapse_sim.data.data_files import release

READ_ROWS = 64

logger = logging.getLogger(__name__)


def groups_of(digests: Iterable[bytes]) -> list[list[int]]:
    """The numbers of equal ones, for every digest that occurs more than once; in order of appearance."""
    first: dict[bytes, int] = {}
    groups: dict[int, list[int]] = {}
    for number, digest in enumerate(digests):
        before = first.setdefault(digest, number)
        if before != number:
            groups.setdefault(before, [before]).append(number)
    return list(groups.values())


def row_digests(array: np.ndarray) -> Iterator[bytes]:
    """A digest of every row's bytes. Memory stays flat when the array is memory-mapped."""
    for start in range(0, len(array), READ_ROWS):
        for row in array[start : start + READ_ROWS]:
            yield hashlib.blake2b(np.ascontiguousarray(row).tobytes(), digest_size=16).digest()
        release(array)


def say_shared(
    kind: str,
    what: str,
    groups: Sequence[Sequence[int]],
    real: np.ndarray,
    held_out: np.ndarray,
    name: Callable[[int], str],
    *,
    least: float = 0.0,
) -> int:
    """Warn of held-out rows that have the content of real ones, where they are more than `least` of all held-out rows.

    `groups` are those of `groups_of`, by numbers as in `real` and `held_out`; `name` tells what messages call a row.
    Returns how many they are.
    """
    in_real, in_held_out = set(real.tolist()), set(held_out.tolist())
    shared, example = 0, ""
    for group in groups:
        ours = [number for number in group if number in in_held_out]
        theirs = [number for number in group if number in in_real]
        if ours and theirs:
            shared += len(ours)
            example = example or f"{name(ours[0])} is {name(theirs[0])}"
    if shared > least * len(held_out):
        logger.warning(
            "%s: %d of %d held-out %s have the content of one that is trained on (%s): scores against held-out rows "
            "look better than they are: remove duplicates",
            kind, shared, len(held_out), what, example,
        )  # fmt: skip
    return shared
