from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import collapse_sim
from collapse_sim import DivergedError, RecipeError, StoreError
from collapse_sim.cli.app import run_app
from collapse_sim.run.loaded_run import Run, load_run, load_runs
from tests.conftest import TINY, changed

from .points import GAUSSIAN

ROOT = Path(collapse_sim.__file__).parents[1]


@pytest.fixture
def run(sandbox) -> Run:
    sandbox.run(GAUSSIAN)
    return load_run(sandbox.root / "run", data_dir=sandbox.root)


@pytest.mark.slow
def test_figures_need_no_torch(sandbox):
    """In a new process: scores, comparisons, claims, costs, samples and the description of a run."""
    sandbox.run(GAUSSIAN)
    program = (
        "import sys, collapse_sim\n"
        f"run = collapse_sim.load_run({str(sandbox.root / 'run')!r})\n"
        "run.scores(), run.compare(), run.claims(), run.definitions(), run.rates(), run.history(), run.costs()\n"
        "run.samples('replace', 1, 3).rows.sum(), repr(run), run._repr_html_(), run.recipe, run.status\n"
        "assert not {'torch', 'matplotlib', 'typer'} & set(sys.modules), set(sys.modules)\n"
        "print(run.model('replace', 1, 3).draw(2)['x'].shape, 'torch' in sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False,
        cwd=sandbox.root,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout == "(2, 2) True\n"


def test_what_a_run_is(run, sandbox):
    assert (run.name, run.status, run.baseline) == ("toy", "finished", "replace")
    assert (run.arms, run.seeds, run.generations) == (("replace", "accumulate"), (5, 3), 3)
    assert run.metrics == ("variance_ratio",)
    assert run.recipe == json.loads((sandbox.root / "run" / "run.json").read_text())["settings"]
    assert run.diverged == {}
    assert run.runs == {"toy": run}
    assert repr(run) == (
        f"Run toy (finished) in {sandbox.root / 'run'}\n"
        "  arms: replace, accumulate; seeds 5, 3; generations 0 to 3\n"
        "  metrics: variance_ratio"
    )


def test_scores_are_those_of_the_journal(run, sandbox):
    frame = run.scores("variance_ratio").set_index(["arm", "generation", "seed"])
    recorded = {
        (line["arm"], line["generation"], seed): value
        for line in sandbox.journal(event="scores")
        for seed, value in zip(line["seeds"], line["metrics"]["variance_ratio"], strict=True)
    }
    assert frame.value.to_dict() == recorded
    assert run.scores(generation="last").generation.unique().tolist() == [3]
    assert run.scores(generation=0).generation.unique().tolist() == [0]


def test_a_comparison_takes_metrics_generations_and_a_baseline(run):
    assert run.compare().generation.tolist() == [3, 3]
    frame = run.compare(["variance_ratio"], "all", "accumulate").set_index(["arm", "generation"])
    assert len(frame) == 8
    means = run.scores().groupby(["arm", "generation"]).value.mean()
    assert frame["mean"].to_dict() == pytest.approx(means.to_dict())
    gaps = means["replace"] - means["accumulate"]
    assert frame.difference["replace"].to_dict() == pytest.approx(gaps.to_dict(), abs=1e-12)
    assert frame.difference["accumulate"].isna().all()


def test_samples_are_those_that_export_writes(run, sandbox, monkeypatch):
    monkeypatch.chdir(sandbox.root)
    for arm, k, seed in (("replace", 1, 3), ("accumulate", 3, 5)):
        samples = run.samples(arm, k, seed)
        options = ("--arm", arm, "--generation", k, "--seed", seed)
        assert run_app(["export", "run", "--to", f"{arm}-{k}", *map(str, options)]) == 0
        exported = np.load(sandbox.root / f"{arm}-{k}" / "samples.npz")
        assert np.array_equal(samples.rows, exported["x"])
        assert samples.rows.shape == (60, 2)
        assert samples.labels is None
        assert len(samples) == 60
    assert repr(samples) == "<Samples of accumulate, generation 3, seed 5: x float64 (60, 2)>"
    with pytest.raises(ValueError, match="read-only"):
        samples.rows[0] = 1.0
    assert run.samples().generation == 3
    assert run.samples().seed == 5


def test_a_model_draws_what_the_command_draws(run, sandbox, monkeypatch):
    monkeypatch.chdir(sandbox.root)
    model = run.model("accumulate", 2, 3)
    options = ["--rows", "4", "--arm", "accumulate", "--generation", "2", "--seed", "3"]
    assert run_app(["sample", "run", "--out", "s.npz", *options]) == 0
    assert np.array_equal(model.draw(4)["x"], np.load(sandbox.root / "s.npz")["x"])
    assert not np.array_equal(model.draw(4, draw_seed=1)["x"], model.draw(4)["x"])
    module = model.module()
    assert not module.training
    assert not any(parameter.requires_grad for parameter in module.parameters())


@pytest.mark.parametrize("name", ["stories", "pairs"])
def test_samples_of_texts_are_texts(sandbox, name):
    from tests.words import PAIRS, TEXT, VOCABULARY

    sandbox.run({"stories": TEXT, "pairs": PAIRS}[name])
    with pytest.raises(RecipeError, match="was not made by a run of yours"):  # importing its tokenizer runs code
        load_run(sandbox.root / "run", data_dir=sandbox.root).samples().texts  # noqa: B018
    run = load_run(sandbox.root / "run", data_dir=sandbox.root, plugins=True)
    samples = run.samples(generation=0)
    ids = samples.columns["tokens" if name == "stories" else "target"][0]
    in_words = " ".join(VOCABULARY[token - 1] for token in ids if token > 0)
    first = samples.rows[0]
    assert (first if name == "stories" else first["target"]) == in_words
    assert len(samples.rows) == len(samples)
    assert samples.labels is None


def test_training_is_in_history_and_costs(sandbox):
    sandbox.run(TINY)
    run = load_run(sandbox.root / "run")
    history = run.history()
    per_fit = history.groupby(["generation", "arms", "seed"]).step.apply(list)
    assert per_fit[0, ("replace", "accumulate+distill"), 1] == [5, 10, 15, 20]
    assert len(per_fit) == 10  # generation 0 is shared
    costs = run.costs()
    assert len(costs) == 10
    assert (costs.fit_s > 0).all()
    assert set(costs.updates) == {20}
    assert set(history.run) == set(costs.run) == {"tiny"}
    (labelled,) = {run.samples().columns["image"].shape}
    assert labelled == (150, 1, 8, 8)


def test_an_unfinished_run_is_read_as_far_as_it_is(run_folder, monkeypatch):
    folder = run_folder(done=1)
    run = load_run(folder)
    assert run.status == "unfinished"
    assert run.compare().generation.unique().tolist() == [1]
    assert "has reached generation 1; the recipe goes to 2" in repr(run)
    with pytest.raises(StoreError, match=r"replace, generation 2, seed 7: no samples: this is not scored yet; running"):
        run.samples("replace", 2, 7)


def test_a_run_without_scores_can_be_opened(run_folder):
    run = load_run(run_folder(done=-1))
    assert run.status == "not started"
    assert run.scores().empty
    assert run.compare().empty
    assert run.claims().empty
    assert "no scores yet" in repr(run)
    assert "<table>" not in run._repr_html_()


def test_a_diverged_chain_says_so(sandbox):
    sandbox.run(changed(TINY, ("seeds: [0, 1]", "seeds: [0]"), ("output: 0.5,", "output: 1.0e+38,")))
    run = load_run(sandbox.root / "run", data_dir=sandbox.root)
    assert run.diverged == {"accumulate+distill": {0: 1}}
    assert "1 chain diverged" in repr(run)
    assert run.scores(generation=2).set_index("arm").value.isna().to_dict() == {
        "replace": False, "accumulate+distill": True,
    }  # fmt: skip
    with pytest.raises(DivergedError, match="generation 2, seed 0: no samples, its chain diverged at generation 1"):
        run.samples("accumulate+distill", 2, 0)
    with pytest.raises(DivergedError, match="its chain diverged at generation 1"):
        run.model("accumulate+distill", 2, 0)


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (
            lambda run: run.samples("replce"),
            r"^arm replce: no such arm, did you mean 'replace'\?; allowed: replace, acc",
        ),
        (lambda run: run.samples("replace", 4), "^generation 4: this run has generations 0 to 3$"),
        (lambda run: run.model(seed=0), "^seed 0: this run has seeds 5, 3$"),
        (lambda run: run.scores("w2"), r"^metric: there is no 'w2'; the run measures: variance_ratio$"),
        (lambda run: run.rates("w2"), r"^metric: there is no 'w2'"),
        (lambda run: run.compare(generation=9), "^generation: generation 9 has no scores"),
        (lambda run: run.compare(baseline="distill"), "^baseline: there is no 'distill'; the arms are: replace, acc"),
    ],
)
def test_what_is_not_there_is_named_beside_what_is(run, ask, message):
    with pytest.raises(RecipeError, match=message):
        ask(run)


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda run: run.samples(generation="last"), "generation: found 'last'; allowed: a whole number"),
        (lambda run: run.samples(seed="3"), "seed: found '3'; allowed: a whole number"),
        (lambda run: run.model().draw(0), "rows: found 0; allowed: at least 1"),
    ],
)
def test_what_is_no_number_is_named(run, ask, message):
    with pytest.raises(RecipeError, match=message):
        ask(run)


