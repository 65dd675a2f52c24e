"""Perplexity under a named judge: transformers' own loss of single texts, and judges that will not do."""

from __future__ import annotations

import dataclasses
import json
import math

import pytest
import torch

from collapse_sim.core.errors import MissingError
from collapse_sim.core.machine import open_machine
from collapse_sim.families import pretrained_checks
from collapse_sim.metrics import language_model
from collapse_sim.metrics.loss import JudgePerplexity
from tests.metrics import judges, word_rows

TEXTS = ["the cat sat on the mat", "dog", "", "a b c a b", "ran ran ran", "the dog ran on a mat the cat sat on"]


@pytest.fixture(scope="module")
def there(tmp_path_factory):
    """(data folder with a judge called `judge` in it, its network)."""
    folder = tmp_path_factory.mktemp("data")
    return folder, judges.save(folder / "judge")


@pytest.fixture
def seen(evaluation):
    def make(texts=TEXTS, length=24):
        tokens = word_rows.rows(texts, length, words=judges.WORDS)
        given = {"samples rows": {"tokens": tokens}}
        return evaluation(given, info=word_rows.info(words=judges.WORDS), machine=open_machine("cpu"))

    return make


def loss_of(network, text):
    """Transformers' own mean loss of one text behind the token that begins it, cut to the network's positions."""
    ids = torch.tensor([[0, *judges.WORDS.encode([text])[0].tolist()]])[:, : judges.POSITIONS]
    with torch.no_grad():
        return float(network(input_ids=ids, labels=ids).loss)


def located(there, **settings):
    return JudgePerplexity(judge="judge", **settings).resolve_files(there[0])


def test_is_transformers_loss_of_single_texts(there, seen):
    losses = [loss_of(there[1], text) for text in TEXTS if text]
    metric = located(there)
    columns = metric.score_rows(seen())
    assert columns["tokens"].tolist() == [6, 1, 0, 5, 3, 10]  # the empty text is kept among the values
    label, drawn = metric.histogram(columns)
    assert drawn.tolist() == pytest.approx([math.exp(loss) for loss in losses], rel=1e-5)
    assert "judge" in label
    assert metric.sum_up(columns) == pytest.approx(sum(map(math.exp, losses)) / 5, rel=1e-5)
    assert metric.score(seen()) == metric.sum_up(columns)
    weighed = sum(loss * n for loss, n in zip(losses, [6, 1, 5, 3, 10], strict=True)) / 25
    assert located(there, mean="tokens").score(seen()) == pytest.approx(math.exp(weighed), rel=1e-5)


@pytest.mark.parametrize("numbers", [1, 11 * 8, 11 * 16 * 3, 10**9])
def test_batches_change_nothing(there, seen, monkeypatch, numbers):
    """One text at a time, then ever more of unequal length together."""
    expected = located(there).score_rows(seen())
    monkeypatch.setattr(language_model, "NUMBERS_AT_ONCE", numbers)
    found = located(there).score_rows(seen())
    assert torch.equal(found["tokens"], expected["tokens"])
    torch.testing.assert_close(found["nats"], expected["nats"], rtol=1e-5, atol=0)


def test_long_texts_are_cut_to_the_judges_positions(there, seen):
    text = "the cat sat on the mat a b c a b c the dog ran on the mat"
    columns = located(there).score_rows(seen([text]))
    assert columns["tokens"].tolist() == [judges.POSITIONS - 1]
    assert float(columns["nats"][0]) / 15 == pytest.approx(loss_of(there[1], text), rel=1e-5)


def test_nothing_to_judge(there, seen):
    for mean in ("texts", "tokens"):
        assert math.isnan(located(there, mean=mean).score(seen(["", ""])))


def test_at_most_so_many_rows(there, seen):
    few = located(there, rows=2).score_rows(seen())
    assert few["tokens"].shape == (2,)
    assert torch.equal(few["nats"], located(there, rows=2).score_rows(seen())["nats"])


