"""A Ray cluster, seen from the driver of a run: how it is reached, its nodes, and whether they can work for the run."""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import signal
import socket
import subprocess
import sys
import threading
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from collapse_sim.core.errors import MissingError, StoreError
from collapse_sim.core.memory_errors import first_line
from collapse_sim.plan.needs import Resources, places
from collapse_sim.run.ray_messages import Outcome, WorkOrder
from collapse_sim.run.run_place import RayPlace

ANSWER_S = 10.0  # until the address answers
HEALTH_S = 60.0  # until what answers there has shown that it is Ray
NODE_S = 300.0  # until a node has shown that it can work for the run: on a busy file system importing torch takes long
STORE_BYTES = 100 * 2**20  # of Ray's own store of objects, which gets keys only
ATTEMPTS = 3  # at starting a local cluster: Ray gives its processes 15 s, too few on a busy machine
QUIET = {  # no reports to the makers of Ray, no advice on the terminal
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_DISABLE_IMPORT_WARNING": "1",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "1",
    "RAY_worker_niceness": "0",  # Ray gives its workers 15, and a busy machine then gives them nothing
    "RAY_task_oom_retries": "3",  # without it, a task that takes too much memory is made again without an end
}


@dataclass(frozen=True)
class ClusterNode:
    """A machine of a cluster, or a part of one."""

    id: str
    name: str  # for display: its host, with a number if several nodes have the same
    cpus: float
    gpus: float


@dataclass(frozen=True)
class RayCluster:
    """A cluster that this process is connected to."""

    nodes: tuple[ClusterNode, ...]

    @property
    def sizes(self) -> list[tuple[float, float]]:
        return [(node.cpus, node.gpus) for node in self.nodes]

    @property
    def cpus(self) -> int:
        return int(sum(node.cpus for node in self.nodes))

    @property
    def gpus(self) -> int:
        return int(sum(node.gpus for node in self.nodes))

    def describe(self) -> str:
        """For people: "Ray: 2 nodes, 8 CPUs, 2 GPUs"."""
        counts = [(len(self.nodes), "node"), (self.cpus, "CPU"), (self.gpus, "GPU")]
        return "Ray: " + ", ".join(f"{count} {what}{'' if count == 1 else 's'}" for count, what in counts if count)

    def check(self, place: RayPlace, needs: Mapping[Resources, int]) -> None:
        """Raise MissingError when the cluster cannot run so many processes of these needs at the same time."""
        for need, count in needs.items():
            slots = places(need, self.sizes)
            if need.gpus and not self.gpus:
                raise MissingError(f"--on {place}: the cluster has no GPU, and this run is on cuda; use --device cpu")
            if slots < count:
                what = f"{need.cpus} CPU{'s' * (need.cpus > 1)}" + " and a GPU" * bool(need.gpus)
                several = f"{count} processes of {what} each at the same time" if count > 1 else f"a node with {what}"
                raise MissingError(
                    f"--on {place}: this run needs {several}; the cluster has room for {slots} ({self.describe()})"
                )


@contextlib.contextmanager
def connected(place: RayPlace) -> Iterator[RayCluster]:
    """The cluster; a local one is started, and ended after use. Raises MissingError for one that does not answer."""
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    import ray

    if ray.is_initialized():
        raise MissingError(f"--on {place}: this program has a connection to Ray; end it first: there is one at most")
    if place.address not in ("local", "auto"):
        _check_address(place)
    with _own_signals():
        _start(place)
    try:
        with contextlib.redirect_stdout(sys.stderr):  # Ray tells of dead nodes on stdout, which is for data
            yield RayCluster(nodes_of(ray.nodes()))
    finally:
        with _own_signals():
            ray.shutdown()


def alive() -> set[str]:
    """The ids of the nodes that are there now."""
    import ray

    return {row["NodeID"] for row in ray.nodes() if row["Alive"]}


