"""Text that does not fit: models and tokenizers by name, lengths, files, settings; and texts that are hardly any."""

from __future__ import annotations

import json
import math
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.metrics import judges

WRITER = """
name: tiny
data: {use: text_files, train: t.txt, tokenizer: gpt, pack: false, length: 8, held_out: 4}
model: {use: causal_lm, preset: tiny, width: 8, layers: 1}
train: {steps: 2, batch_size: 8, evaluate: never}
generations: 1
seeds: [0]
arms:
  replace: {data: replace}
metrics: [perplexity]
"""
PRESET = "preset: tiny, width: 8, layers: 1"
DATA = "use: text_files, train: t.txt, tokenizer: gpt, pack: false, length: 8, held_out: 4"
GRAMMAR = (DATA, "use: grammar, rows: 20, held_out_rows: 5")
METRICS = "metrics: [perplexity]"
MODEL_FILES = "config.json and model.safetensors (or pytorch_model.bin), as save_pretrained writes them"
TOKENIZER_FILES = "tokenizer.json and tokenizer_config.json, as save_pretrained writes them"


@pytest.fixture
def shell(shell, monkeypatch):
    """With a model of 16 positions and 11 words in the folder `gpt`, texts of its words, and no network."""

    ask = socket.getaddrinfo

    def local(host: str, *args: Any, **kwargs: Any) -> Any:
        if host != "127.0.0.1":
            raise OSError("no network")
        return ask(host, *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", local)
    judges.save(shell.root / "data" / "gpt")
    texts = ["the cat sat on the mat", "a dog ran", "", "b"] * 5
    (shell.root / "data" / "t.txt").write_text("\n<|endoftext|>\n".join(texts))
    return shell


# Names that are not there.


@pytest.mark.parametrize(
    ("changes", "where", "needed"),
    [
        ([(PRESET, "pretrained: gpt2")], "r.yaml:3: model: pretrained: gpt2: no such model", MODEL_FILES),
        ([("tokenizer: gpt", "tokenizer: gpt2")], "r.yaml:2: data.tokenizer: gpt2: no such tokenizer", TOKENIZER_FILES),
        (
            [(METRICS, "metrics: [judge_perplexity]")],
            "r.yaml:9: metrics.judge_perplexity: judge: gpt2: no such model",
            MODEL_FILES,
        ),
        (
            [(METRICS, "metrics: [{use: mauve, as: m}]")],
            "r.yaml:9: metrics.m: model: gpt2-large: no such model",
            MODEL_FILES,
        ),
    ],
    ids=["model", "tokenizer", "judge", "mauve"],
)
def test_a_name_that_is_nowhere(shell, recipe, changes, where, needed):
    told = shell.refused("run", recipe(*changes, text=WRITER), "-q", code=3)
    name = where.split(": ")[-2]
    assert told == (
        f"error: {where}: there is no folder {shell.root}/{name} or {shell.root}/data/{name}, and it could not be "
        f"fetched from a hub (no network); put a folder there that has {needed}\n"
    )


def test_all_that_is_not_there_is_told_at_once(shell, recipe):
    metrics = "metrics: [judge_perplexity, {use: judge_perplexity, judge: ./mine, as: mine}]"
    text = shell.refused("run", recipe((PRESET, "pretrained: gpt2"), (METRICS, metrics), text=WRITER), "-q", code=3)
    model, judge, mine = text.splitlines()
    assert model.startswith("error: r.yaml:3: model: pretrained: gpt2: ")
    assert judge.startswith("r.yaml:9: metrics.judge_perplexity: judge: gpt2: ")
    assert mine == (
        f"r.yaml:9: metrics.mine: judge: ./mine: no such model: there is no folder {shell.root}/mine or "
        f"{shell.root}/data/mine; needed in it: {MODEL_FILES}"
    )


@pytest.fixture
def silent() -> Iterator[tuple[str, list[float]]]:
    """The address of a server that takes every connection and never says a word, and when it was asked."""
    asked: list[float] = []
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        held: list[socket.socket] = []

        def serve() -> None:
            while True:
                try:
                    held.append(server.accept()[0])
                except OSError:
                    return
                asked.append(time.monotonic())

        threading.Thread(target=serve, daemon=True).start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}", asked
        server.shutdown(socket.SHUT_RDWR)
    for connection in held:
        connection.close()


@pytest.mark.parametrize(
    "changes",
    [
        [(PRESET, "pretrained: gpt2"), (METRICS, "metrics: [judge_perplexity]")],
        [(DATA, "use: tinystories, tokenizer: gpt")],
    ],
    ids=["models", "data"],
)
def test_a_hub_that_does_not_answer_is_asked_once(shell, recipe, silent, changes, monkeypatch):
    from huggingface_hub import constants

    from collapse_sim.core import hub

    address, asked = silent
    monkeypatch.setattr(hub, "TIMEOUT_S", 0.3)
    monkeypatch.setattr(constants, "ENDPOINT", address)
    told = shell("run", recipe(*changes, text=WRITER), "-q", code=3).err
    assert "could not be fetched from a hub (timed out)" in told
    assert len(asked) == 1
    assert time.monotonic() - asked[0] < 1.5  # one time-out, however many names there are


