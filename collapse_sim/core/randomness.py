"""Randomness is derived, never carried over: every draw comes from sha256(seed, role, generation, step).

So resuming needs no generator state, and arms are paired: no draw depends on an arm's name.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

WORDS = 624  # in the Mersenne Twister's state
_STATE_BYTES = 5056  # of torch's CPU generator
_WORDS_AT = slice(24, 24 + 8 * WORDS)  # the words' position in that state


def derive(seed: int, role: str, generation: int, step: int = 0) -> int:
    """A 63-bit seed for one purpose. Equal arguments give equal seeds on every machine."""
    text = f"{seed}/{role}/{generation}/{step}".encode()
    return int.from_bytes(hashlib.sha256(text).digest()[:8], "big") >> 1


def start(generator: torch.Generator, seed: int) -> torch.Generator:
    """Start a generator from all 63 bits of a seed.

    On the CPU, torch's own `manual_seed` keeps 32 of them, so that about a hundred of a million draws would have equal
    seeds. Here SHAKE-256 derives the words of its Mersenne Twister from the seed instead.
    """
    generator.manual_seed(seed)
    if generator.device.type == "cpu":
        state = generator.get_state()
        if len(state) != _STATE_BYTES:
            raise RuntimeError(
                f"torch {torch.__version__} keeps its generator in {len(state)} bytes, not {_STATE_BYTES}"
            )
        state.numpy()[_WORDS_AT] = words_of(seed).astype(np.uint64).view(np.uint8)
        generator.set_state(state)
    return generator


def words_of(seed: int) -> np.ndarray:
    """The Mersenne Twister's initial state, uint32 (624,)."""
    return np.frombuffer(hashlib.shake_256(seed.to_bytes(8, "little")).digest(4 * WORDS), "<u4")


class Draws:
    """Random tensors for one seed, or for many seeds at once.

    For one seed (`stacked=False`) `normal(n, d)` has shape (n, d). For an ensemble (`stacked=True`) it has shape
    (S, n, d), and slice s equals what seed s alone would have drawn.
    """

    def __init__(
        self,
        seeds: Sequence[int],
        role: str,
        generation: int,
        step: int = 0,
        *,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
        stacked: bool = False,
    ) -> None:
        if not stacked and len(seeds) != 1:
            raise ValueError(f"unstacked draws are for one seed, got {len(seeds)}")
        self.device, self.dtype, self.stacked = torch.device(device), dtype, stacked
        self._generators = [start(torch.Generator(self.device), derive(seed, role, generation, step)) for seed in seeds]

    @property
    def generator(self) -> torch.Generator:
        """The torch generator of the one seed; for library functions that take one."""
        if self.stacked:
            raise ValueError("an ensemble has one generator per seed")
        return self._generators[0]

    @contextmanager
    def as_global(self) -> Iterator[None]:
        """Within this context, torch's global generators continue from here; they are restored afterwards. For library
        functions that accept no generator."""
        value = int(self.integers(2**62, 1))
        devices = [self.device] if self.device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices):
            torch.manual_seed(value)
            start(torch.default_generator, value)
            yield

    def normal(self, *shape: int) -> Tensor:
        """Standard normal draws."""
        return self._draw(torch.randn, shape)

    def uniform(self, *shape: int) -> Tensor:
        """Draws from [0, 1)."""
        return self._draw(torch.rand, shape)

    def integers(self, high: int, *shape: int) -> Tensor:
        """int64 draws from {0, ..., high - 1}."""
        parts = [torch.randint(high, shape, generator=g, device=self.device) for g in self._generators]
        return torch.stack(parts) if self.stacked else parts[0]

    def permutation(self, n: int) -> Tensor:
        """A permutation of range(n), int64, per seed."""
        parts = [torch.randperm(n, generator=g, device=self.device) for g in self._generators]
        return torch.stack(parts) if self.stacked else parts[0]

    def _draw(self, kind: object, shape: tuple[int, ...]) -> Tensor:
        assert callable(kind)
        if not self.stacked:
            result: Tensor = kind(shape, generator=self._generators[0], device=self.device, dtype=self.dtype)
            return result
        out = torch.empty(len(self._generators), *shape, device=self.device, dtype=self.dtype)
        for slot, generator in zip(out, self._generators, strict=True):
            kind(shape, generator=generator, out=slot)
        return out


class ShapedDraws(Draws):
    """The same draws, with normal ones that are truncated or scaled; everything else is as it was."""

    def __init__(self, draws: Draws, *, scale: float = 1.0, limit: float | None = None) -> None:
        """Normal draws of absolute value over `limit` are drawn again until none is left; then all are multiplied by
        `scale`. Each seed's draws depend on no other seed."""
        self.__dict__.update(vars(draws))
        self._scale, self._limit = scale, limit

    def normal(self, *shape: int) -> Tensor:
        limit = self._limit
        return self._draw(torch.randn if limit is None else partial(_truncated, limit), shape) * self._scale


def _truncated(limit: float, shape: tuple[int, ...], *, generator: torch.Generator, **options: Any) -> Tensor:
    """Standard normal draws, those over the limit drawn again."""
    z: Tensor = torch.randn(shape, generator=generator, **options)
    while bool((beyond := z.abs() > limit).any()):
        z[beyond] = torch.randn(int(beyond.sum()), generator=generator, device=z.device, dtype=z.dtype)
    return z
