"""What is read back proves itself: sealed JSON, journal lines, and which scores were ever recorded."""

from __future__ import annotations

import json
import math
import os
import random

import pytest

from collapse_sim.core.errors import StoreError
from collapse_sim.store import journal, recorded, sealed
from collapse_sim.store.blocks import parse_block
from collapse_sim.store.run_directory import read_journal

VALUE = {"a": [1, 2.5, None, {"b": "ü\u202e"}], "n": math.inf, "1": True, "": {}}


def line(k: int = 0, arm: str = "a", seeds: tuple[int, ...] = (0, 1), **metrics: list[float]) -> dict:
    return {
        "event": "scores",
        "generation": k,
        "arm": arm,
        "seeds": list(seeds),
        "metrics": metrics or {"m": [1.0, 2.0]},
    }


@pytest.mark.parametrize("indent", [None, 1])
def test_sealed_json_comes_back_or_is_refused(indent):
    """Every single flipped bit, cut and byte set to zero: refused, unless what it says is the same."""
    text = sealed.text(VALUE, indent=indent).encode()
    assert sealed.parse(text) == VALUE
    assert list(sealed.parse(text)) == list(VALUE)
    assert json.loads(text)[sealed.SEAL]
    refused = 0
    for position in range(len(text)):
        for other in (*(text[position] ^ 1 << bit for bit in range(8)), 0):
            damaged = text[:position] + bytes([other]) + text[position + 1 :]
            try:
                assert sealed.parse(damaged) == VALUE
            except ValueError:
                refused += 1
        with pytest.raises(ValueError):  # noqa: PT011  # whatever is wrong with it
            sealed.parse(text[:position])
    assert refused > 8 * len(text)


@pytest.mark.parametrize(
    "raw", [b"", b"{", b"[]", b"null", b"\xff", b"[" * 100000, b'{"n": ' + b"9" * 5000 + b"}", b'{"sha256": []}', b"{}"]
)
def test_no_sealed_json(raw):
    with pytest.raises(ValueError):  # noqa: PT011
        sealed.parse(raw)


def test_every_flipped_bit_of_a_journal_is_noticed(tmp_path):
    path = tmp_path / "journal.jsonl"
    lines = [
        line(0),
        line(1, m=[math.nan, 3.0]),
        {"event": "generation", "generation": 1, "made": {}, "reused": {}, "wall_s": 1.0},
    ]
    journal.append(path, lines)
    content = path.read_bytes()
    whole = journal.load(path)
    assert repr(whole.lines) == repr(lines)
    assert (whole.damaged, whole.torn) == ([], False)
    known = {repr(entry) for entry in lines}
    for position in range(len(content)):
        bit = 1 << random.Random(position).randrange(8)
        path.write_bytes(content[:position] + bytes([content[position] ^ bit]) + content[position + 1 :])
        found = journal.load(path)
        assert {repr(entry) for entry in found.lines} < known
        assert found.damaged or found.torn


def test_a_torn_line_is_no_damage_and_the_next_line_is_whole(tmp_path):
    path = tmp_path / "journal.jsonl"
    journal.append(path, [line(0), line(1)])
    path.write_bytes(path.read_bytes()[:-20])
    found = journal.load(path)
    assert (found.lines, found.damaged, found.torn) == ([line(0)], [], True)
    journal.append(path, [line(2)])
    assert journal.read(path) == [line(0), line(2)]


STRANGE = [
    line(-1), line(10**7), {**line(), "generation": 1.5}, {**line(), "generation": True}, {**line(), "generation": "1"},
    {**line(), "generation": math.nan}, {**line(), "arm": ["a"]}, {**line(), "arm": None},
    {**line(), "seeds": [[0], 1]}, {**line(), "seeds": [0, -1]}, {**line(), "seeds": [0, 10**30]},
    {**line(), "seeds": 3}, {**line(), "metrics": []},
    line(m=[1.0]), line(m=[1.0, "x"]), line(m=[1.0, [2.0]]), line(m=[1.0, 10**400]), {**line(), "metrics": {"m": 1.0}},
    {**line(), "fit": "../../.."}, {**line(), "fit": 3}, {"event": "scores"}, {"event": 3}, {}, {"generation": 1},
    {"event": "generation", "generation": 1}, {"event": "session", "command": 3}, {"event": "session", "command": [1]},
    {"event": "generation", "generation": 1, "made": {"fit": "x"}, "reused": {}, "wall_s": 1.0},
    {"event": "generation", "generation": 1, "made": {}, "reused": {}, "wall_s": math.nan},
]  # fmt: skip


