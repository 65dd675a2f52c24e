"""Metrics against a known grammar: by hand on four productions, and on real texts with and without their tail."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from collapse_sim.core.randomness import Draws
from collapse_sim.data.text.grammar_pairs import GrammarPairs
from collapse_sim.data.text.grammar_stories import GrammarStories
from collapse_sim.data.text.grammar_world import productions
from collapse_sim.data.text.pcfg import Grammar
from collapse_sim.data.text.tokens import PAD_TOKEN_ID
from collapse_sim.families.causal_lm import CausalLM
from collapse_sim.families.gaussian import Gaussian
from collapse_sim.metrics.base import Metric
from collapse_sim.metrics.grammar import (
    GrammarKL,
    GrammarNLL,
    Grammatical,
    ProductionKL,
    RareProductions,
    RareUse,
)
from collapse_sim.metrics.loss import TestLoss
from collapse_sim.plan.metric_notes import note_of
from tests.metrics import word_rows

OF_TEXTS = [RareProductions(), RareUse(), ProductionKL(), Grammatical(), GrammarNLL()]
EVERY = [*OF_TEXTS, GrammarKL()]
FOUR = Grammar(productions("S: 0.9 a <A> . | 0.1 b .\nA: 0.98 c | 0.02 d", 1.0))  # used .9, .1, .882 and .018 times


class Tiny(GrammarStories):
    def true_grammar(self) -> Grammar:
        return FOUR


def rows_of(*texts: str) -> Tensor:
    """Texts of the words . a b c d; one that ends with ! is cut there."""
    ids = [[0, *(".abcd".index(word) + 1 for word in text if word in ".abcd"), 0] for text in texts]
    ids = [row[:-1] if text.endswith("!") else row for row, text in zip(ids, texts, strict=True)]
    return torch.tensor([row + [PAD_TOKEN_ID] * (6 - len(row)) for row in ids])


def simulated(data, rows: int, seed: int = 0) -> dict[str, Tensor]:
    return data.simulate(rows, Draws((seed,), "real", 0, dtype=torch.float64))


@pytest.fixture
def scored(evaluation):
    def run(metric, rows, data):
        rows = rows if isinstance(rows, dict) else {"tokens": rows}
        seen = evaluation({f"{metric.of} rows": rows}, data=data, info=data.inspect(Path()))
        value = metric.score(seen)
        assert isinstance(value, float)
        assert seen.asked == set(metric.needs)
        return value

    return run


def note_text(metric, data, samples: int) -> str:
    parts = SimpleNamespace(info=data.inspect(Path()), data=data)
    return note_of(SimpleNamespace(metric=metric, data=parts, samples=SimpleNamespace(rows=samples))).note


def test_by_hand(scored) -> None:
    """Six of the commonest, one b, and one that is right up to its d."""
    rows, data = rows_of(*["ac."] * 6, "b.", "ad!"), Tiny()
    assert scored(RareProductions(), rows, data) == 1  # A -> d
    assert scored(RareProductions(), rows[:7], data) == 0
    assert scored(RareProductions(below=0.2), rows[:7], data) == 0.5  # S -> b . and A -> d
    assert scored(RareUse(below=0.2), rows, data) == pytest.approx((1 + 1) / (8 * 0.1 + 7 * 0.02))
    assert scored(RareUse(), rows, data) == pytest.approx(1 / (7 * 0.02))
    assert scored(Grammatical(), rows, data) == 7 / 8
    nats = -6 * math.log(0.9 * 0.98) - math.log(0.1)
    assert scored(GrammarNLL(), rows, data) == pytest.approx(nats / (6 * 4 + 3), rel=1e-12)
    kl = 0.9 * math.log(0.9 / ((7 + 0.9) / 9)) + 0.1 * math.log(0.1 / ((1 + 0.1) / 9))
    kl += 0.882 * math.log(0.98 / ((6 + 0.98) / 8)) + 0.018 * math.log(0.02 / ((1 + 0.02) / 8))
    assert scored(ProductionKL(), rows, data) == pytest.approx(kl / (0.9 * 3 + 0.1 * 2 + 1), rel=1e-12)


def test_facts_by_hand() -> None:
    data = Tiny(held_out_rows=50)
    assert note_text(RareProductions(below=0.2), data, 8) == (
        "8 samples; 2 of 4 productions are used less than 0.2 times per real text, and 8 real texts have "
        f"{1 - (0.982**8 + 0.9**8) / 2:.3f} of them"
    )
    assert note_text(RareUse(), data, 8) == "8 samples; 1 of 4 productions are used less than 0.02 times per real text"
    assert note_text(RareProductions(of="held_out"), data, 8).startswith("50 held-out rows; 1 of 4")
    assert note_text(Grammatical(), data, 8) == "8 samples"
    entropy = -0.882 * math.log(0.882) - 0.018 * math.log(0.018) - 0.1 * math.log(0.1)
    assert note_text(GrammarNLL(), data, 8) == f"8 samples; true: {entropy / 3.9:.4f}"
    assert note_text(GrammarKL(), data, 8) == "50 held-out rows"


def test_texts_of_nothing(scored) -> None:
    rows, data = rows_of("!", "!"), Tiny()
    assert [scored(metric, rows, data) for metric in (RareProductions(), Grammatical())] == [0, 0]
    assert math.isnan(scored(RareUse(), rows, data))
    assert math.isnan(scored(GrammarNLL(), rows, data))
    assert scored(ProductionKL(), rows, data) == 0  # nothing says otherwise
    assert math.isnan(scored(RareProductions(below=1e-9), rows, data))  # there are none


@pytest.mark.parametrize("data", [GrammarStories(), GrammarPairs()], ids=["stories", "pairs"])
def test_real_texts_score_what_is_said_of_them(scored, data) -> None:
    sets = [simulated(data, 400, seed) for seed in range(10)]
    for metric in (RareProductions(), ProductionKL()):
        found = torch.tensor([scored(metric, rows, data) for rows in sets])
        expected = float(note_text(metric, data, 400).rsplit("about ")[-1].split("have ")[-1].split()[0])
        tolerance = 0.05 * expected if isinstance(metric, ProductionKL) else 0.001  # a series' first term; rounded
        assert float(found.mean()) == pytest.approx(expected, abs=4 * float(found.std()) / 10**0.5 + tolerance)
    use = torch.tensor([scored(RareUse(), rows, data) for rows in sets])
    assert abs(float(use.mean()) - 1) < 4 * float(use.std()) / 10**0.5
    nats = torch.tensor([scored(GrammarNLL(), rows, data) for rows in sets])
    assert abs(float(nats.mean()) - data.entropy_per_token()) < 4 * float(nats.std()) / 10**0.5
    assert all(scored(Grammatical(), rows, data) == 1 for rows in sets)


@pytest.mark.parametrize("data", [GrammarStories(), GrammarPairs()], ids=["stories", "pairs"])
def test_without_the_tail(scored, data) -> None:
    """Real texts that use no rare production."""
    rows, rare = simulated(data, 2000), torch.from_numpy(data.true_grammar().uses < 0.02)
    common = torch.tensor([not any(rare[number] for number in used) for used, _ in data.parsed(rows)])
    kept = {name: column[common] for name, column in rows.items()}
    as_many = {name: column[: int(common.sum())] for name, column in rows.items()}
    assert 500 < common.sum() < 1500
    assert scored(RareProductions(), kept, data) == scored(RareUse(), kept, data) == 0
    assert scored(Grammatical(), kept, data) == 1
    assert scored(GrammarNLL(), kept, data) < 0.98 * data.entropy_per_token()  # expected: .924 and .955, each +- .006
    assert scored(ProductionKL(), kept, data) > 5 * scored(ProductionKL(), as_many, data)
    assert scored(RareProductions(), as_many, data) > 0.9


def test_headlines_of_other_reports_are_not_grammatical(scored) -> None:
    data = GrammarPairs()
    rows = simulated(data, 300)
    mixed = {"source": rows["source"], "target": rows["target"].roll(1, 0)}
    assert scored(Grammatical(), mixed, data) < 0.05
    assert scored(RareProductions(), mixed, data) < 0.3 < scored(RareProductions(), rows, data)


class Known:
    """A model that is the truth but for `apart` nats per token."""

    def __init__(self, data, apart: float) -> None:
        self.data, self.apart = data, apart

    def nats(self, model, rows):
        assert model == "model"
        target = rows["tokens"][:, 1:] if "tokens" in rows else rows["target"]
        tokens = (target != PAD_TOKEN_ID).sum(1)
        return self.apart * tokens - self.data.log_probability(rows), tokens


@pytest.mark.parametrize("data", [GrammarStories(), GrammarPairs()], ids=["stories", "pairs"])
def test_grammar_kl_is_what_a_model_is_apart(evaluation, data) -> None:
    given = {"model": "model", "held_out rows": simulated(data, 100)}
    for apart in (0.0, 0.25):
        seen = evaluation(given, data=data, info=data.inspect(Path()), family=Known(data, apart))
        assert GrammarKL().score(seen) == pytest.approx(apart, abs=1e-12)
        assert seen.asked == set(GrammarKL().needs)


def test_grammar_kl_is_the_test_loss_less_that_of_the_truth(evaluation) -> None:
    data, family = GrammarStories(), CausalLM(preset="tiny")
    info, rows = data.inspect(Path()), simulated(data, 60)
    torch.manual_seed(0)
    given = {"model": family.build(info).eval(), "held_out rows": rows}
    seen = evaluation(given, data=data, info=info, family=family)
    tokens = int((rows["tokens"][:, 1:] != PAD_TOKEN_ID).sum())
    true = -float(data.log_probability(rows).sum()) / tokens
    assert GrammarKL().score(seen) == pytest.approx(TestLoss().score(seen) - true, rel=1e-5)
    assert GrammarKL().score(seen) > 4  # of log 266 = 5.6


@pytest.mark.parametrize("metric", EVERY, ids=lambda metric: type(metric).__name__)
def test_checks(metric) -> None:
    assert isinstance(metric, Metric)
    info = GrammarStories().inspect(Path())
    metric.check(info, CausalLM(preset="tiny"), 10)
    with pytest.raises(
        ValueError, match=f"{type(metric).__name__} needs text whose grammar is known: the data `grammar`"
    ):
        metric.check(word_rows.info(), CausalLM(preset="tiny"), 10)


@pytest.mark.parametrize("metric", OF_TEXTS, ids=lambda metric: type(metric).__name__)
def test_samples_without_their_prompt_are_no_texts(metric) -> None:
    info = GrammarStories().inspect(Path())
    with pytest.raises(ValueError, match="samples that continue prompts have no beginning"):
        metric.check(info, CausalLM(preset="tiny", prompt=5), 10)
    metric.check(info, CausalLM(preset="tiny", prompt=5, keep_prompt=True), 10)
    metric.model_copy(update={"of": "held_out"}).check(info, CausalLM(preset="tiny", prompt=5), 10)
    with pytest.raises(ValueError, match="too few samples"):
        metric.check(info, CausalLM(preset="tiny"), 0)


def test_grammar_kl_needs_likelihoods() -> None:
    with pytest.raises(ValueError, match="Gaussian does not"):
        GrammarKL().check(GrammarStories().inspect(Path()), Gaussian(), 10)
