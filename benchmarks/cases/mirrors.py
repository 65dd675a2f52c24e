"""What a mirror of the store costs per artefact, without a network: uploads, and what is fetched by another store."""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from uuid import uuid4

import numpy as np

from benchmarks.harness import Case, Setting, Ways
from collapse_sim.core.events import Event
from collapse_sim.store.jobs import Job, Request
from collapse_sim.store.mirroring import open_mirror
from collapse_sim.store.spec import Spec
from collapse_sim.store.store import Store

BYTES = 4096  # of each of the two files of an artefact
SPEC = Spec("fit", 0, {"benchmark": "mirror"})


def prepare(fetch: bool, setting: Setting) -> Ways:
    """Artefacts of two small files, uploaded from a store or fetched into another one, after both were made."""
    seeds = tuple(range(200 if not setting.tiny else 3))

    def build(jobs: Sequence[Job], folders: Sequence[Path]) -> dict[int, Exception]:
        for job, folder in zip(jobs, folders, strict=True):
            draws = np.random.default_rng(job.seeds[0])
            for name in ("model.safetensors", "history.json"):
                (folder / name).write_bytes(draws.bytes(BYTES))
        return {}

    requests = [Request(SPEC, seeds, ("arm",))]
    whole = Store(setting.folder / "store")
    whole.make_all(requests, build, _unseen)
    folders = [whole.block(SPEC, seed).folder for seed in seeds]

    def rate(scheme: str) -> float:
        place = setting.folder / uuid4().hex
        url, other = f"{scheme}://{place}/mirror", Store(place / "other")
        pushed = open_mirror(url, whole.root)
        started = time.perf_counter()
        pushed.push(folders)
        if pushed.finish(_unseen).pushed != len(seeds):
            raise AssertionError("not everything was uploaded")
        if fetch:
            fetched = open_mirror(url, other.root)
            started = time.perf_counter()
            fetched.fetch(requests, other.missing, _unseen)
        took = time.perf_counter() - started
        if fetch and other.missing(SPEC, seeds):
            raise AssertionError("not everything was fetched")
        shutil.rmtree(place)
        return 1000 * took / len(seeds)

    facts = {"artefacts": len(seeds), "files each": 2, "bytes each": BYTES}
    return Ways({"collapse-sim": lambda: rate("file"), "in memory": lambda: rate("memory")}, "none", None, facts)


def _unseen(event: Event) -> None:
    """Nobody looks."""


CASES = tuple(
    Case(name, compares, "ms per artefact", partial(prepare, fetch), better="lower", devices=("cpu",))
    for name, compares, fetch in (
        ("mirror-push", "small artefacts uploaded to a mirror on the same disk, in the background of a run", False),
        ("mirror-fetch", "small artefacts fetched from a mirror on the same disk into an empty store", True),
    )
)
