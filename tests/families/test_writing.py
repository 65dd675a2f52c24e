"""What is written of packed data: by a known Markov chain in a network's place, and real rows of the same chain."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from collapse_sim.core.randomness import Draws
from collapse_sim.data.base import Info
from collapse_sim.data.text.text_rows import PackedRows, Stream
from collapse_sim.data.text.text_tokens import Tokens
from collapse_sim.data.text.tokens import PAD_TOKEN_ID, Tokenizer
from collapse_sim.families.base import Conditions
from collapse_sim.families.causal_lm import TEXT_ROWS, CausalLM
from collapse_sim.families.writing import Writer
from collapse_sim.testing import CPU

LENGTH, SHORT, LONG = 6, (1, 2), (3, 4)  # a row's tokens; words of texts of few tokens, and of many
ONE = Tokenizer.of_words(["a", "b", "c", "d"])  # of which 0 begins and ends texts
TWO = dataclasses.replace(ONE, begin=0, end=4, pad=4)  # of the words a, b, c


def chain(tokenizer: Tokenizer, long: float) -> torch.Tensor:
    """(5, 5) odds of the next token: a text of about 2 tokens, or of about `long`."""
    odds = torch.zeros(5, 5, dtype=torch.float64)
    short, other = (SHORT, LONG) if tokenizer.begin == tokenizer.end else ((1,), (2, 3))
    odds[tokenizer.begin, short[0]], odds[tokenizer.begin, other[0]] = 0.65, 0.3
    odds[tokenizer.begin, tokenizer.end] = 0.05
    for words, ends in ((short, 0.5), (other, 1 / long)):
        for word in words:
            odds[word, list(words)] = (1 - ends) / len(words)
            odds[word, tokenizer.end] = ends
    if tokenizer.begin != tokenizer.end:
        odds[tokenizer.end, tokenizer.begin] = 1.0
    return odds


def stationary(odds: torch.Tensor) -> np.ndarray:
    """(5,) how often each token is anywhere in an endless stream."""
    return torch.linalg.matrix_power(odds, 100_000).mean(0).numpy()


class Chain(CausalLM):
    """Writes by a table, whatever its network is."""

    long: float = 4.0

    def _generate(self, model, inputs, new, draws, *, stop, greedy=False):
        odds = chain(TWO if model.begin != model.end else ONE, self.long).cumsum(1)
        last, rows = inputs["input_ids"][:, -1:], []
        for at in torch.rand(new, len(last), 1, generator=draws.generator, dtype=torch.float64):
            last = (odds[last[:, 0]] < at).sum(1, keepdim=True)
            rows.append(last)
        return torch.cat(rows, 1)


def info(tokenizer: Tokenizer) -> Info:
    return Info("text", {"tokens": ((LENGTH,), "int16")}, 40, 40, 10, tokenizer=tokenizer, packed=True)


def written(tokenizer: Tokenizer, rows: int, shards: int, **settings) -> np.ndarray:
    """(shards, rows, LENGTH)"""
    family = Chain(preset="tiny", width=2, heads=1, **settings)
    family.check(info(tokenizer))
    with CPU.seeded(0):
        model = family.build(info(tokenizer)).eval()
    made = [family.sample(model, Conditions(rows, {}), Draws((0,), "sample", 0, s))["tokens"] for s in range(shards)]
    return torch.stack(made).numpy()


def real(tokenizer: Tokenizer, rows: int, long: float) -> np.ndarray:
    """(rows, LENGTH) of texts that numpy draws, joined and cut by the data's own code."""
    dice, odds = np.random.default_rng(0), chain(tokenizer, long).numpy().cumsum(1)
    texts: list[list[int]] = []
    total = 0
    while total < rows * LENGTH:
        text = [tokenizer.begin]
        while len(text) == 1 or text[-1] != tokenizer.end:
            text.append(int(np.searchsorted(odds[text[-1]], dice.random())))
        texts.append(text[1:-1])
        total += len(text) - 1
    offsets = np.cumsum([0, *map(len, texts)])
    tokens = Tokens(np.array([word for text in texts for word in text], "int16"), offsets)
    return PackedRows(Stream(tokens, np.arange(len(texts)), tokenizer), LENGTH).read(0, rows)["tokens"]


def off(rows: np.ndarray, wanted: np.ndarray) -> float:
    """The largest deviation of a token's frequency at any place of a row from what it is in the stream, in standard
    errors of as many independent rows."""
    seen = np.stack([(rows == token).mean(0) for token in range(5)], 1)
    return float((np.abs(seen - wanted) / np.sqrt(wanted * (1 - wanted) / len(rows)).clip(1e-12)).max())


@pytest.mark.parametrize("long", [4.0, 40.0])
@pytest.mark.parametrize("tokenizer", [ONE, TWO], ids=["one-token", "two-tokens"])
def test_rows_begin_anywhere_as_real_ones_do(tokenizer, long):
    """Whether texts are shorter than rows or many rows long: the tokens at every place are those of the endless stream,
    of real rows, of generated rows, and of generated shards' first rows."""
    wanted = stationary(chain(tokenizer, long))
    assert off(real(tokenizer, 2000, long), wanted) < 7  # neighbouring rows are of one text
    made = written(tokenizer, 1000, 2, long=long, longest=600)
    assert off(made.reshape(-1, LENGTH), wanted) < 7
    firsts = written(tokenizer, 30, 50, long=long, longest=300)[:, 0]
    assert off(firsts, wanted) < 4.5
    begun = written(tokenizer, 3000, 1, long=long, stop="length")[0]
    assert (begun[:, 0] == tokenizer.begin).all()  # as it was before
    assert off(begun, wanted) > 30


