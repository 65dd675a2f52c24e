"""One artefact to a mirror and back: whole or not at all, and nothing that is read from it is trusted."""

from __future__ import annotations

import hashlib
import json
import os
import signal
from pathlib import Path

import pytest

from collapse_sim.core.remote import Remote
from collapse_sim.store import mirror_files, sealed
from collapse_sim.store.blocks import check_block
from collapse_sim.store.jobs import Job, Request
from collapse_sim.store.mirror_files import UnfitError, fetch_block, file_name, listed, manifest_name, push_block
from collapse_sim.store.pruning import write_record
from collapse_sim.store.spec import Spec
from collapse_sim.store.store import Store
from tests.mirrors import URL, contents, fragile, overwrite
from tests.store.processes import FORK

SPEC = Spec("fit", 0, {"name": "a"})
JOB = Job(SPEC, (3,), ("arm",))
FILES = {"big.safetensors": b"0123456789" * 10_000, "report.json": b"{}", "empty": b""}


def unseen(count: int) -> None:
    """Progress that nobody looks at."""


def made(root: Path, **changes: bytes) -> Path:
    """A store with the artefact of JOB."""

    def build(jobs, folders):
        for name, content in {**FILES, **{key.replace("_", "."): value for key, value in changes.items()}}.items():
            (folders[0] / name).write_bytes(content)
        return {}

    store = Store(root)
    store.make_all([Request(SPEC, (3,), ("arm",))], build, lambda event: None)
    return store.block(SPEC, 3).folder


def fetched(place: Remote, root: Path) -> Path:
    Store(root)
    fetch_block(place, root, JOB, listed(place, SPEC.digest)["s3"], unseen)
    return root / "objects" / SPEC.digest[:2] / SPEC.digest / "s3"


def content_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
def place():
    with fragile():
        yield Remote(URL)


def test_an_artefact_comes_back_with_the_same_bytes(place, tmp_path):
    moved = []
    folder = made(tmp_path / "a")
    assert push_block(place, folder, moved.append) == sum(map(len, FILES.values())) == sum(moved)
    back = fetched(place, tmp_path / "b")
    assert content_of(back) == content_of(folder)
    assert not check_block(back)[0]
    assert Store(tmp_path / "b").block(SPEC, 3).seeds == (3,)
    assert list((tmp_path / "b" / "tmp").iterdir()) == []


def test_files_are_under_their_hash_and_each_once(place, tmp_path):
    push_block(place, made(tmp_path / "a"), unseen)
    files = {f"/bucket/prefix/{file_name(hashlib.sha256(content).hexdigest())}" for content in FILES.values()}
    assert contents().keys() == files | {f"/bucket/prefix/{manifest_name(SPEC.digest, 's3')}"}


class KilledError(Exception):
    pass


@pytest.mark.parametrize("after", range(len(FILES)))
def test_an_upload_that_ends_after_any_file_is_no_artefact_and_is_completed(place, tmp_path, monkeypatch, after):
    folder, left = made(tmp_path / "a"), [None] * after

    def boundary(name: str) -> None:
        if not left:
            raise KilledError
        left.pop()

    monkeypatch.setattr(mirror_files, "boundary", boundary)
    with pytest.raises(KilledError):
        push_block(place, folder, unseen)
    assert len(contents()) == after + 1
    assert listed(place, SPEC.digest) == {}
    monkeypatch.undo()
    push_block(place, folder, unseen)
    assert content_of(fetched(place, tmp_path / "b")) == content_of(folder)


@pytest.mark.parametrize("after", range(len(FILES)))
def test_a_process_that_is_killed_while_it_uploads_leaves_no_artefact(tmp_path, after):
    """On a real file system, by SIGKILL."""
    folder, url = made(tmp_path / "a"), f"file://{tmp_path}/mirror"

    def upload() -> None:
        left = [None] * after

        def boundary(name: str) -> None:
            if not left:
                os.kill(os.getpid(), signal.SIGKILL)
            left.pop()

        mirror_files.boundary = boundary
        push_block(Remote(url), folder, unseen)

    child = FORK.Process(target=upload)
    child.start()
    child.join(60)
    assert child.exitcode == -signal.SIGKILL
    place = Remote(url)
    assert listed(place, SPEC.digest) == {}
    push_block(place, folder, unseen)
    assert content_of(fetched(place, tmp_path / "b")) == content_of(folder)


