"""Rewards of rows: what people who choose among candidates prefer."""

from __future__ import annotations

from typing import Annotated, Any, Self

import numpy as np
import torch
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator
from torch import Tensor

from collapse_sim.core.plugins import source_of
from collapse_sim.data.base import Info
from collapse_sim.remedies.base import Pool
from collapse_sim.remedies.own_functions import known_name, row_function, values

Number = Annotated[float, Field(allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0.0, allow_inf_nan=False)]
USED: dict[str, tuple[str, ...]] = {  # the settings of each kind
    "linear": ("direction",),
    "quadratic": ("centre", "width"),
    "ball": ("centre", "radius"),
    "class": ("label",),
}
SETTINGS = ("direction", "centre", "width", "radius", "label")
CLASSIFIED = 5000  # real rows that the classifier of `class` is fitted to, at most


class Reward(BaseModel):
    """The reward r of a row."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    kind: Annotated[str, AfterValidator(lambda kind: known_name(kind, USED))]
    """linear: direction . x. quadratic: -|x - centre|^2 / (2 width^2). ball: -max(0, |x - centre| - radius), as Ferbach
    et al. have it for eight Gaussians. class: the probability of a class, by logistic regression on the pixels of the
    real images. Or your own module:function of the rows, (n, ...) per column -> (n,)."""
    direction: Number | tuple[Number, ...] | None = None
    """Of `linear`: one number for all dimensions, or one for each. Default: 1."""
    centre: Number | tuple[Number, ...] | None = None
    """Of `quadratic` and `ball`: one number for all dimensions, or one for each. Default: 0."""
    width: Positive | None = None
    """Of `quadratic`. Default: 1."""
    radius: Annotated[float, Field(ge=0.0, allow_inf_nan=False)] | None = None
    """Of `ball`. Default: 0."""
    label: Annotated[int, Field(ge=0)] | None = None
    """Of `class`: the preferred class. Default: 0."""

    @model_validator(mode="after")
    def _only_its_own_settings(self) -> Self:
        for name in SETTINGS:
            if getattr(self, name) is not None and name not in USED.get(self.kind, ()):
                own = ", ".join(USED.get(self.kind, ())) or "none"
                raise ValueError(f"`{name}` has no meaning for the reward {self.kind!r}; its settings: {own}")
        return self

    def source(self) -> dict[str, Any]:
        """For content keys: the source of a user's own function."""
        return {} if self.kind in USED else {"function": source_of(row_function(self.kind))}

    def check(self, info: Info) -> None:
        """Raise ValueError when it cannot be computed for this data."""
        if self.kind == "class":
            if "label" not in info.columns or "image" not in info.columns:
                raise ValueError("the reward `class` needs images with labels, and this data has none")
            if (self.label or 0) >= info.classes:
                raise ValueError(f"class {self.label} does not exist; the data has classes 0 to {info.classes - 1}")
        elif self.kind in USED and info.kind not in ("points", "regression"):
            raise ValueError(f"the reward `{self.kind}` is for points, and this data is of the kind {info.kind}")
        for name in ("direction", "centre"):
            value = getattr(self, name)
            if isinstance(value, tuple) and len(value) != info.shape("x")[0]:
                raise ValueError(
                    f"`{name}` has {len(value)} numbers, and x has {info.shape('x')[0]}: give one for each"
                )

    def of(self, pool: Pool) -> Tensor:
        """(N,) of the candidates."""
        if self.kind == "class":
            return _class_probability(pool, self.label or 0)
        if self.kind not in USED:
            return values(self.kind, pool.columns)
        x = pool.columns["x"].double()
        if self.kind == "linear":
            return (x * torch.tensor(1.0 if self.direction is None else self.direction, dtype=torch.float64)).sum(1)
        distances: Tensor = torch.linalg.vector_norm(x - torch.tensor(self.centre or 0.0, dtype=torch.float64), dim=1)
        if self.kind == "quadratic":
            return -distances.square() / (2 * (self.width or 1.0) ** 2)
        return -(distances - (self.radius or 0.0)).clamp(min=0)


def _class_probability(pool: Pool, label: int) -> Tensor:
    """P(label | image) by multinomial logistic regression on pixels in [0, 1], fitted to the real rows."""
    from sklearn.linear_model import LogisticRegression

    real = pool.real()
    images, labels = (real[name][:CLASSIFIED] for name in ("image", "label"))
    model = LogisticRegression(max_iter=2000, tol=1e-3).fit(_pixels(images), labels.numpy())
    column = {int(c): i for i, c in enumerate(model.classes_)}.get(label)
    if column is None:
        raise ValueError(f"none of the real images that generation 0 is fitted to is of class {label}")
    return torch.from_numpy(model.predict_proba(_pixels(pool.columns["image"]))[:, column])


def _pixels(images: Tensor) -> np.ndarray:
    """(n, C, H, W) uint8 -> (n, C H W) float64."""
    array: np.ndarray = images.flatten(1).double().numpy() / 255
    return array
