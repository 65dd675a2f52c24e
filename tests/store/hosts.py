"""Stores of several hosts that have a mirror in common."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from collapse_sim.core.events import Note
from collapse_sim.store.jobs import Job, Request
from collapse_sim.store.mirroring import open_mirror
from collapse_sim.store.spec import Spec
from collapse_sim.store.store import Store
from tests.mirrors import URL

A, B, STACK = (
    Spec("fit", 0, {"name": "a"}),
    Spec("scores", 0, {"name": "b"}, seeded=False),
    Spec("fit", 1, {}, stacked=True),
)
REQUESTS = [Request(A, (0, 1), ("arm",)), Request(B, (0, 1), ("arm",)), Request(STACK, (0, 1, 2), ("arm",))]
JOBS = {(A.digest, "s0"), (A.digest, "s1"), (B.digest, "all"), (STACK.digest, "s0-2")}


class Host:
    """A store of its own with the mirror that all have in common."""

    def __init__(self, root: Path, url: str | None = URL, content: str = "", check_stop=lambda: None) -> None:
        self.store = Store(root, check_stop)
        self.mirror = self.store.mirror = open_mirror(url, root, check_stop)
        self.built: list[tuple[str, str]] = []
        self.events: list[object] = []
        self.content = content

    def make(self, requests: Sequence[Request] = REQUESTS, *, finish: bool = True) -> Counter[str]:
        counts = self.store.make_all(requests, self._build, self.events.append)
        if finish:
            self.result = self.mirror.finish(self.events.append)
        return +counts

    def _build(self, jobs: Sequence[Job], folders: Sequence[Path]) -> dict[int, Exception]:
        for job, folder in zip(jobs, folders, strict=True):
            self.built.append((job.spec.digest, job.block))
            (folder / "weights.safetensors").write_text(f"{job.spec.digest} {job.block} {self.content}")
            (folder / "report.json").write_text("{}")
        return {}

    @property
    def notes(self) -> list[str]:
        return [event.message for event in self.events if isinstance(event, Note) and event.level == "warning"]

    def files(self) -> dict[str, bytes]:
        objects = self.store.root / "objects"
        return {str(path.relative_to(objects)): path.read_bytes() for path in objects.rglob("*") if path.is_file()}
