"""Which texts metrics of text look at, what a word is, and what they say of their figures."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from collapse_sim.core.registry import load
from collapse_sim.data.text.tokens import PAD_TOKEN_ID, Tokenizer
from collapse_sim.metrics.base import DrawnRows, HeldOutRows, Metric
from collapse_sim.metrics.text_base import parts, picked, texts, tokens_of, whole_words, words
from collapse_sim.metrics.text_counts import DistinctN, RareWords, Repetition, SelfBLEU, TextLength, Vocabulary, Zipf
from tests.metrics import word_rows

COUNTING = [DistinctN(), Repetition(), TextLength(), Zipf(), Vocabulary(), RareWords(), SelfBLEU()]
NAMES = [
    "perplexity", "sample_perplexity", "judge_perplexity", "rare_words", "vocabulary", "zipf", "distinct_n",
    "repetition", "length", "self_bleu", "rouge1", "rouge2", "rougeL", "rougeLsum", "mauve",
]  # fmt: skip


def named(metric: object) -> str:
    return type(metric).__name__


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("It's 3.5 Days!", ["it's", "3", ".", "5", "days", "!"]),
        ("the dogs' l’été\nwell-known", ["the", "dogs", "'", "l’été", "well", "-", "known"]),
        ("«Ärger» 東京 x_1", ["«", "ärger", "»", "東京", "x_1"]),
        (" \n\t", []),
    ],
)
def test_words(text, expected):
    assert words(text) == expected


def test_a_row_is_a_text_unless_packed():
    rows = word_rows.rows(["a b", "", "c"])
    assert list(texts(rows, word_rows.info())) == ["a b", "", "c"]
    rows = word_rows.packed("| a b | c | d", 7)
    assert list(texts(rows, word_rows.info(packed=True))) == ["a b", "c", "d"]


def test_a_begin_within_a_row_does_not_divide_it():
    """A model may generate any token; a row of one text stays one, so that outputs and targets stay side by side."""
    of_words = Tokenizer.of_words(["<s>", "a", "b"])
    tokenizer = Tokenizer(of_words.definition, begin=1, end=0, pad=0)
    row = torch.tensor([[1, 2, 1, 3, 0, PAD_TOKEN_ID]]).numpy()[0]
    assert [part.tolist() for part in parts(row, tokenizer, packed=False)] == [[2, 3]]
    assert [part.tolist() for part in parts(row, tokenizer, packed=True)] == [[2], [3]]


@pytest.mark.parametrize(
    ("row", "begun", "packed", "expected"),
    [
        ("| a b c |", True, False, "a b c"),  # whole
        ("| a b c", True, False, "a b"),  # cut at its length
        ("a b |", True, False, "b"),  # behind a prompt that is not in it
        ("a b c |", False, False, "a b c"),  # a target
        ("a b c", False, False, "a b"),
        ("a", True, False, ""),
        ("a b | c | d e", True, True, "b c d"),  # a block of a stream
        ("| a | b |", True, True, "a b"),
        ("|", True, True, ""),
    ],
)
def test_words_at_a_cut_are_left_out(row, begun, packed, expected):
    ids = word_rows.packed(row, len(row.split()))[0]
    ids = torch.cat([ids, torch.full((3,), PAD_TOKEN_ID)]) if not packed else ids
    assert whole_words(ids.numpy(), word_rows.LETTERS, packed, begun) == expected.split()


def test_the_text_of_pairs_is_the_target(evaluation):
    given = {"samples rows": {"source": torch.zeros(1, 3), "target": torch.ones(1, 3)}}
    seen = evaluation(given, info=word_rows.info("pairs"))
    assert tokens_of(seen, "samples").tolist() == [[1, 1, 1]]


def test_the_same_rows_are_picked_each_time(evaluation):
    tokens = torch.arange(50).unsqueeze(1)
    seen = evaluation({"samples rows": {"tokens": tokens}}, info=word_rows.info())
    first = picked(seen, "samples", 20)[:, 0].tolist()
    seen.generation = 7
    assert picked(seen, "samples", 20)[:, 0].tolist() == first == sorted(set(first))
    assert len(first) == 20
    assert first != list(range(20))
    assert torch.equal(picked(seen, "samples", 50), tokens)


@pytest.mark.parametrize("name", NAMES)
def test_every_metric_of_text_keeps_the_contract(name):
    metric = load("metrics", name)()
    assert isinstance(metric, Metric)
    assert isinstance(metric, DrawnRows) == (name in ("sample_perplexity", "judge_perplexity"))
    over_rows = ("perplexity", "sample_perplexity", "judge_perplexity", "rouge1", "rouge2", "rougeL", "rougeLsum")
    assert isinstance(metric, HeldOutRows) == (name in over_rows)
    assert type(metric)(**metric.model_dump()) == metric  # a resolved recipe reads back


@pytest.mark.parametrize("metric", COUNTING, ids=named)
def test_only_what_is_declared_is_looked_at(evaluation, metric):
    for which in ("samples", "outputs", "held_out"):
        own = metric.model_copy(update={"of": which})
        given = {f"{side} rows": {"tokens": word_rows.rows(["a b c d e", "b c d a"])} for side in own.needs}
        seen = evaluation(given, info=word_rows.info())
        assert isinstance(own.score(seen), float)
        assert seen.asked == set(own.needs)
        assert which in own.needs


@pytest.mark.parametrize("metric", COUNTING, ids=named)
def test_the_same_for_texts_of_pairs(evaluation, metric):
    """Targets have no begin; nothing else of a pair matters."""
    found = ["a b c d e a b", "b c d a", "a"]
    alone = {f"{side} rows": {"tokens": word_rows.rows(found)} for side in metric.needs}
    target = {"target": word_rows.rows(found, begin=False), "source": None}
    pairs = {f"{side} rows": target for side in metric.needs}
    expected = metric.score(evaluation(alone, info=word_rows.info()))
    assert metric.score(evaluation(pairs, info=word_rows.info("pairs"))) == expected


@pytest.mark.parametrize("metric", COUNTING, ids=named)
def test_nothing_generated_is_no_crash(evaluation, metric):
    """Empty generations: a length and a share that is kept of 0; what has nothing to count is nan."""
    given = {"samples rows": {"tokens": word_rows.rows(["", "", ""])}, "real rows": {"tokens": word_rows.rows(["a b"])}}
    value = metric.score(evaluation(given, info=word_rows.info()))
    assert value == 0 if isinstance(metric, TextLength | Vocabulary) else value != value


@pytest.mark.parametrize("metric", COUNTING, ids=named)
def test_check(metric):
    good = word_rows.info()
    metric.check(good, None, 5)
    with pytest.raises(ValueError, match="too few samples: 0"):
        metric.check(good, None, 0)
    with pytest.raises(ValueError, match="has no tokenizer"):
        metric.check(dataclasses.replace(good, tokenizer=None), None, 5)
    other = metric.model_copy(update={"of": "held_out"})
    with pytest.raises(ValueError, match="too few held-out rows: 0"):
        other.check(dataclasses.replace(good, held_out=0), None, 5)


def test_what_stands_beside_figures():
    info = word_rows.info(real=3000, held_out=500)
    assert DistinctN().metric_note(info, 2000, None).note == "2,000 samples"
    assert Zipf(of="held_out").metric_note(info, 2000, None).note == "500 held-out rows"
    assert (
        Vocabulary(of="outputs").metric_note(info, 2000, None).note
        == "500 outputs for held-out rows against 3,000 real rows"
    )
    assert SelfBLEU().metric_note(info, 2000, None).note == "200 of 2,000 samples"
    assert RareWords().metric_note(info, 3000, None).note == (
        "3,000 samples against 3,000 real rows; rare: the rarest 5 % of the real words; "
        "3,000 resampled real rows have 63 % of the words that occur once"
    )
    assert "rare: at most 2 times, relative to" in RareWords(at_most=2, relative=True).metric_note(info, 9, None).note
