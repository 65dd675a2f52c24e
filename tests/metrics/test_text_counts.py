"""n-grams, repetition, length and self-BLEU: hand-counted, and against nltk's BLEU."""

from __future__ import annotations

import math
import random
import warnings

import pytest

from collapse_sim.metrics.text_counts import DistinctN, Repetition, SelfBLEU, TextLength, ngrams, self_bleu
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
