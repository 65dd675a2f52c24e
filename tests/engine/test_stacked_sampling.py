"""Rows of several models drawn as one program: as alone up to rounding, resumable to equal bytes; one that diverges
ends alone."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch

from collapse_sim.core.errors import InterruptedRunError
from collapse_sim.core.machine import Device
from collapse_sim.core.randomness import Draws
from collapse_sim.data.base import Info
from collapse_sim.engine import pieces, stacked_sampling
from collapse_sim.engine.stacked_sampling import MemberDraws, StackedSampling
from collapse_sim.families.ddpm import DDPM
from collapse_sim.families.flow_matching import FlowMatching
from collapse_sim.store import sealed
from collapse_sim.store import store as store_module
from collapse_sim.store.rowfile import RowFile
from collapse_sim.testing.shared import CPU, built
from tests.conftest import TINY, changed

ONE = changed(
    TINY, ("generations: 2", "generations: 1"), ("seeds: [0, 1]", "seeds: [0, 1, 2]"), ("steps: 20", "steps: 4"),
    ("  accumulate+distill: {data: accumulate, teacher: {generation: 0, weights: {output: 0.5, mean: 1.0, "
     "variance: 1.0}}}\n", ""),
)  # fmt: skip
DIFFUSION = changed(
    ONE, ("use: vae, hidden: 16, latent: 2", "use: ddpm, timesteps: 40, sampling_steps: 4, network: {widths: [8, 8]}"),
    ("keep: best", "keep: last"), ("samples: 150", "samples: 20"), ("shard: 40", "shard: 8"),
)  # fmt: skip
INFO = Info("points", {"x": ((2,), "float64")}, 64, 64, 32)


@pytest.fixture(autouse=True)
def _as_beside_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """A CPU draws each model's rows alone."""
    monkeypatch.setattr(Device, "bound_by_launches", True)


def samples(sandbox) -> dict[tuple[int, int], tuple[np.ndarray, dict]]:
    """{(generation, seed): (images, manifest)}"""
    stored = {}
    for path in (sandbox.root / ".store" / "objects").glob("*/*/*/manifest.json"):
        manifest = json.loads(path.read_text())
        if manifest["kind"] == "samples":
            rows = RowFile(path.parent / "samples.safetensors").columns["image"]
            stored[manifest["generation"], manifest["seeds"][0]] = np.array(rows), manifest
    return stored


def without_rows(sandbox) -> None:
    """Remove samples and scores, so that the same models draw again."""
    for path in (sandbox.root / ".store" / "objects").glob("*/*/*/manifest.json"):
        if json.loads(path.read_text())["kind"] in ("samples", "scores"):
            shutil.rmtree(path.parent)


@pytest.mark.parametrize("recipe", [ONE, pytest.param(DIFFUSION, marks=pytest.mark.slow)], ids=["vae", "ddpm"])
def test_a_member_draws_what_it_draws_alone_up_to_rounding(sandbox, recipe):
    """Of the same models: no intensity differs by more than one, and few do."""
    sandbox.run(recipe)
    alone = samples(sandbox)
    without_rows(sandbox)
    sandbox.run(recipe, ensemble="8")
    together = samples(sandbox)
    assert alone.keys() == together.keys() == {(k, seed) for k in (0, 1) for seed in (0, 1, 2)}
    for key, (rows, manifest) in together.items():
        assert len(manifest["group"]) == 3
        assert "group" not in alone[key][1]
        difference = np.abs(rows.astype(int) - alone[key][0])
        assert difference.max() <= 1
        assert (difference > 0).mean() < 0.01
    assert not np.array_equal(together[0, 0][0], together[0, 1][0])


def test_a_group_that_was_interrupted_gives_the_same_bytes(sandbox, monkeypatch):
    """After the second of generation 0's four shards."""
    sandbox.run(ONE, ensemble="8")
    reference = sandbox.artefacts()
    without_rows(sandbox)
    made, draw = [], StackedSampling.sample

    def interrupting(self, *arguments):
        made.append(1)
        if len(made) == 3:
            raise InterruptedRunError("interrupted", 2)
        return draw(self, *arguments)

    monkeypatch.setattr(StackedSampling, "sample", interrupting)
    with pytest.raises(InterruptedRunError):
        sandbox.run(ONE, ensemble="8")
    kept = [sealed.read(path)["samples.safetensors"] for path in (sandbox.root / ".store").rglob("shards.json")]
    assert [len(hashes) for hashes in kept] == [2, 2, 2]
    sandbox.run(ONE, ensemble="8")
    assert len(made) == 3 + 2 + 4
    assert sandbox.artefacts() == reference


