"""How many processes compute a run on this machine: `run --on`, and what it is by default.

Fits of small models take one thread each, so the other cores of a machine are idle unless several chains are computed
side by side. Nothing is measured for the decision: seconds are those of the planned updates at a cautious rate.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import NamedTuple

import psutil

from collapse_sim.core.machine import Device
from collapse_sim.plan.costs import Rate, kind_of_spec, predict
from collapse_sim.plan.experiment import Experiment
from collapse_sim.plan.memory import available
from collapse_sim.plan.sizes import operations_per_step
from collapse_sim.plan.specs import FitSpec
from collapse_sim.store.spec import Spec

MOST = 8  # that are started without being asked for: more of them wait for each other's generation 0
PAYS_S = 20.0  # seconds of work from which others are started, which takes some seconds itself
UPDATE_S = 1e-3  # that an update takes at least
OPERATIONS_PER_S = 2e10  # of larger updates, on one core
ARTEFACT_S = 0.02  # of everything else: to draw and describe rows, to score, to write
SPACE = 2**30  # bytes of a process: interpreter, libraries, rows
COPIES = 8  # of the weights: gradients, the optimiser's states, moving averages, a teacher, activations
LIMITS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")  # who sets one of these shares out the cores
QUOTA = Path("/sys/fs/cgroup/cpu.max")


class Situation(NamedTuple):
    """What the number depends on."""

    cpu: bool  # fits are computed on the CPU
    cores: int  # that this process may use
    threads: int  # of a fit
    chains: int  # arms x seeds that lack something
    room: int  # processes that memory has room for
    seconds: float  # an estimate of all that is to be made
    free: bool = True  # nobody has limited threads, or asked for another way to compute several things at once


def number(situation: Situation, *, pays: bool = True) -> int:
    """How many processes make sense, this one included. `pays`: and are worth their start without being asked for."""
    if not situation.cpu or (pays and (not situation.free or situation.seconds < PAYS_S)):
        return 1
    return max(1, min(situation.cores // max(situation.threads, 1), situation.chains, situation.room, MOST))


def processes(
    asked: int | None,
    experiment: Experiment,
    device: Device,
    missing: Callable[[Spec], Collection[int]],
    environment: Mapping[str, str],
    *,
    free: bool,
) -> int:
    """The number of processes of a run. `asked`: so many; 0: as many as make sense; None: if they pay. `missing`: the
    seeds that are still to be made; `free`: see Situation."""
    cores = usable_cores()
    free = free and not any(environment.get(name) for name in LIMITS)
    if asked is not None and asked > 0:
        return asked
    if device.device.type != "cpu" or cores < 2 or (asked is None and not free):
        return 1  # without a look at the models
    operations = operations_per_step(experiment)
    situation = Situation(
        True,
        cores,
        device.threads_for(operations),
        chains(experiment, missing),
        room(experiment),
        seconds_left(experiment, missing, operations),
        free,
    )
    return number(situation, pays=asked is None)


def usable_cores() -> int:
    """Cores that this process may use: of the machine, its affinity and its container's quota the least."""
    try:
        cores = len(os.sched_getaffinity(0))
    except AttributeError:  # not on this system
        cores = os.cpu_count() or 1
    try:
        quota, period = QUOTA.read_text(encoding="ascii").split()
        return max(1, min(cores, int(quota) // int(period)))
    except (OSError, ValueError, ZeroDivisionError):  # no such group, or "max"
        return cores


def chains(experiment: Experiment, missing: Callable[[Spec], Collection[int]]) -> int:
    """Arms x seeds with a fit that is still to be made."""
    found: set[tuple[str, int]] = set()
    for plan in experiment.arm_plans:
        fits = {fit.digest: fit for generation in plan.generations for fit in generation.fits}
        found |= {(plan.name, seed) for fit in fits.values() for seed in missing(fit)}
    return len(found)


def room(experiment: Experiment) -> int:
    """Processes that the memory has room for which is available now, with what this one still takes."""
    each = SPACE + COPIES * max(experiment.weights_bytes.values(), default=0)
    return int(min(psutil.virtual_memory().available, available()) // each)


def seconds_left(
    experiment: Experiment, missing: Callable[[Spec], Collection[int]], operations_per_update: float
) -> float:
    """An estimate of what one process takes for what is missing, if fits do not end early. Closed forms, which are
    computed for all seeds at once, count as little as anything else that is no network's fit."""
    update = Rate(max(UPDATE_S, operations_per_update / OPERATIONS_PER_S), each_s=ARTEFACT_S)
    rates: dict[str, Rate] = {}
    for spec in experiment.specs():
        fitted = isinstance(spec, FitSpec) and spec.train is not None and spec.given is None
        rates.setdefault(kind_of_spec(spec), update if fitted else Rate(0.0, each_s=ARTEFACT_S))
    return predict(experiment, lambda spec: len(missing(spec)), rates).total_s