@pytest.mark.parametrize(
    ("told", "reason"),
    [
        ("404 Client Error. (Request ID: 1)\n\nRepository Not Found for url: U.\nPlease", "Repository Not Found for"),
        ("Client error '401 Unauthorized' for url 'U'\nFor more", "Client error '401 Unauthorized'"),
        ("404 Client Error. (Request ID: 1)", "404 Client Error. (Request ID: 1)"),
        ("", "ValueError"),
    ],
)
def test_what_a_hub_says_of_a_name_it_does_not_know(told, reason):
    from collapse_sim.core.hub import reason_of

    assert reason_of(ValueError(told)).startswith(reason)


# Models and settings that do not fit.


MISFITS = {
    "vocabulary": (
        [GRAMMAR, (PRESET, "pretrained: gpt")],
        "r.yaml:3: model: pretrained: gpt has a vocabulary of 11 tokens, and the data's tokenizer has 266: set the "
        "data's `tokenizer` to gpt's own, or take a `preset`",
    ),
    "length": (
        [(PRESET, "pretrained: gpt"), ("length: 8", "length: 17")],
        "r.yaml:3: model: pretrained: gpt takes 16 tokens, and 17 are needed: lower the data's `length`",
    ),
    "prompt above a row": (
        [(PRESET, f"{PRESET}, prompt: 9")],
        "r.yaml:3: model: prompt: 9 tokens of rows of 8; use at most 8",
    ),
    "nothing to keep": (
        [(PRESET, f"{PRESET}, keep_prompt: true")],
        "r.yaml:3: model: keep_prompt: there is no prompt to keep; set `prompt` to its number of tokens",
    ),
    "top_p of greedy": (
        [(PRESET, f"{PRESET}, decoding: greedy, top_p: .9")],
        "r.yaml:3: model: top_p: for `decoding: sample` only, found greedy; remove",
    ),
    "preset": (
        [("tiny, width: 8, layers: 1", "gpt2-10m")],
        "r.yaml:3: model.preset: found 'gpt2-10m', did you mean 'gpt2-9m'?; allowed: 'tiny', 'gpt2-9m', 'llama-12m', "
        "'llama-42m', 'llama-126m'",
    ),
    "family": (
        [("causal_lm", "seq2seq")],
        "r.yaml:3: model: 'seq2seq' is for data of pairs, but the data 'text_files' is of text",
    ),
    "term": (
        [("{data: replace}", "{data: replace, teacher: {weights: {output: 1}}}")],
        "r.yaml:8: arms.replace.teacher.weights.output: unknown term 'output'; allowed: the terms of 'causal_lm': "
        'logits, hidden, or "layer PATH" for the output of a module',
    ),
    "rouge of text": (
        [(METRICS, "metrics: [rouge1]")],
        "r.yaml:9: metrics.0: 'rouge1' is for data of pairs, but the data 'text_files' is of text",
    ),
    "outputs of nothing": (
        [(METRICS, "metrics: [{use: distinct_n, of: outputs}]")],
        "r.yaml:9: metrics.distinct_n: it uses what is generated for held-out rows, but this model generates without "
        "conditions; it needs data of pairs, or a `prompt`",
    ),
    "more samples than prompts": (
        [(PRESET, f"{PRESET}, prompt: 2"), ("seeds: [0]", "samples: 17\nseeds: [0]")],
        "r.yaml:6: samples: 17 is more than the 16 real rows whose tokens they are generated for; lower `samples` or "
        "raise `data.rows`",
    ),
}


@pytest.mark.parametrize(("changes", "message"), MISFITS.values(), ids=MISFITS)
def test_what_does_not_fit(shell, recipe, changes, message):
    assert shell.refused("run", recipe(*changes, text=WRITER), "-q", code=2) == f"error: {message}\n"


def test_a_folder_without_a_tokenizer(shell, recipe):
    for file in ("tokenizer.json", "tokenizer_config.json"):
        (shell.root / "data" / "gpt" / file).unlink()
    lacking = f"{shell.root}/data/gpt: no tokenizer.json in it; needed for a tokenizer: {TOKENIZER_FILES}"
    judge = (METRICS, "metrics: [{use: judge_perplexity, judge: gpt}]")
    told = shell.refused("run", recipe(judge, GRAMMAR, text=WRITER), "-q", code=3)
    assert told == f"error: r.yaml:9: metrics.judge_perplexity: judge: {lacking}\n"
    told = shell.refused("run", recipe(text=WRITER), "-q", code=3)
    assert told == f"error: r.yaml:2: data.tokenizer: {lacking}\n"


