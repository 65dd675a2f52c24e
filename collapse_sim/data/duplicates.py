"""Rows that are both held out and trained on: the same content on both sides of the split."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np

from collapse_sim.data.data_files import release

READ_ROWS = 64

logger = logging.getLogger(__name__)


def groups_of(digests: Iterable[bytes]) -> list[list[int]]:
    """The indices of equal digests, for every digest that occurs more than once; in order of appearance."""
    first: dict[bytes, int] = {}
    groups: dict[int, list[int]] = {}
    for number, digest in enumerate(digests):
        earlier = first.setdefault(digest, number)
        if earlier != number:
            groups.setdefault(earlier, [earlier]).append(number)
    return list(groups.values())


def row_digests(array: np.ndarray) -> Iterator[bytes]:
    """A digest of each row's bytes. Memory use stays constant when the array is memory-mapped."""
    for start in range(0, len(array), READ_ROWS):
        for row in array[start : start + READ_ROWS]:
            yield hashlib.blake2b(np.ascontiguousarray(row).tobytes(), digest_size=16).digest()
        release(array)


def warn_of_shared_rows(
    kind: str,
    unit: str,
    groups: Sequence[Sequence[int]],
    real: np.ndarray,
    held_out: np.ndarray,
    name: Callable[[int], str],
    *,
    threshold: float = 0.0,
) -> int:
    """Warn if more than the share `threshold` of the held-out rows have the same content as real rows.

    `groups` come from `groups_of`, with indices as in `real` and `held_out`; `name` gives a row's name for messages.
    Returns the number of such held-out rows.
    """
    in_real, in_held_out = set(real.tolist()), set(held_out.tolist())
    shared, example = 0, ""
    for group in groups:
        shared_held_out = [number for number in group if number in in_held_out]
        shared_real = [number for number in group if number in in_real]
        if shared_held_out and shared_real:
            shared += len(shared_held_out)
            example = example or f"{name(shared_held_out[0])} is {name(shared_real[0])}"
    if shared > threshold * len(held_out):
        logger.warning(
            "%s: %d of %d held-out %s have the same content as one that is trained on (%s): scores against held-out "
            "rows look better than they are: remove duplicates",
            kind, shared, len(held_out), unit, example,
        )  # fmt: skip
    return shared
