"""`collapse-sim report`, as a user calls it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from collapse_sim.cli.report_command import SUFFIXES
from collapse_sim.store import journal
from tests.cli.test_app import ROOT

NEITHER = "neither a run directory nor the name of a run below ./runs"
SCORES = {"a": {"m": [[1.0, 1.1, 1.3], [2.0, 2.2, 2.1]]}, "b": {"m": [[1.0, 1.1, 1.3], [1.1, 1.15, 1.4]]}}


def test_one_file_in_this_folder_named_after_the_run(shell, write_run):
    write_run(SCORES, name="The run", folder="toy")
    done = shell("report", "toy")
    assert (done.out, done.err) == ("toy-report.html\n", "")
    page = Path("toy-report.html").read_text()
    assert page.startswith("<!DOCTYPE html>\n<html lang")
    assert "<title>The run: report</title>" in page


def test_the_numbers_are_those_of_compare(shell, write_run):
    write_run(SCORES)
    shell("report", "toy", "--out", "x.HTML")
    (text,) = re.findall(r'id="numbers">(.*?)</script>', Path("x.HTML").read_text(), re.DOTALL)
    assert json.loads(text) == shell("compare", "toy", "--json").json


def test_markdown_and_its_files(shell, write_run):
    write_run(SCORES)
    done = shell("report", "toy", "--markdown")
    assert (done.out, done.err) == ("toy-report.md\n", "pictures: toy-report_files\n")
    assert Path("toy-report.md").read_text().startswith("# toy\n")
    assert sorted(path.name for path in Path("toy-report_files").iterdir()) == ["curves-00.svg", "numbers.json"]


def test_equally_named_runs_have_files_of_their_own(shell, write_run):
    for folder in ("a/demo", "b/demo", "demo"):
        write_run(SCORES, name=folder, folder=folder)
    outs = [shell("report", folder).out.strip() for folder in ("a/demo", "b/demo", "demo")]
    assert outs == ["a-demo-report.html", "b-demo-report.html", "demo-report.html"]
    assert "<title>b/demo: report</title>" in Path("b-demo-report.html").read_text()


def test_several_runs_in_one_report(shell, write_run):
    write_run(SCORES, name="one")
    write_run(SCORES, name="two")
    assert shell("report", "one", "two", "one").out == "report.html\n"
    assert "<h1>one + two</h1>" in Path("report.html").read_text()


def test_an_unfinished_run_warns(shell, write_run):
    write_run(SCORES, generations=3)
    done = shell("report", "toy")
    assert done.err == "warning: toy: not finished: 12 of 24 scores; the report says what is missing\n"
    assert "Missing: all arms, generations 2, 3: no scores" in Path(done.out.strip()).read_text()


def test_what_is_read_is_not_changed(shell, write_run):
    folder = write_run(SCORES)
    before = {path: path.read_bytes() for path in folder.rglob("*")}
    shell("report", "toy")
    assert {path: path.read_bytes() for path in folder.rglob("*")} == before


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["toi"], f"error: toi: no run here, {NEITHER}; did you mean 'toy'?"),
        (["."], "error: .: no run here (no run.json); a run directory is what `collapse-sim run` prints at its end"),
        (["toy", "--out", "x.pdf"], "error: --out x.pdf: the suffix must be .html or .htm"),
        (["toy", "--out", "x.md"], "error: --out x.md: the suffix must be .html or .htm; for Markdown, add --markdown"),
        (["toy", "--out", "x.html", "--markdown"], "error: --out x.html: the suffix must be .md"),
        (["toy", "--out", "folder.html"], "error: --out folder.html: is a folder; name a file in it"),
    ],
)  # fmt: skip
def test_bad_input_is_refused_before_any_work(shell, write_run, words, message):
    write_run(SCORES)
    Path("folder.html").mkdir()
    assert shell.refused("report", *words, code=2).strip() == message


def test_a_place_that_cannot_be_written_to_is_explained(shell, write_run):
    write_run(SCORES)
    Path("file").write_text("")
    assert "cannot write" in shell.refused("report", "toy", "--out", "file/x.html", code=5)


def test_a_folder_of_its_own_is_made(shell, write_run):
    write_run(SCORES)
    assert shell("report", "toy", "--out", "new/x.html").out == "new/x.html\n"
    assert Path("new/x.html").is_file()


def test_a_damaged_journal_is_reported(shell, write_run):
    folder = write_run(SCORES)
    journal.rewrite(folder / "journal.jsonl", journal.read(folder / "journal.jsonl")[:-1])
    done = shell("report", "toy")
    assert "incomplete, recorded scores are gone" in done.err
    assert "incomplete, recorded scores are gone" in Path("toy-report.html").read_text()


def test_it_takes_no_torch(write_run, tmp_path):
    write_run(SCORES)
    code = (
        "import sys; from collapse_sim.cli.app import run_app; code = run_app(sys.argv[1:])\n"
        "sys.exit('imported torch' if 'torch' in sys.modules else code)"
    )
    command = [sys.executable, "-c", code, "report", "toy"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stderr, done.stdout) == (0, "", "toy-report.html\n")


def test_suffixes_of_both_forms():
    assert set(SUFFIXES[False]).isdisjoint(SUFFIXES[True])
