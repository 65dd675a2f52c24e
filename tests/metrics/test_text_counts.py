"""Counts of words and n-grams, vocabulary and its tail, Zipf's exponent."""

from __future__ import annotations

import math
import random
import warnings
from collections import Counter

import numpy as np
import pytest
import scipy.optimize
import torch

from collapse_sim.data.text.tokens import Tokenizer
from collapse_sim.metrics.text_counts import (
    DistinctN,
    RareWords,
    Repetition,
    SelfBLEU,
    TextLength,
    Vocabulary,
    Zipf,
    ngrams,
    self_bleu,
)
from tests.metrics import word_rows


@pytest.fixture
def scored(evaluation):
    def run(metric, found, *, packed=False, length=30):
        tokens = word_rows.packed(found, length) if packed else word_rows.rows(found, length)
        return metric.score(evaluation({"samples rows": {"tokens": tokens}}, info=word_rows.info(packed=packed)))

    return run


def test_ngrams():
    assert list(ngrams("abcd", 2)) == [("a", "b"), ("b", "c"), ("c", "d")]
    assert list(ngrams("abc", 3)) == [("a", "b", "c")]
    assert list(ngrams("ab", 3)) == []


@pytest.mark.parametrize(
    ("n", "expected"),
    [
        (1, 3 / 7),  # a b c of a b a | b a | c b
        (2, 3 / 4),  # ab ba, ba, cb: ba twice
        (3, 1.0),
    ],
)
def test_distinct_n(scored, n, expected):
    assert scored(DistinctN(n=n), ["a b a", "b a", "c b"]) == expected


def test_distinct_n_falls_with_the_number_of_equal_texts(scored):
    assert scored(DistinctN(), ["a b c", "", "a b c", "a b c"]) == 1 / 3


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (["a b c d a b c d a b"], 1 - 4 / 7),  # abcd bcda cdab dabc, then again abcd bcda cdab
        (["a a a a a", "a b c d"], (1 / 2 + 0) / 2),
        (["a b c d", "a b c", ""], 0.0),  # too short: left out
    ],
)
def test_repetition(scored, found, expected):
    assert scored(Repetition(), found) == pytest.approx(expected, abs=1e-15)


def test_repetition_is_within_a_text(scored):
    assert scored(Repetition(n=2), "| a b c | a b c |", packed=True, length=9) == 0
    assert scored(Repetition(n=2), "| a b c a b c |", packed=True, length=8) == 1 - 3 / 5


def test_length(scored):
    assert scored(TextLength(), ["a b c", "a", ""]) == 4 / 3
    assert scored(TextLength(unit="tokens"), ["a b c", "a", ""]) == 4 / 3


def test_length_in_words_and_in_tokens_differ(evaluation):
    from collapse_sim.data.text.tokens import Tokenizer

    parts = Tokenizer.of_words(["well-known", "it's"])
    tokens = word_rows.rows(["well-known it's"], words=parts)
    seen = evaluation({"samples rows": {"tokens": tokens}}, info=word_rows.info(words=parts))
    assert TextLength().score(seen) == 4  # well - known it's
    assert TextLength(unit="tokens").score(seen) == 2


def test_length_of_packed_texts_is_words_over_texts(scored):
    """Six words and two ends in the rows | a b c | d and e | f: of the stream "a b c", "d e", "f ..."."""
    assert scored(TextLength(), "| a b c | d e | f", packed=True, length=3) == 6 / 2
    assert math.isnan(scored(TextLength(), "| a b c", packed=True, length=4))  # no text ends


def test_length_of_many_packed_texts(scored):
    """Blocks cut texts anywhere, and the mean is theirs all the same."""
    generator = random.Random(0)
    many = [generator.choices("abcdefgh", k=generator.randint(1, 40)) for _ in range(2000)]
    stream = " | ".join(" ".join(text) for text in many)
    mean = sum(map(len, many)) / len(many)
    assert scored(TextLength(), f"| {stream} |", packed=True, length=64) == pytest.approx(mean, rel=0.03)


def nltk_bleu(sentences, n):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from nltk.translate.bleu_score import SmoothingFunction, sentence_bleu
    smooth = SmoothingFunction().method1
    scores = [
        sentence_bleu([*sentences[:i], *sentences[i + 1 :]], own, [1 / n] * n, smoothing_function=smooth)
        for i, own in enumerate(sentences)
    ]
    return sum(scores) / len(scores)


@pytest.mark.parametrize("n", [1, 2, 4])
@pytest.mark.parametrize(("words", "longest"), [(4, 12), (30, 12), (10, 3)])
def test_self_bleu_is_nltks(n, words, longest):
    generator = random.Random(words)
    alphabet = [f"w{i}" for i in range(words)]
    sentences = [generator.choices(alphabet, k=generator.randint(1, longest)) for _ in range(25)]
    assert self_bleu(sentences, n) == pytest.approx(nltk_bleu(sentences, n), rel=1e-12)


def test_self_bleu_by_hand():
    """a b c d against a b c e: precisions 3/4, 2/3, 1/2 and 0.1/1, equal lengths; the other way round alike."""
    expected = (3 / 4 * 2 / 3 * 1 / 2 * 0.1) ** 0.25
    assert self_bleu(["abcd", "abce"], 4) == pytest.approx(expected, rel=1e-12)


def test_self_bleu_ends_of_the_scale(scored):
    assert scored(SelfBLEU(), ["a b c d e"] * 3) == pytest.approx(1)
    assert scored(SelfBLEU(), ["a b c d", "e f g h"]) == 0  # no word in common
    assert scored(SelfBLEU(), ["a b c d", "", "a b c d"]) == pytest.approx(1)  # without the empty one
    assert math.isnan(scored(SelfBLEU(), ["a b c d", ""]))


