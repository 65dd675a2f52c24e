"""What a report says of one run and of several, finished and not."""

from __future__ import annotations

import json
import shutil

import pytest

from collapse_sim.analysis.report.report import build
from collapse_sim.analysis.report.report_document import (
    ReportFold,
    ReportHeading,
    ReportNote,
    ReportPicture,
    ReportTable,
    ReportVerdict,
)
from collapse_sim.core.errors import RecipeError, StoreError
from collapse_sim.store import journal
from tests.conftest import SMALL, TINY, changed
from tests.run.points import GAUSSIAN

SCORES = {
    "replace": {"loss": [[1.0, 1.1, 1.3], [2.0, 2.2, 2.1], [3.0, 3.1, 3.5]]},
    "accumulate": {"loss": [[1.0, 1.1, 1.3], [1.1, 1.15, 1.4], [1.2, 1.2, 1.5]]},
}
CLAIMS = [
    {"that": "it grows", "metric": "loss", "generation": "last", "expect": "replace > replace@0"},
    {"that": "it does not", "metric": "loss", "generation": "last", "expect": "accumulate > replace"},
]
UNSEEN = changed(SMALL, ("evaluate: every 5 steps, keep: best", "evaluate: never"), (", validation_rows: 40", ""))


def section(report, anchor):
    (only,) = [section for section in report.sections if section.anchor == anchor]
    return only.blocks


def notes(blocks):
    for block in blocks:
        if isinstance(block, ReportNote):
            yield block.text
        elif isinstance(block, ReportFold):
            yield from notes(block.blocks)


def test_a_finished_run(write_run):
    report = build([write_run(SCORES, claims=CLAIMS, settings={"description": "a toy"})])
    assert report.title == "toy"
    assert report.warnings == []
    assert list(notes(report.summary))[:3] == [
        "a toy",
        "Finished: 2 arms, generations 0 to 2, 3 seeds; 18 of 18 scores.",
        "Claims: 1 holds, 1 fails.",
    ]
    verdicts = [block for block in section(report, "claims") if isinstance(block, ReportVerdict)]
    assert [(v.status, v.symbol, v.claim) for v in verdicts] == [
        ("holds", "✓", "it grows"),
        ("fails", "✗", "it does not"),
    ]
    assert verdicts[0].reason.startswith("replace - replace@0 = 2.067, interval ")
    heading, picture, fold = section(report, "metrics")
    assert isinstance(picture, ReportPicture)
    assert (heading.text, picture.suffix) == ("loss", ".svg")
    assert [type(block) for block in fold.blocks] == [ReportTable, ReportTable]


def test_numbers_are_what_compare_prints(write_run, call):
    folder = write_run(SCORES)
    printed = json.loads(call(folder, "--json").stdout)
    assert json.loads(build([folder]).numbers) == printed
    other = write_run(SCORES, name="other")
    printed = json.loads(call(folder, other, "--json").stdout)
    assert json.loads(build([folder, other]).numbers) == printed


def test_an_unfinished_run_says_so_first(write_run):
    folder = write_run(SCORES, generations=4)
    report = build([folder, folder])
    first, missing, *_ = (block for block in report.summary if isinstance(block, ReportNote))
    assert first.text == (
        "NOT FINISHED (its state: unfinished): 18 of 30 scores so far, of 2 arms, generations 0 to 4, 3 seeds."
    )
    assert (missing.text, missing.urgency) == ("Missing: all arms, generations 3, 4: no scores", "warning")
    assert report.warnings == ["toy: not finished: 18 of 30 scores; the report says what is missing"]


def test_much_that_is_missing_is_folded(write_run):
    scores = {f"arm{i}": {"m": [[1.0, 2.0, 3.0]] * (i + 1)} for i in range(20)}
    report = build([write_run(scores, generations=30)])
    (fold,) = [block for block in report.summary if isinstance(block, ReportFold)]
    assert fold.summary == "8 more that is missing"
    assert len(fold.blocks) == 8


def test_a_run_without_scores_is_reported_as_far_as_it_is(write_run):
    report = build([write_run({"a": {}, "b": {}}, generations=2)])
    assert list(notes(section(report, "comparison"))) == ["Nothing is scored yet."]
    assert list(notes(section(report, "metrics"))) == ["Nothing is scored yet."]


