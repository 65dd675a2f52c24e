"""How long a run will still take, from what its cells took so far."""

from __future__ import annotations

from collapse_sim.ui.state import Cell, State

WEIGHTS = (0.8, 0.1, 0.1)  # of fit, samples and scores in a cell, for cells that are not finished

Line = tuple[float, float, float, float]  # middle of k, mean cost in seconds, slope, least cost


def seconds_left(state: State, now: float) -> float | None:
    """Seconds until the run ends; None while nothing was made that could tell."""
    found = outlook(state, now)
    return None if found is None else found[0]


def share_done(state: State, now: float) -> float:
    """How much of the run is done, 0 to 1: of its time where that can be told, or else of its cells."""
    found = outlook(state, now)
    if found is not None and found[1] > 0:
        return min(max(1 - found[0] / found[1], 0.0), 1.0)
    shares = [_share(state, cell) for cells in state.cells.values() for cell in cells]
    return sum(shares) / len(shares) if shares else 0.0


def outlook(state: State, now: float) -> tuple[float, float] | None:
    """(seconds until the run ends, seconds that all of it takes); None while nothing was made that could tell.

    An arm's next cells are taken to cost what a straight line through its own finished generations >= 1 says (under
    accumulate the cost grows with k). An arm without such takes the mean of the others'. Before generation 1 is
    finished, a cell costs what the dearest so far would. Generation 0 is shared by all arms.
    """
    if state.outcome is not None or not state.cells:
        return None
    lines = {arm: line for arm, cells in state.cells.items() if (line := _line(state, cells))}
    first = None if lines else _dearest(state, now)
    if not lines and first is None:
        return None
    running_s = max(now - state.mark, 0.0) if state.job else 0.0
    shared, total = [0.0, 0.0], [0.0, 0.0]  # left, and all
    for arm, cells in state.cells.items():
        own = [lines[arm]] if arm in lines else list(lines.values())
        for k, cell in enumerate(cells):
            cost = sum(_at(line, k) for line in own) / len(own) if own else first or 0.0
            left = 0.0
            if not state.complete(cell):
                left = cost * (1 - _share(state, cell)) if cell.reused else max(cost - cell.work_s, 0.0)
                if state.covers(arm, k):
                    left = max(left - running_s, 0.0)
            if k == 0:
                shared = [max(shared[0], left), max(shared[1], cost)]
            else:
                total = [total[0] + left, total[1] + cost]
    return shared[0] + total[0], shared[1] + total[1]


def _line(state: State, cells: list[Cell]) -> Line | None:
    """Least squares through the costs of the finished generations >= 1 that were wholly made now, if there are any."""
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


def _dearest(state: State, now: float) -> float | None:
    """What a whole cell costs, by the dearest so far; the job under way counts once it has come some way."""
    costs = []
    for arm, cells in state.cells.items():
        for k, cell in enumerate(cells):
            share, spent_s = _share(state, cell), cell.work_s
            if state.job and state.covers(arm, k) and state.job.fraction > 0.02 and state.job.kind == "fit":
                seeds = len(state.job.seeds) or len(state.seeds)
                share += WEIGHTS[0] * state.job.fraction * seeds / max(len(state.seeds), 1)
                spent_s += max(now - state.mark, 0.0)
            if share > 0 and spent_s > 0 and not cell.reused:
                costs.append(spent_s / share)
    return max(costs, default=None)


def _share(state: State, cell: Cell) -> float:
    """How much of a cell's work is done, 0 to 1."""
    every = max(len(state.seeds), 1)
    return sum(weight * done / every for weight, done in zip(WEIGHTS, state.stages(cell), strict=True))
