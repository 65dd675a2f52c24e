"""The state of a run from its files: what its process knows, what the journal says, and what cannot be believed."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from collapse_sim.core.events import RunFinished
from collapse_sim.store import journal
from tests.ui.live import FIT, call, write_live


def test_the_journal_counts_where_the_process_knows_only_a_part(run_folder):
    folder = run_folder(done=2)
    write_live(folder, RunFinished("demo", "runs/demo", 3.0, "interrupted"))  # an older sitting's last word
    assert json.loads(call("status", folder, "--json").stdout)["status"] == "finished"


def test_seeds_and_metrics_that_came_later_complete_a_cell(run_folder):
    folder = run_folder(done=-1)
    parts = [([0], {"test_loss": [1.0], "fid": [4.0]}), ([7], {"test_loss": [3.0]}), ([7], {"fid": [float("nan")]})]
    done = []
    for seeds, metrics in parts:
        line = {"event": "scores", "generation": 0, "arm": "replace", "seeds": seeds, "metrics": metrics}
        journal.append(folder / "journal.jsonl", [line])
        document = json.loads(call("status", folder, "--json").stdout)
        done.append(document["arms"]["replace"]["generations_done"])
    assert done == [0, 0, 1]
    assert document["arms"]["replace"]["latest"]["test_loss"]["mean"] == 2.0
    assert document["arms"]["replace"]["latest"]["fid"]["mean"] == "nan"


def test_a_damaged_live_json_is_no_obstacle(run_folder):
    folder = run_folder(done=1)
    (folder / "live.json").write_text('{"schema": 1, "na')
    assert json.loads(call("status", folder, "--json").stdout)["status"] == "unfinished"


STRANGE = {
    "a list": "[1]",
    "a number": "7",
    "nothing": "",
    "torn": '{"schema": 1, "na',
    "deep": "[" * 100_000,
    "not UTF-8": b"\xff\xfe{}",
    "NaN": "NaN",
}
WRONG = {
    "schema": ["1", None, 1.5, 99],
    "pid": [-1, 0, "x", 2**40, True, [1]],
    "host": [7, None],
    "process_started": ["x", -1, 1e300],
    "started": ["soon", -5, 1e300, "nan"],
    "updated": [[], "inf"],
    "generations": [-1, 10**9, "2", 2.5],
    "seeds": [{}, ["a"], [0, 0], None],
    "arms": ["replace", [1], ["other"]],
    "metrics": [{}, [1]],
    "cells": [{}, [], {"replace": []}, {"replace": [{"fit": [[]]}, {}, {}], "accumulate": [{}, {}, {}]}],
    "scores": [[], {"replace": {"fid": "x"}}, {"replace": {"fid": [1]}}, {"replace": {"fid": [1, "x", None]}}],
    "job": [[], {"kind": "fit"}, 7],
    "notes": [{}, [7], [{"message": 1, "level": "x"}]],
    "waiting": [7, {"kind": 1}],
    "finished": [[], {"x": {}}, {"0": {"made": {"fit": -1}, "reused": {}, "wall_s": 1}}],
    "texts": [[], {"replace": 7}],
    "curve": [7, {"losses": [1]}],
    "made": [{"fit": "x"}, []],
    "mark": [None, "nan"],
    "wall_s": [-1, "x"],
    "memory_bytes": ["x", -1],
    "lower_is_better": [{"fid": "yes"}],
}


def passed_over(folder: Path, plain: dict) -> None:
    """A live.json that can't be believed is as if there were none."""
    assert json.loads(call("status", folder, "--json").stdout) == plain
    assert "unfinished: 4 of 6 cells" in call("status", folder).stdout
    assert "unfinished" in call("watch", folder, "--once").stdout


@pytest.mark.parametrize("content", STRANGE.values(), ids=STRANGE)
def test_a_strange_live_json_is_passed_over(run_folder, content):
    folder = run_folder(done=1)
    plain = json.loads(call("status", folder, "--json").stdout)
    (folder / "live.json").write_bytes(content if isinstance(content, bytes) else content.encode())
    passed_over(folder, plain)


@pytest.mark.parametrize("field", WRONG)
def test_a_live_json_with_something_of_a_wrong_type_is_passed_over(run_folder, field):
    folder = run_folder(done=1)
    plain = json.loads(call("status", folder, "--json").stdout)
    write_live(folder, FIT)
    assert json.loads(call("status", folder, "--json").stdout) != plain
    content = json.loads((folder / "live.json").read_text())
    for value in WRONG[field]:
        (folder / "live.json").write_text(json.dumps(content | {field: value}))
        assert json.loads(call("status", folder, "--json").stdout) == plain, value
    passed_over(folder, plain)
    del content[field]
    (folder / "live.json").write_text(json.dumps(content))
    if field != "texts":
        passed_over(folder, plain)


@pytest.mark.parametrize("kind", ["folder", "pipe", "loop", "dangling", "huge"])
def test_what_is_no_file_in_the_place_of_live_json_is_passed_over(run_folder, kind):
    folder = run_folder(done=1)
    plain = json.loads(call("status", folder, "--json").stdout)
    path = folder / "live.json"
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "huge":
        with path.open("wb") as file:
            file.truncate(2**40)  # of which the disk holds nothing
    else:
        path.symlink_to(path if kind == "loop" else folder / "nowhere")
    passed_over(folder, plain)
