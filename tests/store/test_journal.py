"""The journal: every damage is noticed, what is strange is left out, and what the lines come to."""

from __future__ import annotations

import math
import random

import pytest

from collapse_sim.core.errors import StoreError
from collapse_sim.store import journal
from collapse_sim.store.journal import scores_of
from tests.odd_files import put
from tests.store.score_lines import line

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


def scores(generation: int, values: list[float | None], arm: str = "a") -> dict:
    return {"event": "scores", "arm": arm, "generation": generation, "seeds": [0, 1], "metrics": {"loss": values}}


def diverged(generation: int, seed: int = 1) -> dict:
    return {"event": "diverged", "arm": "a", "generation": generation, "seed": seed}


def test_the_last_value_counts() -> None:
    lines = [scores(0, [1.0, 2.0]), scores(1, [3.0, 4.0]), scores(0, [5.0, 6.0]), scores(0, [7.0, 8.0], "b")]
    assert scores_of(lines) == {
        "a": {"loss": {0: {0: 5.0, 1: 6.0}, 1: {0: 3.0, 1: 4.0}}},
        "b": {"loss": {0: {0: 7.0, 1: 8.0}}},
    }


def test_what_a_chain_had_before_it_was_found_to_end_is_dropped() -> None:
    found = scores_of([scores(0, [1.0, 2.0]), scores(1, [3.0, 4.0]), scores(2, [5.0, 6.0]), diverged(1)])
    assert found == {"a": {"loss": {0: {0: 1.0, 1: 2.0}, 1: {0: 3.0}, 2: {0: 5.0}}}}


def test_nan_stays_when_a_repeated_run_records_the_end_again() -> None:
    found = scores_of([diverged(1), scores(1, [3.0, None]), diverged(1)])["a"]["loss"][1]
    assert found[0] == 3.0
    assert math.isnan(found[1])


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


@pytest.mark.parametrize("kind", ["pipe", "folder", "dangling", "loop"])
def test_something_else_in_place_of_a_journal(tmp_path, kind):
    path = tmp_path / "journal.jsonl"
    put(kind, path)
    for act in (journal.read, journal.check, lambda path: journal.append(path, [line()])):
        with pytest.raises(StoreError, match=r"journal\.jsonl"):
            act(path)