def test_diverged_chains_and_damaged_lines_are_named(write_run):
    folder = write_run(SCORES)
    journal.append(
        folder / "journal.jsonl",
        [{"event": "diverged", "generation": 2, "arm": "replace", "seed": 1, "message": "not finite"}],
    )
    with (folder / "journal.jsonl").open("a") as file:
        file.write('{"hash":"0000000000000000","event":"scores"}\n')
    report = build([folder])
    texts = list(notes(report.summary))
    assert "Diverged: replace: seed 1 diverged at generation 2" in texts
    assert any(text.startswith("Problem: ") and "1 line is damaged" in text for text in texts)
    assert any("1 line is damaged" in line for line in report.warnings)


def test_several_runs_are_merged_and_each_has_its_own_part(write_run):
    report = build([write_run(SCORES, name="one"), write_run(SCORES, name="two", claims=CLAIMS)])
    assert report.title == "one + two"
    (table,) = [block for block in section(report, "comparison") if isinstance(block, ReportTable)]
    assert [row[0].text for row in table.rows] == ["one/replace", "one/accumulate", "two/replace", "two/accumulate"]
    assert [block.text for block in section(report, "claims") if isinstance(block, ReportHeading)] == ["one", "two"]
    assert "The recipe makes no claims." in list(notes(section(report, "claims")))


def test_runs_of_one_name_are_told_apart_by_their_folders(write_run):
    folders = [write_run(SCORES, folder="x"), write_run(SCORES, folder="y")]
    assert build(folders).title == f"{folders[0]} + {folders[1]}"


def test_no_run_and_damaged_runs_are_errors(tmp_path, write_run):
    with pytest.raises(RecipeError, match="no run here"):
        build([tmp_path])
    folder = write_run(SCORES)
    (folder / "run.json").write_text("{}")
    with pytest.raises(StoreError, match="damaged"):
        build([folder])


def test_training_costs_and_reuse_of_a_real_run(sandbox):
    sandbox.run(TINY)
    report = build([sandbox.root / "run"])
    picture, *_ = section(report, "training")
    assert isinstance(picture, ReportPicture)
    texts = list(notes(section(report, "costs")))
    assert texts[0].startswith("10 fits: ")
    assert texts[1] == "All 10 fits were made for this run; none was taken over from an earlier one."
    (replaced,) = [block for block in section(report, "costs") if isinstance(block, ReportTable)]
    assert "10 fit" in replaced.rows[0][4].text

    lines = [json.loads(line) for line in (sandbox.root / "run" / "journal.jsonl").read_text().splitlines()]
    lines[0]["time"] = "2099-01-01T00:00:00Z"  # as if all had been made before
    journal.rewrite(
        sandbox.root / "run" / "journal.jsonl", [{k: v for k, v in x.items() if k != "hash"} for x in lines]
    )
    texts = list(notes(section(build([sandbox.root / "run"]), "costs")))
    assert texts[1] == "10 of 10 fits are older than this run: earlier runs made them."


@pytest.mark.parametrize(
    ("recipe", "why"),
    [
        (GAUSSIAN, "These models are solved in closed form, or were imported: there are no training curves."),
        (UNSEEN, "These fits recorded no losses: the recipe has `train.evaluate: never`"),
    ],
)
def test_fits_without_curves_say_why(sandbox, recipe, why):
    sandbox.run(recipe)
    texts = notes(section(build([sandbox.root / "run"]), "training"))
    assert any(text.startswith(why) for text in texts)


def test_a_run_without_its_store_has_all_but_training_and_costs(sandbox):
    sandbox.run(changed(TINY, ("seeds: [0, 1]", "seeds: [0]")))
    shutil.rmtree(sandbox.root / ".store")
    report = build([sandbox.root / "run"])
    assert "Its store is not where it was" in next(notes(section(report, "training")))
    assert "Its store is not where it was" in next(notes(section(report, "costs")))
    assert any(isinstance(block, ReportTable) for block in section(report, "comparison"))