@pytest.mark.parametrize("tokenizer", [ONE, TWO], ids=["one-token", "two-tokens"])
def test_rows_of_a_shard_are_consecutive(tokenizer):
    """Every two neighbours, within rows and from a row to the next, are such as the chain has."""
    stream = written(tokenizer, 500, 4, long=40.0, longest=4000).reshape(4, -1)
    pairs = torch.zeros(5, 5, dtype=torch.float64)
    for shard in stream:
        np.add.at(pairs.numpy(), (shard[:-1], shard[1:]), 1)
    odds, many = chain(tokenizer, 40.0), pairs.sum(1, keepdim=True)
    assert ((pairs > 0) <= (odds > 0)).all()
    assert float(((pairs - many * odds).abs() / (many * odds * (1 - odds)).sqrt().clamp(min=1)).max()) < 4.5


def stub(**settings) -> tuple[Writer, list[tuple[int, int]]]:
    """A writer of 1, 2, 3, ... behind whatever is given, and the (tokens given, tokens asked for) of every call."""
    calls: list[tuple[int, int]] = []

    def count(given, new, *, stop):
        calls.append((given.shape[1], new))
        return given[:, -1:] + torch.arange(1, new + 1)

    return Writer(count, **settings), calls


def test_a_full_context_goes_on_behind_its_last_half():
    writer, calls = stub(end=-9, context=8)
    rows = writer.continued(torch.tensor([[0, 1, 2], [5, 6, 7]]), 16, stop=False)
    assert rows.tolist() == [[*range(3, 19)], [*range(8, 24)]]
    assert calls == [(3, 5), (4, 4), (4, 4), (4, 3)]  # never more than 8 together
    writer, calls = stub(end=12, context=8)
    stopped = writer.continued(torch.tensor([[0, 1, 2], [5, 6, 7]]), 16, stop=True)
    assert stopped[0].tolist() == [*range(3, 13), *[PAD_TOKEN_ID] * 6]
    assert stopped[1].tolist() == [*range(8, 13), *[PAD_TOKEN_ID] * 11]
    assert len(calls) == 3  # no piece for texts that have ended


def test_a_context_of_two_tokens():
    writer, calls = stub(end=-9, context=2)
    assert writer.continued(torch.tensor([[7]]), 3, stop=False).tolist() == [[8, 9, 10]]
    assert calls == [(1, 1)] * 3


def test_a_text_without_an_end_is_cut_and_ended():
    writer, calls = stub(end=0, context=5)
    rows = writer.packed(10, 5, 0, 9, Draws((0,), "sample", 0)).flatten()
    (ends,) = (rows == 0).nonzero(as_tuple=True)
    assert ends.diff().tolist() == [10] * (len(ends) - 1)
    assert rows[ends[0] + 1 : ends[1]].tolist() == [*range(1, 10)]
    assert max(given + new for given, new in calls) <= 5


def test_texts_that_are_not_needed_are_not_written_to_their_end():
    """Of 100 texts of 16 rows each, 7 fill 100 rows: 3.7 times as many tokens as they have are asked for, not 14."""
    asked = []

    def ones(given, new, *, stop):
        asked.append(len(given) * new)
        return torch.ones(len(given), new, dtype=torch.int64)

    rows = Writer(ones, 0, 10).packed(100, 10, 0, 10 * TEXT_ROWS, Draws((0,), "sample", 0))
    assert rows.shape == (100, 10)
    assert sum(asked) < 3.7 * 7 * 160


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"prompts": "own"}, "prompts: own, but there is no prompt; set `prompt` to its number of tokens"),
        (
            {"longest": 9, "prompt": 4},
            "longest: is for packed rows of whole texts, not with a `prompt`; remove one of them",
        ),
        (
            {"longest": 9, "stop": "length"},
            "longest: is for packed rows of whole texts, not with `stop: length`; remove one of them",
        ),
    ],
)
def test_settings_that_contradict_each_other(settings, message):
    with pytest.raises(ValueError, match=message):
        CausalLM(preset="tiny", **settings)


def test_one_text_a_row_has_no_longest():
    with pytest.raises(ValueError, match="longest: is for packed rows, but the data's rows have one text each"):
        CausalLM(preset="tiny", longest=9).check(dataclasses.replace(info(ONE), packed=False))


@pytest.mark.parametrize("preset", ["tiny", "llama-12m"])
def test_a_fresh_network_is_never_asked_behind_more_than_a_row(preset):
    """With a prompt of a whole row, whose row is written behind it."""
    family = CausalLM(preset=preset, width=16, heads=2, layers=1, prompt=LENGTH)
    with CPU.seeded(0):
        model = family.build(info(ONE)).eval()
    seen = []

    def last_position(module, args, kwargs):
        before = kwargs["past_key_values"]
        seen.append((before.get_seq_length() if before is not None else 0) + kwargs["input_ids"].shape[1] - 1)

    model.network.register_forward_pre_hook(last_position, with_kwargs=True)
    prompts = torch.randint(1, 5, (3, LENGTH), dtype=torch.int16)
    rows = family.sample(model, Conditions(3, {"tokens": prompts}), Draws((0,), "sample", 0))["tokens"]
    assert rows.shape == (3, LENGTH)
    assert (rows != PAD_TOKEN_ID).all()
    assert max(seen) <= LENGTH - 2  # the last token of a row is only ever predicted
