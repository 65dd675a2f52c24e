"""`collapse-sim compare`, as a user calls it."""

import csv
import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from collapse_sim.cli.compare_command import compare
from collapse_sim.core.errors import RecipeError, StoreError
from collapse_sim.store import journal
from tests.analysis.conftest import Call, WriteRun, scores_line

SCORES = {
    "replace": {"loss": [[1.0, 2.0], [3.0, 4.5]], "fid": [[10.0, 12.0], [20.0, 22.0]]},
    "distill": {"loss": [[1.0, 2.0], [2.5, 3.5]], "fid": [[10.0, 12.0], [11.0, 13.0]]},
}


def entry(k: int, values: list[float | None], mean: float, half: float) -> dict[str, Any]:
    low, high = pytest.approx(mean - half), pytest.approx(mean + half)
    seeds = {"n": 2, "mean": pytest.approx(mean), "low": low, "high": high}
    return {"generation": k, **seeds, "rows": None, "values": values}


def test_json_is_the_agreed_document(call: Call, write_run: WriteRun) -> None:
    write_run(
        SCORES,
        seeds=[5, 4],
        theory={"replace": {"loss": [1.0, 3.0]}},
        reference=[{"source": "S", "metric": "loss", "generation": 1, "values": {"replace": 9.0}}],
    )
    found = json.loads(call("toy", "--metric", "loss", "--json").stdout)
    t = 12.706204736432095  # the 97.5 % quantile of Student's t with one degree of freedom
    p = pytest.approx(1 - 2 * math.atan(3) / math.pi)  # of t = -3 with one degree of freedom
    half, wide = t * 0.5, t * 0.75  # the standard error of two values is half their distance
    assert found == {
        "schema": 1,
        "run": "toy",
        "arms": {
            "replace": {"loss": [entry(0, [1.0, 2.0], 1.5, half), entry(1, [3.0, 4.5], 3.75, wide)]},
            "distill": {"loss": [entry(0, [1.0, 2.0], 1.5, half), entry(1, [2.5, 3.5], 3.0, half)]},
        },
        "arm_settings": {"replace": {}, "distill": {}},
        "seeds": [5, 4],
        "generations": 1,
        "common_generation": 1,
        "metrics": {"loss": {"better": "lower", "unit": None, "bounds": [None, None], "note": None, "warning": None}},
        "theory": {"replace": {"loss": [1.0, 3.0]}},
        "references": [{"source": "S", "metric": "loss", "generation": 1, "values": {"replace": 9.0}}],
        "diverged": {},
        "deaths": {},
        "training": {},
        "problems": [],
        "baseline": "replace",
        "baselines": {"replace": "replace", "distill": "replace"},
        "differences": {
            "distill": {
                "loss": [
                    {
                        "generation": 0,
                        "n": 2,
                        "mean": 0.0,
                        "low": 0.0,
                        "high": 0.0,
                        "p": 1.0,
                        "p_holm": 1.0,
                        "rows": None,
                    },
                    {
                        "generation": 1,
                        "n": 2,
                        "mean": -0.75,
                        "low": pytest.approx(-0.75 - t * 0.25),
                        "high": pytest.approx(-0.75 + t * 0.25),
                        "p": p,
                        "p_holm": p,
                        "rows": None,
                    },
                ]
            }
        },
    }


def test_json_has_null_where_a_seed_is_missing_or_not_finite(call: Call, write_run: WriteRun) -> None:
    run = write_run({"a": {"loss": []}, "b": {"loss": []}}, seeds=[5, 4, 3], generations=2)
    lines = [scores_line("a", 0, [3, 5], {"loss": [1.0, 2.0]}), scores_line("b", 0, [4], {"loss": [float("inf")]})]
    journal.append(run / "journal.jsonl", lines)
    found = json.loads(call("toy", "--json").stdout)["arms"]
    assert found["a"]["loss"][0]["values"] == [2.0, None, 1.0]
    assert found["a"]["loss"][0]["n"] == 2
    assert found["b"]["loss"] == [
        {"generation": 0, "n": 1, "mean": None, "low": None, "high": None, "rows": None, "values": [None] * 3}
    ]


