from __future__ import annotations

import math

import pytest
import torch
from pydantic import ValidationError

from collapse_sim.data.base import Info
from collapse_sim.data.text.grammar_pairs import GrammarPairs
from collapse_sim.data.text.grammar_stories import GrammarStories
from collapse_sim.data.toys.linear_data import LinearData
from collapse_sim.families.linear import LinearRegression
from collapse_sim.remedies.scores import Bias, score
from collapse_sim.remedies.verify import Verify

from .candidates import draws, points, pool


def test_the_truth_of_points_is_their_log_density():
    log_p = score("truth", pool(points(0, 2)), Bias())
    assert log_p.tolist() == pytest.approx([-0.5 * math.log(2 * math.pi), -2 - 0.5 * math.log(2 * math.pi)])


def test_the_truth_of_a_regression_is_that_of_y_given_x():
    data = LinearData(dimensions=2, noise=2.0, signal=math.sqrt(2))  # w* = (1, 1)
    info = Info("regression", {}, rows=2, pool=2, held_out=1, constants={"noise": 2.0})
    columns = {"x": torch.tensor([[1.0, 0.0], [1.0, 3.0]]).double(), "y": torch.tensor([3.0, 4.0]).double()}
    candidates = pool(columns, data=data, info=info, family=LinearRegression())
    assert score("truth", candidates, Bias()).tolist() == pytest.approx([-0.5, 0.0])
    assert score("truth", candidates, Bias(shift=(2.0, 0.0))).tolist() == pytest.approx([0.0, -0.5])


def test_grammatical_texts_are_told_from_others(tmp_path):
    data = GrammarStories(rows=5)
    rows = data.simulate(5, draws())["tokens"]
    wrong = rows.clone()
    wrong[2, 1:3] = rows[2, 1:3].flip(0)
    candidates = pool({"tokens": wrong}, data=data, info=data.inspect(tmp_path))
    assert score("grammatical", candidates, Bias()).tolist() == [1, 1, 0, 1, 1]
    expected = [data.true_grammar().log_probability(text.productions) for text in data.parsed({"tokens": rows})]
    log_p = score("truth", candidates, Bias()).tolist()
    assert log_p[2] == -math.inf
    assert log_p[:2] + log_p[3:] == pytest.approx(expected[:2] + expected[3:])


def test_rouge_compares_with_the_target_of_the_same_source(tmp_path):
    data = GrammarPairs(rows=4)
    rows = data.simulate(4, draws())
    wrong = rows["target"].roll(1, 0)  # the second draw has the headlines of other reports
    columns = {name: torch.cat([column, column]) for name, column in rows.items()}
    columns["target"] = torch.cat([rows["target"], wrong])
    candidates = pool(columns, rows=4, data=data, info=data.inspect(tmp_path), targets=lambda: rows)
    for measure in ("rouge1", "rouge2", "rougeL"):
        scores = score(measure, candidates, Bias())
        assert scores[:4].tolist() == [1, 1, 1, 1]
        assert (scores[4:] < 1).all()
    without = pool(columns, rows=8, data=data, info=data.inspect(tmp_path))
    with pytest.raises(ValueError, match="needs candidates that were generated for real sources"):
        score("rouge1", without, Bias())


def test_a_name_that_does_not_exist_is_an_error():
    with pytest.raises(ValidationError, match="unknown 'lose'; allowed: loss, truth, classifier, grammatical, rouge1"):
        Verify(score="lose")
