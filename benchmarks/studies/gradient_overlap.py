"""Whether sending gradients while the backward pass still runs pays, with two ranks on this machine's CPU (gloo).

    python -m benchmarks.studies.gradient_overlap [--width N] [--layers N] [--rows N] [--seconds S]

Two processes of one thread each take the updates of a network of equal linear layers, with sums of gradients after the
backward pass and during it, in turn. Printed are seconds per update, medians over rounds, and their ratio. The sums
themselves are the same bit by bit (tests/core/test_ranks.py).
"""

from __future__ import annotations

import argparse
import socket
import statistics
import time
from datetime import timedelta

import torch
import torch.distributed as dist
import torch.multiprocessing as processes
from torch import nn

from collapse_sim.core.board import Board
from collapse_sim.core.launch import Launch
from collapse_sim.core.ranks import GradientSums, Group

WORLD = 2
UPDATES = 3  # in a round of one way


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--width", type=int, default=2048, help="of each layer")
    parser.add_argument("--layers", type=int, default=8)
    parser.add_argument("--rows", type=int, default=128, help="of each rank's part of a batch")
    parser.add_argument("--seconds", type=float, default=60.0)
    given = parser.parse_args()
    with socket.socket() as opened:
        opened.bind(("127.0.0.1", 0))
        port = int(opened.getsockname()[1])
    processes.spawn(measure, (port, given), nprocs=WORLD)  # type: ignore[no-untyped-call]


def measure(rank: int, port: int, given: argparse.Namespace) -> None:
    """One rank; the first prints."""
    torch.set_num_threads(1)
    store = dist.TCPStore("127.0.0.1", port, WORLD, is_master=rank == 0, timeout=timedelta(seconds=60))
    dist.init_process_group("gloo", store=dist.PrefixStore("group", store), rank=rank, world_size=WORLD)
    group = Group(Board(Launch(rank, WORLD, rank, "127.0.0.1", port), dist.PrefixStore("board", store)))
    torch.manual_seed(0)
    ways = {name: Way(group, given, overlapped=name == "during") for name in ("after", "during")}
    times: dict[str, list[float]] = {name: [] for name in ways}
    began, end = time.perf_counter(), 0
    while not end:
        for name, way in ways.items():
            times[name].append(way.seconds())
        end = group.most([int(time.perf_counter() - began > given.seconds)])[0]
    if rank == 0:
        medians = {name: statistics.median(of[1:] or of) for name, of in times.items()}
        megabytes = sum(p.nbytes for p in ways["after"].model.parameters()) / 2**20
        print(f"{megabytes:.0f} MB of gradients, {given.rows} rows a rank, {len(times['after'])} rounds")
        print(f"after the backward pass {medians['after']:.3f} s per update, during it {medians['during']:.3f} s")
        print(f"{medians['after'] / medians['during']:.2f} times as good")
    dist.destroy_process_group()


class Way:
    """A network and how its gradients are summed."""

    def __init__(self, group: Group, given: argparse.Namespace, *, overlapped: bool) -> None:
        layers = [nn.Linear(given.width, given.width) for _ in range(given.layers)]
        self.model = nn.Sequential(*layers)
        self._x = torch.randn(given.rows, given.width)
        self._sums = GradientSums(group, list(self.model.parameters()), overlapped=overlapped)

    def seconds(self) -> float:
        """Of one update, forward and backward pass and sums."""
        began = time.perf_counter()
        for _ in range(UPDATES):
            self._sums.begin(1)
            loss = self.model(self._x).square().mean()
            loss.backward()
            self._sums(loss.detach())
            self.model.zero_grad()
        return (time.perf_counter() - began) / UPDATES


if __name__ == "__main__":
    main()
