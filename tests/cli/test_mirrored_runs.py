"""`run --mirror` and `cache push`: hosts that share nothing but a mirror; what is said of it, and what never is."""

from __future__ import annotations

import json
import sys

import pytest

from tests.mirrors import URL, Fragile, contents, fragile
from tests.pruned import LAST, TOY


@pytest.fixture(autouse=True)
def files(monkeypatch):
    monkeypatch.setattr("collapse_sim.core.remote.PAUSES_S", (0.0, 0.0))
    with fragile() as kind:
        yield kind


@pytest.fixture(autouse=True)
def _no_pictures(monkeypatch):
    """They take most of the time of such runs."""
    monkeypatch.setattr("collapse_sim.run.session.observers_of", lambda *of: ())


@pytest.fixture
def toy(tmp_path):
    (tmp_path / "toy.yaml").write_text(TOY)
    return "toy.yaml"


def denied(*operations: str):
    def before(operation: str, path: str) -> None:
        if operation in operations:
            raise PermissionError("Access Denied")

    return staticmethod(before)


OTHER = ("--store", "other/store", "--out", "other/tiny")  # another host


def objects(shell, store: str) -> dict[str, bytes | None]:
    return {name.removeprefix(f"{store}/"): content for name, content in shell.files().items()
            if name.startswith(f"{store}/objects/")}  # fmt: skip


def test_another_host_makes_nothing_and_compares_the_same(shell, recipe, tmp_path):
    url, name = f"file://{tmp_path}/mirror", recipe()
    first = shell("run", name, "--mirror", url, "--json")
    assert (first.json["made"], first.json["mirror"]["pushed"], first.json["mirror"]["fetched"]) == (10, 10, 0)
    assert f"note: mirror {url}: 0 artefacts fetched (0.0 MB), 10 pushed (" in first.err
    second = shell("run", name, "--mirror", url, "--json", *OTHER).json
    assert (second["made"], second["reused"], second["mirror"]["fetched"]) == (0, 10, 10)
    assert second["mirror"]["fetched_bytes"] == first.json["mirror"]["pushed_bytes"] > 0
    assert objects(shell, "other/store") == objects(shell, "runs/.store") != {}
    one, two = (shell("compare", run, "--json").json for run in ("runs/tiny", "other/tiny"))
    assert {**one, "run": ""} == {**two, "run": ""}
    scores = [json.loads(line) for line in (tmp_path / "other" / "tiny" / "journal.jsonl").read_text().splitlines()]
    assert [line for line in scores if line["event"] == "scores"] == shell.journal("scores")


def test_a_run_without_a_mirror_says_nothing_of_one(shell, recipe):
    done = shell("run", recipe(), "--json")
    assert "mirror" not in done.json
    assert "mirror" not in done.err


def test_a_dry_run_says_what_would_be_fetched_and_fetches_nothing(shell, toy, files):
    shell("run", toy, "--mirror", URL, "--seed", "0", "--seed", "1", "-q")
    before, there = shell.files(), contents()
    files.calls.clear()
    plan = shell("run", toy, "--mirror", URL, "--dry-run", "--store", "other", "--out", "out", "--generations", "3")
    assert "artefacts: 12 to make, 0 there already, 32 to fetch from the mirror; about" in plan.out
    as_json = shell("run", toy, "--mirror", URL, "--dry-run", "--json", "--store", "other", "--out", "out").json
    assert as_json["artefacts"] == {"to_make": 0, "reused": 0, "fetched": 32}
    assert as_json["time"]["seconds"] is None or as_json["time"]["seconds"] == 0
    assert {operation for operation, _ in files.calls} == {"ls"}
    assert (shell.files(), contents()) == (before, there)
    assert "fetched" not in shell("run", toy, "--dry-run", "--json").json["artefacts"]


def test_processes_have_nothing_to_do_for_what_would_be_fetched(shell, toy, files):
    shell("run", toy, "--mirror", URL, "-q")
    words = ("run", toy, "--mirror", URL, "--dry-run", "--json", "--store", "other", "--out", "out")
    on = shell(*words, "--on", "processes:2").json["on"]
    assert (on["measured"], on["one_process_seconds"], [own["jobs"] for own in on["work"]]) == ([], 0, [{}, {}])


@pytest.mark.parametrize(
    ("url", "code", "words"),
    [
        ("bucket/prefix", 2, "--mirror bucket/prefix: not a URL; write s3://BUCKET/PREFIX, file:///DIR"),
        ("s4://bucket/prefix", 2, "--mirror s4://bucket/prefix: unknown scheme s4://"),
        ("s3://", 2, "--mirror s3://: name a bucket, and a prefix in it"),
        ("s3://bucket/prefix", 3, "Install s3fs to access S3: pip install 'collapse-sim[s3]'"),
        (URL, 3, f"--mirror {URL}: cannot write: no permission (Access Denied); check the credentials"),
    ],
)
def test_a_mirror_that_cannot_be_used_is_refused_before_any_work(shell, toy, files, monkeypatch, url, code, words):
    monkeypatch.setitem(sys.modules, "s3fs", None)
    monkeypatch.delitem(sys.modules["fsspec.registry"]._registry, "s3", raising=False)
    files.before = denied("write", "ls")
    assert words in shell.refused("run", toy, "--mirror", url, code=code)
    dry = words.replace("cannot write", "cannot list")
    assert dry in shell.refused("run", toy, "--mirror", url, "--dry-run", code=code)