def test_files_that_are_there_are_not_uploaded_again(place, tmp_path):
    folder, moved = made(tmp_path / "a"), []
    push_block(place, folder, unseen)
    overwrite(f"/bucket/prefix/{manifest_name(SPEC.digest, 's3')}", b"")
    push_block(place, folder, moved.append)
    assert sum(moved) == len(FILES["report.json"]), "small ones are not worth the question"
    overwrite(f"/bucket/prefix/{file_name(hashlib.sha256(FILES['big.safetensors']).hexdigest())}", b"cut off")
    moved.clear()
    push_block(place, folder, moved.append)
    assert sum(moved) == sum(map(len, FILES.values()))


def test_of_two_writers_the_first_is_kept_and_never_mixed(place, tmp_path):
    first, second = made(tmp_path / "a"), made(tmp_path / "b", report_json=b"{1}")
    push_block(place, first, unseen)
    push_block(place, second, unseen)
    assert content_of(fetched(place, tmp_path / "c")) == content_of(first)


def test_two_writers_at_once_are_never_mixed(place, tmp_path, monkeypatch):
    """The second writer does everything while the first is between its files and its manifest."""
    first, second = made(tmp_path / "a"), made(tmp_path / "b", report_json=b"{1}", empty=b"not empty")
    names = []

    def boundary(name: str) -> None:
        names.append(name)
        if len(names) == len(FILES):
            push_block(place, second, unseen)

    monkeypatch.setattr(mirror_files, "boundary", boundary)
    push_block(place, first, unseen)
    assert content_of(fetched(place, tmp_path / "c")) == content_of(second)


def test_a_damaged_artefact_is_not_uploaded(place, tmp_path):
    folder = made(tmp_path / "a")
    (folder / "report.json").write_bytes(b"{ ")
    with pytest.raises(UnfitError, match=r"report\.json: damaged"):
        push_block(place, folder, unseen)
    assert listed(place, SPEC.digest) == {}
    (folder / "manifest.json").write_bytes(b"{}")
    with pytest.raises(UnfitError, match=r"manifest\.json: damaged"):
        push_block(place, folder, unseen)


def test_an_artefact_that_was_removed_is_not_there(place, tmp_path):
    with pytest.raises(FileNotFoundError):
        push_block(place, tmp_path / "objects" / SPEC.digest / "s3", unseen)


def refused(place: Remote, root: Path) -> str:
    with pytest.raises(UnfitError) as raised:
        fetched(place, root)
    assert raised.value.damaged
    assert not list((root / "objects").rglob("*.json"))
    assert list((root / "tmp").iterdir()) == []
    return str(raised.value)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (FILES["big.safetensors"][:-1] + b"x", "does not match its hash"),
        (FILES["big.safetensors"][:-1], "has 99,999 bytes instead of 100,000"),
        (FILES["big.safetensors"] + b"x", "has more than 100,000 bytes"),
        (b"", "has 0 bytes instead of 100,000"),
        (None, "is missing"),
    ],
)
def test_a_damaged_file_is_refused_and_can_be_replaced(place, tmp_path, content, words):
    folder = made(tmp_path / "a")
    push_block(place, folder, unseen)
    path = f"/bucket/prefix/{file_name(hashlib.sha256(FILES['big.safetensors']).hexdigest())}"
    if content is None:
        place._files.rm_file(path)
    else:
        overwrite(path, content)
    assert refused(place, tmp_path / "b") == f"big.safetensors {words}"
    push_block(place, folder, unseen, again=True)
    assert content_of(fetched(place, tmp_path / "b")) == content_of(folder)


@pytest.fixture
def forged(place, tmp_path):
    """Replaces parts of the manifest in a mirror, which is sealed again."""
    push_block(place, made(tmp_path / "a"), unseen)
    manifest = sealed.parse(place.read(manifest_name(SPEC.digest, "s3"), 10**6))

    def forge(**changes: object) -> None:
        overwrite(f"/bucket/prefix/{manifest_name(SPEC.digest, 's3')}", sealed.text({**manifest, **changes}).encode())

    return forge


SHA = hashlib.sha256(b"{}").hexdigest()


