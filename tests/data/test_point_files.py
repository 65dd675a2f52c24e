"""Points of one's own: the same rows out of every format, clear words about what is wrong, and every family on them."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from collapse_sim.cli.app import run_app
from collapse_sim.core.errors import RecipeError
from collapse_sim.core.randomness import Draws
from collapse_sim.data.held_out import shuffled
from collapse_sim.data.point_files import PointFiles

from .making import message_of, rows_of

POINTS = np.random.default_rng(0).normal(size=(20, 3)) * [1, 10, 1e-3]


def write(path: Path, points: np.ndarray, header: str = "", end: str = "\n") -> str:
    """As .npy, or as numbers that read back to the same ones."""
    if path.suffix == ".npy":
        np.save(path, points)
        return path.name
    separator = "\t" if path.suffix == ".tsv" else ","
    lines = [separator.join(map(repr, row.tolist())) for row in points]
    text = end.join([*([header.replace(",", separator)] if header else []), *lines]) + end
    path.write_bytes(text.encode())
    return path.name


@pytest.mark.parametrize("name", ["p.npy", "p.csv", "p.tsv", "P.CSV"])
@pytest.mark.parametrize("header", ["", "a,b,c", "# x,y,z", "\N{BYTE ORDER MARK}a,b,c", ",,z", '"a, b",b,c'])
def test_the_same_rows_and_key_in_every_format(name: str, header: str, tmp_path: Path) -> None:
    end = "\r\n" if header else "\n"
    data = PointFiles(path=write(tmp_path / name, POINTS, header, end), held_out=5)
    np.save(tmp_path / "expected.npy", POINTS)
    info = data.inspect(tmp_path)
    assert info == PointFiles(path="expected.npy", held_out=5).inspect(tmp_path)
    assert (info.kind, info.columns) == ("points", {"x": ((3,), "float64")})
    assert (info.rows, info.pool, info.held_out, info.known_truths) == (15, 15, 5, ())
    real, held_out = rows_of(data, tmp_path)
    order = shuffled(20)
    assert np.array_equal(held_out["x"], POINTS[order[:5]])
    assert np.array_equal(real["x"], POINTS[order[5:]])
    assert real["x"].dtype == np.float64


@pytest.mark.parametrize("dtype", ["<f4", ">f8", "<f2", "<i4", "|u1", ">i8"])
def test_other_types_of_numbers(dtype: str, tmp_path: Path) -> None:
    points = (POINTS * 10).astype(dtype)
    np.save(tmp_path / "p.npy", points)
    real, _ = rows_of(PointFiles(path="p.npy", held_out=1), tmp_path)
    assert np.array_equal(real["x"], points[shuffled(20)[1:]].astype(np.float64))


def test_one_dimension(tmp_path: Path) -> None:
    np.save(tmp_path / "p.npy", POINTS[:, 0])
    write(tmp_path / "p.csv", POINTS[:, :1])
    infos = [PointFiles(path=path).inspect(tmp_path) for path in ("p.npy", "p.csv")]
    assert infos[0] == infos[1]
    assert infos[0].columns == {"x": ((1,), "float64")}


def test_empty_lines_and_space_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "p.csv").write_text("\n x , y\n\n 1 , 2e3\n , \n-3, +.5\n\n\n4,5")
    real, held_out = rows_of(PointFiles(path="p.csv", held_out=1), tmp_path)
    found = sorted(np.concatenate([real["x"], held_out["x"]]).tolist())
    assert found == [[-3.0, 0.5], [1.0, 2000.0], [4.0, 5.0]]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "p.csv: the file is empty: it has no points"),
        ("x,y\n", "p.csv: the file is empty"),
        ("1,2\n", "p.csv has one point"),
        ("1,2\n3,4\n5\n", "p.csv:3: 1 values, but the lines above have 2"),
        ("x,y\n1,2\n3,4,5\n", "p.csv:3: 3 values, but the lines above have 2"),
        ("x,y,z\n1,2\n", "p.csv:2: 2 values, but the lines above have 3"),
        ("1,2\n3,nan\n", "p.csv:2: column 2 is 'nan': every value must be a finite number"),
        ("1,2\ninf,4\n", "p.csv:2: column 1 is 'inf'"),
        ("1,2\n1e999,4\n", "p.csv:2: column 1 is '1e999'"),
        ("1,2\n3,\n", "p.csv:2: column 2 is ''"),
        ("1,2\n\n3,setosa\n", "p.csv:3: column 2 is 'setosa'"),
        ("1,a\n3,4\n", "p.csv:1: column 2 is 'a'"),
        ("1,2\n1_000,4\n", "p.csv:2: column 1 is '1_000'"),
        ("x,y\nu,v\n1,2\n", "p.csv:2: column 1 is 'u'"),
        ("x;y\n1;2\n3;4\n", "p.csv:2: no comma, but a semicolon: values in .csv files must be separated by commas"),
        ("1\t2\n3\t4\n", "p.csv:2: no comma, but a tab"),
        ("1,5;2,5\n3,5;4,5\n", "p.csv:1: column 2 is '5;2'"),
        ("0,1\n3.5,4\n5,6\n", "p.csv:1: is '0,1' a point, or the column numbers that pandas writes"),
        ('"1,2\n3,4\n', "p.csv"),
        ("1,2\n\0,4\n", "p.csv"),
    ],
)
def test_bad_lines(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "p.csv").write_text(text)
    assert message in message_of(PointFiles(path="p.csv"), tmp_path)


@pytest.mark.parametrize("content", ["1,2\n3,4\n".encode("utf-16"), b"\x1f\x8b\x08" + bytes(20) + b"\xff", b"\xff\xfe"])
def test_what_is_no_utf8(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "p.csv").write_bytes(content)
    assert "p.csv: not UTF-8 text" in message_of(PointFiles(path="p.csv"), tmp_path)


@pytest.mark.parametrize(
    ("points", "message"),
    [
        (np.zeros((4, 2), complex), "found complex128 of shape (4, 2)"),
        (np.zeros((4, 2, 1)), "needed: real numbers of shape (N, d), or (N,) in one dimension; found float64"),
        (np.zeros((0, 2)), "found float64 of shape (0, 2)"),
        (np.zeros((4, 2), bool), "found bool"),
        (np.array(["a", "b"]), "found str"),
        (np.array([{}] * 3), "not a readable .npy array"),
        (np.where(np.arange(12).reshape(6, 2) == 7, np.nan, 1.0), "row 3 is [1.0, nan]: every value must be a finite"),
        (np.where(np.arange(12).reshape(6, 2) == 8, -np.inf, 1.0), "row 4 is [-inf, 1.0]"),
        (np.zeros((1, 2)), "has one point"),
    ],
)
def test_bad_arrays(points: np.ndarray, message: str, tmp_path: Path) -> None:
    np.save(tmp_path / "p.npy", points, allow_pickle=True)
    text = message_of(PointFiles(path="p.npy"), tmp_path)
    assert text.startswith(str(tmp_path / "p.npy"))
    assert message in text


def test_other_files_and_settings_that_do_not_fit(tmp_path: Path) -> None:
    (tmp_path / "p.xlsx").touch()
    assert "points are read from .npy, .csv and .tsv files" in message_of(PointFiles(path="p.xlsx"), tmp_path)
    assert "no such file" in message_of(PointFiles(path="q.csv"), tmp_path)
    np.save(tmp_path / "p.npy", POINTS)
    for settings, message in (
        ({"held_out": 20}, "data.held_out: 20 of 20 points leaves none to train on"),
        ({"rows": 17}, "data.rows: 17 asked for, but there are 16 real rows"),
        ({"held_out_rows": 5}, "data.held_out_rows: 5 asked for, but there are 4"),
    ):
        assert message in message_of(PointFiles(path="p.npy", **settings), tmp_path, RecipeError)


def test_moved_points_have_the_same_key(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    np.save(tmp_path / "a" / "p.npy", POINTS)
    relative, absolute = PointFiles(path="a/p.npy"), PointFiles(path=str(tmp_path / "a" / "p.npy"))
    assert relative.describe() == absolute.describe()
    assert relative.inspect(tmp_path) == absolute.inspect(Path("/nowhere"))
    name = os.fsdecode(b"caf\xe9")
    (tmp_path / "a").rename(tmp_path / name)
    assert PointFiles(path="p.npy").inspect(tmp_path / name) == PointFiles(path="p.npy").inspect(tmp_path / name)


def test_points_that_are_mostly_on_both_sides_are_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    np.save(tmp_path / "p.npy", np.concatenate([POINTS, POINTS[:2]]))
    PointFiles(path="p.npy").inspect(tmp_path)
    assert not caplog.messages
    np.save(tmp_path / "p.npy", np.concatenate([POINTS] * 4))
    PointFiles(path="p.npy", held_out=8).inspect(tmp_path)
    assert "8 of 8 held-out points have the same content as one that is trained on" in caplog.text


RECIPE = """
name: own
data: {use: point_files, path: p.csv, rows: 10, held_out: 4}
model: MODEL
generations: 1
samples: 10
seeds: [0, 1]
arms: {replace: {data: replace}, fresh: {data: {use: fresh, share: 0.5}}}
metrics: [test_loss, sliced_w2, {use: sample_variance_ratio, against: held_out}]
"""
TRAIN = "train: {steps: 3, batch_size: 5, evaluate: never}"
SMALL = "network: {widths: [8]}"


@pytest.mark.parametrize(
    "model",
    [
        "{use: gaussian}",
        "{use: gmm, components: 2}",
        "{use: kde}",
        "{use: flow, hidden: 8}\n" + TRAIN,
        "{use: ddpm, timesteps: 25, " + SMALL + "}\n" + TRAIN,
        "{use: flow_matching, " + SMALL + "}\n" + TRAIN,
    ],
)
def test_every_family_of_points_fits_them(model: str, tmp_path: Path) -> None:
    write(tmp_path / "p.csv", POINTS)
    (tmp_path / "r.yaml").write_text(RECIPE.replace("MODEL", model))
    words = ["run", str(tmp_path / "r.yaml"), "--data-dir", str(tmp_path), "--out", str(tmp_path / "run"), "-q"]
    assert run_app(words) == 0
    lines = [json.loads(line) for line in (tmp_path / "run" / "journal.jsonl").read_text().splitlines()]
    scores = [line for line in lines if line["event"] == "scores"]
    assert len(scores) == 4
    for line in scores:
        for name, values in line["metrics"].items():
            assert len(values) == 2, name
            assert np.isfinite(values).all(), name


def test_a_closed_form_is_fitted_to_each_seeds_own_rows(tmp_path: Path) -> None:
    """All seeds are fitted in one computation, to rows that lie in the store once."""
    write(tmp_path / "p.csv", POINTS)
    (tmp_path / "r.yaml").write_text(RECIPE.replace("MODEL", "{use: gaussian}"))
    words = ["run", str(tmp_path / "r.yaml"), "--data-dir", str(tmp_path), "--out", str(tmp_path / "run"), "-q"]
    assert run_app([*words, "--store", str(tmp_path / "store")]) == 0
    means = [load_file(path)["mean"] for path in (tmp_path / "store").rglob("model.safetensors")]
    real = POINTS[shuffled(20)[4:]]
    expected = [real[Draws((seed,), "real order", 0).permutation(16).numpy()[:10]].mean(0) for seed in (0, 1)]
    assert sum(np.allclose(mean, expected) for mean in means) == 1
    assert not np.allclose(expected[0], expected[1])
