"""Making what was pruned again, outside of a run."""

from __future__ import annotations

import pytest

from collapse_sim.core.errors import RemadeDifferentlyError
from collapse_sim.plan.experiment import prepare
from collapse_sim.recipe.loader import load
from collapse_sim.run.remaking import make_again
from collapse_sim.store import sealed
from tests.pruned import LAST, TOY, manifests


@pytest.fixture
def pruned(sandbox):
    sandbox.run(TOY + LAST)
    return sandbox, prepare(load(sandbox.root / "recipe.yaml"), sandbox.root / "data")


def test_only_the_wanted_and_what_it_is_made_from_is_made(pruned, capsys):
    sandbox, experiment = pruned
    before = set(sandbox.artefacts())
    first, second, _ = experiment.arm_plans[0].generations
    root = sandbox.root / ".store"
    make_again(experiment, root, {second.fit.digest: {0}}, {}, sandbox.root / "data")
    new = {key.split("/")[1] for key in set(sandbox.artefacts()) - before}
    assert new == {first.fit.digest, first.samples.digest, second.fit.digest}
    said = capsys.readouterr().err.splitlines()
    assert said[0] == "fit of replace / accumulate, generation 0, seeds 0, 1: pruned, made again"
    assert len(said) == 3
    make_again(experiment, root, {second.fit.digest: {0}}, {}, sandbox.root / "data")
    assert capsys.readouterr().err == ""


def test_another_hash_is_raised(pruned):
    sandbox, experiment = pruned
    root, first = sandbox.root / ".store", experiment.arm_plans[0].generations[0]
    path = root / "pruned" / first.fit.digest[:2] / first.fit.digest / "s0-1" / "manifest.json"
    content = sealed.read(path)
    content["files"]["model.safetensors"]["sha256"] = "0" * 64
    path.write_text(sealed.text(content))
    with pytest.raises(RemadeDifferentlyError, match="000000000000 recorded"):
        make_again(experiment, root, {first.samples.digest: {0}}, {}, sandbox.root / "data")
    assert first.fit.digest not in {key.partition("/")[0] for key in manifests(root)}