@pytest.mark.parametrize(
    "name",
    ["../outside", "..", "/etc/outside", "a/b", "a\\b", "", ".hidden", "manifest.json", "x" * 300, "a\nb", "a\x00b"],
)
def test_no_name_leads_out_of_the_artefacts_folder(place, tmp_path, forged, name):
    forged(files={name: {"bytes": 2, "sha256": SHA}})
    assert "is not the name of a file in an artefact" in refused(place, tmp_path / "b")
    assert not (tmp_path / "b" / "outside").exists()


@pytest.mark.parametrize(
    "facts",
    [
        {"bytes": -1, "sha256": SHA}, {"bytes": True, "sha256": SHA}, {"bytes": "2", "sha256": SHA},
        {"bytes": 2, "sha256": "../../objects"}, {"bytes": 2, "sha256": 7}, {"bytes": 2}, [], 3,
    ],
)  # fmt: skip
def test_sizes_and_hashes_are_checked(place, tmp_path, forged, facts):
    forged(files={"a": facts})
    assert "its manifest is unusable" in refused(place, tmp_path / "b")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"digest": "0" * 64}, "its digest is"),
        ({"seeds": [4]}, "its seeds is '[4]' instead of '[3]'"),
        ({"kind": "samples"}, "its kind is 'samples' instead of 'fit'"),
        ({"stacked": True}, "its stacked is"),
        ({"files": []}, "unusable"),
        ({"environment": {"collapse-sim": []}}, "unusable"),
        ({"machine": 3}, "its machine is '3'"),
        ({"created": 3}, "its created is '3'"),
    ],
)
def test_the_manifest_of_another_artefact_is_refused(place, tmp_path, forged, changes, words):
    forged(**changes)
    assert words in refused(place, tmp_path / "b")


@pytest.mark.parametrize("content", [b"", b"{}", b"[" * 10**5, b'{"files": {}}', b"\xff\xfe"])
def test_a_damaged_manifest_is_refused_and_can_be_replaced(place, tmp_path, content):
    folder = made(tmp_path / "a")
    overwrite(f"/bucket/prefix/{manifest_name(SPEC.digest, 's3')}", content)
    assert "its manifest is unusable" in refused(place, tmp_path / "b")
    push_block(place, folder, unseen, again=True)
    assert content_of(fetched(place, tmp_path / "b")) == content_of(folder)


def test_a_manifest_without_an_end_is_not_read(place, tmp_path, monkeypatch):
    overwrite(f"/bucket/prefix/{manifest_name(SPEC.digest, 's3')}", b" " * 1000)
    monkeypatch.setattr(mirror_files, "MOST_MANIFEST", 999)
    assert "its manifest has 1,000 bytes" in refused(place, tmp_path / "b")


def test_more_than_the_disk_holds_is_not_fetched(place, tmp_path, forged):
    forged(files={"a": {"bytes": 10**18, "sha256": SHA}})
    with pytest.raises(UnfitError, match="the disk has") as raised:
        fetched(place, tmp_path / "b")
    assert not raised.value.damaged, "for another host it may be right"


def test_what_differs_from_the_record_of_a_pruned_artefact_is_not_used(place, tmp_path):
    push_block(place, made(tmp_path / "a", report_json=b"{1}"), unseen)
    here = made(tmp_path / "b")
    write_record(tmp_path / "b", here)
    for path in here.iterdir():
        path.unlink()
    here.rmdir()
    with pytest.raises(UnfitError, match=r"it was pruned, and is not the same") as raised:
        fetched(place, tmp_path / "b")
    assert not raised.value.damaged
    assert not here.exists()


def test_of_the_names_in_a_mirror_only_blocks_count(place):
    for name in ("s3.json", "all.json", "s0-4.json", "s0-4", "x.json", ".json", "s.json"):
        overwrite(f"/bucket/prefix/objects/{SPEC.digest[:2]}/{SPEC.digest}/{name}", b"{}")
    assert listed(place, SPEC.digest) == {"s3": 2, "all": 2, "s0-4": 2}


def test_manifests_are_those_of_the_store(place, tmp_path):
    folder = made(tmp_path / "a")
    push_block(place, folder, unseen)
    assert json.loads(contents()[f"/bucket/prefix/{manifest_name(SPEC.digest, 's3')}"]) == json.loads(
        (folder / "manifest.json").read_text()
    )
