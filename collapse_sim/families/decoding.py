"""Greedy and sampled decoding of language models, with one random number per token.

transformers' `generate` draws each token by torch.multinomial, which on a CPU draws a random number for every entry of
the vocabulary; for a small model that takes most of the time. Here a token is the inverse of the cumulative
distribution at one uniform number. Rows that have ended leave the batch; when they do has no effect on the results.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from collapse_sim.core.randomness import Draws
from collapse_sim.core.replays import Record, record_of
from collapse_sim.families.decoder_passes import FEWEST, FixedPasses, GrowingPasses, has_fixed_cache

LIKELIEST = 2048  # tokens that are sorted first for top_p
BLOCK = 64  # tokens whose probabilities are added before their sums are cumulated

Choose = Callable[[Tensor, Tensor], Tensor]  # (m, V) logits and the rows' numbers (m,) -> (m,) tokens


@dataclass(frozen=True)
class TokenSampling:
    """How a token is drawn from logits: temperature, then the top_k likeliest, then the least set of mass top_p."""

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None

    def chooser(self, rows: int, draws: Draws) -> Choose:
        """A function that draws the tokens of one step after another, for `rows` rows."""

        def choose(logits: Tensor, numbers: Tensor) -> Tensor:
            uniform = torch.rand(rows, generator=draws.generator, device=draws.device, dtype=torch.float64)
            return inverse_cdf(self.probabilities(logits), uniform[numbers])

        return choose

    def probabilities(self, logits: Tensor) -> Tensor:
        """(m, V) logits -> (m, V) float32. Tokens of equal probability at a limit of top_k are all kept."""
        logits = logits.float() if self.temperature == 1 else logits.float() / self.temperature
        if self.top_k is not None and self.top_k < logits.shape[-1]:
            limit = logits.topk(self.top_k).values[:, -1:]
            logits = logits.masked_fill(logits < limit, -torch.inf)
        probabilities = logits.softmax(-1)
        if self.top_p is not None and self.top_p < 1:
            probabilities = likeliest_of_mass(probabilities, self.top_p)
        return probabilities


def likeliest_of_mass(probabilities: Tensor, mass: float) -> Tensor:
    """(m, V) -> (m, V): those of the least set of likeliest tokens that has this mass, and 0 for all others.

    Few tokens have it as a rule, and to find them takes a tenth of the time that sorting a large vocabulary takes.
    """
    every = probabilities.shape[-1]
    for count in (min(LIKELIEST, every), every):
        ordered, order = probabilities.topk(count)
        before = ordered.cumsum(-1) - ordered
        if count == every or bool((before[:, -1] >= mass).all()):
            break
    return torch.zeros_like(probabilities).scatter(-1, order, ordered.masked_fill(before >= mass, 0.0))


def likeliest(logits: Tensor, numbers: Tensor) -> Tensor:
    """Greedy decoding."""
    return logits.argmax(-1)


def inverse_cdf(probabilities: Tensor, uniform: Tensor) -> Tensor:
    """The token at which the cumulative distribution exceeds a uniform number, for each row: (m, V), (m,) -> (m,).

    In float64: sums of float32 would misplace tokens rarer than about one in a million. The probabilities need not add
    up to 1. Raises FloatingPointError if one is not finite.

    First the block of tokens is found, and then the token in it, which takes a tenth of the time that the cumulative
    sum of a large vocabulary takes.
    """
    (rows, tokens), device = probabilities.shape, probabilities.device
    blocks = F.pad(probabilities, (0, -tokens % BLOCK)).view(rows, -1, BLOCK)
    ends = blocks.sum(-1, dtype=torch.float64).cumsum(-1)
    total = ends[:, -1:]
    wanted = uniform.unsqueeze(-1) * total
    block = torch.searchsorted(ends, wanted, right=True).clamp(max=ends.shape[1] - 1)
    within = blocks[torch.arange(rows, device=device), block.squeeze(-1)].double().cumsum(-1)
    left = wanted - F.pad(ends, (1, -1)).gather(-1, block)
    chosen = (block * BLOCK + torch.searchsorted(within, left, right=True)).clamp(max=tokens - 1)
    if not bool((probabilities.gather(-1, chosen) > 0).all() & total.isfinite().all()):
        return _in_one_sum(probabilities, uniform)
    return chosen.squeeze(-1)


def _in_one_sum(probabilities: Tensor, uniform: Tensor) -> Tensor:
    """What `inverse_cdf` returns, if rounding leads its blocks to a token without probability. Raises what it does."""
    cumulative = probabilities.double().cumsum(-1)
    total = cumulative[:, -1:]
    if not bool(total.isfinite().all()):
        raise FloatingPointError("the model's logits are not finite")
    tokens = torch.searchsorted(cumulative, uniform.unsqueeze(-1) * total, right=True).squeeze(-1)
    last = probabilities.shape[-1] - 1 - (probabilities.flip(-1) > 0).int().argmax(-1)  # rounding may exceed the sum
    return torch.minimum(tokens, last)


def decode(
    network: Any,
    inputs: Mapping[str, Tensor],
    new: int,
    choose: Choose,
    *,
    end: int | None,
    pad: int,
    start: int | None,
    record_of: Callable[[torch.device], Record | None] = record_of,
) -> Tensor:
    """Up to `new` tokens for each row: (n, m <= new).

    `network` is transformers': a decoder, which continues `input_ids` (n, c) without padding, or, with the token
    `start` that its decoder begins with, an encoder-decoder, whose `attention_mask` masks padding of the source. A row
    ends with the token `end`, followed by `pad`; None: no row ends. `record_of`: how passes are recorded on a device,
    and so replayed.
    """
    n, device = len(inputs["input_ids"]), inputs["input_ids"].device
    tokens = inputs["input_ids"] if start is None else torch.full((n, 1), start, device=device)
    length = tokens.shape[1] + new
    passes: GrowingPasses = GrowingPasses(network, inputs, start)
    record = record_of(device)
    if record is not None and new >= FEWEST and has_fixed_cache(network, length):
        passes = FixedPasses(network, inputs, start, length, record)
    written = torch.full((n, new), pad, device=device)
    numbers, begun = torch.arange(n, device=device), tokens
    active = torch.ones(n, dtype=torch.bool, device=device)  # of the rows in the batch
    for position in range(new):
        chosen = choose(passes(tokens), numbers)
        written[numbers, position] = torch.where(active, chosen, pad)
        if end is not None:
            active &= chosen != end
            count = int(active.sum())
            if count == 0:
                return written[:, : position + 1]
            if count <= passes.kept * len(active):
                kept = active.nonzero().squeeze(1)
                numbers, chosen, active = numbers[kept], chosen[kept], active[kept]
                passes.keep(kept)
        tokens = chosen[:, None]
        if passes.cache is None:  # some architectures keep none: they are given all tokens again
            tokens = torch.cat([begun[numbers], written[numbers, : position + 1]], 1)
    return written
