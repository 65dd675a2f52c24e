from __future__ import annotations

import socket

import pytest

from collapse_sim.core.errors import MissingError
from collapse_sim.plan.needs import Resources

pytest.importorskip("ray", reason="the package ray is not installed: pip install 'collapse-sim[ray]'")

from collapse_sim.run import ray_cluster
from collapse_sim.run.ray_cluster import ClusterNode, RayCluster, connected, marked, nodes_of
from collapse_sim.run.run_place import RayPlace

TWO = RayCluster((ClusterNode("a", "one", 4.0, 0.0), ClusterNode("b", "two", 8.0, 2.0)))


def test_nodes_of_one_host_have_numbers_and_dead_ones_are_left_out():
    def row(number: str, host: str, alive: bool = True, **resources: float) -> dict:
        return {"NodeID": number, "NodeManagerHostname": host, "Alive": alive, "Resources": resources}

    found = nodes_of([row("2", "b", CPU=4.0), row("1", "b", CPU=2.0, GPU=1.0), row("3", "a"), row("4", "a", False)])
    assert found == (
        ClusterNode("3", "a", 0.0, 0.0), ClusterNode("1", "b#1", 2.0, 1.0), ClusterNode("2", "b#2", 4.0, 0.0),
    )  # fmt: skip


def test_a_cluster_with_room_passes():
    TWO.check(RayPlace("auto", 2), {Resources(1, 1): 2, Resources(8, 0): 1})
    assert TWO.describe() == "Ray: 2 nodes, 12 CPUs, 2 GPUs"


@pytest.mark.parametrize(
    ("cluster", "needs", "message"),
    [
        (
            RayCluster(TWO.nodes[:1]),
            {Resources(1, 1): 1},
            "the cluster has no GPU, and this run is on cuda; use --device cpu",
        ),
        (
            TWO,
            {Resources(1, 1): 3},
            "needs 3 processes of 1 CPU and a GPU each at the same time; the cluster has room for 2",
        ),
        (TWO, {Resources(16, 0): 1}, "needs a node with 16 CPUs; the cluster has room for 0"),
    ],
)
def test_a_cluster_without_room_is_refused(cluster, needs, message):
    with pytest.raises(MissingError) as caught:
        cluster.check(RayPlace("auto"), needs)
    assert message in str(caught.value)


def test_an_address_where_nothing_listens_is_refused_at_once(monkeypatch):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with (
        pytest.raises(MissingError, match=rf"--on ray:127.0.0.1:{port}: nothing answers there"),
        connected(RayPlace(f"127.0.0.1:{port}")),
    ):
        pass


def test_a_port_of_another_program_is_refused_in_time(monkeypatch):
    monkeypatch.setattr(ray_cluster, "HEALTH_S", 1.0)
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        place = RayPlace(f"127.0.0.1:{other.getsockname()[1]}")
        with pytest.raises(MissingError, match="what answers there is no Ray cluster"), connected(place):
            pass


def test_the_mark_is_removed_again(tmp_path):
    (tmp_path / "tmp").mkdir()
    with marked(tmp_path) as (name, content):
        assert (tmp_path / "tmp" / name).read_text() == content
    assert not list((tmp_path / "tmp").iterdir())


def test_a_connection_of_the_program_itself_is_not_cut(monkeypatch):
    import ray

    monkeypatch.setattr(ray, "is_initialized", lambda: True)
    monkeypatch.setattr(ray, "shutdown", lambda: pytest.fail("it was cut"))
    with pytest.raises(MissingError, match="this program has a connection to Ray"), connected(RayPlace("local")):
        pass


def test_a_task_that_takes_too_much_memory_is_not_made_again_without_an_end():
    """Ray's own default; tasks are made again three times after any other end of a process."""
    assert int(ray_cluster.QUIET["RAY_task_oom_retries"]) == 3
