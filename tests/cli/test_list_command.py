"""`list`: what a recipe may name, and its settings."""

from __future__ import annotations

import re

import pytest

from collapse_sim.core import registry


@pytest.mark.parametrize("command", ["list families", "list data", "recipes list", "list metrics fid inception"])
def test_lists_are_as_wide_as_the_terminal(shell, command):
    shell.monkeypatch.setenv("COLUMNS", "80")
    text = shell(*command.split()).out
    assert max(map(len, text.splitlines())) <= 80
    shell.monkeypatch.delenv("COLUMNS")
    wide = shell(*command.split()).out  # into a pipe: a line each, for grep
    if command == "list families":
        assert [line.split()[0] for line in wide.splitlines()] == sorted(registry.BUILT_IN["families"])


def test_details_by_name(shell):
    shell.monkeypatch.delenv("COLUMNS")
    text = shell("list", "families", "vae").out
    assert text.startswith("vae\n    Fully connected VAE")
    assert re.search(r"^ +hidden +\d+ +whole number > 0", text, re.MULTILINE)
    assert "conv_vae" not in text
    document = shell("list", "metrics", "fid", "inception", "--json").json
    assert [entry["name"] for group in document.values() for entry in group] == ["fid", "inception"]
    error = shell("list", "families", "vea", code=2).err
    assert error.startswith("error: no 'vea' in families, did you mean 'vae'?\nthere are: causal_lm, ")


def test_remedies_say_which_families_they_are_for(shell):
    shell.monkeypatch.delenv("COLUMNS", raising=False)
    lines = shell("list", "remedies").out.splitlines()
    (edit,) = [line for line in lines if line.startswith("edit ")]
    assert edit.endswith(". Families: causal_lm, seq2seq.")
    assert "    families: all\n" in shell("list", "remedies", "random").out
    document = shell("list", "remedies", "tce", "random", "--json").json
    assert {entry["name"]: entry["families"] for group in document.values() for entry in group} == {
        "tce": ["causal_lm", "seq2seq"],
        "random": ["all"],
    }
    assert all(entry["families"] is None for entry in shell("list", "strategies", "--json").json["strategies"])
