"""Optional abilities of families are written down, and tested by `check_family`."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

import pytest
import torch

from collapse_sim.core import registry
from collapse_sim.core.component import Component
from collapse_sim.core.randomness import Draws
from collapse_sim.data.base import Info
from collapse_sim.families import hooks
from collapse_sim.families.base import ClosedForm, ModelFamily
from collapse_sim.families.vae import VAE
from collapse_sim.testing import check_family, check_hooks, check_stacks
from collapse_sim.testing.shared import built

INFO = Info("images", {"image": ((1, 8, 8), "uint8")}, 64, 64, 16)
ROWS = {"image": torch.randint(0, 256, (40, 1, 8, 8), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)}
CONTRACT = {name for base in (ModelFamily, ClosedForm) for name in (*vars(base), *getattr(base, "__annotations__", ()))}
HOOKS = {  # members of all protocols of families/hooks.py
    member
    for protocol in vars(hooks).values()
    if getattr(protocol, "_is_protocol", False) and protocol.__module__ == hooks.__name__
    for member in (*vars(protocol), *getattr(protocol, "__annotations__", ()))
    if not member.startswith("_")
}
OTHER = {"metrics", "sampling"}  # default metrics of a recipe; settings that only samples depend on (Component)
BASES = {"encoder_decoder", "limits"}  # what the families of text ask of their subclasses


@pytest.mark.parametrize("name", registry.names("families"))
def test_what_a_family_offers_beside_its_contract_is_written_down(name: str) -> None:
    cls = registry.load("families", name)
    inherited = {member for member in dir(Component) if not member.startswith("_")}
    own = {member for member in dir(cls) if not member.startswith("_")} - inherited - set(cls.model_fields)
    assert own - CONTRACT - OTHER - BASES - HOOKS <= set(), "write a protocol for it in families/hooks.py"


class WrongVAE(VAE):
    """One ability at a time is broken."""

    hidden: int = 8
    latent: int = 2


class Unknown(WrongVAE):
    regularised: ClassVar[tuple[str, ...]] = ("outputs",)


class NoColumn(WrongVAE):
    conditions: ClassVar[tuple[str, ...]] = ("caption",)


class Whose(WrongVAE):
    conditioned_on: ClassVar[str] = "mine"


class NotRepeated(WrongVAE):
    deterministic: ClassVar[bool] = True


class NoRows(WrongVAE):
    def rows_at_once(self, model: Any, rows: Any) -> int:
        return 0


class MiscountedRows(WrongVAE):
    def row_counts(self, inputs: Any) -> torch.Tensor:
        return torch.full((40,), 2)


class MixedLatents(WrongVAE):
    def encode(self, model: Any, rows: Any) -> tuple[torch.Tensor, torch.Tensor]:
        mean, log_variance = super().encode(model, rows)
        return mean - mean.mean(0), log_variance


class ShortTrajectory(WrongVAE):
    def trajectory(self, model: Any, conditions: Any, frames: int, draws: Any) -> torch.Tensor:
        return torch.zeros(frames - 1, conditions.rows, 1, 8, 8, dtype=torch.uint8)


class RandomTrajectory(WrongVAE):
    def trajectory(self, model: Any, conditions: Any, frames: int, draws: Any) -> torch.Tensor:
        return torch.randint(0, 256, (frames, conditions.rows, 1, 8, 8)).to(torch.uint8)


class ElsewhereExport(WrongVAE):
    def export(self, model: Any, info: Info, folder: Any) -> list[Any]:
        return [folder / "missing.bin"]


class WholeFiles(WrongVAE):
    """Exports its weights, and imports them."""

    importable: ClassVar[str] = "a folder with whole.pt"

    def export(self, model: Any, info: Info, folder: Any) -> list[Any]:
        (folder / "whole").mkdir()
        torch.save(model.state_dict(), folder / "whole" / "whole.pt")
        return [folder / "whole" / "whole.pt"]

    def import_model(self, path: Any, info: Info) -> Any:
        if not (path / "whole.pt").is_file():
            raise ValueError(f"{path}: no whole.pt")
        return torch.load(path / "whole.pt", weights_only=True)


class Rounding(WholeFiles):
    def import_model(self, path: Any, info: Info) -> Any:
        return {name: tensor.half().float() for name, tensor in super().import_model(path, info).items()}


class Forgetful(WholeFiles):
    def import_model(self, path: Any, info: Info) -> Any:
        state = super().import_model(path, info)
        return {name: tensor for name, tensor in state.items() if "bias" not in name}


class Believing(WholeFiles):
    def import_model(self, path: Any, info: Info) -> Any:
        return super().import_model(path, info) if any(path.iterdir()) else self.build(info).state_dict()


class ImpossibleNats(WrongVAE):
    def nats(self, model: Any, rows: Any) -> tuple[torch.Tensor, torch.Tensor]:
        return -torch.ones(40, dtype=torch.float64), torch.ones(40, dtype=torch.int64)


class OtherNoise(WrongVAE):
    def encode_noised(self, model: Any, rows: Any, time: float, draws: Any) -> torch.Tensor:
        return torch.rand(40, 3)


class SpatialNoise(WrongVAE):
    def encode_noised(self, model: Any, rows: Any, time: float, draws: Any) -> torch.Tensor:
        return torch.zeros(40, 3, 2)


class Unnormalised(WrongVAE):
    def token_predictions(self, model: Any, rows: Any) -> hooks.TokenPredictions:
        return hooks.TokenPredictions(torch.zeros(40, 2, 3), torch.zeros(40, 2, dtype=torch.int64), "image", 0)


class FreeRows(WrongVAE):
    """Samples with more noise than their latents."""

    def sample(self, model: Any, conditions: Any, draws: Any) -> dict[str, torch.Tensor]:
        (images,) = super().sample(model, conditions, draws).values()
        return {"image": images ^ draws.integers(2, *images.shape).to(torch.uint8)}


class HalfGuided(WrongVAE):
    guides: ClassVar[bool] = True

    def guided(self, model: Any, auxiliary: Any, w: float) -> Any:
        return model if w >= 0 else self.build(INFO)


class Warmer(WrongVAE):
    tempers: ClassVar[bool] = True

    def tempered(self, model: Any, temperature: float) -> Any:
        return self, self.build(INFO)


@pytest.mark.parametrize(
    ("family", "message"),
    [
        (OtherNoise(), "encode_noised is not repeatable"),
        (SpatialNoise(), r"encode_noised gives \(40, 3, 2\), needed: \(40, features\)"),
        (Unnormalised(), "token_predictions must be log probabilities"),
        (Unknown(), "regularised names outputs, which are not terms"),
        (NoColumn(), "conditions names caption, which are not columns"),
        (Whose(), "conditioned_on must be"),
        (NotRepeated(), "deterministic: other draws gave other samples"),
        (NoRows(), "rows_at_once must be at least 1"),
        (MiscountedRows(), "row_counts must add up"),
        (MixedLatents(), "encode must not depend on the other rows"),
        (ShortTrajectory(), r"trajectory has shape \(3, 2, 1, 8, 8\), needed: \(4, 2, 1, 8, 8\)"),
        (RandomTrajectory(), "trajectory is not repeatable"),
        (ElsewhereExport(), "is not a file that it has written"),
        (Rounding(), r"import_model: encoder\.0\.weight is not what was exported"),
        (
            Forgetful(),
            r"import_model: decoder\.0\.bias is in what was exported, or in what was imported, but not in both",
        ),
        (Believing(), "import_model: a folder without a model must raise ValueError or MissingError"),
        (ImpossibleNats(), "cannot be more likely than 1"),
        (FreeRows(), "latents of 0 must always give the same row"),
        (HalfGuided(), "w = -1 must be the auxiliary model"),
        (Warmer(), "1 must change nothing"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, VAE) else "",
)
def test_a_broken_ability_is_found(family: Any, message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        check_hooks(family, family.build(INFO), INFO, ROWS)


class DroppingVAE(WrongVAE):
    def build(self, info: Info) -> torch.nn.Module:
        model = super().build(info)
        model.decoder = torch.nn.Sequential(torch.nn.Dropout(0.5), model.decoder)
        return model


class SharingVAE(WrongVAE):
    """Weights that the engine does not know as parameters are those of the first model of a group for all."""

    def build(self, info: Info) -> torch.nn.Module:
        model = super().build(info)
        model.shift = torch.randn(64)
        return model

    def predict(self, model: Any, inputs: Any) -> Any:
        prediction = super().predict(model, inputs)
        return prediction._replace(decoded=prediction.decoded + model.shift)


@pytest.mark.parametrize(
    ("family", "message"),
    [(DroppingVAE(), "vmap refuses the forward pass"), (SharingVAE(), "stacks: the loss is")],
)
def test_a_network_that_is_another_one_in_a_group_is_found(family: Any, message: str) -> None:
    inputs = family.corrupt(ROWS, Draws((0,), "corrupt", 0))
    with pytest.raises(AssertionError, match=message):
        check_stacks(family, INFO, inputs)


class LookingVAE(WrongVAE):
    def sample(self, model: Any, conditions: Any, draws: Any) -> Any:
        rows = super().sample(model, conditions, draws)
        assert int(rows["image"].max()) >= 0
        return rows


class SharingSampler(SharingVAE):
    def sample(self, model: Any, conditions: Any, draws: Any) -> Any:
        rows = super().sample(model, conditions, draws)
        return {"image": (rows["image"] + (40 * model.shift).reshape(1, 1, 8, 8)).to(torch.uint8)}


@pytest.mark.parametrize(
    ("family", "message"),
    [(LookingVAE(), "vmap refuses `sample`"), (SharingSampler(), "image differs by .* from that of one model")],
)
def test_a_sampler_that_is_another_one_in_a_group_is_found(family: Any, message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        check_hooks(family, built(family, INFO, 0), INFO, ROWS)


def test_a_right_family_passes() -> None:
    check_family(WrongVAE(), INFO, ROWS)
    check_hooks(WholeFiles(), WholeFiles().build(INFO), INFO, ROWS)


class OtherLabels(WrongVAE):
    """Samples have labels, but not those that they were asked for."""

    conditional: bool = True

    def sample(self, model: Any, conditions: Any, draws: Any) -> dict[str, torch.Tensor]:
        columns = super().sample(model, conditions, draws)
        return {**columns, "label": columns["label"].roll(1)}


def test_samples_have_the_conditions_that_they_were_generated_for() -> None:
    info = replace(INFO, columns={**INFO.columns, "label": ((), "int64")}, classes=10)
    rows = {**ROWS, "label": torch.arange(40) % 10}
    check_hooks(WrongVAE(conditional=True), WrongVAE(conditional=True).build(info), info, rows)
    with pytest.raises(AssertionError, match="reuses_conditions: samples' label differ from those they were generated"):
        check_hooks(OtherLabels(), OtherLabels().build(info), info, rows)
