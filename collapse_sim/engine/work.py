"""What every builder receives: the store, the machine, and a way to report, to stop and to checkpoint."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

from torch.nn.modules.module import register_module_forward_pre_hook

from collapse_sim.core.errors import InterruptedRunError
from collapse_sim.core.events import Emit, JobProgress
from collapse_sim.core.machine import Device, Machine
from collapse_sim.core.ranks import Ranks
from collapse_sim.engine.programs import Programs
from collapse_sim.plan.specs import ModelSpec
from collapse_sim.store.jobs import Job
from collapse_sim.store.store import Store

PROGRESS_S = 0.25


@dataclass
class Stop:
    """Whether a stop was requested, by Ctrl-C, SIGTERM or SIGHUP; work ends where a checkpoint can be taken."""

    signal_number: int = 0

    @property
    def wanted(self) -> bool:
        return self.signal_number != 0

    def check(self) -> None:
        """Raise InterruptedRunError when a stop was requested."""
        if self.wanted:
            raise InterruptedRunError("interrupted", self.signal_number)

    @contextmanager
    def on_signals(self, announce: Callable[[str], None]) -> Iterator[None]:
        """While it is active, the first signal requests a stop, and a second one ends the process at once.

        SIGHUP counts unless it is ignored, as under nohup: closing the terminal then takes a checkpoint. Only the main
        thread can receive signals: in another one, nothing is changed.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def handle(number: int, frame: FrameType | None) -> None:
            if self.wanted:
                raise KeyboardInterrupt
            self.signal_number = number
            announce("stopping: taking a checkpoint (Ctrl-C again to stop at once)")

        numbers = [signal.SIGINT, signal.SIGTERM]
        if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
            numbers.append(signal.SIGHUP)
        old = {number: signal.signal(number, handle) for number in numbers}
        try:
            yield
        finally:
            for number, handler in old.items():
                signal.signal(number, handler)


@dataclass
class JobContext:
    """What jobs are built with."""

    store: Store
    device: Device
    emit: Emit
    data_dir: Path
    stop: Stop = field(default_factory=Stop)
    checkpoint_s: float = 60.0
    group_size: int = 1  # the most fits that are computed together
    programs: Programs = field(default_factory=Programs)  # compiled steps
    ranks: Ranks = field(default_factory=Ranks)  # the processes that make an artefact together
    _last_report: float = field(default_factory=time.perf_counter)

    def machine_for(self, model: ModelSpec) -> Machine:
        """The device in the precision that a model is fitted and used in; closed forms are computed in float64."""
        train = model.train
        return self.device.with_precision(train.precision, train.tf32) if train else self.device.with_precision("fp32")

    @contextmanager
    def interruptible(self) -> Iterator[None]:
        """Checks for a requested stop before every forward pass: samplers and judges may run a network for minutes
        between two points from which work can be continued."""
        hook = register_module_forward_pre_hook(lambda *_: self.stop.check())
        try:
            yield
        finally:
            hook.remove()

    def due(self) -> bool:
        """Whether progress should be reported now."""
        return time.perf_counter() - self._last_report >= PROGRESS_S

    def report(self, job: Job, done: int, total: int, unit: str, rows: int, loss: float | None = None) -> None:
        """Emit progress; `rows` were handled since the last report."""
        now = time.perf_counter()
        rate = rows / max(now - self._last_report, 1e-9)
        self._last_report = now
        spec = job.spec
        self.emit(
            JobProgress(
                spec.kind,
                spec.digest,
                spec.generation,
                job.arms,
                job.seeds,
                done,
                total,
                unit,
                rate if rows else None,
                loss,
            )
        )

    def restart_clock(self) -> None:
        """Measure the next report's rate from now."""
        self._last_report = time.perf_counter()