def _start(place: RayPlace) -> None:
    import ray

    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.CRITICAL}
    local: dict[str, Any] = {"include_dashboard": False, "object_store_memory": STORE_BYTES}
    attempts = ATTEMPTS if place.address == "local" else 1
    for attempt in range(1, attempts + 1):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # about changes in versions to come
                ray.init(address=place.address, **quiet, **(local if place.address == "local" else {}))
        except ConnectionError as error:
            raise MissingError(
                f"--on {place}: no running cluster ({first_line(error)}): start one with `ray start --head`, or use "
                "--on ray"
            ) from error
        except Exception as error:
            ray.shutdown()
            if attempt == attempts:
                raise MissingError(f"--on {place}: Ray does not start: {first_line(error)}") from error
        else:
            return


def _check_address(place: RayPlace) -> None:
    """Raise MissingError unless a Ray cluster answers in time: Ray itself waits for minutes and ends the process."""
    host, _, port = place.address.rpartition(":")
    advice = "check the address, the port, firewalls, and that `ray start --head` runs there"
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=ANSWER_S).close()
    except OSError as error:
        raise MissingError(f"--on {place}: nothing answers there ({error.strerror or error}): {advice}") from error
    command = [sys.executable, "-m", "ray.scripts.scripts", "health-check", "--address", place.address]
    try:
        healthy = subprocess.run(command, capture_output=True, timeout=HEALTH_S, check=False).returncode == 0
    except subprocess.TimeoutExpired:
        healthy = False
    if not healthy:
        raise MissingError(f"--on {place}: what answers there is no Ray cluster of this version of Ray: {advice}")


@contextlib.contextmanager
def _own_signals() -> Iterator[None]:
    """Ray's handler of SIGTERM, which ends the process at once, is not kept."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    old = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, old)


def nodes_of(rows: Sequence[Mapping[str, Any]]) -> tuple[ClusterNode, ...]:
    """The living nodes, from `ray.nodes()`."""
    alive = [row for row in rows if row["Alive"]]
    hosts = Counter(row["NodeManagerHostname"] for row in alive)
    numbers = Counter[str]()
    nodes = []
    for row in sorted(alive, key=lambda row: (row["NodeManagerHostname"], row["NodeID"])):
        host, resources = row["NodeManagerHostname"], row["Resources"]
        numbers[host] += 1
        name = host if hosts[host] == 1 else f"{host}#{numbers[host]}"
        nodes.append(ClusterNode(row["NodeID"], name, resources.get("CPU", 0.0), resources.get("GPU", 0.0)))
    return tuple(nodes)


@contextlib.contextmanager
def marked(store: Path) -> Iterator[tuple[str, str]]:
    """A file in the store, and its content, by which nodes know that they see the same store."""
    nonce = secrets.token_hex(16)
    path = store / "tmp" / f"ray-{nonce[:8]}"
    path.write_text(nonce)
    try:
        yield path.name, nonce
    finally:
        path.unlink(missing_ok=True)


def check_nodes(cluster: RayCluster, order: WorkOrder, limit_s: float = NODE_S) -> None:
    """Have every node show that it can work for the run. Raises the first error, which names the node."""
    import ray
    from ray.exceptions import RayError
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    from collapse_sim.run.ray_worker import try_node

    task = ray.remote(try_node)
    tries = {
        task.options(
            num_cpus=0, max_retries=0, scheduling_strategy=NodeAffinitySchedulingStrategy(node.id, soft=False)
        ).remote(order): node
        for node in cluster.nodes
        if node.cpus
    }
    done, silent = ray.wait(list(tries), num_returns=len(tries), timeout=limit_s)
    for ref in done:
        try:
            outcome: Outcome = ray.get(ref)
        except RayError as error:
            raise MissingError(
                f"node {tries[ref].name} cannot run this program, of which all nodes need the same version: "
                f"{first_line(error.cause if getattr(error, 'cause', None) else error)}"
            ) from error
        if outcome.ended is not None:
            raise outcome.ended
    if silent:
        names = ", ".join(tries[ref].name for ref in silent)
        raise StoreError(f"no answer in {limit_s:.0f} s from {names}, where the program should have started")
