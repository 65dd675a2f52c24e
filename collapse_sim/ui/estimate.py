"""The remaining time of a run, estimated from the time its cells took so far and the updates that are planned."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from collapse_sim.ui.state import Cell, State

FITS = 0.8  # share of fits in the cost of a cell, before one is finished


class Cost(NamedTuple):
    """What the cells of an arm cost, in seconds, for all seeds together."""

    unit_s: float  # each planned update of the fit
    rest_s: float  # samples and scores


def seconds_left(state: State, now: float) -> float | None:
    """Seconds until the run ends; None while there is nothing to estimate from."""
    estimate = outlook(state, now)
    return None if estimate is None else estimate[0]


def share_done(state: State, now: float) -> float:
    """The share of the run that is done, 0 to 1: by time if that can be estimated, otherwise by cells."""
    estimate = outlook(state, now)
    if estimate is not None and estimate[1] > 0:
        return min(max(1 - estimate[0] / estimate[1], 0.0), 1.0)
    fits = _share_of_fits(state)
    shares = [_share(state, cell, fits) for cells in state.cells.values() for cell in cells]
    return sum(shares) / len(shares) if shares else 0.0


def outlook(state: State, now: float) -> tuple[float, float] | None:
    """(seconds until the run ends, seconds of the entire run); None while there is nothing to estimate from.

    An update of an arm's fit costs what its own finished generations >= 1 say, or what the fits of such a generation
    say that is not finished; an arm that has none takes the mean of the other arms; before there is one, all cost as
    much as the most expensive cell so far. How many updates a fit takes is planned: under accumulate with equal epochs
    their number grows with k. Generation 0 is shared by all arms. What is left of a cell is at most the stages that
    are not done: where processes share a run, the time between two artefacts is not that of one.
    """
    if state.outcome is not None or not state.cells:
        return None
    fits = _share_of_fits(state)
    costs: dict[str, Cost] = {}
    for arm, cells in state.cells.items():
        if (cost := _cost(state, arm, cells, fits)) is not None:
            costs[arm] = cost
    others = _mean([*costs.values()]) or _most_expensive(state, now, fits)
    if others is None:
        return None
    running_s = max(now - state.mark, 0.0) if state.job else 0.0
    shared, total = [0.0, 0.0], [0.0, 0.0]  # (seconds left, seconds in all)
    for arm, cells in state.cells.items():
        own = costs.get(arm, others)
        for k, cell in enumerate(cells):
            entire_s, left = own.unit_s * _units(state, arm, k) + own.rest_s, 0.0
            if state.complete(cell):
                entire_s = cell.work_s if cell.made and not cell.reused else entire_s
            else:
                left = entire_s * (1 - _share(state, cell, fits))
                if not cell.reused:
                    left = min(left, max(entire_s - cell.work_s, 0.0))
                if state.covers(arm, k):
                    left = max(left - running_s, 0.0)
            if k == 0:
                shared = [max(shared[0], left), max(shared[1], entire_s)]
            else:
                total = [total[0] + left, total[1] + entire_s]
    return shared[0] + total[0], shared[1] + total[1]


def _units(state: State, arm: str, k: int) -> int:
    """The planned updates of a fit; where nothing is fitted, those of the arm's shortest one."""
    planned = state.fit_units.get(arm, [])
    return (planned[k] if planned else 0) or min(filter(None, planned), default=1)


def _cost(state: State, arm: str, cells: Sequence[Cell], fits: float) -> Cost | None:
    """From the finished generations >= 1, without reused artefacts if possible; before there is one, from the fits."""
    finished = [(k, cell) for k, cell in enumerate(cells) if k >= 1 and cell.made and state.complete(cell)]
    finished = [(k, cell) for k, cell in finished if not cell.reused] or finished
    if finished:
        units = sum(_units(state, arm, k) for k, _ in finished)
        fit_s, work_s = (sum(getattr(cell, name) for _, cell in finished) for name in ("fit_s", "work_s"))
        return Cost(fit_s / units, (work_s - fit_s) / len(finished))
    begun = [(k, c) for k, c in enumerate(cells) if k >= 1 and c.fit and c.fit_s > 0 and not c.reused]
    return _mean(
        [
            _split(cell.fit_s / cell.fit.bit_count() * len(state.seeds) / fits, fits, _units(state, arm, k))
            for k, cell in begun
        ]
    )


def _split(cost_s: float, fits: float, units: int) -> Cost:
    return Cost(cost_s * fits / units, cost_s * (1 - fits))


def _mean(costs: Sequence[Cost]) -> Cost | None:
    if not costs:
        return None
    return Cost(sum(cost.unit_s for cost in costs) / len(costs), sum(cost.rest_s for cost in costs) / len(costs))


def _share_of_fits(state: State) -> float:
    """The share of fits in the cost of the cells that are finished, but for what was found in the store."""
    finished = [c for cells in state.cells.values() for c in cells if c.made and not c.reused and state.complete(c)]
    cost = sum(cell.work_s for cell in finished)
    return min(max(sum(cell.fit_s for cell in finished) / cost, 0.01), 0.99) if cost > 0 else FITS


def _most_expensive(state: State, now: float, fits: float) -> Cost | None:
    """From the most expensive cell so far; a running fit counts once it is past 2 %."""
    costs = []
    for arm, cells in state.cells.items():
        for k, cell in enumerate(cells):
            share, spent_s = _share(state, cell, fits), cell.work_s
            if state.job and state.covers(arm, k) and state.job.fraction > 0.02 and state.job.kind == "fit":
                seeds = len(state.job.seeds) or len(state.seeds)
                share += fits * state.job.fraction * seeds / max(len(state.seeds), 1)
                spent_s += max(now - state.mark, 0.0)
            if share > 0 and spent_s > 0 and not cell.reused:
                costs.append((spent_s / share, _units(state, arm, k)))
    if not costs:
        return None
    cost_s, units = max(costs)
    return _split(cost_s, fits, units)


def _share(state: State, cell: Cell, fits: float) -> float:
    """The share of a cell's work that is done, 0 to 1."""
    seeds, rest = max(len(state.seeds), 1), (1 - fits) / 2
    return sum(weight * done / seeds for weight, done in zip((fits, rest, rest), state.stages(cell), strict=True))
