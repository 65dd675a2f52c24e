"""Generations whose rows are from files: what is refused, what need not be fitted, and what keys depend on."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

from collapse_sim.core.errors import MissingError, RecipeError
from collapse_sim.plan.dry_run import plan_document, plan_text
from collapse_sim.plan.experiment import prepare
from collapse_sim.recipe.loader import load
from tests.conftest import TINY, changed

WITHOUT = """
data: {use: gaussian, dimensions: 2, rows: 30}
generations: 2
seeds: [0, 1]
arms: {elsewhere: {rows_from: "s/{generation}-{seed}.npy"}}
metrics: [sample_variance_ratio]
"""
WITH = """
data: {use: gaussian, dimensions: 2, rows: 30}
model: gaussian
generations: 3
samples: 20
seeds: [0, 1]
arms:
  own: {data: replace}
  elsewhere: {data: replace, rows_from: {1: "s/1-{seed}.npy", 2: "s/2-0.npy"}}
metrics: [sample_variance_ratio]
"""


def write(folder, rows=20, seeds=(0, 1), generations=4):
    (folder / "s").mkdir(exist_ok=True)
    rng = np.random.default_rng(0)
    for k in range(generations):
        for seed in seeds:
            np.save(folder / "s" / f"{k}-{seed}.npy", rng.normal(size=(rows, 2)))


def experiment(sandbox, text, **options):
    return prepare(load(sandbox.recipe(text), **options), sandbox.root)


def refusal(sandbox, text, error=RecipeError, **options) -> str:
    with pytest.raises(error) as caught:
        experiment(sandbox, text, **options)
    return str(caught.value)


def kinds(experiment) -> list[str]:
    return [spec.kind for spec in experiment.specs()]


def test_a_recipe_without_a_model_fits_nothing(sandbox):
    write(sandbox.root)
    planned = experiment(sandbox, WITHOUT)
    assert set(kinds(planned)) == {"data", "samples", "scores"}
    assert planned.counts.samples == 20  # as many as the files have
    assert [plan.samples.seeded for plan in planned.arm_plans[0].generations] == [True] * 3
    assert all(plan.samples.parents == () for plan in planned.arm_plans[0].generations)


def test_only_what_something_reads_is_fitted(sandbox):
    """Generation 1's model is read by nothing; a teacher, initial weights or a score of a model need it."""
    write(sandbox.root)

    def fitted(text):
        return [plan.fitted for plan in experiment(sandbox, text).arm_plans[-1].generations]

    assert fitted(WITH) == [True, True, False, True]  # the other arm has the same first fit to samples
    alone = changed(WITH, ("  own: {data: replace}\n", ""))
    assert fitted(alone) == [True, False, False, True]
    assert fitted(alone.replace("[sample_variance_ratio]", "[variance_ratio]")) == [True] * 4
    teacher = (
        "data: replace, rows_from",
        "data: replace, teacher: {generation: previous, weights: {output: 1.0}}, rows_from",
    )
    assert fitted(changed(alone, teacher)) == [True] * 4
    shorter = changed(alone, ("generations: 3", "generations: 2"))
    assert fitted(shorter) == [True, False, False]
    assert fitted(changed(shorter, teacher)) == [True, False, False]


def test_samples_of_all_seeds_may_be_one_file(sandbox):
    write(sandbox.root)
    own, elsewhere = experiment(sandbox, WITH).arm_plans
    assert [plan.samples.seeded for plan in elsewhere.generations] == [True, True, False, True]
    assert [plan.samples.imported is not None for plan in elsewhere.generations] == [False, True, True, False]
    assert elsewhere.generations[2].fit.sources == (elsewhere.generations[1].samples,)
    assert own.generations[0].samples.digest == elsewhere.generations[0].samples.digest


def test_keys_are_of_the_content_and_not_of_the_place(sandbox):
    write(sandbox.root)
    first = [spec.digest for spec in experiment(sandbox, WITHOUT).specs()]
    shutil.move(sandbox.root / "s", sandbox.root / "t")
    moved = changed(WITHOUT, ("s/{gen", "t/{gen"))
    assert [spec.digest for spec in experiment(sandbox, moved).specs()] == first
    np.save(sandbox.root / "t" / "1-0.npy", np.zeros((20, 2)))
    second = [spec.digest for spec in experiment(sandbox, moved).specs()]
    assert sum(a != b for a, b in zip(first, second, strict=True)) == 2  # generation 1's samples and its score


