"""One session of a run: claim its directory, show it, run the loop, and leave it so that the next session continues."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NoReturn

from collapse_sim.core.errors import DivergedError, InterruptedRunError, RecipeError, StoreError, UnderWayElsewhereError
from collapse_sim.core.events import Note, RunFinished, RunStarted
from collapse_sim.core.files import check_place
from collapse_sim.core.hashing import digest_of
from collapse_sim.core.joining import check_visible, compare
from collapse_sim.core.machine import Device
from collapse_sim.core.ranks import Group, Ranks
from collapse_sim.core.remote import MIRROR, masked_command
from collapse_sim.engine.build import describe_precision, made_on
from collapse_sim.engine.following import SharedStore, check_ranks, follow
from collapse_sim.engine.groups import group_size
from collapse_sim.engine.programs import Mode, Programs, check_compiler, compile_mode
from collapse_sim.engine.work import JobContext, Stop
from collapse_sim.plan.costs import fit_units
from collapse_sim.plan.experiment import Experiment
from collapse_sim.plan.keeping import Ends, most_bytes, seeds_to_come, to_come
from collapse_sim.plan.sizes import operations_per_step
from collapse_sim.plan.try_out import try_functions
from collapse_sim.run.attempts import attempts_of
from collapse_sim.run.figures import draw_figures
from collapse_sim.run.first_notes import first_notes
from collapse_sim.run.loop import Observer, run_generations
from collapse_sim.run.process_count import processes
from collapse_sim.run.run_description import describe_run
from collapse_sim.run.run_place import RayPlace
from collapse_sim.run.scoring_process import check_overlap, may_overlap
from collapse_sim.run.side_child import SideOrder
from collapse_sim.run.side_processes import beside
from collapse_sim.run.text_samples import show_texts
from collapse_sim.run.trackers import Tracker
from collapse_sim.run.tracking import Tracking
from collapse_sim.store import journal
from collapse_sim.store.failures import Failure
from collapse_sim.store.mirroring import open_mirror
from collapse_sim.store.process import environment
from collapse_sim.store.registration import registered
from collapse_sim.store.run_directory import JOURNAL_FILE
from collapse_sim.store.run_writer import RunWriter
from collapse_sim.store.store import Store
from collapse_sim.store.waiting import Patience
from collapse_sim.ui import formatting
from collapse_sim.ui.console import program, say
from collapse_sim.ui.listeners import MakeDisplay, listeners

if TYPE_CHECKING:
    from collapse_sim.run.crew import Crew

SHOWN = 20  # diverged chains listed in the last message
SPARE_BYTES = 64 * 2**20  # room left for journals, pictures and checkpoints


@dataclass(frozen=True)
class Session:
    """Everything a run needs besides its recipe."""

    experiment: Experiment
    device: Device
    folder: Path
    store_dir: Path
    data_dir: Path
    checkpoint_s: float = 60.0
    ensemble: str = "auto"  # auto, off, or the most fits that are computed together
    compiled: str = "auto"  # auto, on, off: whether the steps of fits are compiled
    overlap: str = "off"  # auto, on, off: whether scores are computed while the next generation is fitted
    wait: bool = False  # for other processes that make all that is left, however long it takes
    called: bool = False  # by a Python program, which continues the run by the same call, not by its command line
    ranks: Ranks = field(default_factory=Ranks)  # the processes of this run
    trackers: Mapping[str, Tracker] = field(default_factory=dict)  # by name, as warnings call them
    project: str | None = None  # of the trackers; None: the recipe's name
    mirror: str | None = None  # the URL of the store's mirror
    place: RayPlace | None = None  # where jobs are computed; None: in this process
    plugins: bool | None = None  # whether workers may import the recipe's plug-ins; None: as this process has done
    processes: int | None = 1  # of this machine that compute it, with this one; 0: what makes sense; None: if it pays

    def run(
        self, *, quiet: bool = False, verbose: bool = False, as_json: bool = False, display: MakeDisplay | None = None
    ) -> dict[str, Any]:
        """Run to the end. Returns {"schema", "run", "name", "made", "reused", "diverged", "wall_s"}, and with a mirror
        "mirror": {"fetched", "fetched_bytes", "pushed", "pushed_bytes", "failed"}.

        `display` takes the place of the dashboard or lines on stderr.
        "diverged": [{"arms", "generation", "seeds", "message"}, ...], chains that ended with nan; `check_diverged`
        raises for them. Raises InterruptedRunError after a checkpoint, StoreError for a folder that is not writable,
        full, damaged or another recipe's (RecipeError), UnderWayElsewhereError without `wait` when others are making
        all that could be made. Any other error of a job (out of memory, a plug-in, a bug) is raised at the end, once
        everything that does not depend on it is finished. Finished work is always kept.
        """
        stop = Stop()
        compare(self.ranks, self.facts)
        self.check()
        mirror = open_mirror(self.mirror, self.store_dir, stop.check)
        self.experiment.try_networks()
        store = Store(self.store_dir, stop.check)
        store.mirror = mirror
        with self._hired() as crew:
            return self._run(store, stop, crew, quiet=quiet, verbose=verbose, as_json=as_json, display=display)

    def _run(
        self,
        store: Store,
        stop: Stop,
        crew: Crew | None,
        *,
        quiet: bool,
        verbose: bool,
        as_json: bool,
        display: MakeDisplay | None,
    ) -> dict[str, Any]:
        recipe, together = self.experiment.recipe, group_size(self.ensemble)
        started = time.perf_counter()
        check_visible(self.ranks, self.store_dir / "tmp")
        programs = Programs(self._compile_mode())
        store.made_on = partial(made_on, self.device, programs, world=self.ranks.world)
        store.patience = Patience(self.wait, rest=self.device.release)
        run = RunWriter(self.folder)
        run.claim(describe_run(self.experiment), self.store_dir)
        references = {spec.digest: spec.seeds(recipe.seeds) for spec in self.experiment.specs()}
        arms = self.experiment.arms_by_digest()
        with (
            registered(self.store_dir, self.folder, references, arms),
            listeners(self.folder, quiet=quiet, verbose=verbose, json=as_json, display=display) as show,
            Tracking(self.trackers, show, self.folder, self.store_dir, recipe.name, self.project) as emit,
            stop.on_signals(say),
            self.device.limit_threads(operations_per_step(self.experiment)),
        ):
            device = self.device.describe() if crew is None else f"{crew.cluster.describe()}; {self.device.describe()}"
            device += f", {self.count} processes" if self.count > 1 else ""
            command = [] if self.called else masked_command(sys.argv, MIRROR)
            run.record_session(command, device, self._precision())
            emit(self._started(device))
            coming = to_come(self.experiment, self.store_dir, self.ends())
            alone = self.ranks.world == 1
            for note in first_notes(self.experiment, self.device, self._compile_mode(), coming, alone=alone):
                emit(note)
            outcome: Literal["finished", "unfinished", "interrupted", "failed"] = "failed"
            message = ""
            try:
                context = JobContext(
                    store, self.device, emit, self.data_dir, stop, self.checkpoint_s, together, programs, self.ranks
                )
                observers = observers_of(self.experiment, context, run.pictures)
                if crew is None:
                    with beside(self._order(), self.count, context) as (own, executor):
                        overlap = self.overlap if self.count == 1 else "off"
                        total = run_generations(self.experiment, run, own, observers, overlap, executor)
                else:
                    with crew.executor(self.experiment, context, self.ends()) as executor:
                        total = run_generations(self.experiment, run, context, observers, executor=executor)
                for failure in store.failures.others():
                    raise failure.error
                outcome = "finished"
            except InterruptedRunError as interrupt:
                outcome = "interrupted"
                message = f"interrupted; everything finished is kept; to continue: {self._resume()}"
                raise InterruptedRunError(message, interrupt.code - 128) from None
            except UnderWayElsewhereError as elsewhere:
                outcome = "unfinished"
                message = f"{elsewhere}; this process ends; to wait for the others and go on: {self._with_wait()}"
                raise UnderWayElsewhereError(message) from None
            except KeyboardInterrupt:
                outcome = "interrupted"
                message = f"stopped at once, without a checkpoint; to continue: {self._resume()}"
                raise InterruptedRunError(message) from None
            except Exception as error:
                message = str(error)
                raise
            finally:
                if attempts_of(store).summary:
                    emit(Note(attempts_of(store).summary))
                moved = store.mirror.finish(emit)
                emit(RunFinished(recipe.name, str(self.folder), time.perf_counter() - started, outcome, message))
        return {
            "schema": 1,
            "run": str(self.folder),
            "name": recipe.name,
            "made": total["made"],
            "reused": total["reused"],
            "diverged": [_diverged(failure) for failure in store.failures.diverged()],
            "wall_s": round(time.perf_counter() - started, 3),
            **({} if self.mirror is None else {"mirror": moved._asdict()}),
        }

    def _hired(self) -> AbstractContextManager[Crew | None]:
        """The workers that compute the jobs; None: this process does."""
        if self.place is None:
            return nullcontext()
        from collapse_sim.run.crew import hired

        return hired(
            self.place,
            self.experiment,
            self.device,
            self.store_dir,
            self.data_dir,
            plugins=self.plugins,
            checkpoint_s=self.checkpoint_s,
            together=group_size(self.ensemble),
            compiled=self._compile_mode(),
        )

    @cached_property
    def count(self) -> int:
        """The processes of this machine that compute the run, this one included. Raises what `ends` does."""
        if self.place is not None or self.ranks.world > 1 or self.processes == 1:
            return 1
        free = self.overlap != "on" and self.ensemble in ("auto", "off")
        missing = seeds_to_come(self.experiment, self.store_dir, self.ends())
        return processes(self.processes, self.experiment, self.device, missing, os.environ, free=free)

    def _order(self) -> SideOrder:
        return SideOrder(
            self.experiment,
            self.folder,
            self.store_dir,
            self.data_dir,
            self.device,
            self.checkpoint_s,
            group_size(self.ensemble),
            self._compile_mode(),
            self.mirror,
        )

    def follow(self, group: Group) -> NoReturn:
        """On ranks other than 0: help with its jobs, without output. Raises what Group.follow does."""
        stop = Stop()
        group.board.wanted = lambda: stop.signal_number
        compare(group, self.facts)
        check_visible(group, self.store_dir / "tmp")
        store = SharedStore(self.store_dir, stop.check)
        context = JobContext(store, self.device, _unseen, self.data_dir, stop, self.checkpoint_s, ranks=group)
        with stop.on_signals(_unseen), self.device.limit_threads(operations_per_step(self.experiment)):
            follow(self.experiment, context, group)

    def facts(self) -> dict[str, str]:
        """What all ranks must have in common, for messages."""
        return {
            "program": " ".join(f"{name} {version}" for name, version in environment().items()),
            "recipe": digest_of(self.experiment.recipe.document)[:16],
            "plan": digest_of([spec.digest for spec in self.experiment.specs()])[:16],
            "kind of device": self.device.device.type,
        }

    def _resume(self) -> str:
        """What continues this run, as far as this process knows it."""
        if self.called:
            return "the same call"
        return resume_command() if self.ranks.world == 1 else "the same command of torchrun, or of another launcher"

    def _with_wait(self) -> str:
        return f"{self._resume()} {'with wait=True' if self.called else '--wait'}"

    def _ranks(self) -> Ranks:
        """The processes that make each fit together; only their number counts if they are started elsewhere."""
        ranks = self.ranks
        if self.place is not None:
            ranks = Ranks()
            ranks.world = self.place.ranks
        return ranks

    def _compile_mode(self) -> Mode:
        """Several ranks do not compile: each would decide by its own times."""
        return compile_mode(self.compiled) if self._ranks().world == 1 else "off"

    def check(self) -> None:
        """Check the run directory, the store and the disk before any work; nothing is made or changed.

        Raises RecipeError for an invalid `ensemble`, `compiled` or `overlap`, for what several ranks cannot do, for a
        function of rows that cannot be used, and when the directory holds another experiment's run; MissingError when
        steps are to be compiled and there is no compiler; StoreError when the directory is damaged or has a newer
        schema, when one of the two cannot be written to, or when the disk cannot hold what is still to be made.
        """
        mode = compile_mode(self.compiled)
        check_overlap(self.overlap, self.ranks)
        if self.place is not None and self.overlap == "on":
            raise RecipeError(
                f"--overlap on: with --on {self.place} scores are tasks beside fits without it; leave it out"
            )
        if self.processes not in (None, 1) and self.overlap == "on":
            raise RecipeError("--overlap on: with --on processes scores are made beside fits without it; leave it out")
        check_ranks(self.experiment, self._ranks(), group_size(self.ensemble), compiled=mode == "on")
        try_functions(self.experiment, self.data_dir)
        if any(fit.train for fit in self.experiment.fits()):
            check_compiler(mode, self.device)
        RunWriter(self.folder).check(describe_run(self.experiment))
        ahead = self.place is not None or self.count > 1
        late = ahead or may_overlap(self.overlap, self.device, self.ranks)
        check_space(self.experiment, self.store_dir, check_place(self.store_dir, "--store"), self.ends(), late=late)

    def ends(self) -> Ends:
        """Where chains of this run have diverged, {arm: {seed: generation}}, as its journal says. Raises StoreError."""
        check_place(self.folder, "--out")
        return journal.diverged(journal.read(self.folder / JOURNAL_FILE))

    def _precision(self) -> str:
        """The precisions of the fits, each once."""
        precisions = (describe_precision(self.device, fit.train) for fit in self.experiment.fits())
        return " / ".join(dict.fromkeys(precisions)) or "nothing is fitted"

    def _started(self, device: str) -> RunStarted:
        recipe = self.experiment.recipe
        return RunStarted(
            name=recipe.name,
            arms=tuple(arm.name for arm in recipe.arms),
            seeds=recipe.seeds,
            generations=recipe.generations,
            metrics=tuple(recipe.metrics),
            lower_is_better={n: None if m.better is None else m.better == "lower" for n, m in recipe.metrics.items()},
            device=device,
            precision=self._precision(),
            run_dir=str(self.folder),
            show=recipe.show,
            fit_units=fit_units(self.experiment),
        )


def _unseen(event: object) -> None:
    """Rank 0 shows what happens."""


def observers_of(experiment: Experiment, context: JobContext, pictures: Path) -> tuple[Observer, ...]:
    """What is shown after each finished generation: texts on the dashboard, and pictures in a folder."""
    return partial(show_texts, experiment, context), partial(draw_figures, experiment, context, pictures)


def _diverged(failure: Failure) -> dict[str, Any]:
    arms, seeds = list(failure.job.arms), list(failure.seeds)
    return {"arms": arms, "generation": failure.generation, "seeds": seeds, "message": failure.message}


def check_diverged(result: Mapping[str, Any]) -> None:
    """Raise DivergedError when chains in a run's result diverged: the first in full, only the places of the others."""
    if not result["diverged"]:
        return
    first, *others = result["diverged"]
    places = [f"{' / '.join(chain['arms'])}, generation {chain['generation']}, {_seeds(chain)}" for chain in others]
    places[SHOWN:] = [f"and {len(places) - SHOWN} more"] if len(places) > SHOWN else []
    raise DivergedError("\n".join([str(first["message"]), *(f"diverged, too: {place}" for place in places)]))


def _seeds(chain: Mapping[str, Any]) -> str:
    return formatting.seeds(chain["seeds"], 2) or "all seeds"


def check_space(
    experiment: Experiment, store: Path, place: Path, ends: Ends | None = None, *, late: bool = False
) -> None:
    """Raise StoreError when the disk of `place`, where the store is or will be, cannot hold what is still to make.

    `late`: a generation is removed when the next one is made.
    """
    needed = most_bytes(experiment, to_come(experiment, store, ends), late=late) + SPARE_BYTES
    free = shutil.disk_usage(place).free
    if needed > free:
        raise StoreError(
            f"{store}: the disk is too full: this run still writes up to {_size(needed)}, {_size(free)} are free; "
            "free some space (`collapse-sim cache gc` lists what no run refers to) or choose another disk with --store"
        )


def resume_command() -> str:
    """The command line that continues this run."""
    return shlex.join([*program(sys.argv[0]), *masked_command(sys.argv, MIRROR)[1:]])


def _size(count: float) -> str:
    for unit in ("B", "KB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"