def test_samples_that_were_not_kept(sandbox, monkeypatch):
    """The error names a command that makes them again, and a model is made again by itself."""
    sandbox.run(GAUSSIAN, overrides=["keep_samples=last", "keep_weights=last"])
    run = load_run(sandbox.root / "run", data_dir=sandbox.root)
    assert len(run.samples("replace", 3)) == 60
    monkeypatch.chdir(sandbox.root)
    with pytest.raises(StoreError, match=r"generation 1, seed 3: its samples were not kept \(keep_samples\)") as error:
        run.samples("replace", 1, 3)
    command = str(error.value).splitlines()[1].split()
    assert command[0] == "collapse-sim"
    assert run_app([*command[1:-1], "again"]) == 0
    assert np.array_equal(run.samples("replace", 1, 3).rows, np.load("again/samples.npz")["x"])
    assert run.model("accumulate", 2, 3).draw(2)["x"].shape == (2, 2)


def test_samples_and_models_that_are_gone(run, sandbox):
    for manifest in sandbox.root.glob(".store/objects/*/*/*/manifest.json"):
        if json.loads(manifest.read_text())["generation"] == 2:
            shutil.rmtree(manifest.parent)
    with pytest.raises(StoreError, match=r"generation 2, seed 5: its samples are not in .*\.store: they were removed"):
        run.samples("replace", 2)
    with pytest.raises(StoreError, match=r"replace, generation 2, seed 5: no model: .* is missing; running the recipe"):
        run.model("replace", 2)
    assert len(run.samples("replace", 3)) == 60


