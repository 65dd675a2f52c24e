"""Randomness is derived, never carried over: every draw comes from sha256(seed, role, generation, step).

So resuming needs no generator state, and arms are paired: no draw depends on an arm's name.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache, cached_property, partial

import numpy as np
import torch
from torch import Tensor

WORDS = 624  # in the Mersenne Twister's state
_STATE_BYTES = 5056  # of torch's CPU generator
_SEED_AT = slice(0, 8)  # positions in that state: what `initial_seed` returns,
_WORDS_AT = slice(24, 24 + 8 * WORDS)  # and the words, 64 bits each


def derive(seed: int, role: str, generation: int, step: int = 0) -> int:
    """A 63-bit seed for one purpose. Equal arguments give equal seeds on every machine."""
    text = f"{seed}/{role}/{generation}/{step}".encode()
    return int.from_bytes(hashlib.sha256(text).digest()[:8], "big") >> 1


def start(generator: torch.Generator, seed: int) -> torch.Generator:
    """Start a generator from all 63 bits of a seed.

    On the CPU, torch's own `manual_seed` keeps 32 of them, so that about a hundred of a million draws would have equal
    seeds. Here SHAKE-256 derives the words of its Mersenne Twister from the seed instead.
    """
    if generator.device.type != "cpu":
        return generator.manual_seed(seed)
    state = _fresh_state().copy()
    state[_SEED_AT].view(np.uint64)[0] = seed
    state[_WORDS_AT].view(np.uint64)[:] = words_of(seed)
    generator.set_state(torch.from_numpy(state))
    return generator


@cache
def _fresh_state() -> np.ndarray:
    """The state of a CPU generator that has just been seeded, in which `start` replaces the seed and the words: that
    takes a fifth less time than `manual_seed` and `get_state`, and a toy has a thousand seeds per generation."""
    state: np.ndarray = torch.Generator().manual_seed(0).get_state().numpy()
    if len(state) != _STATE_BYTES:
        raise RuntimeError(f"torch {torch.__version__} keeps its generator in {len(state)} bytes, not {_STATE_BYTES}")
    return state


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
        self._seeds, self._place = tuple(seeds), (role, generation, step)

    @cached_property
    def _generators(self) -> list[torch.Generator]:
        """Started when the first number is drawn: closed forms draw none, and a thousand seeds take a while."""
        return [start(torch.Generator(self.device), derive(seed, *self._place)) for seed in self._seeds]

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
        return self._filled(Tensor.normal_, shape)

    def uniform(self, *shape: int) -> Tensor:
        """Draws from [0, 1)."""
        return self._filled(Tensor.uniform_, shape)

    def integers(self, high: int, *shape: int) -> Tensor:
        """int64 draws from {0, ..., high - 1}."""
        parts = [torch.randint(high, shape, generator=g, device=self.device) for g in self._generators]
        return torch.stack(parts) if self.stacked else parts[0]

    def permutation(self, n: int) -> Tensor:
        """A permutation of range(n), int64, per seed."""
        parts = [torch.randperm(n, generator=g, device=self.device) for g in self._generators]
        return torch.stack(parts) if self.stacked else parts[0]

    def _filled(self, fill: Callable[..., Tensor], shape: tuple[int, ...]) -> Tensor:
        shape = (len(self._seeds), *shape) if self.stacked else shape
        out = torch.empty(shape, device=self.device, dtype=self.dtype)
        for slot, generator in zip(out.unbind() if self.stacked else (out,), self._generators, strict=True):
            fill(slot, generator=generator)
        return out


class ShapedDraws(Draws):
    """The same draws, with normal ones that are truncated or scaled; everything else is as it was."""

    def __init__(self, draws: Draws, *, scale: float = 1.0, limit: float | None = None) -> None:
        """Normal draws of absolute value over `limit` are drawn again until none is left; then all are multiplied by
        `scale`. Each seed's draws depend on no other seed."""
        self.__dict__.update(vars(draws))
        self._plain, self._scale, self._limit = draws, scale, limit

    @property
    def _generators(self) -> list[torch.Generator]:
        return self._plain._generators

    def normal(self, *shape: int) -> Tensor:
        limit = self._limit
        fill: Callable[..., Tensor] = Tensor.normal_ if limit is None else partial(_truncated, limit)
        return self._filled(fill, shape) * self._scale


def _truncated(limit: float, z: Tensor, *, generator: torch.Generator) -> Tensor:
    """Fill with standard normal draws, those over the limit drawn again."""
    z.normal_(generator=generator)
    while bool((beyond := z.abs() > limit).any()):
        z[beyond] = torch.randn(int(beyond.sum()), generator=generator, device=z.device, dtype=z.dtype)
    return z