@pytest.mark.parametrize("where", ["model: pretrained", "metrics.judge_perplexity: judge"])
def test_weights_that_are_not_whole_are_found_before_anything_is_fitted(shell, recipe, where):
    change = (
        (PRESET, "pretrained: gpt")
        if where.startswith("model")
        else (METRICS, "metrics: [{use: judge_perplexity, judge: gpt}]")
    )
    line = 3 if where.startswith("model") else 9
    folder = shell.root / "data" / "gpt"
    weights = folder / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-10])
    told = shell.refused("run", recipe(change, text=WRITER), "-q", code=3)
    assert told.startswith(f"error: r.yaml:{line}: {where}: {folder}: its weights cannot be read: model.safetensors: ")
    weights.rename(folder / "model-00001-of-00002.safetensors").write_bytes(whole)
    shards = {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": shards}))
    told = shell.refused("run", recipe(change, text=WRITER), "-q", code=3)
    lacking = "model.safetensors.index.json names files that are not there: model-00002-of-00002.safetensors"
    assert told == f"error: r.yaml:{line}: {where}: {folder}: {lacking}\n"


# Files.


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "t.txt",
            b"one\n<|endoftext|>\ntwo\nthr\xffee\n",
            "{place}:4: not UTF-8: 0xff at byte 25; save the file as UTF-8 (iconv -f LATIN1 -t UTF-8 converts)",
        ),
        (
            "t.jsonl",
            b'{"text": "a"}\n{"text": "b"\n',
            "{place}:2: broken JSON: Expecting ',' delimiter at column 13; needed: one JSON object per line",
        ),
        ("t.jsonl", b'{"text": "a"}\n["b"]\n', "{place}:2: found a list; needed: one JSON object per line"),
        (
            "t.jsonl",
            b'{"body": "a", "id": 3}\n',
            "{place}:1: no field 'text'; there are body, id: set `data.field` to one of them",
        ),
        ("t.jsonl", b"", "{place}: empty: there are no texts in it"),
        (
            "t.jsonl",
            b'{"text": "a"}\n',
            "{place}: one text; needed: at least one to train on and one held out: name a file of held-out texts with "
            "`validation`, or provide more texts",
        ),
        (None, b"", "r.yaml:2: data.train: no file {place}: did you mean {folder}/t.txt?"),
    ],
    ids=["UTF-8", "JSON", "list", "field", "empty", "one text", "no file"],
)
def test_files(shell, recipe, name, content, message):
    folder = shell.root / "data"
    place = folder / (name or "tt.txt")
    if name:
        place.write_bytes(content)
    told = shell.refused("run", recipe(("train: t.txt", f"train: {place.name}"), text=WRITER), "-q", code=3)
    assert told == f"error: {message.format(place=place, folder=folder)}\n"


# Texts that are hardly any: kept and counted.


@pytest.mark.parametrize("pairs", [False, True], ids=["texts", "pairs"])
def test_empty_texts_and_texts_of_one_token(shell, recipe, pairs):
    """All texts are empty, so what is generated is: through every metric, and every figure as it must be."""
    records = [{"text": "", "source": "the cat", "target": ""}, {"text": "", "source": "", "target": ""}] * 12
    (shell.root / "data" / "t.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    of = ["samples", "held_out"] + (["outputs"] if pairs else [])
    judge = "judge: gpt"
    named = {
        f"{name}-{which}": f"{{use: {name}, of: {which}, as: {name}-{which}{', ' + judge if 'judge' in name else ''}}}"
        for name in ("length", "distinct_n", "repetition", "self_bleu", "zipf", "rare_words", "judge_perplexity")
        for which in of
    }
    metrics = ["perplexity", "vocabulary", *(["rouge1", "rougeLsum"] if pairs else []), *named.values()]
    changes = [
        ("train: t.txt", "train: t.jsonl"),
        (METRICS, f"metrics: [{', '.join(metrics)}]"),
        ("steps: 2, batch_size: 8", "steps: 60, batch_size: 8, learning_rate: 5e-2"),
    ]
    if pairs:
        changes += [
            ("text_files", "pairs"),
            ("pack: false, length: 8", "source_length: 6, target_length: 8"),
            ("causal_lm", "seq2seq"),
        ]
    done = shell("run", recipe(*changes, text=WRITER))
    counted = "24 empty" if not pairs else "source: 12 empty, 0 cut at 6; target: 24 empty"
    seen = " (3 of them also among the real texts, word for word)" if pairs else ""  # empty ones do not count
    assert f"20 texts and 4 held out{seen}; {'' if pairs else 'tokens: '}{counted}, 0 cut at 8" in done.err
    found = shell.journal("scores")[-1]["metrics"]
    assert found["perplexity"][0] == pytest.approx(1, abs=0.01)
    for name, (value,) in found.items():
        if name.startswith(("length", "rouge")):
            assert value == 0, name
        elif "perplexity" not in name or "judge" in name:
            assert math.isnan(value), name
    for command in (("compare", "tiny"), ("status", "tiny"), ("export", "tiny", "--to", "e")):
        shell(*command)
    lines = [json.loads(line) for line in Path("e/samples.jsonl").read_text().splitlines()]
    assert [line["target" if pairs else "text"] for line in lines] == [""] * 20
