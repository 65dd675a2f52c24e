"""A recipe's model from outside is found, read and checked before anything runs; problems name the recipe's line."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from collapse_sim.core.errors import MissingError, RecipeError
from collapse_sim.data.base import Info
from collapse_sim.families.vae import VAE
from collapse_sim.plan.costs import fit_units
from collapse_sim.plan.dry_run import plan_document, plan_text
from collapse_sim.plan.experiment import Experiment, prepare
from collapse_sim.recipe.loader import load
from tests.conftest import TINY, Sandbox, changed

INFO = Info("images", {"image": ((1, 8, 8), "uint8")}, 64, 64, 16)
GIVEN = ("samples: 150", "samples: 150\ngeneration_0: {model: model.safetensors}")


@pytest.fixture
def model(sandbox: Sandbox) -> Path:
    """The weights of TINY's model, in data/model.safetensors."""
    path = sandbox.root / "data" / "model.safetensors"
    path.parent.mkdir()
    torch.manual_seed(0)
    save_file(VAE(hidden=16, latent=2).build(INFO).state_dict(), path)
    return path


def prepared(sandbox: Sandbox, *changes: tuple[str, str], text: str = TINY) -> Experiment:
    return prepare(load(sandbox.recipe(changed(text, *changes))), sandbox.root / "data")


def test_all_arms_have_it(sandbox: Sandbox, model: Path) -> None:
    experiment = prepared(sandbox, GIVEN)
    fits = {plan.generations[0].fit for plan in experiment.arm_plans}
    assert {fit.kind for fit in fits} == {"import"}
    assert len({fit.digest for fit in fits}) == 1
    assert [plan.generations[1].fit.kind for plan in experiment.arm_plans] == ["fit", "fit"]
    assert prepared(sandbox).arm_plans[0].generations[0].fit.kind == "fit"
    assert set(fit_units(experiment).values()) == {(0, 20, 20)}


def test_arms_with_a_model_of_their_own_read_it_as_theirs(sandbox: Sandbox, model: Path) -> None:
    own = ("  replace: {data: replace}", "  replace: {data: replace, model: {kl_weight: 0.5}}")
    one, other = (plan.generations[0].fit for plan in prepared(sandbox, GIVEN, own).arm_plans)
    assert one.digest != other.digest
    assert one.given is not None
    assert other.given is not None
    assert one.given.sha256 == other.given.sha256
    wider = ("  replace: {data: replace}", "  replace: {data: replace, model: {latent: 3}}")
    with pytest.raises(RecipeError) as error:
        prepared(sandbox, GIVEN, wider)
    where = f"{sandbox.root / 'recipe.yaml'}:6: generation_0.model (arm 'replace'): {model}: "
    assert error.value.problems == (
        f"{where}encoder.2.weight: shape (4, 16) there, (6, 16) here",
        f"{where}encoder.2.bias: shape (4,) there, (6,) here",
        f"{where}decoder.0.weight: shape (16, 2) there, (16, 3) here",
    )


def test_a_model_that_is_nowhere(sandbox: Sandbox) -> None:
    with pytest.raises(
        MissingError, match=r"recipe\.yaml:6: generation_0\.model: model\.safetensors: no such file or folder: .*"
    ):
        prepared(sandbox, GIVEN)


def test_a_damaged_model(sandbox: Sandbox, model: Path) -> None:
    model.write_bytes(model.read_bytes()[:-3])
    with pytest.raises(MissingError, match=r"recipe\.yaml:6: generation_0\.model: .*not a whole file of safetensors"):
        prepared(sandbox, GIVEN)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("model.safetensors", "generation_0: found 'model.safetensors'; allowed: a mapping of model, revision"),
        ("{path: x}", "generation_0.path: unknown key 'path'"),
        ("{model: 3}", "generation_0.model: found 3; allowed: text"),
        ("{model: ''}", "generation_0.model: "),
    ],
)
def test_what_is_no_such_setting(sandbox: Sandbox, value: str, message: str) -> None:
    with pytest.raises(RecipeError) as error:
        load(sandbox.recipe(changed(TINY, ("samples: 150", f"samples: 150\ngeneration_0: {value}"))))
    assert any(message in problem for problem in error.value.problems)


def test_an_arm_has_no_generation_0_of_its_own(sandbox: Sandbox) -> None:
    text = changed(TINY, ("  replace: {data: replace}", "  replace: {data: replace, generation_0: {model: m}}"))
    with pytest.raises(RecipeError) as error:
        load(sandbox.recipe(text))
    (problem,) = error.value.problems
    assert "arms.replace.generation_0: generation 0 is the same model for all arms" in problem


def test_a_dry_run_counts_no_fit_of_it(sandbox: Sandbox, model: Path) -> None:
    experiment = prepared(sandbox, GIVEN)
    document = plan_document(experiment, sandbox.root / "store")
    first, second = document["arms"]["replace"][:2]
    assert (first["imported"], first["steps"], first["fits_to_make"]) == ("model.safetensors", 0, 0)
    assert ("imported" not in second, second["steps"], second["fits_to_make"]) == (True, 20, 2)
    text = plan_text(document)
    assert "imported: model.safetensors" in text
    fitted = plan_document(prepared(sandbox), sandbox.root / "store")
    assert document["artefacts"]["to_make"] == fitted["artefacts"]["to_make"] - 1  # one model for both seeds


def test_validation_rows_choose_only_what_is_fitted(sandbox: Sandbox, model: Path) -> None:
    text = changed(TINY, ("evaluate: every 5 steps, keep: best", "keep: best"), (", validation_rows: 40", ""))
    retrain = ("samples: 150", "retrain: {keep: last}\nsamples: 150")
    with pytest.raises(RecipeError, match="it chooses by validation rows, and there are none"):
        prepared(sandbox, retrain, text=text)
    prepared(sandbox, (retrain[0], retrain[1] + "\ngeneration_0: {model: model.safetensors}"), text=text)


def test_the_recipe_of_a_run_has_it(sandbox: Sandbox, model: Path) -> None:
    recipe = load(sandbox.recipe(changed(TINY, GIVEN)))
    assert recipe.document["generation_0"] == {"model": "model.safetensors"}
    assert "generation_0" not in load(sandbox.recipe(TINY)).document


def test_a_bench_measures_it_and_no_fit_to_real_rows(sandbox: Sandbox, model: Path) -> None:
    from collapse_sim.plan.costs import evaluations_of, kind_of_spec, units_of

    plan = prepared(sandbox, GIVEN).arm_plans[0]
    given, later = plan.generations[0].fit, plan.generations[1].fit
    assert (units_of(given), evaluations_of(given)) == (1, 0)
    assert kind_of_spec(given) != kind_of_spec(later)
    assert kind_of_spec(plan.generations[0].samples) == kind_of_spec(plan.generations[1].samples)
