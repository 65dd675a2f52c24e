"""Tables for papers: the figures of the terminal's tables, escaped, with the best in bold."""

from __future__ import annotations

import json
import re
import shutil
import subprocess

import pytest

from collapse_sim.analysis.numbers import with_interval
from collapse_sim.analysis.paper_tables import escaped, paper_tables
from collapse_sim.analysis.results import read_results
from collapse_sim.store import journal
from tests.analysis.conftest import Call, WriteRun, scores_line

SCORES = {
    "replace": {"loss": [[1.0, 2.0], [3.0, 4.5]], "spread": [[10.0, 12.0], [2.0e-5, 3.0e-5]]},
    "distill_50% & more": {"loss": [[1.0, 2.0], [1.1, 1.2]], "spread": [[10.0, 12.0], [11.0, 13.0]]},
}


def test_markdown_has_the_figures_of_the_document(call: Call, write_run: WriteRun) -> None:
    write_run(SCORES, seeds=[0, 1], better={"spread": None})
    lines = call("toy", "--markdown").stdout.splitlines()
    document = json.loads(call("toy", "--json").stdout)
    assert lines[0].startswith("toy at generation 1: mean over 2 seeds ± 95 % interval")
    assert lines[2] == "| arm | loss ↓ | spread |"
    rows = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines[4:6]]
    for (name, *cells), arm in zip(rows, SCORES, strict=True):
        assert name.replace("\\", "") == arm
        for cell, metric in zip(cells, ("loss", "spread"), strict=True):
            entry = document["arms"][arm][metric][1]
            assert cell.strip("*") == with_interval(entry["mean"], entry["low"], entry["high"])


def test_the_best_is_bold_and_a_missing_figure_is_a_dash(call: Call, write_run: WriteRun) -> None:
    scores = {"a": {"loss": [[1.0, 1.1, 1.05]]}, "b": {"loss": [[5.0, 5.1, 5.05]]}, "c": {"loss": []}}
    write_run(scores, generations=0)
    rows = [line for line in call("toy", "--markdown", "--generation", "0").stdout.splitlines() if line.startswith("|")]
    assert re.fullmatch(r"\| a \| \*\*1\.05\d* ± 0\.\d+\*\* \|", rows[2])
    assert re.fullmatch(r"\| b \| 5\.05\d* ± 0\.\d+ \|", rows[3])
    assert rows[4] == "| c | - |"


def test_latex_is_escaped_and_in_mathematical_mode(call: Call, write_run: WriteRun) -> None:
    write_run(SCORES, seeds=[0, 1], better={"spread": None})
    text = call("toy", "--latex").stdout
    assert r"arm & loss $\downarrow$ & spread \\" in text
    assert r"distill\_50\% \& more & $\mathbf{1.15} \pm 0.64$ & $12 \pm 13$ \\" in text
    assert re.search(r"\$\(?2\.5 \\pm 6\.4\)? \\times 10\^\{-5\}\$", text)
    for line in text.splitlines():
        assert line.count("$") % 2 == 0
        assert line.count("{") == line.count("}")


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="no LaTeX on this machine")
def test_latex_compiles(call: Call, write_run: WriteRun, tmp_path) -> None:
    write_run(SCORES, seeds=[0, 1])
    body = call("toy", "--latex").stdout
    head = r"\documentclass{article}\usepackage[utf8]{inputenc}\usepackage{booktabs}\begin{document}"
    (tmp_path / "t.tex").write_text(head + body + r"\end{document}")
    subprocess.run(("pdflatex", "-interaction=nonstopmode", "-halt-on-error", "t.tex"), cwd=tmp_path, check=True)


def test_special_characters_are_taken_literally() -> None:
    assert escaped(r"\a~b^c") == r"\textbackslash{}a\textasciitilde{}b\textasciicircum{}c"
    assert escaped("100 % of {x} #1 $_") == r"100 \% of \{x\} \#1 \$\_"
    assert "\x1b" not in escaped("\x1b[31m")


def test_every_generation_and_protocol_has_a_table(write_run: WriteRun) -> None:
    scores = {"a": {"loss": [[1.0, 1.1, 1.2], [2.0, 2.1, 2.2]]}, "b": {"loss": [[1.0, 1.1, 1.2], [2.0, 2.5, 2.2]]}}
    results = read_results(write_run(scores))
    captions = [
        line for line in paper_tables(results, ["loss"], [0, 1], "markdown").splitlines() if "mean over" in line
    ]
    assert [line.split(":")[0] for line in captions] == ["toy at generation 0", "toy at generation 1"]


def test_theory_has_a_column_of_its_own(write_run: WriteRun) -> None:
    results = read_results(write_run({"a": {"loss": [[1.0, 1.1, 1.2]]}}, theory={"a": {"loss": [1.05]}}))
    assert "| arm | loss ↓ | loss, theory |" in paper_tables(results, ["loss"], [0], "markdown")


def test_the_number_of_seeds_is_shown_where_some_are_missing(write_run: WriteRun) -> None:
    run = write_run({"a": {"loss": [[1.0, 1.1, 1.2]]}, "b": {"loss": []}}, generations=0)
    journal.append(run / "journal.jsonl", [scores_line("b", 0, [0, 2], {"loss": [1.0, 1.2]})])
    rows = [line for line in paper_tables(read_results(run), ["loss"], [0], "markdown").splitlines() if "|" in line]
    assert "(n=" not in rows[2]
    assert rows[3].endswith("(n=2) |")
