"""The command line of the benchmarks."""

from __future__ import annotations

import json

import pytest

from benchmarks.__main__ import main
from benchmarks.catalogue import CASES


def test_an_unknown_case_is_named_with_the_cases_that_exist(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["vae-fit", "vea-table1"])
    assert ended.value.code == 2
    message = capsys.readouterr().err
    assert "no such case: vea-table1; there are: " in message
    assert ", ".join(CASES) in message


def test_bad_settings_are_refused_before_any_work(capsys, tmp_path):
    for arguments, expected in (
        (["toys", "--seconds", "0"], "--seconds 0: must be above 0"),
        (["toys", "--device", "tpu"], "--device tpu: no such kind of device"),
        (["toys", "--json", str(tmp_path / "no" / "r.json")], "is not a folder"),
    ):
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        assert ended.value.code == 2
        assert expected in capsys.readouterr().err


def test_the_list_names_every_case_once(capsys):
    assert main(["--list"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == list(CASES)


def test_a_report_goes_to_stdout_and_nothing_else_does(capsys, tmp_path):
    assert main(["overhead", "--tiny", "--device", "cpu"]) == 0
    output = capsys.readouterr()
    assert json.loads(output.out)["cases"][0]["case"] == "overhead"
    assert "overhead: " in output.err
