"""Preparing rows: what a source gives is what the store holds, piece by piece, interrupted or not, in little memory.

Covers RowSource (data/base.py) with engine/build.py, which reads it into the store.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from collapse_sim.core.component import Component
from collapse_sim.core.errors import InterruptedRunError, MissingError
from collapse_sim.core.events import JobProgress
from collapse_sim.data.base import Columns, Data, Info, RowSource
from collapse_sim.data.images.digits import Digits
from collapse_sim.data.images.image_folder import ImageFolder
from collapse_sim.engine import build
from collapse_sim.engine import work as work_module
from collapse_sim.engine.work import JobContext
from collapse_sim.plan.specs import data_spec
from collapse_sim.store.jobs import Request
from collapse_sim.store.rowfile import RowFile
from collapse_sim.store.store import Store
from collapse_sim.testing import CPU
from tests.data.making import rows_of, tagged, write_pictures

reads: list[tuple[int, int]] = []


class Counting:
    """Rows 0, 1, 2 ... of `rows`; a row is its number. `before` is called before every read."""

    before: ClassVar[Callable[[int], None]]

    def __init__(self, rows: int) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return self.rows

    def read(self, first: int, last: int) -> Columns:
        type(self).before(first)
        reads.append((first, last))
        return {"x": np.arange(first, last, dtype=np.float64)[:, None], "label": np.arange(first, last)}


class Counted(Component):
    """1,000 real rows and 300 held out, 16 bytes each."""

    kind: ClassVar[str] = "points"
    seeded: ClassVar[bool] = False

    def inspect(self, folder: Path) -> Info:
        return Info("points", {"x": ((1,), "float64"), "label": ((), "int64")}, rows=1000, pool=1000, held_out=300)

    def open(self, folder: Path) -> tuple[RowSource, RowSource]:
        return Counting(1000), Counting(300)


@pytest.fixture(autouse=True)
def _small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "PIECE_BYTES", 100 * 16)
    monkeypatch.setattr(build, "READ_ROWS", 30)
    monkeypatch.setattr(Counting, "before", lambda first: None, raising=False)
    reads.clear()


def prepared(
    data: Data, data_dir: Path, root: Path, emit: Any = lambda event: None, work: list[JobContext] | None = None
) -> Any:
    """Real and held-out columns after they went through the store."""
    store = Store(root / ".store")
    surroundings = JobContext(store, CPU, emit, data_dir)
    if work is not None:
        work.append(surroundings)
    spec = data_spec(data, data.inspect(data_dir))
    store.make_all([Request(spec, (0,), ("arm",))], build.builder(surroundings), emit)
    return [RowFile(store.block(spec, 0).file(f"{split}.safetensors")).columns for split in ("real", "held_out")]


def check(found: Any) -> None:
    for columns, rows in zip(found, (1000, 300), strict=True):
        assert np.array_equal(columns["x"], np.arange(rows, dtype=np.float64)[:, None])
        assert np.array_equal(columns["label"], np.arange(rows))


def _pictures(folder: Path) -> Data:
    for name in ("ant", "bee"):
        write_pictures(folder / "pictures" / name, tagged(70, 6, 6, 3, first=len(name)), ".jpg")
    return ImageFolder(path="pictures", size=5)


def _array(folder: Path) -> Data:
    np.save(folder / "pictures.npy", tagged(140, 6, 6, 3))
    return ImageFolder(path="pictures.npy", crop=4)


@pytest.mark.parametrize("make", [_pictures, _array, lambda folder: Digits(size=9, held_out_rows=31)])
def test_the_store_holds_what_the_source_gives(make: Any, tmp_path: Path) -> None:
    data = make(tmp_path)
    for stored, rows in zip(prepared(data, tmp_path, tmp_path), rows_of(data, tmp_path), strict=True):
        assert set(stored) == set(rows)
        for name in rows:
            assert np.array_equal(stored[name], rows[name])
            assert stored[name].dtype == rows[name].dtype


def test_rows_are_read_a_few_at_a_time_each_once(tmp_path: Path) -> None:
    check(prepared(Counted(), tmp_path, tmp_path))
    assert sum(last - first for first, last in reads) == 1300
    assert max(last - first for first, last in reads) == 30


@pytest.mark.parametrize("number", range(0, 56, 5))
def test_an_interrupted_preparation_goes_on(number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed before the read of that number, of 52: at most one piece of 100 rows is read again."""

    class Killed(BaseException):
        pass

    def kill(first: int) -> None:
        if len(reads) == number:
            raise Killed

    monkeypatch.setattr(Counting, "before", kill)
    if number < 52:
        with pytest.raises(Killed):
            prepared(Counted(), tmp_path, tmp_path)
    monkeypatch.setattr(Counting, "before", lambda first: None)
    check(prepared(Counted(), tmp_path, tmp_path))
    assert sum(last - first for first, last in reads) < 1300 + 100
    assert not list((tmp_path / ".store" / "partial").iterdir())


