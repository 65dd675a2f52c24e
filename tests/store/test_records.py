"""What stays of an artefact that is removed, and the comparison with what is made again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from collapse_sim.store import sealed
from collapse_sim.store.blocks import blocks_or_records, recorded_blocks
from collapse_sim.store.jobs import Job, Request
from collapse_sim.store.records import check_record, difference, record_of, removed_bytes, write_record
from collapse_sim.store.spec import Spec
from collapse_sim.store.store import Store

SPEC = Spec("fit", 1, {"what": "a fit"}, stacked=True)


def made(root: Path, seeds: tuple[int, ...] = (0, 1), content: bytes = b"weights") -> Path:
    """A committed artefact with weights and a small file."""

    def build(jobs, folders):
        (folders[0] / "model.safetensors").write_bytes(content)
        (folders[0] / "history.json").write_text('{"updates": 7}')
        return {}

    store = Store(root)
    store.make_all([Request(SPEC, seeds, ("arm",))], build, lambda event: None)
    for failure in store.failures.others():
        raise failure.error
    return store.block(SPEC, seeds[0]).folder


def test_a_record_has_all_but_weights(tmp_path: Path) -> None:
    block = made(tmp_path)
    write_record(tmp_path, block)
    (record,) = recorded_blocks(tmp_path, SPEC.digest).values()
    assert sorted(path.name for path in record.iterdir()) == ["history.json", "manifest.json"]
    problem, manifest = check_record(record)
    assert problem == ""
    assert removed_bytes(manifest) == len(b"weights")
    found = record_of(tmp_path, SPEC, 1)
    assert found is not None
    assert json.loads(found.file("history.json").read_text()) == {"updates": 7}
    assert record_of(tmp_path, SPEC, 2) is None
    assert blocks_or_records(tmp_path, SPEC.digest) == [block], "while it is there, it counts and not its record"
    assert not list((tmp_path / "tmp").iterdir())


@pytest.mark.parametrize("name", ["history.json", "manifest.json"])
def test_a_damaged_record_is_noticed_and_written_anew(tmp_path: Path, name: str) -> None:
    block = made(tmp_path)
    write_record(tmp_path, block)
    (record,) = recorded_blocks(tmp_path, SPEC.digest).values()
    (record / name).write_text("{}")
    assert check_record(record)[0]
    assert record_of(tmp_path, SPEC, 0) is None
    job = Job(SPEC, (0, 1), ("arm",))
    assert "its record is damaged" in difference(tmp_path, job, {"files": {}, "machine": {}, "environment": {}})
    write_record(tmp_path, block)
    assert check_record(record)[0] == ""


def test_a_block_is_made_again_as_it_was(tmp_path: Path) -> None:
    """Seeds that were one block are one block again, beside one for new seeds."""
    block = made(tmp_path)
    write_record(tmp_path, block)
    for path in block.iterdir():
        path.unlink()
    block.rmdir()
    made(tmp_path, seeds=(0, 1, 2))
    assert sorted(path.name for path in block.parent.iterdir()) == ["s0-1", "s2"]


def test_the_difference_says_both_hashes_and_circumstances(tmp_path: Path) -> None:
    block = made(tmp_path)
    before = sealed.read(block / "manifest.json")
    write_record(tmp_path, block)
    job = Job(SPEC, (0, 1), ("arm",))
    assert difference(tmp_path, job, before) == ""
    assert difference(tmp_path, Job(SPEC, (0,), ("arm",)), before) == "", "there is no record of this block"
    now = json.loads(json.dumps(before))
    now["files"]["model.safetensors"]["sha256"] = "f" * 64
    now["machine"], now["environment"]["torch"] = {"device": "cuda", "compiled": {}}, "9.9"
    text = difference(tmp_path, job, now)
    recorded = before["files"]["model.safetensors"]["sha256"][:12]
    assert f"arm, generation 1, seeds 0, 1: fit {SPEC.digest[:12]}/s0-1" in text
    assert f"model.safetensors: {recorded} recorded, ffffffffffff now" in text
    assert "Now: device cuda, " in text
    assert "torch 9.9" in text
    assert "compiled steps" in text
    del now["files"]["history.json"]
    assert "history.json" in difference(tmp_path, job, now)


def test_nothing_is_committed_that_differs(tmp_path: Path) -> None:
    block = made(tmp_path)
    write_record(tmp_path, block)
    for path in block.iterdir():
        path.unlink()
    block.rmdir()
    with pytest.raises(Exception, match="is not the same when it is made again"):
        made(tmp_path, content=b"others!")
    assert not block.exists()
    assert not list((tmp_path / "tmp").iterdir())
    made(tmp_path)
    assert block.exists()