def test_self_bleu_is_over_some_rows(evaluation):
    tokens = word_rows.rows(["a b c d"] * 50 + ["e f g h"] * 50)
    seen = evaluation({"samples rows": {"tokens": tokens}}, info=word_rows.info())
    assert SelfBLEU(rows=10).score(seen) == pytest.approx(1)  # some of either kind, each with its like
    assert seen.asked == {"samples"}


MANY = Tokenizer.of_words([f"w{i}" for i in range(3000)])


@pytest.fixture
def scored_words(evaluation):
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
def test_zipf_is_the_most_likely_exponent(scored_words, exponent):
    words = drawn(exponent, 20_000)
    counts = np.array([count for _, count in Counter(words).most_common()], float)
    ranks = np.arange(1, len(counts) + 1)

    def loss(s):
        return float((counts * s * np.log(ranks)).sum() + counts.sum() * np.log((ranks**-s).sum()))

    best = scipy.optimize.minimize_scalar(loss, bounds=(0, 5), method="bounded", options={"xatol": 1e-10}).x
    found = scored_words(Zipf(), texts_of(words), words=MANY)
    assert found == pytest.approx(best, abs=1e-6)
    assert found == pytest.approx(exponent, abs=0.1)  # ranks are those of the counts that were seen: a bias


def test_zipf_by_least_squares(scored_words):
    """Of counts 8, 4, 2: through (log 1, log 8), (log 2, log 4), (log 3, log 2)."""
    found = scored_words(Zipf(fit="least_squares"), [" ".join("aaaaaaaabbbbcc")])
    x, y = np.log([1, 2, 3]), np.log([8, 4, 2])
    slope = ((x - x.mean()) * (y - y.mean())).sum() / ((x - x.mean()) ** 2).sum()
    assert found == pytest.approx(-slope, rel=1e-12)


def test_zipf_of_equally_frequent_words_is_0(scored_words):
    assert scored_words(Zipf(), ["a b c", "c b a"]) == 0
    assert scored_words(Zipf(fit="least_squares"), ["a b c", "c b a"]) == pytest.approx(0, abs=1e-12)


def test_zipf_of_two_words(scored_words):
    """Counts c and 1: p = 2^-s / (1 + 2^-s) = 1 / (c + 1), so s = log2 c."""
    assert scored_words(Zipf(), ["a " * 8 + "b"]) == pytest.approx(3, abs=1e-9)
    assert math.isnan(scored_words(Zipf(), ["a a a"]))


@pytest.mark.parametrize("fit", ["likelihood", "least_squares"])
def test_zipf_rises_when_frequent_words_crowd_out_rare_ones(scored_words, fit):
    found = [
        scored_words(Zipf(fit=fit), texts_of(drawn(exponent, 20_000)), words=MANY) for exponent in (0.8, 1.0, 1.2, 1.4)
    ]
    assert found == sorted(found)
    assert found[-1] - found[0] > 0.25


def test_vocabulary(scored_words):
    assert scored_words(Vocabulary(), ["a a z", "b"], ["a b c", "d a"]) == 2 / 4
    assert scored_words(Vocabulary(), ["d c", "b a"], ["a b c", "d a"]) == 1
    assert math.isnan(scored_words(Vocabulary(), ["a"], [""]))


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
def test_which_words_are_rare(scored_words, settings, rare):
    metric = RareWords(**settings)
    for word in "abcdefg":
        assert scored_words(metric, [word, "z"], REAL) == ((word in rare) / len(rare))
    assert scored_words(metric, REAL, REAL) == 1


def test_rare_words_that_nothing_is(scored_words):
    assert math.isnan(scored_words(RareWords(at_most=1), ["a"], ["a a b b"]))
    assert math.isnan(scored_words(RareWords(), ["a"], [""]))


def test_relative_is_to_real_rows_drawn_again(scored_words, evaluation):
    """The mean over many draws with replacement of 30 rows from 20 is 1, for words that come in bunches, too."""
    generator = np.random.default_rng(0)
    real = [" ".join(sorted(drawn(1.0, 25, 400, seed=row))) for row in range(20)]
    metric = RareWords(at_most=3, relative=True)
    found = [scored_words(metric, [real[i] for i in generator.integers(0, 20, 30)], real, MANY) for _ in range(100)]
    assert np.mean(found) == pytest.approx(1, abs=4 * np.std(found) / 10)
    assert np.std(found) < 0.1
    plain = scored_words(metric.model_copy(update={"relative": False}), real, real, MANY)
    assert plain == 1
    assert scored_words(metric, real, real, MANY) > 1.3  # every row once is more than 20 drawn again


def test_rare_words_go_before_frequent_ones(scored_words):
    """A generation that repeats what was frequent: the vocabulary's share falls, the tail's falls further."""
    real = texts_of(drawn(1.0, 12_000))
    sharper = texts_of(drawn(1.3, 12_000, seed=1))
    again = texts_of(drawn(1.0, 12_000, seed=2))
    tail, whole = RareWords(), Vocabulary()
    assert scored_words(tail, sharper, real, MANY) < 0.6 * scored_words(tail, again, real, MANY)
    fall = scored_words(whole, sharper, real, MANY) / scored_words(whole, again, real, MANY)
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


def test_settings_read_back(scored_words):
    metric = RareWords(at_most=2)
    assert RareWords(**metric.model_dump()) == metric
    assert torch.tensor(scored_words(metric, ["a"], ["a"])) == 1
