"""The remaining time of a run, estimated from the time its cells took so far."""

from __future__ import annotations

from collapse_sim.ui.state import Cell, State

FITS = 0.8  # share of fits in the cost of a cell, before one is finished

Line = tuple[float, float, float, float]  # middle of k, mean cost in seconds, slope, least cost


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

    The cost of an arm's next cells is extrapolated by a straight line through its own finished generations >= 1 (under
    accumulate the cost grows with k). An arm that has none takes the mean of the other arms' lines. Before generation 1
    is finished, its cells cost what their own fits say, or the mean of those whose fits do; before there is one, as
    much as the most expensive cell so far. Generation 0 is shared by all arms. What is left of a cell is at most the
    stages that are not done: where processes share a run, the time between two artefacts is not that of one.
    """
    if state.outcome is not None or not state.cells:
        return None
    lines = {arm: line for arm, cells in state.cells.items() if (line := _line(state, cells))}
    fits = _share_of_fits(state)
    begun = {} if lines else _begun(state, fits)
    first = None if lines else _most_expensive(state, now, fits)
    if not lines and first is None:
        return None
    if begun:
        first = sum(begun.values()) / len(begun)
    running_s = max(now - state.mark, 0.0) if state.job else 0.0
    shared, total = [0.0, 0.0], [0.0, 0.0]  # (seconds left, seconds in all)
    for arm, cells in state.cells.items():
        own = [lines[arm]] if arm in lines else list(lines.values())
        for k, cell in enumerate(cells):
            cost = sum(_at(line, k) for line in own) / len(own) if own else begun.get((arm, k), first or 0.0)
            left = 0.0
            if state.complete(cell):
                cost = cell.work_s if cell.made and not cell.reused else cost
            else:
                left = cost * (1 - _share(state, cell, fits))
                if not cell.reused:
                    left = min(left, max(cost - cell.work_s, 0.0))
                if state.covers(arm, k):
                    left = max(left - running_s, 0.0)
            if k == 0:
                shared = [max(shared[0], left), max(shared[1], cost)]
            else:
                total = [total[0] + left, total[1] + cost]
    return shared[0] + total[0], shared[1] + total[1]


def _line(state: State, cells: list[Cell]) -> Line | None:
    """Least squares through the costs of the finished generations >= 1, without reused artefacts if possible."""
    finished = [(k, cell) for k, cell in enumerate(cells) if k >= 1 and cell.made and state.complete(cell)]
    points = [(k, c.work_s) for k, c in finished if not c.reused] or [(k, c.work_s) for k, c in finished]
    if not points:
        return None
    middle = sum(k for k, _ in points) / len(points)
    mean = sum(cost for _, cost in points) / len(points)
    spread = sum((k - middle) ** 2 for k, _ in points)
    slope = sum((k - middle) * (cost - mean) for k, cost in points) / spread if spread else 0.0
    return middle, mean, slope, min(cost for _, cost in points)


def _at(line: Line, k: int) -> float:
    middle, mean, slope, least = line
    return max(mean + slope * (k - middle), least / 2)


def _share_of_fits(state: State) -> float:
    """The share of fits in the cost of the cells that are finished, but for what was found in the store."""
    finished = [c for cells in state.cells.values() for c in cells if c.made and not c.reused and state.complete(c)]
    cost = sum(cell.work_s for cell in finished)
    return min(max(sum(cell.fit_s for cell in finished) / cost, 0.01), 0.99) if cost > 0 else FITS


def _begun(state: State, fits: float) -> dict[tuple[str, int], float]:
    """{(arm, k): cost of a cell after generation 0}, from its own fits that are done."""
    return {
        (arm, k): cell.fit_s / cell.fit.bit_count() * len(state.seeds) / fits
        for arm, cells in state.cells.items()
        for k, cell in enumerate(cells)
        if k >= 1 and cell.fit and cell.fit_s > 0 and not cell.reused
    }


def _most_expensive(state: State, now: float, fits: float) -> float | None:
    """The cost of a full cell, from the most expensive one so far; a running fit counts once it is past 2 %."""
    costs = []
    for arm, cells in state.cells.items():
        for k, cell in enumerate(cells):
            share, spent_s = _share(state, cell, fits), cell.work_s
            if state.job and state.covers(arm, k) and state.job.fraction > 0.02 and state.job.kind == "fit":
                seeds = len(state.job.seeds) or len(state.seeds)
                share += fits * state.job.fraction * seeds / max(len(state.seeds), 1)
                spent_s += max(now - state.mark, 0.0)
            if share > 0 and spent_s > 0 and not cell.reused:
                costs.append(spent_s / share)
    return max(costs, default=None)


def _share(state: State, cell: Cell, fits: float) -> float:
    """The share of a cell's work that is done, 0 to 1."""
    seeds, rest = max(len(state.seeds), 1), (1 - fits) / 2
    return sum(weight * done / seeds for weight, done in zip((fits, rest, rest), state.stages(cell), strict=True))