def test_json_of_several_runs(call: Call, write_run: WriteRun) -> None:
    write_run(SCORES, name="one", seeds=[0, 1])
    write_run({"replace": {"loss": [[1.0, 2.0], [3.0, 4.0]]}}, name="two", seeds=[1, 2])
    found = json.loads(call("one", "two", "--json", "--baseline", "two/replace").stdout)
    assert [run["run"] for run in found["runs"]] == ["one", "two"]
    assert set(found["runs"][0]["arms"]) == {"replace", "distill"}
    assert set(found["runs"][1]["arms"]["replace"]) == {"loss"}
    assert found["baseline"] == "two/replace"
    assert found["differences"]["one/replace"]["loss"][1] == {
        "generation": 1,
        "n": 1,
        "mean": 1.5,  # over seed 1, which both have: 4.5 - 3.0
        "low": None,
        "high": None,
        "p": None,
        "p_holm": None,
        "rows": None,
    }


def test_runs_of_one_name_are_told_apart_by_their_folder(call: Call, write_run: WriteRun) -> None:
    write_run(SCORES, name="toy", folder="first", seeds=[0, 1])
    write_run(SCORES, name="toy", folder="second", seeds=[0, 1])
    shown = call("first", "second", "--csv").stdout
    assert {row["run"] for row in csv.DictReader(shown.splitlines())} == {"runs/first", "runs/second"}


def test_csv_is_tidy(call: Call, write_run: WriteRun) -> None:
    write_run(SCORES, seeds=[5, 4], theory={"replace": {"loss": [1.0, 3.0]}})
    rows = list(csv.DictReader(call("toy", "--csv").stdout.splitlines()))
    assert len(rows) == 2 * 2 * 2 * 2
    wanted = {"run": "toy", "arm": "replace", "metric": "loss", "generation": "1", "seed": "4", "value": "4.5"}
    without = {"note": "", "rows": "", "rows_low": "", "rows_high": ""}
    assert wanted | without | {"theory": "3.0"} in rows
    assert {row["theory"] for row in rows if row["arm"] == "distill" or row["metric"] == "fid"} == {""}


def test_tables_are_plain_off_a_terminal(call: Call, write_run: WriteRun) -> None:
    write_run(SCORES, seeds=[0, 1], name="toy")
    found = call("toy", "--all")
    assert "\x1b" not in found.stdout
    assert found.stderr == ""
    assert [line.split(":")[0] for line in found.stdout.splitlines() if "loss" in line or "fid" in line] == [
        "arm           loss ↓      fid ↓",
        "loss (lower is better)",
        "loss at generation 1",
        "fid (lower is better)",
        "fid at generation 1",
    ]


def test_the_first_table_is_arms_by_metrics_at_the_last_generation(call: Call, write_run: WriteRun) -> None:
    metrics = {
        "loss": {"better": "lower", "unit": "nats per pixel"},
        "fid": {"better": "higher", "note": "few rows", "warning": "biased"},
    }
    write_run(SCORES, seeds=[0, 1], metrics=metrics)
    found = call("toy")
    assert found.stdout.splitlines() == [
        "toy at generation 1: mean over 2 seeds ± 95 % interval; ↓ lower is better, ↑ higher, "
        "* not worse than the best",
        "                 loss ↓",
        "arm      nats per pixel      fid ↑",
        "──────────────────────────────────",
        "replace     3.8 ± 9.5 *  21 ± 13 *",
        "distill     3.0 ± 6.4 *  12 ± 13",
        "fid: few rows; biased",
    ]
    assert (
        found.stderr
        == "for differences to the baseline, every generation, and the length of fits: --all or --metric NAME\n"
    )
    everything = call("toy", "--all").stdout
    assert everything.startswith(found.stdout)
    assert "loss at generation 1: paired differences to replace" in everything
    assert "arm \\ generation" in everything
    assert "arm \\ generation" not in call("toy", "--generation", "0").stdout
    assert call("toy", "--generation", "0").stdout.startswith("toy at generation 0: mean over 2 seeds")


