"""`doctor`: versions, devices and data, as they are found."""

from __future__ import annotations

import re

from collapse_sim import __version__


def test_doctor(shell):
    report = shell("doctor", "--json").json
    assert report.pop("schema") == 1
    assert report["versions"]["collapse-sim"] == __version__
    assert report["versions"]["torch"]
    assert report["devices"]["cpu"].startswith("1 thread, ")
    assert report["devices"]["cpu, precision"] == "auto is fp32: this processor has no bf16 arithmetic"
    assert report["data"]["folder"] == f"{shell.root}/data (does not exist)"
    assert report["data"]["digits"] == "1437 real rows, 360 held out"
    assert report["data"]["mnist"] == f"not found: mnist: no data in {shell.root}/data"
    assert report["data"]["image_folder"] == "needs settings (see `collapse-sim list data image_folder`)"
    text = shell("doctor").out
    for section, entries in report.items():
        assert f"{section}\n" in text
        for name, value in entries.items():
            assert re.search(rf"^  {re.escape(name)} +{re.escape(str(value))}$", text, re.MULTILINE), name


def test_doctor_finds_data(shell):
    from tests.data.making import write_mnist

    write_mnist(shell.root / "sets" / "MNIST" / "raw")
    found = shell("doctor", "--json", "--data-dir", "sets").json["data"]
    assert found["folder"] == str(shell.root / "sets")
    assert found["mnist"] == "30 real rows, 12 held out"


def test_doctor_tells_of_data_that_is_spoilt(shell):
    from tests.data.making import MNIST_FILES, write_mnist

    folder = shell.root / "data" / "MNIST" / "raw"
    write_mnist(folder)
    (folder / MNIST_FILES[0]).write_bytes(b"")
    assert f"{folder}/{MNIST_FILES[0]}: not an IDX file" in shell("doctor", "--json").json["data"]["mnist"]
