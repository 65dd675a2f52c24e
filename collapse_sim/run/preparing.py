"""What `run` and `bench`, and runs in Python, begin with: a recipe, checked against its data, and the run directory.

Importing this module does not import torch.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from collapse_sim.core.errors import CollapseSimError
from collapse_sim.recipe.beside import COMMAND_LINE, OptionNames
from collapse_sim.store.run_directory import RUNS, store_of

if TYPE_CHECKING:
    from collapse_sim.core.launch import Launch
    from collapse_sim.core.machine import Device
    from collapse_sim.plan.experiment import Experiment
    from collapse_sim.run.session import Session

LARGEST_EARLY = 200_000  # bytes of a recipe that is read twice


class PreparedRun(NamedTuple):
    """An experiment, the device that it is prepared for, and its run directory."""

    experiment: Experiment
    device: Device
    folder: Path


@dataclass(frozen=True)
class RunOptions:
    """A recipe (a file, a shipped recipe's name, or a mapping of what YAML would have) and what is given beside it."""

    recipe: str | Path | Mapping[str, Any]
    settings: Sequence[str] | Mapping[str, Any] = ()
    smoke: bool = False
    arms: Sequence[str] = ()
    seeds: Sequence[int] = ()
    generations: int | None = None
    plugins: bool | None = None
    device: str = "auto"
    data_dir: Path = Path("data")
    out: Path | None = None  # None: below RUNS, named after the recipe
    store: Path | None = None  # None: the run's own, or .store beside its directory
    checkpoint_s: float = 60.0
    ensemble: str = "auto"
    compiled: str = "auto"
    overlap: str = "auto"
    wait: bool = False
    trackers: Sequence[str] = ()  # what the run is also sent to
    project: str | None = None  # of the trackers; None: the recipe's name
    mirror: str | None = None  # the URL of the store's mirror
    on: str | None = None  # where jobs are computed (run/run_place.py); None: here, by other processes, too, if it pays
    fit_ranks: int | None = None  # processes that make each fit together, there
    names: OptionNames = COMMAND_LINE

    def prepared(self, device: str | None = None) -> PreparedRun:
        """The recipe, read and prepared, for `device` or its own. Raises RecipeError and MissingError."""
        from collapse_sim.core.machine import open_device
        from collapse_sim.plan.experiment import prepare
        from collapse_sim.recipe.loader import load

        loaded = load(
            self.recipe,
            overrides=self.settings,
            smoke=self.smoke,
            arms=self.arms,
            seeds=self.seeds,
            generations=self.generations,
            plugins=self.plugins,
            names=self.names,
        )
        opened = open_device(device or self.device)
        folder = self.out or RUNS / (f"{loaded.name}-smoke" if self.smoke else loaded.name)
        return PreparedRun(prepare(loaded, self.data_dir, opened), opened, folder)

    @contextmanager
    def session(self, *, early: bool = True, called: bool = False, launch: Launch | None = None) -> Iterator[Session]:
        """The session that runs it. Until the end of the block, the run directory shows that the run is starting, if it
        is known without torch and `early` is set. `called`: see Session. `launch`: this process's place among several.

        Raises RecipeError, MissingError, RanksError, and StoreError for a damaged run directory.
        """
        from collapse_sim.run.run_place import place_of, processes_of
        from collapse_sim.ui.starting import starting

        processes = processes_of(self.on, os.environ)
        place = place_of(None if processes is not None else self.on, self.fit_ranks, os.environ)
        if processes is None and (called or self.smoke):
            processes = 1
        folder = self.early_folder() if early and (launch is None or launch.rank == 0) else None
        with ExitStack() as until_the_end:
            until_the_end.enter_context(starting(folder, folder.name if folder else ""))
            from collapse_sim.core.joining import device_of, first_before_others, joined
            from collapse_sim.run.session import Session
            from collapse_sim.run.trackers import trackers_of
            from collapse_sim.store.run_writer import own_recipe

            device = device_of(launch, self.device)
            ranks = until_the_end.enter_context(joined(launch, device))

            def prepare() -> PreparedRun:
                if not isinstance(self.recipe, Mapping):
                    own_recipe(Path(self.recipe))
                return self.prepared(device)

            trackers = trackers_of(self.trackers) if ranks.first else {}
            experiment, opened, folder = first_before_others(ranks, prepare)
            store = self.store or store_of(folder)
            yield Session(
                experiment,
                opened,
                folder,
                store,
                self.data_dir,
                self.checkpoint_s,
                self.ensemble,
                self.compiled,
                self.overlap,
                self.wait,
                ranks=ranks,
                trackers=trackers,
                project=self.project,
                mirror=self.mirror,
                called=called,
                place=place,
                plugins=self.plugins,
                processes=processes,
            )

    def early_folder(self) -> Path | None:
        """The run directory, found without importing torch; None if that takes loading the recipe."""
        import re

        from collapse_sim.recipe import shipped
        from collapse_sim.recipe.extends import read_recipe
        from collapse_sim.recipe.problems import Problems

        if self.out:
            return self.out
        if isinstance(self.settings, Mapping):
            names = [value for path, value in self.settings.items() if path == "name"]
        else:
            pairs = [text.partition("=") for text in self.settings]
            names = [value.strip() for path, _, value in pairs if path.strip() == "name"]
        try:
            if isinstance(self.recipe, Mapping):
                name = names[-1] if names else self.recipe.get("name")
            else:
                file = shipped.find(self.recipe)
                if file.stat().st_size > LARGEST_EARLY:
                    return None
                name = names[-1] if names else read_recipe(file, Problems()).get("name")
        except (CollapseSimError, OSError, ValueError, RecursionError):
            return None  # the error is reported when the recipe is loaded
        if not isinstance(name, str) or not re.fullmatch(r"\w[\w.+,=-]{0,99}", name):
            return None
        return RUNS / (f"{name}-smoke" if self.smoke else name)
