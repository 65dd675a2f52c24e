"""Every recipe that ships, from the command to the comparison, without network or data."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from collapse_sim.recipe import shipped
from collapse_sim.recipe.loader import load


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object) -> None:
        raise AssertionError("a smoke run wants the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)


@pytest.mark.slow
@pytest.mark.parametrize("name", shipped.names())
def test_a_smoke_run_ends_in_a_comparison_with_verdicts_and_a_plot(shell, name):
    recipe = load(name, smoke=True)
    done = shell("run", name, "--smoke", "--data-dir", "nothing", "--json").json
    assert done["made"] > 0
    folder = Path(done["run"])
    compared = shell("compare", folder, "--json", "--plot", "plot.png").json
    assert set(compared["arms"]) == {arm.name for arm in recipe.arms}
    for metrics in compared["arms"].values():
        for metric in recipe.metrics:
            assert [entry["generation"] for entry in metrics[metric]] == list(range(recipe.generations + 1))
            assert all(len(entry["values"]) == len(recipe.seeds) for entry in metrics[metric])
    assert Path("plot.png").stat().st_size > 10_000
    verdicts = shell("verify", folder, "--json", code=_code(shell, folder)).json
    assert len(verdicts["claims"]) == len(recipe.claims)
    again = shell("run", name, "--smoke", "--data-dir", "nothing", "--json").json
    assert again["made"] == 0


def _code(shell, folder: Path) -> int:
    """At this size claims may fail, which is exit code 6."""
    from collapse_sim.cli.app import run_app

    return 6 if run_app(["verify", str(folder), "--json"]) == 6 else 0
