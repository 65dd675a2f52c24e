"""Which of several GPUs a process takes; on a machine with a torch.cuda that is made up."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from collapse_sim.core import gpu_choice
from collapse_sim.core.gpu_choice import choose_gpu, free_memory, report
from collapse_sim.core.machine import open_device

GB = 2**30


class Gpus:
    """GPUs of 80 GB; `free`: GB of each."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *free: float) -> None:
        self.free = list(free)
        for name, value in {
            "is_available": lambda: True,
            "device_count": lambda: len(self.free),
            "mem_get_info": lambda index: (int(self.free[index] * GB), 80 * GB),
            "get_device_properties": lambda index: SimpleNamespace(uuid=f"number-{index}"),
        }.items():
            monkeypatch.setattr(torch.cuda, name, value)
        monkeypatch.setattr(gpu_choice, "free_memory", lambda: [tuple(one) for one in json.loads(report())])

    def choose(self, **environment: str) -> int:
        return choose_gpu(len(self.free), environment)


@pytest.fixture(autouse=True)
def _own_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(tempfile, "gettempdir", lambda: str(tmp_path))
    monkeypatch.setattr(gpu_choice, "_taken", [])
    yield
    for handle in gpu_choice._taken:
        os.close(handle)


@pytest.mark.parametrize("number", range(4))
def test_the_most_free_memory_counts(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    gpus = Gpus(monkeypatch, 10, 79, 40, 60)
    assert gpus.choose(SLURM_LOCALID=str(number)) == 1


def test_processes_that_start_at_the_same_moment_are_spread(monkeypatch: pytest.MonkeyPatch) -> None:
    """By their numbers; without, by the locks of those that came before."""
    gpus = Gpus(monkeypatch, 79, 79, 78.5, 79)
    assert [gpus.choose(SLURM_LOCALID=str(number)) for number in (2, 0, 3, 1)] == [2, 0, 3, 1]


def test_without_numbers_the_locks_spread_them(monkeypatch: pytest.MonkeyPatch) -> None:
    gpus = Gpus(monkeypatch, 79, 79, 79, 20, 79)
    assert sorted(gpus.choose() for _ in range(4)) == [0, 1, 2, 4]
    assert gpus.choose() in (0, 1, 2, 4), "all are taken: one of the freest is shared"


def test_one_that_sees_the_others_at_work_takes_its_own_number(monkeypatch: pytest.MonkeyPatch) -> None:
    gpus = Gpus(monkeypatch, 40, 79, 79, 79)
    monkeypatch.setattr(gpu_choice, "_take", lambda index: True)
    assert [gpus.choose(SLURM_LOCALID=str(number)) for number in (1, 2, 3)] == [1, 2, 3]


def test_where_locks_cannot_be_made_the_process_id_spreads_them(monkeypatch: pytest.MonkeyPatch) -> None:
    gpus = Gpus(monkeypatch, 79, 79, 79)
    monkeypatch.setattr(gpu_choice, "_take", lambda index: False)
    chosen = []
    for pid in range(1000, 1006):
        monkeypatch.setattr(os, "getpid", lambda pid=pid: pid)
        chosen.append(gpus.choose())
    assert chosen == [1, 2, 0, 1, 2, 0]


def test_a_folder_that_cannot_be_used_is_no_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / f"collapse-sim-gpus-{os.getuid()}").write_text("a file")
    gpus = Gpus(monkeypatch, 79, 79)
    assert gpus.choose(LOCAL_RANK="1") == 1


def test_without_an_answer_all_count_as_free(monkeypatch: pytest.MonkeyPatch) -> None:
    gpus = Gpus(monkeypatch, 1, 2, 3)
    monkeypatch.setattr(gpu_choice, "free_memory", list)
    assert gpus.choose(SLURM_LOCALID="1") == 1


def test_auto_takes_the_chosen_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """With one GPU nobody is asked; a GPU that is named is taken."""
    Gpus(monkeypatch, 10, 20, 79)
    assert open_device("auto").device == torch.device("cuda:2")
    assert open_device("cuda:1").device == torch.device("cuda:1")
    assert open_device("cuda").device == torch.device("cuda:0")
    Gpus(monkeypatch, 79)
    monkeypatch.setattr(gpu_choice, "free_memory", lambda: pytest.fail("there is no choice"))
    assert open_device("auto").device == torch.device("cuda:0")


@pytest.mark.slow  # four more processes, one of which imports torch
def test_the_question_is_asked_in_another_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Which leaves nothing on the GPUs: its answer, on a machine without any."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda index: pytest.fail("asked in this process"))
    assert free_memory() == []
    monkeypatch.setattr(gpu_choice, "ASK", "print('a warning'); print('[[1, 2], [3, 4]]')")
    assert free_memory() == [(1, 2), (3, 4)]
    for bad in ("print('[1, 2]')", "raise SystemExit(1)", "print('nonsense')", "pass"):
        monkeypatch.setattr(gpu_choice, "ASK", bad)
        assert free_memory() == []
