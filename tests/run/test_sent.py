"""trackers.json: comes back as it was written; damage is noticed."""

from __future__ import annotations

import json

import pytest

from collapse_sim.run.sent import SENT_FILE, SentFile


def test_it_comes_back_as_it_was(tmp_path):
    file = SentFile(tmp_path)
    sent = file.of("wandb here")
    sent.points["loss/replace/seed 0"] = [0, 1]
    sent.pictures["overview.png"] = {"1": "ab"}
    sent.pending_s = 3.5
    assert file.of("wandb there").id != sent.id
    file.save()
    again = SentFile(tmp_path)
    assert again.by_tracker == file.by_tracker
    assert again.of("wandb here").points == {"loss/replace/seed 0": [0, 1]}


@pytest.mark.parametrize("damage", [("[0, 1]", "[0]"), ('"schema": 1', '"schema": 9'), ('"points"', '"spots"')])
def test_damage_is_noticed(tmp_path, damage):
    file = SentFile(tmp_path)
    file.of("wandb here").points["loss"] = [0, 1]
    file.save()
    path = tmp_path / SENT_FILE
    path.write_text(path.read_text().replace(*damage))
    with pytest.raises(ValueError, match="hash"):
        SentFile(tmp_path)


def test_a_newer_file_is_not_read(tmp_path):
    from collapse_sim.store import sealed

    for content in ({"schema": 9, "trackers": {}}, {"schema": 1, "trackers": {"a": {"spots": 3}}}, {"schema": 1}):
        (tmp_path / SENT_FILE).write_text(sealed.text(json.loads(json.dumps(content))))
        with pytest.raises(ValueError, match=r"schema 9|spots|trackers"):
            SentFile(tmp_path)