def test_ctrl_c_is_heard_before_the_next_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    work: list[JobContext] = []

    def interrupt(first: int) -> None:
        if len(reads) == 6:
            work[0].stop.signal_number = signal.SIGINT

    monkeypatch.setattr(Counting, "before", interrupt)
    with pytest.raises(InterruptedRunError):
        prepared(Counted(), tmp_path, tmp_path, work=work)
    assert len(reads) == 7
    check(prepared(Counted(), tmp_path, tmp_path))


def test_progress_counts_all_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(work_module, "PROGRESS_S", 0.0)
    events: list[object] = []
    prepared(Counted(), tmp_path, tmp_path, events.append)
    progress = [event for event in events if isinstance(event, JobProgress)]
    assert [event.done for event in progress] == list(range(100, 1301, 100))
    assert {(event.kind, event.total, event.unit) for event in progress} == {("data", 1300, "rows")}
    assert all(event.rows_per_s for event in progress)


def test_data_that_changed_after_it_was_checked_is_refused(tmp_path: Path) -> None:
    """All files of another size than `inspect` saw: their rows would not fit into the file."""
    write_pictures(tmp_path / "pictures", tagged(20, 6, 6))
    data = ImageFolder(path="pictures")
    info = data.inspect(tmp_path)
    write_pictures(tmp_path / "pictures", tagged(20, 5, 7))
    store = Store(tmp_path / ".store")
    store.make_all(
        [Request(data_spec(data, info), (0,), ("arm",))],
        build.builder(JobContext(store, CPU, lambda event: None, tmp_path)),
        lambda event: None,
    )
    (failure,) = store.failures.others()
    with pytest.raises(MissingError, match="the data has changed since it was checked"):
        raise failure.error


MEASURE = """
import json, sys
from pathlib import Path
import torch
torch.set_num_threads(1)
from collapse_sim.data.images.image_folder import ImageFolder
from collapse_sim.engine.build import builder
from collapse_sim.engine.work import JobContext
from collapse_sim.plan.specs import data_spec
from collapse_sim.store.jobs import Request
from collapse_sim.store.store import Store
from collapse_sim.testing import CPU

def peak():
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))

def prepare(path):
    data, store = ImageFolder(path=path), Store(root / ".store")
    spec = data_spec(data, data.inspect(root))
    store.make_all([Request(spec, (0,), ("arm",))], builder(JobContext(store, CPU, silent, root)), silent)

def silent(event): pass
root = Path(sys.argv[1])
prepare("few.npy")
before = peak()
prepare("many.npy")
print(json.dumps(peak() - before))
"""


@pytest.mark.skipif(
    not Path("/proc/self/status").exists(), reason="resident memory is read from /proc, which is Linux's"
)
def test_memory_is_far_below_the_size_of_the_data(tmp_path: Path) -> None:
    """12,000 64x64 photographs, 147 MB on either side, beside what 100 of them need."""
    images = np.random.default_rng(0).integers(0, 256, (100, 64, 64, 3), np.uint8)
    np.save(tmp_path / "few.npy", images)
    many = np.lib.format.open_memmap(tmp_path / "many.npy", "w+", np.uint8, (12_000, 64, 64, 3))
    for first in range(0, len(many), len(images)):
        many[first : first + len(images)] = images
    size = many.nbytes
    del many
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, str(tmp_path)], capture_output=True, text=True, check=True, timeout=300
    )
    more = json.loads(done.stdout)
    assert more < 50e6 < size / 2, f"{more / 1e6:.0f} MB more for {size / 1e6:.0f} MB"