def test_the_key_has_the_content_and_not_the_place(there, tmp_path):
    judges.save(tmp_path / "other" / "judge")
    judges.save(tmp_path / "changed" / "judge", seed=1)
    here = located(there).describe()
    assert "judge" not in str(here["judge"])
    assert JudgePerplexity(judge="judge").resolve_files(tmp_path / "other").describe() == here
    assert JudgePerplexity(judge=str(tmp_path / "other" / "judge")).resolve_files(there[0]).describe() == here
    assert JudgePerplexity(judge="judge").resolve_files(tmp_path / "changed").describe() != here


def test_facts_name_the_judge(there):
    metric = located(there)
    metric.check(word_rows.info(words=judges.WORDS), None, 2000)
    model, _ = metric.describe()["judge"]
    assert metric.metric_note(word_rows.info(), 2000, None).note == f"1,000 of 2,000 samples; judge {model[:8]}"


def test_weights_in_torchs_format(there, seen, tmp_path):
    folder = tmp_path / "judge"
    judges.save(folder)
    (folder / "model.safetensors").unlink()
    torch.save(there[1].state_dict(), folder / "pytorch_model.bin")
    found = JudgePerplexity(judge="judge").resolve_files(tmp_path).score(seen())
    assert found == pytest.approx(located(there).score(seen()), rel=1e-6)


def test_pickled_code_is_not_run(seen, tmp_path):
    class Boom:
        def __reduce__(self):
            return (pytest.fail, ("unpickled",))

    folder = tmp_path / "judge"
    judges.save(folder)
    (folder / "model.safetensors").unlink()
    torch.save({"transformer.wte.weight": Boom()}, folder / "pytorch_model.bin")
    metric = JudgePerplexity(judge="judge").resolve_files(tmp_path)
    with pytest.raises(MissingError, match=r"its weights cannot be read: it would run \S+: only files that") as told:
        metric.score(seen())
    assert "weights_only" not in str(told.value)  # torch's advice to switch it off
    with pytest.raises(MissingError, match="it would run"):  # before anything is trained
        metric.check(word_rows.info(words=judges.WORDS), None, 5)


def test_a_judge_is_tried_once(there, monkeypatch, tmp_path):
    """Its weights are read for it, and what was found is kept."""
    monkeypatch.setenv("COLLAPSE_SIM_CACHE", str(tmp_path))
    read, network_of = [], pretrained_checks.network_of
    monkeypatch.setattr(pretrained_checks, "network_of", lambda *given: read.append(1) or network_of(*given))
    for _ in range(3):
        located(there).check(word_rows.info(words=judges.WORDS), None, 5)
    assert len(read) == 1


def test_no_such_judge(tmp_path):
    with pytest.raises(MissingError, match=r"\./nowhere: no such model"):
        JudgePerplexity(judge="./nowhere").resolve_files(tmp_path)
    judges.save(tmp_path / "bare")
    for file in ("tokenizer.json", "tokenizer_config.json"):
        (tmp_path / "bare" / file).unlink()
    with pytest.raises(MissingError, match=r"no tokenizer\.json in it; needed for a tokenizer"):
        JudgePerplexity(judge="bare").resolve_files(tmp_path)


def changed(folder, **entries):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | entries))


def masked(folder, kind):
    """A model of another kind in place of the judge."""
    from transformers import (
        BertConfig,
        BertForMaskedLM,
        ViTConfig,
        ViTForImageClassification,
        XLNetConfig,
        XLNetLMHeadModel,
    )

    sizes = {"vocab_size": judges.WORDS.size, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    torch.manual_seed(0)
    if kind == "bert":
        network = BertForMaskedLM(BertConfig(**sizes, intermediate_size=32, max_position_embeddings=16))
    elif kind == "vit":
        network = ViTForImageClassification(ViTConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=2))
    else:
        network = XLNetLMHeadModel(
            XLNetConfig(vocab_size=judges.WORDS.size, d_model=16, n_layer=1, n_head=2, d_inner=8)
        )
    network.save_pretrained(folder)


