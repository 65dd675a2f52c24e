"""Seeds: all of their bits count, and the generator is the Mersenne Twister that it is said to be."""

from __future__ import annotations

import numpy as np
import torch
from scipy.stats import kstest, truncnorm

from collapse_sim.core import randomness
from collapse_sim.core.randomness import Draws, ShapedDraws, derive, start, words_of
from collapse_sim.testing import CPU

SEED = 12345678901234567


def test_all_63_bits_of_a_seed_count():
    """torch's own manual_seed keeps 32 of them on the CPU: two seeds 2^32 apart would be one."""

    def drawn(seed: int) -> torch.Tensor:
        return torch.randn(4, generator=start(torch.Generator(), seed))

    torch.testing.assert_close(drawn(SEED), drawn(SEED), rtol=0, atol=0)
    for bit in (0, 31, 32, 62):
        assert not torch.equal(drawn(SEED), drawn(SEED ^ 1 << bit))


def test_the_generator_goes_on_as_the_mersenne_twister_from_its_words():
    """NumPy's, from the same 624 words, gives the same 32-bit numbers."""
    ours = torch.empty(2000, dtype=torch.int32).random_(generator=start(torch.Generator(), SEED)).numpy()
    reference = np.random.RandomState(0)
    reference.set_state(("MT19937", words_of(SEED), 624))
    theirs = reference._bit_generator.random_raw(2000)
    np.testing.assert_array_equal(ours, theirs % 2**31)


def test_global_generators_start_from_all_bits_too():
    """Initial weights and dropout are drawn from them."""
    with CPU.seeded(SEED):
        first = torch.rand(3)
    with CPU.seeded(SEED ^ 1 << 40):
        other = torch.rand(3)
    assert not torch.equal(first, other)
    with Draws((1,), "library", 0).as_global():
        first = torch.rand(3)
    with Draws((2,), "library", 0).as_global():
        other = torch.rand(3)
    assert not torch.equal(first, other)


def test_uniforms_and_normals_have_their_moments():
    draws = start(torch.Generator(), SEED)
    uniform, normal = torch.rand(200_000, generator=draws), torch.randn(200_000, generator=draws)
    assert abs(float(uniform.mean()) - 0.5) < 4 * (1 / 12 / 200_000) ** 0.5
    assert abs(float(normal.mean())) < 4 * (1 / 200_000) ** 0.5
    assert abs(float(normal.var()) - 1) < 4 * (2 / 200_000) ** 0.5


def drawn(seeds: tuple[int, ...], **shape: float) -> torch.Tensor:
    draws = Draws(seeds, "latents", 0, dtype=torch.float64, stacked=len(seeds) > 1)
    return (ShapedDraws(draws, **shape) if shape else draws).normal(20_000, 2)


def test_scaled_draws_are_the_same_ones_times_a_number():
    torch.testing.assert_close(drawn((1,), scale=0.7), 0.7 * drawn((1,)), rtol=0, atol=0)


def test_truncated_draws_are_the_same_ones_where_these_are_inside():
    plain, truncated = drawn((1,)), drawn((1,), limit=1.2)
    inside = plain.abs() <= 1.2
    assert torch.equal(plain[inside], truncated[inside])
    assert float(truncated.abs().max()) <= 1.2
    _, p = kstest(truncated.flatten().numpy(), truncnorm(-1.2, 1.2).cdf)
    assert p > 0.01


def test_shaped_draws_of_a_seed_depend_on_no_other_seed():
    together = drawn((4, 1, 9), scale=2.0, limit=0.5)
    for slot, seed in zip(together, (4, 1, 9), strict=True):
        assert torch.equal(slot, drawn((seed,), scale=2.0, limit=0.5))


def test_a_generator_that_was_used_starts_like_a_new_one():
    """As if `manual_seed` had been called and the words replaced: pending numbers are gone, the seed is known."""
    used = torch.Generator().manual_seed(1)
    torch.randn(3, generator=used, dtype=torch.float64)  # the second of a pair of normal numbers is pending
    expected = torch.Generator().manual_seed(SEED)
    state = expected.get_state()
    state.numpy()[24 : 24 + 8 * 624] = words_of(SEED).astype(np.uint64).view(np.uint8)
    expected.set_state(state)
    assert torch.equal(start(used, SEED).get_state(), expected.get_state())
    assert used.initial_seed() == SEED


def test_draws_start_their_generators_with_the_first_number(monkeypatch):
    """A closed form that draws nothing pays nothing for a thousand seeds."""
    started: list[int] = []

    def counting(generator: torch.Generator, seed: int) -> torch.Generator:
        started.append(seed)
        return start(generator, seed)

    monkeypatch.setattr(randomness, "start", counting)
    draws = Draws(range(1000), "solve", 0, stacked=True)
    assert not started
    first, second = draws.normal(2), draws.normal(2)
    assert len(started) == 1000
    assert not torch.equal(first, second)


def test_a_seed_of_an_ensemble_draws_what_it_would_draw_alone():
    for dtype in (torch.float32, torch.float64):
        together = Draws((3, 8), "sample", 1, dtype=dtype, stacked=True)
        alone = Draws((8,), "sample", 1, dtype=dtype)
        for shape in ((3,), (40, 2), (0, 2), (1,)):
            assert torch.equal(together.normal(*shape)[1], alone.normal(*shape))
            assert torch.equal(together.uniform(*shape)[1], alone.uniform(*shape))
            generator = start(torch.Generator(), derive(8, "other", 1))
            expected = torch.randn(shape, generator=generator, dtype=dtype)
            assert torch.equal(Draws((8,), "other", 1, dtype=dtype).normal(*shape), expected)