def test_damaged_samples_are_not_read(run, sandbox):
    for file in sandbox.root.glob(".store/objects/*/*/*/samples.safetensors"):
        file.write_bytes(file.read_bytes()[:-1] + b"\1")
    with pytest.raises(StoreError, match=r"damaged \(samples.safetensors does not match its hash\)"):
        run.samples("replace", 2)


def test_a_folder_that_is_no_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RecipeError, match="no run here"):
        load_run(tmp_path)
    with pytest.raises(RecipeError, match="absent: no run here, neither a run directory nor the name of a run below"):
        load_run("absent")
    with pytest.raises(RecipeError, match="no run is named"):
        load_runs([])


def test_problems_of_the_journal_are_warnings(run_folder):
    folder = run_folder()
    path = folder / "journal.jsonl"
    path.write_bytes(path.read_bytes().replace(b'"accumulate"', b'"accumulatf"', 1))
    with pytest.warns(UserWarning, match=r"journal\.jsonl: (1 line is damaged|incomplete)"):
        assert not load_run(folder).scores().empty


def test_several_runs_are_merged_as_compare_merges_them(run_folder, tmp_path):
    run_folder(name="one")
    run_folder(name="two")
    runs = load_runs([tmp_path / "one", tmp_path / "two"])
    assert runs.arms == ("one/replace", "one/accumulate", "two/replace", "two/accumulate")
    assert set(runs.scores().run) == {"one", "two"}
    assert set(runs.scores().arm) == {"replace", "accumulate"}
    frame = runs.compare("test_loss").set_index("arm")
    assert frame.difference["two/accumulate"] == 0
    assert set(frame.baseline) == {"one/replace"}
    assert isinstance(runs.runs["one"], Run)
    assert repr(runs).startswith("2 runs:\nRun one (unfinished) in ")
    assert runs._repr_html_().count("<tr>") == 5
    assert runs.claims().empty
    assert isinstance(load_runs(tmp_path / "one"), Run)


def test_names_are_text_in_html(write_script_run):
    html = load_run(write_script_run)._repr_html_()
    assert "<script" not in html
    assert "&lt;script&gt;" in html


@pytest.fixture
def write_script_run(run_folder):
    from collapse_sim.store import sealed

    folder = run_folder(name="demo")
    content = sealed.read(folder / "run.json")
    content["name"] = "<script>alert(1)</script>"
    (folder / "run.json").write_text(sealed.text(content))
    return folder


def test_frames_of_several_runs_are_below_each_other(sandbox):
    sandbox.run(GAUSSIAN)
    sandbox.run(changed(GAUSSIAN, ("name: toy", "name: other")), run="other")
    runs = load_runs([sandbox.root / "run", sandbox.root / "other"])
    costs = runs.costs()
    assert costs.run.value_counts().to_dict() == {"toy": 7, "other": 7}
    assert isinstance(costs, pd.DataFrame)
