"""ROUGE of outputs against held-out targets: rouge-score's own numbers, one pair at a time."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from rouge_score.rouge_scorer import RougeScorer

from collapse_sim.data.text.tokens import Tokenizer
from collapse_sim.metrics.rouge import Rouge1, Rouge2, RougeL, RougeLsum
from tests.metrics import word_rows

WORDS = Tokenizer.of_words(["the", "cat", "cats", "sat", "sits", "sitting", "on", "a", "mat", "mats", ".", "dog"])
TARGETS = ["the cat sat on a mat .", "a dog sits .", "the cats", "sitting on the mat", ""]
OUTPUTS = ["a cat sits on the mats .", "dog dog dog dog", "", "on the mat sitting the cat sat on the mat", "cat"]
EVERY = [Rouge1, Rouge2, RougeL, RougeLsum]
NAMES = ["rouge1", "rouge2", "rougeL", "rougeLsum"]


@pytest.fixture
def scored(evaluation):
    def run(metric, outputs, targets):
        sides = {"outputs rows": outputs, "held_out rows": targets}
        given = {
            name: {"target": word_rows.rows(found, begin=False, words=WORDS), "source": torch.zeros(len(found), 3)}
            for name, found in sides.items()
        }
        seen = evaluation(given, info=word_rows.info("pairs", words=WORDS))
        value = metric.score(seen)
        assert seen.asked == {"outputs", "held_out"} == set(metric.needs)
        return value

    return run


@pytest.mark.parametrize("stemming", [True, False])
@pytest.mark.parametrize(("cls", "name"), list(zip(EVERY, NAMES, strict=True)))
def test_is_rouge_scores_own(scored, cls, name, stemming):
    scorer = RougeScorer([name], use_stemmer=stemming)
    expected = [scorer.score(target, output)[name].fmeasure for target, output in zip(TARGETS, OUTPUTS, strict=True)]
    assert scored(cls(stemming=stemming), OUTPUTS, TARGETS) == pytest.approx(100 * sum(expected) / 5, rel=1e-12)


def test_by_hand(scored):
    """Of "the cat sat" and "the cat on the mat": precision 2/3, recall 2/5; pairs 1/2, 1/4; subsequence as words."""
    pair = ["the cat sat"], ["the cat on the mat"]
    assert scored(Rouge1(), *pair) == pytest.approx(100 * 2 * (2 / 3 * 2 / 5) / (2 / 3 + 2 / 5))
    assert scored(Rouge2(), *pair) == pytest.approx(100 * 2 * (1 / 2 * 1 / 4) / (1 / 2 + 1 / 4))
    assert scored(RougeL(), *pair) == scored(Rouge1(), *pair)


def test_stemming_is_the_default(scored):
    assert scored(Rouge1(), ["cats sitting"], ["cat sits"]) == 100
    assert scored(Rouge1(stemming=False), ["cats sitting"], ["cat sits"]) == 0


@pytest.mark.parametrize("cls", EVERY)
def test_empty_outputs_count_as_0(scored, cls):
    assert scored(cls(), ["", ""], ["the cat", ""]) == 0
    assert scored(cls(), ["the cat sat", ""], ["the cat sat", "a dog"]) == 50


def test_check_and_facts():
    info = word_rows.info("pairs", held_out=13_000)
    Rouge1().check(info, None, 5)
    assert Rouge2().metric_note(info, 5, None).note == "13,000 outputs for held-out rows; words stemmed"
    assert RougeL(stemming=False).metric_note(info, 5, None).note.endswith("; words not stemmed")
    with pytest.raises(ValueError, match="rougeL compares with held-out targets"):
        RougeL().check(dataclasses.replace(info, held_out=0), None, 5)
