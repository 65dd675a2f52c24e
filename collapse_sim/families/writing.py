"""What a language model writes: behind a context that never outgrows what it knows, and whole texts joined and cut."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from collapse_sim.core.randomness import Draws
from collapse_sim.data.text.tokens import PAD_TOKEN_ID
from collapse_sim.families.language import lengths, padded, until_end


class Write(Protocol):
    """A network that is asked for tokens."""

    def __call__(self, given: Tensor, new: int, *, stop: bool) -> Tensor:
        """(n, c) tokens -> up to `new` tokens behind each, (n, m <= new). With `stop` a row may end with `end`, and
        have anything behind it."""
        ...


@dataclass(frozen=True)
class Writer:
    """Writes in pieces, so that there are never more than `context` tokens together.

    When as many are full, the next ones are written behind the last half of them: as in a row of packed data, which
    may begin anywhere in a text.
    """

    write: Write
    end: int
    context: int

    def continued(self, given: Tensor, new: int, *, stop: bool) -> Tensor:
        """(n, c) tokens -> up to `new` tokens behind each: (n, new), padded after the token `end` if `stop`."""
        rows = torch.full((len(given), new), PAD_TOKEN_ID, device=given.device)
        going, made = torch.arange(len(given), device=given.device), 0
        while made < new and len(going):
            given = self._recent(given)
            piece = min(new - made, max(1, self.context - given.shape[1]))
            part = self._piece(given, piece, stop=stop)
            rows[going, made : made + piece] = part
            made += piece
            alive = _alive(part, self.end) if stop else slice(None)
            going, given = going[alive], torch.cat([given, part], 1)[alive]
        return rows

    def packed(self, rows: int, length: int, begin: int, longest: int, draws: Draws) -> Tensor:
        """Whole texts joined and cut: (rows, length), without PAD_TOKEN_ID.

        Joined as text_rows.Stream does: [begin] t1 ... tn [end], with a begin for every text if it is no end. The
        texts are closed to a ring, which is cut open at any of its tokens, so that a first row may begin anywhere, as
        real rows do. A text of more than `longest` tokens is cut, and ended, there.
        """
        need, ring, texts = rows * length, torch.empty(0, dtype=torch.int64, device=draws.device), 0
        while len(ring) < need:
            each = len(ring) / texts if texts else 1.0
            many = min(rows, math.ceil(1.1 * (need - len(ring)) / each) + 1)
            made = self._texts(many, need - len(ring), length, begin, longest, draws.device)
            ring, texts = torch.cat([ring, made[made != PAD_TOKEN_ID]]), texts + len(made)
        return ring.roll(-int(draws.integers(len(ring), 1)))[:need].view(rows, length)

    def _texts(self, many: int, need: int, length: int, begin: int, longest: int, device: torch.device) -> Tensor:
        """Up to `many` texts with their ends, (n, m): of those begun, the first ones that have `need` tokens together.

        All grow by a row's length at a time, and those that are not needed any more are dropped: which they are
        depends only on texts before them, so no length is preferred.
        """
        texts = torch.full((many, 1), begin, device=device)
        going, head = torch.arange(many, device=device), int(begin == self.end)
        while len(going) and texts.shape[1] <= longest:
            given = self._recent(texts[going])
            piece = min(length, longest + 1 - texts.shape[1], max(1, self.context - given.shape[1]))
            part = self._piece(given, piece, stop=True)
            texts = padded(texts, texts.shape[1] + piece)
            texts[going, -piece:] = part
            going = going[_alive(part, self.end)]
            enough = int((lengths(texts[:, head:]).cumsum(0) < need).sum()) + 1
            texts, going = texts[:enough], going[going < enough]
        cut = (texts[:, 1:] != self.end).all(1, keepdim=True)
        ends = torch.full_like(cut, PAD_TOKEN_ID, dtype=texts.dtype).masked_fill(cut, self.end)
        return torch.cat([texts[:, head:], ends], 1)

    def _recent(self, given: Tensor) -> Tensor:
        """What of the tokens before is shown to the network."""
        return given if given.shape[1] < self.context else given[:, -max(1, self.context // 2) :]

    def _piece(self, given: Tensor, new: int, *, stop: bool) -> Tensor:
        """(n, new): with PAD_TOKEN_ID behind an end, if `stop`."""
        made = self.write(given, new, stop=stop)
        return padded(until_end(made, self.end) if stop else made, new)


def _alive(part: Tensor, end: int) -> Tensor:
    """(n, m) -> (n,) bool: whether a text goes on behind this part of it."""
    last = part[:, -1]
    return (last != PAD_TOKEN_ID) & (last != end)