def test_the_first_table_fits_80_columns(call: Call, write_run: WriteRun, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [f"metric_{i}" for i in range(9)]
    write_run({f"a-longer-arm={i}": {name: [[1.5 + i, 2.25]] for name in names} for i in range(6)}, seeds=[0, 1])
    monkeypatch.setenv("COLUMNS", "80")
    lines = call("toy").stdout.splitlines()
    assert max(map(len, lines)) <= 80
    assert all(sum(name in line for line in lines) == 1 for name in names)


def test_last_is_the_last_generation_that_all_arms_have(call: Call, write_run: WriteRun) -> None:
    """One arm was extended: the others are not left out, and it is said which has come further."""
    run = write_run(SCORES, seeds=[0, 1], generations=3)
    further = [scores_line("distill", k, [0, 1], {"loss": [2.0, 3.0], "fid": [9.0, 9.5]}) for k in (2, 3)]
    journal.append(run / "journal.jsonl", further)
    for options in ([], ["--generation", "last"], ["--all"]):
        found = call("toy", *options)
        assert found.stdout.startswith("toy at generation 1: mean over 2 seeds")
        assert "generation 1 is the last that all arms have; distill at 3" in found.stdout
        assert "toy: replace at 1, distill at 3; the recipe goes to 3" in found.stderr
    assert "loss at generation 1: paired differences" in call("toy", "--metric", "loss").stdout
    document = json.loads(call("toy", "--generation", "last", "--json").stdout)
    assert document["common_generation"] == 1
    assert {arm: [e["generation"] for e in ms["loss"]] for arm, ms in document["arms"].items()} == {
        "replace": [1],
        "distill": [1],
    }
    assert document["differences"]["distill"]["loss"][0]["mean"] == pytest.approx(-0.75)


def test_an_arm_that_has_not_begun_hides_no_other(call: Call, write_run: WriteRun) -> None:
    write_run({**SCORES, "new": {"loss": []}}, seeds=[0, 1], generations=1)
    found = call("toy")
    assert found.stdout.startswith("toy at generation 1")
    assert "new without scores yet" in found.stdout
    assert "toy: new without scores yet, replace, distill at 1; the recipe goes to 1" in found.stderr


def test_a_metric_that_is_scored_elsewhere_is_named(call: Call, write_run: WriteRun) -> None:
    scores = {arm: {"loss": [[1.0, 2.0], [3.0, 4.0]], "late": [[1.0, 2.0]]} for arm in ("a", "b")}
    write_run(scores, seeds=[0, 1])
    shown = call("toy").stdout
    assert "late: no scores at generation 1, the last are at 0" in shown
    assert "late ↓" not in shown


def test_figures_of_fewer_seeds_say_so(call: Call, write_run: WriteRun) -> None:
    run = write_run({"a": {"loss": [[1.0, 2.0, 3.0]]}, "b": {"loss": []}}, generations=0)
    journal.append(run / "journal.jsonl", [scores_line("b", 0, [0, 1], {"loss": [5.0, 6.0]})])
    for options in ([], ["--metric", "loss"]):
        shown = call("toy", *options).stdout
        (line,) = [line for line in shown.splitlines() if line.startswith("b ")][:1]
        assert "(n=2)" in line
        assert "mean over 2 to 3 seeds" in shown
        assert shown.count("(n=") == 1
    write_run({"a": {"loss": [[1.0, 2.0]]}}, name="other", seeds=[8, 9])
    assert "(n=" not in call("other", "toy", "--metric", "loss").stdout.split("toy/b")[0]  # its own run has two seeds


def test_diverged_fits_are_nan_and_named(call: Call, write_run: WriteRun) -> None:
    run = write_run(SCORES, seeds=[0, 1])
    line = {"event": "diverged", "arm": "replace", "generation": 1, "seed": 1, "message": "the loss is nan"}
    journal.append(run / "journal.jsonl", [line])
    for options in ([], ["--metric", "loss"]):
        shown = call("toy", *options).stdout
        assert "replace: seed 1 diverged at generation 1" in shown
        assert "nan" in next(line for line in shown.splitlines() if line.startswith("replace"))
    document = json.loads(call("toy", "--json").stdout)
    assert document["diverged"] == {"replace": [{"seed": 1, "generation": 1}]}
    entry = document["arms"]["replace"]["loss"][1]
    assert (entry["n"], entry["mean"], entry["values"]) == (2, None, [3.0, None])


def test_intervals_stay_within_bounds(call: Call, write_run: WriteRun) -> None:
    """On a scale without bounds: their ends are never cut, and a mean near a bound has its longer side away from it."""
    metrics = {"coverage": {"better": "higher", "unit": "share of rows", "bounds": [0.0, 1.0]}}
    scores = {"low": [0.03, 0.05, 0.06], "mid": [0.48, 0.5, 0.52], "high": [0.97, 0.95, 0.94]}
    write_run({arm: {"coverage": [values]} for arm, values in scores.items()}, metrics=metrics)
    shown = call("toy", "--metric", "coverage").stdout
    assert "0.047 [0.020, 0.103]" in shown
    assert "0.500 ± 0.050" in shown
    entries = {arm: ms["coverage"][0] for arm, ms in json.loads(call("toy", "--json").stdout)["arms"].items()}
    assert 0 < entries["low"]["low"] < entries["low"]["high"] < 0.2
    assert entries["high"]["low"] == pytest.approx(1 - entries["low"]["high"])
    assert entries["high"]["high"] == pytest.approx(1 - entries["low"]["low"])


def test_differences_end_where_what_can_be_ends(call: Call, write_run: WriteRun) -> None:
    metrics = {"coverage": {"better": "higher", "bounds": [0.0, 1.0]}}
    write_run({"low": {"coverage": [[0.0, 0.004]]}, "mid": {"coverage": [[0.2, 0.8]]}}, seeds=[0, 1], metrics=metrics)
    apart = json.loads(call("toy", "--json").stdout)["differences"]["mid"]["coverage"][0]
    assert (apart["low"], apart["high"]) == (-1.0, 1.0)


def test_no_relative_difference_to_what_may_be_zero(call: Call, write_run: WriteRun) -> None:
    scores = {"base": {"kid": [[0.001, -0.0005]], "fid": [[10.0, 11.0]]}}
    scores["other"] = {"kid": [[0.3, 0.31]], "fid": [[5.0, 5.5]]}
    write_run(scores, seeds=[0, 1])
    rows = {
        metric: next(line for line in call("toy", "--metric", metric).stdout.splitlines()[::-1] if "other" in line)
        for metric in ("kid", "fid")
    }
    assert "%" not in rows["kid"]
    assert "-50.0 %" in rows["fid"]


def test_options_choose_metric_generation_and_baseline(call: Call, write_run: WriteRun) -> None:
    write_run(SCORES, seeds=[0, 1])
    shown = call("toy", "--metric", "fid", "--generation", "0", "--baseline", "distill").stdout
    assert "loss" not in shown
    assert shown.startswith("fid at generation 0: paired differences to distill")
    assert "generation 1" not in shown
    assert "fid at generation 1" in call("toy", "--generation", "last", "--metric", "fid").stdout
    found = json.loads(call("toy", "--json", "--generation", "1", "--metric", "fid").stdout)
    assert [e["generation"] for e in found["arms"]["replace"]["fid"]] == [1]


def test_many_generations_are_thinned_out_and_it_says_so(call: Call, write_run: WriteRun) -> None:
    write_run({"a": {"loss": [[float(k)] for k in range(31)]}}, seeds=[0])
    shown = call("toy", "--metric", "loss").stdout
    assert "7 of 31 generations are shown; all of them: --generation all" in shown
    assert shown.splitlines()[1].split()[3:] == ["0", "1", "2", "5", "10", "20", "30"]
    assert len(call("toy", "--metric", "loss", "--generation", "all").stdout.splitlines()[1].split()) == 3 + 31


def test_a_run_that_goes_on_is_noted(call: Call, write_run: WriteRun) -> None:
    write_run(SCORES, seeds=[0, 1], generations=4)
    assert "toy: has reached generation 1; the recipe goes to 4" in call("toy").stderr
    write_run({"a": {"loss": []}}, name="new", generations=4)
    found = call("new")
    assert (found.stdout, "new: no scores yet" in found.stderr) == ("", True)
    assert json.loads(call("new", "--json").stdout)["arms"] == {"a": {"loss": []}}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--metric", "los"], r"--metric: there is no 'los', did you mean 'loss'\?; the run measures: loss, fid"),
        (["--baseline", "distil"], r"--baseline: there is no 'distil', did you mean 'distill'\?"),
        (["--generation", "9"], r"--generation: generation 9 has no scores \(the recipe ends at 1\); scored are: 0, 1"),
        (["--generation", "first"], "'first' is not a generation; allowed: a number, 'last', 'all'"),
        (["--json", "--csv"], "--json and --csv exclude each other"),
        (["--latex", "--csv"], "--csv and --latex exclude each other"),
        (["--size", "wide", "--plot", "a.pdf"], "--size wide: allowed: column, page"),
        (["--size", "page"], "--size: is for --plot FILE"),
        (["--plot", "curves.jpeg"], r"curves\.jpeg: the suffix selects the format; allowed: \.png, \.pdf, \.svg"),
    ],
)
def test_bad_options(call: Call, write_run: WriteRun, options: list[str], message: str) -> None:
    write_run(SCORES, seeds=[0, 1])
    with pytest.raises(RecipeError, match=message):
        call("toy", *options)


