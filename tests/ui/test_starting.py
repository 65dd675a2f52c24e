"""starting.json: a run that a process is about to begin."""

from __future__ import annotations

import json

import pytest

from collapse_sim.core.errors import RecipeError
from collapse_sim.ui.starting import starting
from tests.ui.live import call, gone_pid


def test_a_start_that_came_to_nothing_leaves_nothing(tmp_path):
    folder = tmp_path / "a" / "b"
    with starting(folder, "b"):
        assert (folder / "starting.json").is_file()
        content = json.loads((folder / "starting.json").read_text())
        with starting(folder, "b"):  # a second process leaves it to the first
            pass
        assert (folder / "starting.json").is_file()
    assert list(tmp_path.iterdir()) == []
    folder.mkdir(parents=True)
    (folder / "starting.json").write_text(json.dumps(content | {"pid": gone_pid()}))
    with pytest.raises(RecipeError, match="no run here"):
        call("status", folder)
    for strange in ("", "[]", json.dumps(content | {"pid": -1}), json.dumps(content | {"started": "x"})):
        (folder / "starting.json").write_text(strange)
        with pytest.raises(RecipeError, match="no run here"):
            call("status", folder)
    (tmp_path / "file").touch()
    with starting(tmp_path / "file" / "below", "x"), starting(tmp_path / "new" / ("x" * 300), "x"), starting(None, ""):
        assert not (tmp_path / "new").exists() or list((tmp_path / "new").iterdir()) == []
    assert not (tmp_path / "new").exists()
