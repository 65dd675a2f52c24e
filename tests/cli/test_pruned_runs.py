"""Runs that prune, on the command line: what is said of them, and what is made again for whom."""

from __future__ import annotations

import re

import numpy as np
import pytest

from tests.pruned import LAST, TOY, generations, manifests, payload


@pytest.fixture
def pruned(shell, tmp_path):
    """A finished run whose last generation is kept, and its recipe."""
    path = shell.root / "toy.yaml"
    path.write_text(TOY + LAST)
    shell("run", path, "-q")
    return path


def test_a_dry_run_says_what_is_kept_and_the_disk_that_it_takes(shell):
    path = shell.root / "toy.yaml"
    path.write_text(TOY.replace("generations: 2", "generations: 4"))
    plain = shell("run", path, "--dry-run", "--json").json["keep"]
    done = shell("run", path, "--dry-run", "--keep-weights", "last", "--keep-samples", "last")
    keep = shell("run", path, "--dry-run", "--json", "--keep-samples", "last").json["keep"]
    assert "keeps weights: last, samples: last; at any time at most about 0.0 MB more on the disk\n" in done.out
    assert "samples of earlier generations are removed at the end only: needed by accumulate\n" in done.out
    assert (keep["weights"], keep["samples"], keep["until_the_end"]) == ("all", "last", ["accumulate"])
    assert plain["until_the_end"] == []
    assert keep["most_bytes"] < plain["most_bytes"]
    assert "keeps" not in shell("run", path, "--dry-run").out


def test_of_a_finished_run_nothing_is_to_be_made(shell, pruned):
    assert shell("run", pruned, "--dry-run", "--json").json["artefacts"]["to_make"] == 0
    all_of_it = shell("run", pruned, "--dry-run", "--json", "--keep-weights", "all", "--keep-samples", "all").json
    removed = sum(len(manifest["seeds"]) for manifest in manifests(shell.store, "pruned").values())
    assert all_of_it["artefacts"]["to_make"] == removed > 0


@pytest.mark.parametrize("key", ["keep_weights", "keep_samples"])
def test_an_unknown_value_is_refused(shell, key):
    path = shell.root / "toy.yaml"
    path.write_text(f"{TOY}{key}: lst\n")
    line = len(path.read_text().splitlines())
    message = shell.refused("run", path, code=2)
    allowed = "'all', 'last', 'none-but-generation-0'"
    assert f"toy.yaml:{line}: {key}: found 'lst', did you mean 'last'?; allowed: {allowed}" in message
    path.write_text(TOY)
    option = "--" + key.replace("_", "-")
    assert "'none-but-generation-0'" in shell("run", path, option, "first", code=2).err


def test_status_says_the_bytes_that_were_freed(shell, pruned):
    freed = payload(shell.store)
    found = shell("status", "toy", "--json").json["pruned"]
    shell("run", pruned, "-q", "--keep-weights", "all", "--keep-samples", "all")
    assert found["bytes"] == payload(shell.store) - freed > 0
    assert found["artefacts"] == len(manifests(shell.store, "pruned"))
    assert shell("status", "toy", "--json").json["pruned"] == {"artefacts": 0, "bytes": 0}
    shell("run", pruned, "-q")
    assert re.search(r" pruned: \d+ artefacts, \d+ KiB freed", shell("status", "toy").out)
    assert len(shell("status", "toy", "--costs", "--json").json["fits"]) == 5


def test_the_store_is_in_order_without_what_is_pruned(shell, pruned):
    count = len(manifests(shell.store, "pruned"))
    assert f"; {count} pruned, 0 of their records damaged\n" in shell("cache", "verify").out
    assert shell("cache", "list", "--json").json["pruned"]["artefacts"] == count
    assert shell("cache", "gc", "--delete").out == "nothing to remove\n"
    assert len(manifests(shell.store, "pruned")) == count
    record = next(shell.store.glob("pruned/*/*/*/history.json"))
    record.write_text("{}")
    assert (
        f"record of a pruned artefact: {record.parent.relative_to(shell.root)}" in shell("cache", "verify", code=5).out
    )


def test_results_are_read_as_before(shell, pruned):
    plain = shell.root / "all.yaml"
    plain.write_text(TOY)
    shell("run", plain, "--out", "runs/all", "--store", "other", "-q")
    found, whole = (shell("compare", run, "--json").json for run in ("toy", "all"))
    assert found["arms"] == whole["arms"]


def test_sample_and_export_make_a_pruned_model_again(shell, pruned):
    """Drawn from it as from the one that was removed."""
    plain = shell.root / "all.yaml"
    plain.write_text(TOY)
    shell("run", plain, "--out", "runs/all", "--store", "other", "-q")
    of = ("--arm", "accumulate", "--generation", "1", "--seed", "1")
    for run in ("toy", "all"):
        done = shell("sample", run, *of, "--rows", "5", "--out", f"{run}.npz")
        assert ("fit of accumulate, generation 1, seeds 0, 1: pruned, made again" in done.err) == (run == "toy")
        done = shell("export", run, *of, "--to", f"{run}-exported")
        assert ("samples of accumulate, generation 1" in done.err) == (run == "toy")
    ours, theirs = np.load("toy.npz"), np.load("all.npz")
    assert np.array_equal(ours["x"], theirs["x"])
    for name in ("weights.safetensors", "samples.npz"):
        exported = [shell.root / f"{run}-exported" / name for run in ("toy", "all")]
        assert exported[0].read_bytes() == exported[1].read_bytes()
    assert generations(shell.store, "fit") == {0, 1, 2}
    shell("run", pruned, "-q")
    assert generations(shell.store, "fit") == {2}
    assert (
        len(shell("export", "toy", "--all", "--to", "every").out.splitlines()) == 2 * 3 * 2 * 4
    )  # weights, config, samples, card


def test_evaluate_fits_nothing_and_says_what_does(shell, pruned):
    message = shell("evaluate", "toy", "--metric", "mean_error", "-q", code=5).err
    command = re.search(r"collapse-sim (run .*)", message)
    assert command is not None
    shell(*command[1].split(), "-q")
    shell("evaluate", "toy", "--metric", "mean_error", "-q")
