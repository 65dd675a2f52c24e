"""Generation of long rows by a language model: within its context length, and as whole texts joined and cut."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from collapse_sim.core.randomness import Draws
from collapse_sim.data.text.tokens import PAD_TOKEN_ID
from collapse_sim.families.token_rows import lengths, padded, until_end


class Write(Protocol):
    """A function that generates tokens with a network."""

    def __call__(self, tokens: Tensor, new: int, *, stop: bool) -> Tensor:
        """(n, c) tokens -> up to `new` tokens after each row, (n, m <= new). With `stop` a row may end with `end`,
        followed by anything."""
        ...


@dataclass(frozen=True)
class Writer:
    """Writes in pieces, so that the network never sees more than `context` tokens at once.

    When the context is full, writing continues after its last half, as in a row of packed data, which may begin
    anywhere in a text.
    """

    write: Write
    end: int
    context: int

    def continued(self, tokens: Tensor, new: int, *, stop: bool) -> Tensor:
        """(n, c) tokens -> up to `new` tokens after each row: (n, new), padded after the token `end` if `stop`."""
        rows = torch.full((len(tokens), new), PAD_TOKEN_ID, device=tokens.device)
        active, written = torch.arange(len(tokens), device=tokens.device), 0
        while written < new and len(active):
            tokens = self._recent(tokens)
            size = min(new - written, max(1, self.context - tokens.shape[1]))
            piece = self._write_piece(tokens, size, stop=stop)
            rows[active, written : written + size] = piece
            written += size
            unfinished = _unfinished(piece, self.end) if stop else slice(None)
            active, tokens = active[unfinished], torch.cat([tokens, piece], 1)[unfinished]
        return rows

    def packed(self, rows: int, length: int, begin: int, longest: int, draws: Draws) -> Tensor:
        """Whole texts joined and cut: (rows, length), without PAD_TOKEN_ID.

        Joined as in text_rows.Stream: [begin] t1 ... tn [end], with a begin for every text if begin and end differ. The
        texts are closed to a ring, which is cut open at a random token, so that the first row may begin anywhere, as
        real rows do. A text of more than `longest` tokens is cut there and ended.
        """
        need, ring, texts = rows * length, torch.empty(0, dtype=torch.int64, device=draws.device), 0
        while len(ring) < need:
            mean_length = len(ring) / texts if texts else 1.0
            count = min(rows, math.ceil(1.1 * (need - len(ring)) / mean_length) + 1)
            batch = self._write_texts(count, need - len(ring), length, begin, longest, draws.device)
            ring, texts = torch.cat([ring, batch[batch != PAD_TOKEN_ID]]), texts + len(batch)
        return ring.roll(-int(draws.integers(len(ring), 1)))[:need].view(rows, length)

    def _write_texts(
        self, count: int, need: int, length: int, begin: int, longest: int, device: torch.device
    ) -> Tensor:
        """Up to `count` texts with their ends, (n, m): the first ones of those begun that have `need` tokens in total.

        All texts grow by a row's length at a time, and those that are no longer needed are dropped. Which ones depends
        only on earlier texts, so no length is preferred.
        """
        texts = torch.full((count, 1), begin, device=device)
        active, head = torch.arange(count, device=device), int(begin == self.end)
        while len(active) and texts.shape[1] <= longest:
            context = self._recent(texts[active])
            size = min(length, longest + 1 - texts.shape[1], max(1, self.context - context.shape[1]))
            piece = self._write_piece(context, size, stop=True)
            texts = padded(texts, texts.shape[1] + size)
            texts[active, -size:] = piece
            active = active[_unfinished(piece, self.end)]
            enough = int((lengths(texts[:, head:]).cumsum(0) < need).sum()) + 1
            texts, active = texts[:enough], active[active < enough]
        cut = (texts[:, 1:] != self.end).all(1, keepdim=True)
        ends = torch.full_like(cut, PAD_TOKEN_ID, dtype=texts.dtype).masked_fill(cut, self.end)
        return torch.cat([texts[:, head:], ends], 1)

    def _recent(self, tokens: Tensor) -> Tensor:
        """The last tokens, which are passed to the network."""
        return tokens if tokens.shape[1] < self.context else tokens[:, -max(1, self.context // 2) :]

    def _write_piece(self, tokens: Tensor, new: int, *, stop: bool) -> Tensor:
        """(n, new), with PAD_TOKEN_ID after an end if `stop`."""
        piece = self.write(tokens, new, stop=stop)
        return padded(until_end(piece, self.end) if stop else piece, new)


def _unfinished(piece: Tensor, end: int) -> Tensor:
    """(n, m) -> (n,) bool: whether a text continues after this piece of it."""
    last = piece[:, -1]
    return (last != PAD_TOKEN_ID) & (last != end)