def unmarked(folder):
    path = folder / "tokenizer_config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps({key: value for key, value in config.items() if not key.endswith("_token")}))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda folder: judges.save(folder, vocabulary=5), "its vocabulary has 5 tokens, but the tokenizer in"),
        (
            lambda folder: masked(folder, "bert"),
            r"it looks at the tokens that it should predict \(bert; a",
        ),
        (lambda folder: masked(folder, "xlnet"), r"it looks at the tokens that it should predict \(xlnet; a changed"),
        (lambda folder: changed(folder, quantization_config={"quant_method": "awq"}), r"are quantised \(awq\)"),
        (
            lambda folder: masked(folder, "vit"),
            r"its configuration \(vit\) has no vocab_size: it is not that",
        ),
        (lambda folder: changed(folder, model_type="t5", is_encoder_decoder=True), r"an encoder-decoder \(t5\)"),
        (lambda folder: changed(folder, model_type="no-such-model"), "no-such-model"),
        (lambda folder: (folder / "config.json").write_text("{"), "config.json"),
        (unmarked, "no token that begins or ends a text"),
    ],
)
def test_judges_that_will_not_do(tmp_path, spoil, message):
    judges.save(tmp_path / "judge")
    spoil(tmp_path / "judge")
    metric = JudgePerplexity(judge="judge").resolve_files(tmp_path)
    with pytest.raises(ValueError, match=message):
        metric.check(word_rows.info(words=judges.WORDS), None, 5)


def test_weights_that_are_incomplete(tmp_path, seen):
    from safetensors.torch import load_file, save_file

    judges.save(tmp_path / "judge")
    path = tmp_path / "judge" / "model.safetensors"
    weights = load_file(path)
    save_file({name: w for name, w in weights.items() if "h.1." not in name}, path, metadata={"format": "pt"})
    with pytest.raises(MissingError, match="12 of the network's weights are missing"):
        JudgePerplexity(judge="judge").resolve_files(tmp_path).score(seen())


def test_weights_that_end_early(tmp_path):
    judges.save(tmp_path / "judge")
    path = tmp_path / "judge" / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(MissingError, match=r"judge: its weights cannot be read: model\.safetensors: "):
        JudgePerplexity(judge="judge").resolve_files(tmp_path)


def test_influence_of_held_out_rows(evaluation):
    """Of 6 texts in 4 of 10 rows: the standard error is that of the 4, each with all of its texts."""
    columns = {
        "nats": torch.tensor([2.0, 3.0, 8.0, 1.0, 0.0, 5.0], dtype=torch.float64),
        "tokens": torch.tensor([1, 2, 4, 1, 0, 2]),
        "row": torch.tensor([1, 1, 4, 7, 7, 9]),
    }
    seen = evaluation({}, info=dataclasses.replace(word_rows.info(), held_out=10))
    metric = JudgePerplexity(of="outputs", mean="tokens")
    found = metric.influence(columns, seen)
    assert found.shape == (10,)
    assert found[[0, 2, 3, 5, 6, 8]].tolist() == [0] * 6
    nats, tokens = torch.tensor([5.0, 8.0, 1.0, 5.0]), torch.tensor([3.0, 4.0, 1.0, 2.0])  # by row
    score = metric.sum_up(columns)
    expected = score * (nats - 1.9 * tokens) / tokens.mean()
    assert found[[1, 4, 7, 9]].tolist() == pytest.approx((expected * 10 / 4).tolist(), rel=1e-6)
    by_text = JudgePerplexity(of="held_out").influence(columns, seen)
    assert float(by_text.sum()) == pytest.approx(0, abs=1e-9)
    moved = {name: torch.cat([column, column[2:3]]) for name, column in columns.items()}  # row 4 once more: 1 of 7
    nearly = JudgePerplexity().sum_up(columns) + float(by_text[4]) / 10
    assert JudgePerplexity().sum_up(moved) == pytest.approx(nearly, abs=0.03)
    assert JudgePerplexity(of="samples").influence(columns, seen) is None
