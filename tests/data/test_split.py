"""Validation rows, and splits of every seed's own: nothing is in two parts, and nothing is lost."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from collapse_sim.core.errors import RecipeError
from collapse_sim.data.images.digits import Digits
from collapse_sim.data.split import Chosen, Joined, divided, parts_of
from collapse_sim.data.toys.gaussian_points import GaussianPoints
from tests.conftest import TINY


class Numbers:
    """RowSource: row i is i."""

    def __init__(self, first: int, last: int) -> None:
        self.numbers = np.arange(first, last)
        self.reads = 0

    def __len__(self) -> int:
        return len(self.numbers)

    def read(self, first: int, last: int) -> dict[str, np.ndarray]:
        self.reads += 1
        return {"x": self.numbers[first:last].copy()}


def numbers_of(source: Any) -> list[int]:
    return list(source.read(0, len(source))["x"].tolist())


def split(data: Any, rows: int, held_out: int, seed: int = 0, packed: bool = False) -> Any:
    info = dataclasses.replace(data.inspect(Path()), rows=rows, pool=rows, held_out=held_out, packed=packed)
    info = divided(data, info)
    parts = parts_of(data, info, Numbers(0, rows), Numbers(rows, rows + held_out), seed)
    assert len(parts["real"]) == info.pool
    assert len(parts["held_out"]) == info.held_out
    return {name: numbers_of(source) for name, source in parts.items()}


def test_validation_rows_come_out_of_the_real_rows_the_same_for_every_seed() -> None:
    found = split(Digits(validation_rows=7), 50, 20)
    assert len(found["validation"]) == 7
    assert found["held_out"] == list(range(50, 70))
    assert sorted(found["real"] + found["validation"]) == list(range(50))
    assert found["validation"] != list(range(7))  # a random choice: files may be in the order of their classes
    assert split(Digits(validation_rows=7), 50, 20, seed=9) == found
    assert split(Digits(), 50, 20) == {"real": list(range(50)), "held_out": list(range(50, 70))}


def test_validation_blocks_of_packed_texts_are_the_last_ones() -> None:
    """So one text at most has blocks on both sides."""
    found = split(Digits(validation_rows=7), 50, 20, packed=True)
    assert found["validation"] == list(range(43, 50))
    assert found["real"] == list(range(43))


def test_every_seed_may_have_a_split_of_its_own() -> None:
    data = Digits(validation_rows=7, split="seed")
    first, second = (split(data, 50, 20, seed) for seed in (1, 2))
    for found in (first, second):
        assert sorted(found["real"] + found["validation"] + found["held_out"]) == list(range(70))
        assert (len(found["validation"]), len(found["held_out"])) == (7, 20)
        assert set(found["held_out"]) - set(range(50, 70))  # of all rows, not of those that were held out
    assert first["held_out"] != second["held_out"]
    assert split(data, 50, 20, 1) == first


def test_what_cannot_be_split_is_said() -> None:
    info = Digits().inspect(Path())
    with pytest.raises(RecipeError, match=r"data.validation_rows: 1437 asked for, but there are 1437 real rows: lower"):
        divided(Digits(validation_rows=1437), info)
    with pytest.raises(RecipeError, match=r"real rows, of which data.rows takes 1400: lower one of them"):
        divided(Digits(validation_rows=100, rows=1400), Digits(rows=1400).inspect(Path()))
    with pytest.raises(RecipeError, match=r"data.split: packed texts"):
        divided(Digits(split="seed"), dataclasses.replace(info, packed=True))
    assert divided(Digits(validation_rows=37, rows=1400), Digits(rows=1400).inspect(Path())).rows == 1400
    assert divided(Digits(validation_rows=37), info).rows == 1400


def test_simulated_data_draws_validation_rows_beside_its_real_ones() -> None:
    data = GaussianPoints(rows=10, validation_rows=5)
    info = divided(data, data.inspect(Path()))
    assert (info.rows, info.pool, info.validation) == (10, 10, 5)


def test_neighbours_are_read_together() -> None:
    source = Numbers(0, 100)
    assert numbers_of(Chosen(source, np.array([3, 4, 5, 9, 20, 21]))) == [3, 4, 5, 9, 20, 21]
    assert source.reads == 3
    both = Joined(Numbers(0, 5), Numbers(5, 12))
    assert [both.read(first, last)["x"].tolist() for first, last in ((0, 5), (3, 8), (6, 12))] == [
        [0, 1, 2, 3, 4], [3, 4, 5, 6, 7], [6, 7, 8, 9, 10, 11],
    ]  # fmt: skip


def test_a_run_with_splits_of_its_own_holds_rows_once_a_seed(sandbox: Any) -> None:
    """The whole program, with features of a classifier, fitted once a seed then; a second run finds all."""
    text = TINY.replace("validation_rows: 40", "validation_rows: 40, split: seed").replace(
        "metrics: [test_loss]", "metrics: [test_loss, {use: coverage, features: {use: classifier, train: {steps: 5}}}]"
    )
    sandbox.run(text)
    manifests = [json.loads(path.read_text()) for path in sandbox.root.glob(".store/objects/*/*/*/manifest.json")]
    assert sorted(m["seeds"] for m in manifests if m["kind"] == "data") == [[0], [1]]
    made_on = [m["machine"] for m in manifests if m["kind"] == "fit"]
    assert {(m["device"].split()[0], m["precision"]) for m in made_on} == {("cpu", "fp32")}
    sandbox.run(text, run="again")
    assert len(sandbox.artefacts()) == len(manifests)
    scores = [line for line in sandbox.journal(event="scores") if line["generation"] == 0]
    assert all(len(set(line["metrics"]["test_loss"])) == 2 for line in scores)