def test_a_mirror_that_fails_in_the_middle_leaves_the_exit_code_and_cache_push_completes_it(shell, toy, files):
    def before(operation: str, path: str) -> None:
        if operation == "write" and "/objects/" in path and len(contents()) > 8:
            raise PermissionError("Access Denied")

    files.before = staticmethod(before)
    done = shell("run", toy, "--mirror", URL, "--json")
    left = done.json["mirror"]["failed"]
    assert 0 < left < done.json["made"] == 32
    assert f"warning: {left} artefacts are in the store and not in the mirror ({URL}: cannot write: no perm" in done.err
    command = f"collapse-sim cache push --store runs/.store --mirror {URL}"
    assert f"to upload them: {command}" in done.err
    words = command.split()[1:]
    files.before = denied("write")
    assert "no permission" in shell(*words, code=3).err
    files.before = before_probe_only = staticmethod(lambda operation, path: deny_objects(operation, path))
    failing = shell(*words, code=3)
    assert failing.out == f"0 artefacts pushed (0.0 MB), {left} failed\n"
    assert f"error: not in {URL}: {left} artefacts ({URL}: cannot write: no permission" in failing.err
    files.before = staticmethod(lambda operation, path: None)
    assert before_probe_only is not files.before
    pushed = shell(*words, "--json").json
    assert (pushed["pushed"], pushed["failed"], pushed["reasons"]) == (left, 0, [])
    assert shell(*words).out == "0 artefacts pushed (0.0 MB), 0 failed\n"
    assert shell("run", toy, "--mirror", URL, "--json", "--store", "other", "--out", "out").json["made"] == 0


def deny_objects(operation: str, path: str) -> None:
    if operation == "write" and "/objects/" in path:
        raise PermissionError("Access Denied")


def test_there_is_nothing_to_push_without_a_store(shell):
    assert "no store here" in shell.refused("cache", "push", "--mirror", URL, code=5)


def test_passwords_are_nowhere(shell, toy, tmp_path, files):
    url = "fragile://me:hush@bucket/prefix?key=hush"

    def before(operation: str, path: str) -> None:
        if "/objects/" in path and operation == "write":
            raise OSError(f"login of me with hush at {url} failed")

    files.before = staticmethod(before)
    done = shell("run", toy, "--mirror", url, "--json")
    assert done.json["mirror"]["failed"] == 32
    texts = [done.out, done.err, *(path.read_text(errors="replace") for path in (tmp_path / "runs").rglob("*.json*"))]
    assert [text for text in texts if "hush" in text] == []
    session = next(line for line in shell.journal("session", "toy"))
    assert session["command"][-3:] == ["--mirror", "fragile://***@bucket/prefix?***", "--json"]
    files.before = denied("write")
    assert "hush" not in shell.refused("run", toy, "--mirror", url, "--out", "runs/more", code=3)
    assert "hush" not in shell("cache", "push", "--mirror", url, code=3).err


def test_pruned_artefacts_stay_in_the_mirror_and_come_from_there(shell, tmp_path, files):
    (tmp_path / "toy.yaml").write_text(TOY + LAST)
    first = shell("run", "toy.yaml", "--mirror", URL, "--json").json
    assert first["mirror"]["pushed"] == first["made"] == 32
    assert "pruned" in shell("cache", "list").out
    again = shell("run", "toy.yaml", "--mirror", URL, "--json", "--keep-weights", "all", "--keep-samples", "all").json
    assert (again["made"], again["mirror"]["pushed"]) == (0, 0)
    assert again["mirror"]["fetched"] > 0
    second = shell("run", "toy.yaml", "--mirror", URL, "--json", "--store", "other", "--out", "out").json
    assert (second["made"], second["mirror"]["fetched"]) == (0, 32)


def test_nothing_is_pruned_that_the_mirror_lacks(shell, tmp_path, files):
    (tmp_path / "toy.yaml").write_text(TOY + LAST)
    files.before = staticmethod(deny_objects)
    done = shell("run", "toy.yaml", "--mirror", URL)
    assert done.err.count("nothing is pruned: the mirror does not have everything") == 1
    assert len(shell.artefacts()) == 16
    files.before = staticmethod(lambda operation, path: None)
    assert shell("run", "toy.yaml", "--mirror", URL, "--json").json["mirror"] == {
        "fetched": 0, "fetched_bytes": 0, "pushed": 32, "failed": 0,
        "pushed_bytes": sum(len(c) for n, c in objects_before_pruning(shell)),
    }  # fmt: skip
    assert len(shell.artefacts()) < 16


def objects_before_pruning(shell) -> list[tuple[str, bytes]]:
    """Of the mirror: sizes as the manifests have them, since equal files are stored once."""
    manifests = [json.loads(content) for path, content in contents().items() if "/objects/" in path]
    return [(name, b"x" * facts["bytes"]) for m in manifests for name, facts in m["files"].items()]


def test_a_run_goes_on_from_what_another_host_has_made(shell, toy):
    """Half of the generations are the other host's, and what follows is made from them."""
    shell("run", toy, "--mirror", URL, "--generations", "1", "-q")
    alone = shell("run", toy, "--json", "--store", "alone/store", "--out", "alone/run").json
    done = shell("run", toy, "--mirror", URL, "--json", "--store", "other", "--out", "out").json
    assert (alone["made"], done["made"], done["reused"]) == (32, 12, 20)
    own, other = (scores(shell.root / run) for run in ("alone/run", "out"))
    assert own == other
    assert Fragile.calls


def scores(run) -> list[dict]:
    lines = [json.loads(line) for line in (run / "journal.jsonl").read_text().splitlines()]
    return [line for line in lines if line["event"] == "scores"]