@pytest.mark.parametrize("strange", STRANGE, ids=map(str, range(len(STRANGE))))
def test_a_strange_line_is_left_out_even_with_its_hash(tmp_path, strange):
    path = tmp_path / "journal.jsonl"
    journal.append(path, [line(0), strange, line(1)])
    found = journal.load(path)
    assert found.lines == [line(0), line(1)]
    assert found.damaged == [2]


@pytest.mark.parametrize(
    "raw", [b"[]", b"null", b"1e999", b"[" * 100000, b'{"a":' * 5000, b"\xff\xfe", b"{}", b'{"hash":"']
)
def test_lines_without_a_hash_are_damaged(tmp_path, raw):
    path = tmp_path / "journal.jsonl"
    path.write_bytes(raw + b"\n" + b"\n" * 1000 + b"{" + raw + b"\n")
    assert journal.load(path).damaged == [1, 1002]
    assert journal.read(path) == []


def test_recorded_scores_are_missed_in_any_order_and_however_they_went(tmp_path):
    lines = [line(k, arm, m=[1.0, 2.0], n=[3.0, 4.0]) for k in range(5) for arm in ("a", "b")]
    scores: recorded.Scores = {}
    recorded.add(scores, random.Random(0).sample(lines, len(lines)))
    assert scores == {arm: {metric: {"s0-1": [[0, 4]]} for metric in "mn"} for arm in "ab"}
    recorded.write(tmp_path, scores)
    assert recorded.read(tmp_path) == scores
    assert recorded.lost_scores(scores, lines) == []
    assert recorded.lost_scores(scores, lines[:-1]) == ["m of b, generation 4", "n of b, generation 4"]
    parts = [line(k, arm, (seed,), m=[1.0], n=[2.0]) for k in range(5) for arm in "ab" for seed in (1, 0)]
    assert recorded.lost_scores(scores, parts) == []
    assert recorded.lost_scores(scores, [entry for entry in parts if entry["generation"] not in (1, 3)]) == [
        f"{metric} of {arm}, generations 1,3" for arm in "ab" for metric in "mn"
    ]


def test_readers_say_what_a_journal_lacks(tmp_path):
    path = tmp_path / "journal.jsonl"
    journal.append(path, [line(k) for k in range(3)])
    scores: recorded.Scores = {}
    recorded.add(scores, journal.read(path))
    recorded.write(tmp_path, scores)
    assert read_journal(tmp_path) == (journal.read(path), [])
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:1]))
    _, (problem,) = read_journal(tmp_path)
    assert "incomplete, recorded scores are gone: m of a, generations 1-2; running the same commands again" in problem
    path.unlink()
    assert read_journal(tmp_path)[0] == []
    assert "m of a, generations 0-2" in read_journal(tmp_path)[1][0]
    (tmp_path / "recorded.json").write_text("{}")
    assert "recorded.json: damaged (it has no hash of its own): it is not known whether" in read_journal(tmp_path)[1][0]


@pytest.mark.parametrize(
    "scores",
    [{"a": 1}, {"a": {"m": {"s0": [[0, 10**12]]}}}, {"a": {"m": {"s0": [["x", 1]]}}}, {"a": {"m": {"s0": 7}}}, []],
)
def test_a_strange_record_is_damaged(tmp_path, scores):
    (tmp_path / "recorded.json").write_text(sealed.text({"scores": scores}))
    assert "recorded.json: damaged" in read_journal(tmp_path)[1][0]


def test_the_name_of_a_block_is_no_bomb():
    assert parse_block("s0-3,7") == (0, 1, 2, 3, 7)
    assert parse_block("s0-99999999999999") == parse_block("s5-1000000,0-999999") == ()


@pytest.mark.parametrize("kind", ["pipe", "folder", "dangling", "loop"])
def test_something_else_in_place_of_a_journal(tmp_path, kind):
    path = tmp_path / "journal.jsonl"
    {
        "pipe": lambda: os.mkfifo(path),
        "folder": path.mkdir,
        "dangling": lambda: path.symlink_to("gone"),
        "loop": lambda: path.symlink_to(path.name),
    }[kind]()
    for act in (journal.read, journal.check, lambda path: journal.append(path, [line()])):
        with pytest.raises(StoreError, match=r"journal\.jsonl"):
            act(path)
