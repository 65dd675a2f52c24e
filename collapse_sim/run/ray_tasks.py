"""Tasks on Ray: one for each node of the job graph, or several ranks in a placement group."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Sequence
from typing import Any

import ray
from ray.exceptions import RayError
from ray.util.placement_group import placement_group, remove_placement_group
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy, PlacementGroupSchedulingStrategy

from collapse_sim.plan.needs import Resources
from collapse_sim.run.ray_messages import Exchange, JobKey, NodeReport, Outcome, WorkOrder
from collapse_sim.run.ray_worker import make_jobs, make_rank

RETRIES = 3  # after the death of a worker or its node


class Tasks:
    """What is submitted and not finished."""

    def __init__(self, order: WorkOrder, ranks: int, *, several_gpus: bool = False) -> None:
        """`several_gpus`: some node has them."""
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        self._exchange = ray.remote(Exchange).options(num_cpus=0, scheduling_strategy=here).remote()
        self._order, self._ranks = ray.put(order), ranks
        self._one = ray.remote(make_jobs)
        self._on_gpu = ray.remote(max_calls=1)(make_jobs)  # a process keeps the GPU of its first task, and its memory
        self._several_gpus = several_gpus
        self._rank = ray.remote(max_calls=1, max_retries=0)(make_rank)  # no process that was a rank is used again
        self._running: dict[Any, int] = {}  # reference -> node
        self._parts: dict[int, list[Any]] = {}  # node -> references, rank 0 first
        self._outcomes: dict[Any, Outcome | RayError] = {}
        self._groups: dict[int, Any] = {}  # placement groups

    def __len__(self) -> int:
        return len(self._parts)

    def submit(
        self,
        number: int,
        jobs: Sequence[JobKey],
        need: Resources,
        after: Sequence[int],
        before: Sequence[Outcome],
        *,
        ranked: bool,
    ) -> None:
        """Submit a node, which waits for those of `after` that are not finished; `before`: outcomes that it needs to
        know beside theirs."""
        parents = [self._parts[parent][0] for parent in after if parent in self._parts]
        options: dict[str, Any] = {"num_cpus": need.cpus, "num_gpus": need.gpus}
        given = (self._order, jobs, need.cpus, bool(need.gpus), self._exchange)
        if not ranked:
            task = self._task(need).options(**options, max_retries=RETRIES)
            references = [task.remote(*given, *before, *parents)]
        else:
            bundle = {"CPU": need.cpus, **({"GPU": need.gpus} if need.gpus else {})}
            group = self._groups[number] = placement_group([bundle] * self._ranks, strategy="PACK")
            name = secrets.token_hex(8)
            references = [
                self._rank.options(
                    **options,
                    scheduling_strategy=PlacementGroupSchedulingStrategy(group, placement_group_bundle_index=rank),
                ).remote(*given, (rank, self._ranks, name), *before, *parents)
                for rank in range(self._ranks)
            ]
        self._parts[number] = references
        self._running |= dict.fromkeys(references, number)

    def _task(self, need: Resources) -> Any:
        return self._on_gpu if need.gpus and self._several_gpus else self._one

    def finished(self, wait_s: float) -> list[tuple[int, list[Outcome | RayError]]]:
        """Nodes whose tasks have all ended, with their outcomes; at most `wait_s` seconds are waited for the first."""
        if not self._running:
            return []
        ready, _ = ray.wait(list(self._running), num_returns=1, timeout=wait_s)
        if ready:
            ready, _ = ray.wait(list(self._running), num_returns=len(self._running), timeout=0)
        over = []
        for reference in ready:
            number = self._running.pop(reference)
            try:
                self._outcomes[reference] = ray.get(reference)
            except RayError as error:
                self._outcomes[reference] = error
            parts = self._parts[number]
            if isinstance(self._outcomes[reference], RayError):
                self._cancel(part for part in parts if part in self._running)  # ranks that wait for a dead one
            if all(part in self._outcomes for part in parts):
                del self._parts[number]
                over.append((number, [self._outcomes.pop(part) for part in parts]))
                if number in self._groups:
                    remove_placement_group(self._groups.pop(number))
        return sorted(over)

    def reports(self) -> list[NodeReport]:
        """What the processes have reported since the last call."""
        with contextlib.suppress(RayError):
            reports: list[NodeReport] = ray.get(self._exchange.take.remote())
            return reports
        return []

    def stop(self) -> None:
        """Ask all tasks to stop: those that run get the signal of Ctrl-C, and take a checkpoint."""
        self._cancel(list(self._running))

    def kill(self) -> None:
        """End all tasks now."""
        self._cancel(list(self._running), force=True)

    def _cancel(self, references: Any, *, force: bool = False) -> None:
        for reference in references:
            with contextlib.suppress(RayError, ValueError):
                ray.cancel(reference, force=force)
