"""Every metric of text through the whole program: language models and pairs, a judge by folder, values of rows kept."""

from __future__ import annotations

import math

import pytest
from safetensors.torch import load_file

from tests.metrics import judges

COUNTING = "distinct_n, repetition, length, zipf, vocabulary, {use: self_bleu, rows: 10}"
COMMON = """
train: {steps: 8, batch_size: 16, learning_rate: 1e-2, evaluate: never}
samples: 30
generations: 1
seeds: [0]
arms: {replace: {data: replace}}
"""
TEXT = f"""{COMMON}
data: {{use: grammar, rows: 40, held_out_rows: 12}}
model: {{use: causal_lm, preset: tiny, width: 16, layers: 1}}
metrics:
  [test_loss, {COUNTING}, {{use: length, of: held_out, as: real}}, {{use: judge_perplexity, judge: judge, rows: 20}}]
"""
PAIRS = f"""{COMMON}
data: {{use: grammar_pairs, rows: 40, held_out_rows: 12}}
model: {{use: seq2seq, preset: tiny, width: 16, layers: 1}}
metrics:
  - rouge1
  - rouge2
  - rougeL
  - rougeLsum
  - {{use: rare_words, of: outputs}}
  - {{use: sample_perplexity, of: outputs}}
  - {{use: judge_perplexity, judge: judge, of: outputs, rows: 5}}
"""


@pytest.fixture
def scores(sandbox):
    """Run a recipe -> {metric: [generation 0, generation 1]}, [values of rows]."""

    def run(recipe):
        judges.save(sandbox.root / "data" / "judge")
        sandbox.run(recipe)
        lines = sorted(sandbox.journal(event="scores"), key=lambda line: line["generation"])
        found = {name: [line["metrics"][name][0] for line in lines] for name in lines[0]["metrics"]}
        kept = sorted((sandbox.root / ".store").glob("objects/*/*/*/rows.safetensors"))
        return found, [load_file(path) for path in kept]

    return run


def test_texts(scores):
    found, kept = scores(TEXT)
    assert all(math.isfinite(value) for values in found.values() for value in values)
    assert found["perplexity"] == pytest.approx([math.exp(loss) for loss in found["test_loss"]], rel=1e-5)
    assert found["real"][0] == found["real"][1] > 0
    for name in ("distinct_n", "repetition", "vocabulary", "rare_words", "self_bleu"):
        assert all(0 <= value <= 1 for value in found[name])
    lengths = sorted(len(columns["nats"]) for columns in kept if "nats" in columns)
    assert lengths == [12, 12, 20, 20, 30, 30]  # perplexity's, the judge's, generation 0's
    told = [columns for columns in kept if "influence" in columns]
    assert len(told) == 4  # of held-out rows, in both generations: test_loss and perplexity
    for columns in told:
        assert len(columns["influence"]) == 12
        assert abs(float(columns["influence"].sum())) < 1e-4 * float(columns["influence"].abs().sum())


def test_pairs(scores):
    found, kept = scores(PAIRS)
    assert list(found)[-1] == "perplexity"
    assert all(0 <= value <= 100 for name in found for value in found[name] if name.startswith("rouge"))
    rouges = [100 * float(columns["f"].mean()) for columns in kept if "f" in columns]
    assert sorted(rouges) == pytest.approx(sorted(x for n in found for x in found[n] if n.startswith("rouge")))
    nats = [columns for columns in kept if "nats" in columns]
    assert sorted(len(columns["nats"]) for columns in nats) == [5, 5, 12, 12, 12, 12]
    means = [math.exp(columns["nats"].sum() / columns["tokens"].sum()) for columns in nats if len(columns["nats"]) > 5]
    expected = sorted([*found["sample_perplexity"], *found["perplexity"]])
    assert sorted(means) == pytest.approx(expected, rel=1e-12)
    assert all(len(columns["influence"]) == 12 for columns in kept)  # the judge's, too: 0 where a row is not picked
    assert all((columns["influence"] == 0).sum() >= 7 for columns in nats if len(columns["nats"]) == 5)
