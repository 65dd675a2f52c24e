"""A stand-in for CUDA graphs that runs anywhere: what is recorded is computed again, and written to where it was."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from collapse_sim.core.replays import Outputs, Recorded


class Recordings:
    """Counts recordings and replays of stages by their number."""

    def __init__(self, spoil: Callable[[Sequence[Tensor]], None] = lambda written: None) -> None:
        """`spoil` changes what a replay has written."""
        self.made, self.replays, self._spoil = 0, Counter[int](), spoil

    def of(self, device: torch.device) -> Recordings:
        return self

    def __call__(self, *stages: Callable[..., Outputs]) -> list[Recorded]:
        self.made += 1
        enabled = torch.is_grad_enabled()  # a recording's kernels do not depend on it any more
        live: list[Outputs] = []  # the last outputs of each stage, with their graph of gradients
        written: list[list[Tensor | None]] = []
        for stage in stages:
            live.append(stage(*(live[-1] if live else ())))
            written.append([None if tensor is None else tensor.detach().clone() for tensor in live[-1]])

        def replay(number: int) -> Callable[[], None]:
            def again() -> None:
                self.replays[number] += 1
                with torch.set_grad_enabled(enabled):
                    live[number] = stages[number](*(live[number - 1] if number else ()))
                with torch.no_grad():
                    for place, tensor in zip(written[number], live[number], strict=True):
                        if place is not None and tensor is not None:
                            place.copy_(tensor)
                    self._spoil([place for place in written[number] if place is not None])

            return again

        return [Recorded(replay(number), outputs) for number, outputs in enumerate(written)]
