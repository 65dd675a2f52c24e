"""What was run, where and when, as the journal says."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from collapse_sim.analysis.report.report_document import ReportCode, ReportFacts, ReportFold, ReportTable
from collapse_sim.analysis.report.report_sessions import again, in_flow, recipe_yaml, reuse, sessions_of, what_was_run
from collapse_sim.analysis.results import read_results
from collapse_sim.store.run_directory import read_run

SESSION = {
    "event": "session",
    "time": "2026-01-01T00:00:00Z",
    "command": ["/bin/collapse-sim", "run", "my recipe.yaml"],
    "device": "cpu (2 threads)",
    "precision": "fp32",
    "environment": {"collapse-sim": "0.1.0", "torch": "2.11"},
    "revision": "abc-dirty",
}
LINES = [
    SESSION,
    {"event": "generation", "generation": 0, "made": {"fit": 3}, "reused": {"data": 1}, "wall_s": 2.0},
    {"event": "generation", "generation": 1, "made": {"fit": 6}, "reused": {"data": 0}, "wall_s": 60.0},
    SESSION | {"time": "2026-01-02T00:00:00Z", "device": "cuda", "revision": ""},
    {"event": "generation", "generation": 0, "made": {"fit": 0}, "reused": {"fit": 3}, "wall_s": 0.5},
]


def test_sessions_have_what_their_generations_made():
    first, second = sessions_of(LINES)
    assert (first.created["fit"], first.reused["data"], first.wall_s) == (9, 1, 62.0)
    assert first.command_line.endswith(" run 'my recipe.yaml'")
    assert (second.created["fit"], second.reused["fit"], second.device) == (0, 3, "cuda")


def test_a_generation_without_a_session_is_kept():
    (only,) = sessions_of(LINES[1:2])
    assert (only.started, only.command_line, only.created["fit"]) == ("not recorded", "", 3)


def test_reuse_by_session():
    (table,) = [block for block in reuse(sessions_of(LINES)) if isinstance(block, ReportTable)]
    cells = [[cell.text for cell in row] for row in table.rows]
    assert cells[0] == ["1", "2026-01-01T00:00:00Z", "cpu (2 threads), fp32", "1 min 02 s", "9 fit", "1 data"]
    assert cells[1][-2:] == ["nothing", "3 fit"]


def test_facts_and_recipe(write_run):
    settings = {
        "name": "toy",
        "data": {"use": "digits", "crop": None},
        "arms": {"a": {"samples": 5}, "b": {"samples": 7}},
    }
    folder = write_run({"a": {"m": [[1.0, 2.0, 3.0]]}, "b": {"m": [[1.0, 2.0, 3.0]]}}, settings=settings)
    run, results = read_run(folder), read_results(folder)
    facts, *folds = what_was_run(folder, run, results, sessions_of(LINES))
    assert isinstance(facts, ReportFacts)
    rows = dict(facts.rows)
    assert rows["data"] == "use: digits"
    assert rows["git revision of collapse-sim"] == "abc-dirty"
    assert rows["device"] == "cpu (2 threads), fp32; cuda, fp32"
    assert rows["time"] == "1 min 02 s in 2 sessions"
    assert rows["versions"] == "collapse-sim 0.1.0, torch 2.11"
    differing, recipe = folds
    assert isinstance(differing, ReportFold)
    assert isinstance(recipe, ReportFold)
    (table,) = differing.blocks
    assert isinstance(table, ReportTable)
    assert [[cell.text for cell in row] for row in table.rows] == [["a", "5"], ["b", "7"]]
    (code,) = recipe.blocks
    assert isinstance(code, ReportCode)
    assert yaml.safe_load(code.text) == settings


def test_commands_name_the_folder_even_with_spaces():
    code = again(Path("my runs/a"), {"settings": {"a": 1}}, sessions_of(LINES), finished=False)[0]
    assert isinstance(code, ReportCode)
    assert "collapse-sim run 'my runs/a/recipe.yaml' --out 'my runs/a'" in code.text
    assert "# continue it" in code.text


@pytest.mark.parametrize(
    ("words", "option"),
    [(["--data-dir", "my data"], " --data-dir 'my data'"), (["--data-dir=data"], " --data-dir data"), ([], "")],
)
def test_commands_name_the_data_that_the_last_session_was_given(words, option):
    sessions = sessions_of([{**LINES[0], "event": "session", "command": ["collapse-sim", "run", "x.yaml", *words]}])
    code = again(Path("a"), {}, sessions, finished=True)[0]
    assert isinstance(code, ReportCode)
    commands = [line for line in code.text.splitlines() if line.startswith("collapse-sim run")]
    assert commands == [
        f"collapse-sim run a/recipe.yaml --out a{option}",
        f"collapse-sim run a/recipe.yaml --out again --store again-store{option}",
    ]


def test_settings_in_one_line():
    assert in_flow({"use": "vae", "hidden": None, "betas": [0.9, 0.95]}) == "use: vae, betas: [0.9, 0.95]"
    assert yaml.safe_load(recipe_yaml({"a": "ü <b>"})) == {"a": "ü <b>"}
