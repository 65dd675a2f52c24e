"""`make gpu`: cases in order until the time is over, and past one that ends the process. No GPU needed."""

from __future__ import annotations

import json

from benchmarks.catalogue import CASES
from benchmarks.gpu import CASE_S, PARTS, TESTS_S, measure
from benchmarks.gpu import CASES as CHOSEN


class Machine:
    """Takes ten seconds for a case; some of them fail, others end the process."""

    def __init__(self, fails=(), ends=()) -> None:
        self.now, self.fails, self.ends = 0.0, fails, ends
        self.files: set[str] = set()

    def __call__(self) -> float:
        return self.now

    def run(self, command, seconds, out):
        names = command[3 : command.index("--device")]
        file, entries = out.parent / command[-1].rpartition("/")[2], []
        end = self.now + seconds
        for name in names:
            if self.now + 10 > end:
                self.now = end
                return f"stopped after {seconds:.0f} s"
            self.now += 10
            if name in self.ends:
                return -11
            entries.append({"case": name, **({"failed": "x"} if name in self.fails else {})})
            file.write_text(json.dumps({"cases": entries}))
            self.files.add(file.name)
        return int(any("failed" in entry for entry in entries))


def fates(tmp_path, machine, cases, end=1000.0):
    return measure(cases, tmp_path, end, machine.run, machine)


def test_every_case_is_measured_once(tmp_path):
    machine = Machine(fails=("b",))
    assert fates(tmp_path, machine, "abc") == {"a": "measured", "b": "failed", "c": "measured"}
    assert machine.now == 30
    assert machine.files == {"benchmarks.json"}


def test_a_case_that_ends_the_process_costs_only_itself(tmp_path):
    machine = Machine(ends=("a", "c"))
    expected = {"a": "ended the process with -11", "b": "measured", "c": "ended the process with -11", "d": "measured"}
    assert fates(tmp_path, machine, "abcd") == expected
    assert len(machine.files) <= PARTS


def test_what_does_not_fit_into_the_time_is_named(tmp_path):
    machine = Machine()
    assert fates(tmp_path, machine, "abc", end=25.0) == {"a": "measured", "b": "measured", "c": "left out: no time"}
    assert machine.now <= 25


def test_the_chosen_cases_exist_and_fit_into_eight_minutes():
    assert all("cuda" in CASES[name].devices for name in CHOSEN)
    assert TESTS_S + 2 * len(CHOSEN) * CASE_S < 8 * 60  # a case may take twice its time