def test_no_such_run(call: Call, write_run: WriteRun) -> None:
    write_run(SCORES, seeds=[0, 1])
    with pytest.raises(RecipeError, match="did you mean 'toy'"):
        call("toi")


def test_plots(call: Call, write_run: WriteRun, tmp_path: Path) -> None:
    write_run(SCORES, seeds=[0, 1])
    found = call("toy", "--plot", "curves.svg", "--json")
    assert json.loads(found.stdout)["run"] == "toy"
    assert "plot: curves.svg" in found.stderr
    assert "fid" in (tmp_path / "curves.svg").read_text()
    with pytest.raises(StoreError, match="cannot write"):
        call("toy", "--plot", "nowhere/curves.svg")
    with pytest.raises(StoreError, match="File name too long"):
        call("toy", "--plot", f"{'n' * 300}.svg")


def test_figures_are_printed_before_a_plot_that_cannot_be_written(
    write_run: WriteRun, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = write_run(SCORES, seeds=[0, 1])
    with pytest.raises(StoreError):
        compare([str(run)], as_csv=True, plot=Path("nowhere/curves.svg"))
    assert capsys.readouterr().out.startswith("run,arm,metric")


def test_ascii_only_output_has_no_other_sign(write_run: WriteRun) -> None:
    run = write_run(SCORES, seeds=[0, 1])
    code = "import typer; from collapse_sim.cli.compare_command import compare; typer.run(compare)"
    environment = {"PYTHONIOENCODING": "ascii", "PYTHONPATH": ":".join(sys.path)}
    done = subprocess.run([sys.executable, "-c", code, run], env=environment, capture_output=True, check=True)
    assert b"+/- 6.4" in done.stdout


def test_torch_is_never_imported(write_run: WriteRun, tmp_path: Path) -> None:
    run = write_run(
        SCORES, seeds=[0, 1], claims=[{"that": "x", "metric": "loss", "generation": 1, "expect": "distill < 9"}]
    )
    code = f"""
import sys
from pathlib import Path
from collapse_sim.cli.compare_command import compare
from collapse_sim.cli.verify_command import verify
assert not {{"rich", "numpy", "yaml", "pydantic", "matplotlib"}} & set(sys.modules)
compare([{str(run)!r}], plot=Path({str(tmp_path / "x.png")!r}))
compare([{str(run)!r}], as_json=True)
verify({str(run)!r})
assert not {{"torch", "pydantic", "yaml"}} & set(sys.modules)
"""
    environment = {"PYTHONPATH": ":".join(sys.path), "MPLCONFIGDIR": str(tmp_path)}
    subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, check=True)
