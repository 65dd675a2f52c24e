"""Which artefacts each run refers to, so that nothing that a run needs is removed: STORE/runs/RUN.json, sealed.

{"run": its directory, "references": {DIGEST: [seeds]} ([]: the same for all seeds), "arms": {DIGEST: [names]},
 "pruned": as "references", what the run no longer refers to because it can be made again (store/pruning.py)}
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from collapse_sim.core.errors import StoreError
from collapse_sim.core.files import explain_write_errors, sweep_scratch, write_atomic
from collapse_sim.store import journal, sealed
from collapse_sim.store.lease import lease
from collapse_sim.store.machine_lock import locked
from collapse_sim.store.run_directory import JOURNAL_FILE
from collapse_sim.store.store import REFERENCES_LOCK

logger = logging.getLogger(__name__)


@dataclass
class Registration:
    """What one run has registered; seeds by digest, [] for what is the same for all seeds."""

    run: str
    references: dict[str, list[int]] = field(default_factory=dict)
    arms: dict[str, list[str]] = field(default_factory=dict)
    pruned: dict[str, list[int]] = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path) -> Registration:
        """Raises OSError, ValueError, KeyError or TypeError when it cannot be read."""
        content = sealed.read(path)
        pruned = dict(content.get("pruned", {}))
        return cls(str(content["run"]), dict(content["references"]), dict(content["arms"]), pruned)

    def write(self, path: Path) -> None:
        pruned = {"pruned": self.pruned} if self.pruned else {}
        write_atomic(path, sealed.text({"run": self.run, "references": self.references, "arms": self.arms} | pruned))

    def holds(self, digest: str, seeds: Collection[int]) -> bool:
        """Whether the run refers to a block with these seeds ((-1,): the same for all)."""
        own = self.references.get(digest)
        return own is not None and (-1 in seeds or not set(own).isdisjoint(seeds))

    def release(self, digest: str, seeds: Collection[int]) -> None:
        """Refer no longer to an artefact for these seeds ((-1,): to one that is the same for all)."""
        own = self.references.get(digest)
        if own is None:
            return
        gone = sorted({*own} & {*seeds})
        if not gone and -1 not in seeds:
            return
        self.pruned[digest] = sorted({*self.pruned.get(digest, []), *gone})
        self.references[digest] = [seed for seed in own if seed not in seeds]
        if not self.references[digest]:
            del self.references[digest]


def registration_path(store: Path, folder: Path) -> Path:
    """Where the run in `folder` is registered."""
    return store / "runs" / f"{hashlib.sha256(os.fsencode(folder.resolve())).hexdigest()[:16]}.json"


@contextmanager
def registered(
    store: Path, folder: Path, references: Mapping[str, Sequence[int]], arms: Mapping[str, Sequence[str]] | None = None
) -> Iterator[None]:
    """Register what a run refers to (digest -> seeds, [] for seedless), and mark this process as active on the store.

    `arms` (digest -> names) is what `cache list` shows.
    """
    path = registration_path(store, folder)
    with contextlib.ExitStack() as until_the_end:
        with explain_write_errors(store, "--store"), locked(store / "locks" / REFERENCES_LOCK):
            sweep_scratch(path.parent)
            known = _before(path, folder)
            for digest, seeds in references.items():
                known.references[digest] = sorted({*known.references.get(digest, []), *seeds})
            for digest, of in (arms or {}).items():
                known.arms[digest] = list(dict.fromkeys((*known.arms.get(digest, []), *of)))
            known.write(path)
            until_the_end.enter_context(lease(store))
        yield


def _before(path: Path, folder: Path) -> Registration:
    """What a run was registered with. If that is damaged: the models and samples that its journal names."""
    known = Registration(str(folder.resolve()))
    try:
        before = Registration.read(path)
    except FileNotFoundError:
        return known
    except (OSError, ValueError, KeyError, TypeError) as error:
        logger.warning("%s: damaged (%s); it is rewritten", path, error)
    else:
        before.run = known.run
        return before
    names: dict[str, list[str]] = {}
    with suppress(StoreError):
        for line in journal.read(folder / JOURNAL_FILE):
            for digest in (line[key] for key in ("fit", "samples", "curation") if key in line):
                known.references[digest] = sorted({*known.references.get(digest, []), *line["seeds"]})
                names.setdefault(digest, []).append(line["arm"])
    known.arms = {digest: list(dict.fromkeys(of)) for digest, of in names.items()}
    return known
