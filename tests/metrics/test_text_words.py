"""Zipf's exponent, vocabulary and rare words, against other estimates, hand counts and simulation."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
import scipy.optimize
import torch

from collapse_sim.data.text.tokens import Tokenizer
from collapse_sim.metrics.text_words import RareWords, Vocabulary, Zipf
from tests.metrics import word_rows

MANY = Tokenizer.of_words([f"w{i}" for i in range(3000)])


@pytest.fixture
def scored(evaluation):
    def run(metric, samples, real=None, words=word_rows.LETTERS):
        side = lambda found: {"tokens": word_rows.rows(found, 40, words=words)}  # noqa: E731
        given = {"samples rows": side(samples)} | ({"real rows": side(real)} if real else {})
        return metric.score(evaluation(given, info=word_rows.info(words=words)))

    return run


def texts_of(words, length=30):
    return [" ".join(words[i : i + length]) for i in range(0, len(words), length)]


def drawn(exponent, words, vocabulary=3000, seed=0):
    weights = np.arange(1.0, vocabulary + 1) ** -exponent
    index = np.random.default_rng(seed).choice(vocabulary, words, p=weights / weights.sum())
    return [f"w{i}" for i in index]


@pytest.mark.parametrize("exponent", [0.7, 1.1, 1.5])
def test_zipf_is_the_most_likely_exponent(scored, exponent):
    words = drawn(exponent, 20_000)
    counts = np.array([count for _, count in Counter(words).most_common()], float)
    ranks = np.arange(1, len(counts) + 1)

    def loss(s):
        return float((counts * s * np.log(ranks)).sum() + counts.sum() * np.log((ranks**-s).sum()))

    best = scipy.optimize.minimize_scalar(loss, bounds=(0, 5), method="bounded", options={"xatol": 1e-10}).x
    found = scored(Zipf(), texts_of(words), words=MANY)
    assert found == pytest.approx(best, abs=1e-6)
    assert found == pytest.approx(exponent, abs=0.1)  # ranks are those of the counts that were seen: a bias


def test_zipf_by_least_squares(scored):
    """Of counts 8, 4, 2: through (log 1, log 8), (log 2, log 4), (log 3, log 2)."""
    found = scored(Zipf(fit="least_squares"), [" ".join("aaaaaaaabbbbcc")])
    x, y = np.log([1, 2, 3]), np.log([8, 4, 2])
    slope = ((x - x.mean()) * (y - y.mean())).sum() / ((x - x.mean()) ** 2).sum()
    assert found == pytest.approx(-slope, rel=1e-12)


def test_zipf_of_equally_frequent_words_is_0(scored):
    assert scored(Zipf(), ["a b c", "c b a"]) == 0
    assert scored(Zipf(fit="least_squares"), ["a b c", "c b a"]) == pytest.approx(0, abs=1e-12)


def test_zipf_of_two_words(scored):
    """Counts c and 1: p = 2^-s / (1 + 2^-s) = 1 / (c + 1), so s = log2 c."""
    assert scored(Zipf(), ["a " * 8 + "b"]) == pytest.approx(3, abs=1e-9)
    assert math.isnan(scored(Zipf(), ["a a a"]))


@pytest.mark.parametrize("fit", ["likelihood", "least_squares"])
def test_zipf_rises_when_frequent_words_crowd_out_rare_ones(scored, fit):
    found = [scored(Zipf(fit=fit), texts_of(drawn(exponent, 20_000)), words=MANY) for exponent in (0.8, 1.0, 1.2, 1.4)]
    assert found == sorted(found)
    assert found[-1] - found[0] > 0.25


def test_vocabulary(scored):
    assert scored(Vocabulary(), ["a a z", "b"], ["a b c", "d a"]) == 2 / 4
    assert scored(Vocabulary(), ["d c", "b a"], ["a b c", "d a"]) == 1
    assert math.isnan(scored(Vocabulary(), ["a"], [""]))


REAL = ["a a a a a b b b b b", "c c c d d e f g"]  # 5 5 3 2 1 1 1 of 18


@pytest.mark.parametrize(
    ("settings", "rare"),
    [
        ({"share": 0.05}, "efg"),  # all of the lowest count in any case
        ({"share": 0.2}, "efg"),  # 3/18, and with d 5/18
        ({"share": 0.3}, "defg"),
        ({"share": 0.45}, "cdefg"),  # 8/18
        ({"share": 1.0}, "abcdefg"),
        ({"at_most": 2}, "defg"),
        ({"at_most": 4}, "cdefg"),
    ],
)
def test_which_words_are_rare(scored, settings, rare):
    metric = RareWords(**settings)
    for word in "abcdefg":
        assert scored(metric, [word, "z"], REAL) == ((word in rare) / len(rare))
    assert scored(metric, REAL, REAL) == 1


def test_rare_words_that_nothing_is(scored):
    assert math.isnan(scored(RareWords(at_most=1), ["a"], ["a a b b"]))
    assert math.isnan(scored(RareWords(), ["a"], [""]))


def test_relative_is_to_real_rows_drawn_again(scored, evaluation):
    """The mean over many draws with replacement of 30 rows from 20 is 1, for words that come in bunches, too."""
    generator = np.random.default_rng(0)
    real = [" ".join(sorted(drawn(1.0, 25, 400, seed=row))) for row in range(20)]
    metric = RareWords(at_most=3, relative=True)
    found = [scored(metric, [real[i] for i in generator.integers(0, 20, 30)], real, MANY) for _ in range(100)]
    assert np.mean(found) == pytest.approx(1, abs=4 * np.std(found) / 10)
    assert np.std(found) < 0.1
    plain = scored(metric.model_copy(update={"relative": False}), real, real, MANY)
    assert plain == 1
    assert scored(metric, real, real, MANY) > 1.3  # every row once is more than 20 drawn again


def test_rare_words_go_before_frequent_ones(scored):
    """A generation that repeats what was frequent: the vocabulary's share falls, the tail's falls further."""
    real = texts_of(drawn(1.0, 12_000))
    sharper = texts_of(drawn(1.3, 12_000, seed=1))
    again = texts_of(drawn(1.0, 12_000, seed=2))
    tail, whole = RareWords(), Vocabulary()
    assert scored(tail, sharper, real, MANY) < 0.6 * scored(tail, again, real, MANY)
    fall = scored(whole, sharper, real, MANY) / scored(whole, again, real, MANY)
    assert 0.6 < fall < 0.8


def test_words_cut_in_two_are_no_rare_words(evaluation):
    """A block of a stream begins and ends anywhere; what is there of a word is no word of the real text."""
    real = word_rows.packed("| a b c | a b c d", 9)
    samples = word_rows.packed("| a b c |", 5)
    seen = evaluation(
        {"real rows": {"tokens": real}, "samples rows": {"tokens": samples}}, info=word_rows.info(packed=True)
    )
    assert RareWords(at_most=1).score(seen) != RareWords(at_most=1).score(seen)  # d is left out: nothing is rare
    assert Vocabulary().score(seen) == 1


def test_settings_read_back(scored):
    metric = RareWords(at_most=2)
    assert RareWords(**metric.model_dump()) == metric
    assert torch.tensor(scored(metric, ["a"], ["a"])) == 1
