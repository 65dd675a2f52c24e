"""A state as JSON and back, and a live.json that cannot be believed, which is as if there were none."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path

import pytest

from collapse_sim.core.events import Scored
from collapse_sim.ui.state import State
from tests.ui.conftest import after, started
from tests.ui.live import FIT, call, write_live

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


def test_every_prefix_of_a_run_survives_json(tell, reduce):
    timed = tell(generations=1, texts=("", 'a "b"\n\x1b[31m\udc80', "日本語"))
    for stop in range(len(timed) + 1):
        state = reduce(timed[:stop])
        text = json.dumps(state.to_json(), allow_nan=False)
        again = State.from_json(json.loads(text))
        assert json.dumps(again.to_json()) == text
        rest = [timed[stop - 1], *timed[stop:]] if stop else timed  # and goes on the same from there
        for now, event in rest[bool(stop) :]:
            again.apply(event, now)
        assert again.to_json() == reduce(timed).to_json()


def test_values_that_are_not_finite_survive_json():
    state = after(
        started(seeds=(0,)), *(Scored(k, "a", (0,), {"loss": (x,)}) for k, x in enumerate((math.nan, math.inf)))
    )
    again = State.from_json(json.loads(json.dumps(state.to_json(), allow_nan=False)))
    first, second, third = again.scores["a"]["loss"]
    assert first is not None
    assert math.isnan(first)
    assert second == math.inf
    assert third is None


@pytest.mark.parametrize("content", [{}, {"schema": 99}, {"schema": 1}, {"schema": 1, "cells": []}])
def test_something_else_is_refused_with_a_value_error(content):
    with pytest.raises(ValueError, match=r"state of a run|newer"):
        State.from_json(content)


def test_a_damaged_live_json_is_no_obstacle(run_folder):
    folder = run_folder(done=1)
    (folder / "live.json").write_text('{"schema": 1, "na')
    assert json.loads(call("status", folder, "--json").stdout)["status"] == "unfinished"


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
