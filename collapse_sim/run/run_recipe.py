"""`collapse_sim.run`: run a recipe from a Python program or a notebook, or continue it."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from collapse_sim.recipe.beside import IN_PYTHON
from collapse_sim.run.preparing import RunOptions

if TYPE_CHECKING:
    from collapse_sim.run.loaded_run import Run
    from collapse_sim.ui.listeners import MakeDisplay


def run_recipe(
    recipe: str | Path | Mapping[str, Any],
    *,
    out: str | Path | None = None,
    store: str | Path | None = None,
    mirror: str | None = None,
    data_dir: str | Path | None = None,
    arms: str | Sequence[str] | None = None,
    seeds: int | Sequence[int] | None = None,
    generations: int | None = None,
    settings: Mapping[str, Any] | Sequence[str] | None = None,
    smoke: bool = False,
    device: str = "auto",
    ensemble: str | int = "auto",
    compiled: str = "auto",
    overlap: str = "auto",
    wait: bool = False,
    on: str | None = None,
    ranks: int | None = None,
    checkpoint_seconds: float = 60.0,
    keep_weights: str | None = None,
    keep_samples: str | None = None,
    track: str | Sequence[str] | None = None,
    track_project: str | None = None,
    plugins: bool | None = None,
    quiet: bool = False,
    verbose: bool = False,
) -> Run:
    """Run a recipe's experiment, or continue it, and return the run. What is already stored is never computed again.

    `recipe`: a file, the name of a shipped recipe, or a mapping of what YAML would have (errors name the key path).
    `settings`: changed settings by their dotted path, {"train.learning_rate": 3e-4}. `seeds`, `generations`, `arms`: in
    place of the recipe's, or of these only; `seeds=4` is seed 4, not four seeds. `out`: the run directory, by default
    runs/NAME. `data_dir`: by default COLLAPSE_SIM_DATA or "data". All others are those of `collapse-sim run`, but this
    process computes alone unless `on` is "processes" or "processes:4". Progress is one line per generation on stderr,
    and in a notebook a display that is updated; `quiet`: warnings only.

    Raises RecipeError for a wrong recipe or argument, MissingError for data or a device that is not there, StoreError
    for a folder that holds another run, is damaged or full. An interrupt (Ctrl-C, or the notebook's stop) takes a
    checkpoint and raises InterruptedRunError; the same call continues. UnderWayElsewhereError: for two minutes other
    processes have been making all that this one could begin; with `wait` it waits for them. Chains that diverge are no
    error: `Run.diverged` lists them.
    """
    from collapse_sim.recipe.trust import remember
    from collapse_sim.run.loaded_run import default_data_dir, load_run

    keeps = {"keep_weights": keep_weights, "keep_samples": keep_samples}
    kept = {key: value for key, value in keeps.items() if value is not None}
    pairs = [f"{key}={value}" for key, value in kept.items()]
    options = RunOptions(
        recipe,
        settings={**settings, **kept} if isinstance(settings, Mapping) else [*_several(settings), *pairs],
        smoke=smoke,
        arms=_several(arms),
        seeds=_several(seeds),
        generations=generations,
        plugins=plugins,
        device=device,
        data_dir=_path(data_dir) or default_data_dir(),
        out=_path(out),
        store=_path(store),
        checkpoint_s=checkpoint_seconds,
        ensemble=str(ensemble),
        compiled=compiled,
        overlap=overlap,
        wait=wait,
        trackers=_several(track),
        project=track_project,
        mirror=mirror,
        on=on,
        fit_ranks=ranks,
        names=IN_PYTHON,
    )
    with options.session(called=True) as session:
        remember(session.folder, session.experiment.recipe)
        session.run(quiet=quiet, verbose=verbose, display=_display(quiet=quiet, verbose=verbose))
        return load_run(session.folder, store=session.store_dir, data_dir=session.data_dir, plugins=plugins)


def _several(given: Any) -> list[Any]:
    """What is given for an argument that takes one or several; numpy's arrays and numbers, too."""
    if given is None:
        return []
    return [given] if isinstance(given, str) or not isinstance(given, Iterable) else list(given)


def _path(path: str | Path | None) -> Path | None:
    return None if path is None else Path(path)


def _display(*, quiet: bool, verbose: bool) -> MakeDisplay:
    from collapse_sim.ui.lines import Lines
    from collapse_sim.ui.notebook import NotebookDisplay, in_notebook

    if in_notebook(sys.modules) and not (quiet or verbose):
        return NotebookDisplay
    return partial(Lines, quiet=quiet, verbose=verbose)
