"""Components that do nothing, as a user's own would be named: `use: module:Class`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from collapse_sim.core.component import Component
from collapse_sim.data.base import Info


class FakeData(Component):
    kind: ClassVar[str] = "shapes"
    seeded: ClassVar[bool] = False

    def inspect(self, folder: Path) -> Info:
        return Info("shapes", {}, rows=10, pool=10, held_out=2)


class FakeFamily(Component):
    """Trained."""

    width: Annotated[int, Field(gt=0, le=512)] = 8
    shape: Literal["round", "square"] = "round"
    range: tuple[float, float] = (0.0, 1.0)
    extra: dict[str, int] = {}  # noqa: RUF012  (pydantic copies defaults)
    cap: int | Literal["none"] = "none"

    kinds: ClassVar[tuple[str, ...]] = ("shapes", "images")
    columns: ClassVar[tuple[str, ...]] = ("x",)
    terms: ClassVar[tuple[str, ...]] = ("output", "hidden")

    @model_validator(mode="after")
    def _ordered(self) -> FakeFamily:
        if self.range[0] > self.range[1]:
            raise ValueError("`range` begins above its end")
        return self

    def _nothing(self, *args: Any) -> Any:
        raise NotImplementedError

    check = build = corrupt = predict = loss = distillation = sample = _nothing


class FakeClosedForm(FakeFamily):
    terms: ClassVar[tuple[str, ...]] = ()
    solve = build_ensemble = FakeFamily._nothing


class FakeMetric(Component):
    k: int = 5

    kinds: ClassVar[tuple[str, ...] | None] = ("shapes",)
    needs: ClassVar[tuple[str, ...]] = ("samples",)
    better: ClassVar[str | None] = "lower"

    def check(self, *args: Any) -> None: ...

    def score(self, *args: Any) -> float:
        return 0.0


class HalfAMetric(Component):
    kinds: ClassVar[tuple[str, ...] | None] = None


class Bare:
    """Not a component at all."""