def test_rows_beyond_those_that_are_needed_are_in_no_plan(sandbox):
    write(sandbox.root, rows=25)
    planned = experiment(sandbox, WITHOUT, overrides=["samples=10"])
    assert {plan.samples.rows for plan in planned.arm_plans[0].generations} == {10}


def test_too_few_rows_are_refused_with_both_numbers(sandbox):
    write(sandbox.root)
    text = refusal(sandbox, WITHOUT, overrides=["samples=21"])
    lines = text.splitlines()
    assert len(lines) == 3
    path = sandbox.root / "s" / "0-0.npy"
    assert lines[0].endswith(
        f"arms.elsewhere.rows_from: {path} has 20 rows, but generation 0 has 21, and 1 more files of this generation "
        "have too few: lower `samples`, or provide more rows"
    )
    assert lines[0].startswith(f"{sandbox.root / 'recipe.yaml'}:5: ")


def test_files_of_different_lengths_need_a_number(sandbox):
    write(sandbox.root)
    np.save(sandbox.root / "s" / "1-1.npy", np.zeros((7, 2)))
    text = refusal(sandbox, WITHOUT)
    assert f"{sandbox.root / 's/1-1.npy'} has 7 rows and {sandbox.root / 's/0-0.npy'} has 20" in text
    assert text.endswith("set `samples`, to at most 7")


def test_files_that_are_missing_or_do_not_fit_are_all_named(sandbox):
    write(sandbox.root)
    (sandbox.root / "s" / "0-1.npy").unlink()
    np.save(sandbox.root / "s" / "2-0.npy", np.zeros((20, 3)))
    lines = refusal(sandbox, WITHOUT, MissingError).splitlines()
    assert len(lines) == 2
    assert lines[0].endswith(f"arms.elsewhere.rows_from: {sandbox.root / 's/0-1.npy'}: no such file or folder")
    assert lines[1].endswith("s/2-0.npy: x has the shape (20, 3); needed: (N, 2)")
    shutil.rmtree(sandbox.root / "s")
    lines = refusal(sandbox, WITHOUT, MissingError, seeds=range(20)).splitlines()
    assert len(lines) == 11
    assert lines[-1].endswith("and 50 more files")


IMAGES = changed(
    TINY, ("  replace: {data: replace}\n", ""), ("accumulate+distill: {data: accumulate, ", "arm: {data: replace, "),
    ("generations: 2", "generations: 1"),
)  # fmt: skip


def test_remedies_that_rows_from_files_do_not_have(sandbox):
    """A curation that needs further draws, and a guidance of samples that no model draws."""
    for k in range(2):
        np.savez(sandbox.root / f"{k}.npz", image=np.zeros((150, 1, 8, 8), np.uint8))
    rows_from = 'rows_from: "{generation}.npz", teacher'
    text = changed(IMAGES, ("teacher", f"curation: {{use: random, keep: 0.5}}, {rows_from}"))
    assert (
        "arms.arm.curation: it chooses from 300 candidates, of which the files of generation 0 give 150; allowed where "
        "rows are from files: a curation that needs no further draws" in refusal(sandbox, text)
    )
    text = changed(IMAGES, ("teacher", f"guidance: {{use: temperature, b: 0.5}}, {rows_from}"))
    assert "arms.arm.guidance: it shapes how models generate, and the rows of all" in refusal(sandbox, text)


def test_a_dry_run_says_what_is_from_files(sandbox, tmp_path):
    write(sandbox.root)
    planned = experiment(sandbox, changed(WITH, ("  own: {data: replace}\n", "")))
    document = plan_document(planned, tmp_path / "no store")
    entries = document["arms"]["elsewhere"]
    assert [entry.get("rows_from") for entry in entries] == [None, "files", "files", None]
    assert [entry["fits_to_make"] for entry in entries] == [2, 0, 0, 2]
    lines = plan_text(document).split("elsewhere")[1].splitlines()
    assert lines[3].split() == ["1", "-", "-", "-", "-", "0", "rows:", "from", "files"]
    assert lines[2].split()[2] == "solved"