@pytest.mark.parametrize("links", [True, False])
def test_a_kill_between_the_commits_of_a_group_changes_no_bytes(sandbox, monkeypatch, links):
    """The others are committed from what was drawn together, also where the file system has no links."""
    sandbox.run(ONE, ensemble="8")
    reference = sandbox.artefacts()
    without_rows(sandbox)
    if not links:
        monkeypatch.setattr(pieces.Path, "hardlink_to", lambda *_: (_ for _ in ()).throw(PermissionError()))

    class KilledError(BaseException):
        pass

    def boundary(name):
        if name == "cleaned":
            raise KilledError

    with monkeypatch.context() as patched:
        patched.setattr(store_module, "boundary", boundary)
        with pytest.raises(KilledError):
            sandbox.run(ONE, ensemble="8")
    assert len(samples(sandbox)) == 1
    drawn, draw = [], StackedSampling.sample
    monkeypatch.setattr(StackedSampling, "sample", lambda *given: (drawn.append(1), draw(*given))[1])
    sandbox.run(ONE, ensemble="8")
    assert len(drawn) == 4, "the shards of generation 1"
    assert sandbox.artefacts() == reference
    assert not list((sandbox.root / ".store" / "partial").iterdir())


def test_a_member_that_diverges_ends_alone(sandbox, monkeypatch):
    """Weights that are not finite: the others' rows are those of the same group with finite ones."""
    read = stacked_sampling.artefacts.model

    def model(store, spec, seeds, device):
        network = read(store, spec, seeds, device)
        if seeds == (1,):
            for parameter in network.parameters():
                parameter.data.fill_(float("nan"))
        return network

    sandbox.run(ONE, ensemble="8")
    reference = samples(sandbox)
    without_rows(sandbox)
    monkeypatch.setattr(stacked_sampling.artefacts, "model", model)
    result = sandbox.run(ONE, ensemble="8")
    assert [ended["seeds"] for ended in result["diverged"]] == [[1], [1]]  # generation 1's fit is there already
    assert "generation 0, seed 1: the generated images are not finite" in result["diverged"][0]["message"]
    rest = samples(sandbox)
    assert rest.keys() == {(k, seed) for k in (0, 1) for seed in (0, 2)}
    assert all(np.array_equal(rest[0, seed][0], reference[0, seed][0]) for seed in (0, 2))
    again = sandbox.run(ONE, ensemble="8")  # which finds none of the rows that are not finite
    assert [ended["seeds"] for ended in again["diverged"]] == [[1], [1]]
    assert samples(sandbox).keys() == rest.keys()


def test_on_a_cpu_each_model_draws_alone(sandbox, monkeypatch):
    """Nothing is gained there; so `--ensemble` leaves the bytes that given models draw as they are."""
    monkeypatch.setattr(Device, "bound_by_launches", False)
    sandbox.run(ONE, ensemble="8")
    assert all("group" not in manifest for _, manifest in samples(sandbox).values())


def test_models_that_differ_in_a_buffer_are_refused():
    """By the group, which is then made one by one."""
    models = [built(DDPM(timesteps=40, network={"widths": [8]}), INFO, seed) for seed in (0, 1)]
    for number, model in enumerate(models):
        model.register_buffer("own", torch.tensor(float(number)))
    with pytest.raises(ValueError, match="own"):
        StackedSampling(DDPM(timesteps=40, network={"widths": [8]}), models, CPU)


def test_a_sampler_whose_steps_depend_on_values_does_not_stack():
    assert FlowMatching(solver="euler", sampling_steps=2).stacks_sampling
    assert not FlowMatching(solver="dopri5").stacks_sampling


@pytest.mark.parametrize("kind", ["normal", "uniform", "integers", "permutation"])
def test_a_member_gets_its_own_draws(kind):
    """Those of its seed alone, also where two members have the same seed."""
    arguments = {"normal": (3, 2), "uniform": (4,), "integers": (9, 5), "permutation": (6,)}[kind]
    draws = Draws((5, 7, 5), "role", 1, stacked=True)

    def one(member):
        return getattr(MemberDraws(draws, member), kind)(*arguments)

    drawn = torch.func.vmap(one, randomness="same")(torch.arange(3))
    for row, seed in zip(drawn, (5, 7, 5), strict=True):
        assert torch.equal(row, getattr(Draws((seed,), "role", 1), kind)(*arguments))
