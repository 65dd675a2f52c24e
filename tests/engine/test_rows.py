"""Tables of rows: what is gathered is what the files hold, in memory or not, and memory stays flat."""

from __future__ import annotations

import shutil
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import numpy as np
import pytest
import torch

from collapse_sim.core import machine
from collapse_sim.engine import rows
from collapse_sim.engine.rows import Table, TablePart
from collapse_sim.testing import CPU
from tests.conftest import SMALL
from tests.store.row_files import row_file


@pytest.mark.parametrize(("resident", "piece"), [(1 << 20, rows.PIECE_BYTES), (1 << 20, 40), (0, rows.PIECE_BYTES)])
def test_gather(tmp_path, monkeypatch, resident, piece):
    """In memory at once, in memory after three rows of 12 bytes at a time, and not in memory."""
    monkeypatch.setattr(machine, "CPU_RESIDENT_BYTES", resident)
    monkeypatch.setattr(rows, "PIECE_BYTES", piece)
    a, b = row_file(tmp_path / "a", 10, 0), row_file(tmp_path / "b", 20, 100)
    order = np.random.default_rng(0).permutation(20)
    table = Table([TablePart(a, a.columns, 10), TablePart(b, b.columns, 6, first=3, order=order)], CPU)
    expected = np.concatenate([np.arange(10), 100 + order[3:9]])
    assert len(table) == 16
    index = torch.tensor([15, 0, 7, 7, 10])
    np.testing.assert_array_equal(table.gather(index)["image"][:, 0, 0, 0], expected[index])
    picked = Table([TablePart(a, a.columns, 10), TablePart(b, b.columns, 6)], CPU, pick=np.array([12, 3]))
    assert picked.gather(torch.tensor([0, 1]))["image"][:, 0, 0, 0].tolist() == [102, 3]


@pytest.fixture
def ahead(monkeypatch):
    """Rows that do not stay in memory, and a device that computes beside the CPU."""
    monkeypatch.setattr(machine, "CPU_RESIDENT_BYTES", 0)
    monkeypatch.setattr(machine.Device, "reads_ahead", True)


def test_rows_are_read_ahead_by_another_thread(tmp_path, monkeypatch, ahead):
    """Each batch once, and the right one even if another was asked for."""
    a, readers = row_file(tmp_path / "a", 10, 0), []
    table, read = Table([TablePart(a, a.columns, 10)], CPU), Table._read

    def noted(self, index):
        readers.append((threading.current_thread() is threading.main_thread(), index.tolist()))
        return read(self, index)

    monkeypatch.setattr(Table, "_read", noted)

    def gathered(*index):
        return table.gather(torch.tensor(index))["image"][:, 0, 0, 0].tolist()

    table.prefetch(torch.tensor([3, 1]))
    assert gathered(3, 1) == [3, 1]
    assert readers == [(False, [3, 1])]
    table.prefetch(torch.tensor([2]))
    table._ahead[1].result()
    assert gathered(7, 8) == [7, 8]
    assert gathered(2) == [2]
    assert readers[1:] == [(False, [2]), (True, [7, 8]), (True, [2])]


def test_an_error_of_reading_ahead_is_raised_by_gather(tmp_path, ahead):
    a = row_file(tmp_path / "a", 10, 0)
    table = Table([TablePart(a, a.columns, 10)], CPU)
    table.prefetch(torch.tensor([10]))
    with pytest.raises(IndexError):
        table.gather(torch.tensor([10]))


def test_a_fit_that_reads_ahead_has_the_same_bytes(sandbox, monkeypatch, request):
    """Over epochs with a smaller last batch; every batch but the first is read ahead."""
    recipe = SMALL.replace("steps: 20", "steps: 12")
    sandbox.run(recipe)
    expected = sandbox.artefacts()
    request.getfixturevalue("ahead")
    begun, prefetch = [], Table.prefetch
    monkeypatch.setattr(Table, "prefetch", lambda self, index: (begun.append(len(index)), prefetch(self, index)))
    shutil.rmtree(sandbox.root / ".store")
    sandbox.run(recipe, run="again")
    assert sandbox.artefacts() == expected
    assert len(set(begun)) > 1
    assert len(begun) % 11 == 0


def test_only_shared_columns_are_gathered(tmp_path):
    a = row_file(tmp_path / "a", 4, 0)
    table = Table([TablePart(a, a.columns, 4), TablePart(a, {"image": a.columns["image"]}, 4)], CPU)
    assert table.columns == ("image",)


@pytest.mark.slow
@pytest.mark.skipif(
    not Path("/proc/self/status").exists(), reason="resident memory is read from /proc, which is Linux's"
)
def test_memory_stays_flat_and_the_disk_holds_each_generation_once(tmp_path):
    """Ten generations of accumulate on 30,000 28x28 rows: 24 MB a generation, twelve times that in the last fit."""
    np.save(tmp_path / "rows.npy", np.random.default_rng(0).integers(0, 255, (31_000, 28, 28), dtype=np.uint8))
    (tmp_path / "recipe.yaml").write_text(
        textwrap.dedent("""
        name: flat
        data: {use: image_folder, path: rows.npy, held_out: 1000}
        model: {use: vae, hidden: 4, latent: 2}
        train: {steps: 60, batch_size: 256, evaluate: never}
        generations: 10
        seeds: [0]
        arms: {accumulate: {data: accumulate}}
        metrics: [test_loss]
        """)
    )
    program = """
import sys, torch
torch.set_num_threads(1)
from pathlib import Path
from collapse_sim.run import figures
from collapse_sim.core.machine import open_machine
from collapse_sim.plan.experiment import prepare
from collapse_sim.recipe.loader import load
from collapse_sim.run.session import Session
def peak_reset(): Path("/proc/self/clear_refs").write_text("5")
def peak_kb():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
draw = figures.draw_pictures
def noting(experiment, k, work, folder):
    print(k, peak_kb(), flush=True)
    try: peak_reset()
    except PermissionError: pass
    return draw(experiment, k, work, folder)
figures.draw_pictures = noting
root = Path(sys.argv[1])
e = prepare(load(root / "recipe.yaml"), root)
Session(e, open_machine("cpu", "fp32"), root / "run", root / ".store", root).run(quiet=True)
"""
    command = [sys.executable, "-c", program, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300)
    peaks = {int(k): int(kb) * 1024 for k, kb in (line.split() for line in done.stdout.splitlines())}
    generation_bytes = 30_000 * 28 * 28
    assert peaks[10] - peaks[1] < generation_bytes, f"resident peaks by generation: {peaks}"
    stored = sum(path.stat().st_size for path in (tmp_path / ".store").rglob("samples.safetensors"))
    assert stored == pytest.approx(11 * generation_bytes, rel=0.01)
