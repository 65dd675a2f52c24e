"""The labels that conditional models are given: their check, and how networks read them."""

from __future__ import annotations

import torch
from torch import Tensor

from collapse_sim.data.base import Info

NO_LABEL = -1  # in place of a label that the network is not to know
LABEL = "label"


def check_labels(info: Info) -> None:
    """Raise ValueError unless rows have the labels that a conditional model needs."""
    shape, dtype = info.columns.get(LABEL, ((), ""))
    if not dtype or info.classes < 1:
        raise ValueError(
            "conditional: needs rows with labels, and this data has none; remove it, or use labelled data, such as "
            "digits, mnist, cifar10, or image_folder with a subfolder for each class"
        )
    if shape != () or not dtype.startswith(("int", "uint")):
        raise ValueError(
            f"conditional: needs one whole number per row as its label, and this data has {dtype} of the shape "
            f"{tuple(shape)}"
        )


def embedding_rows(label: Tensor | None, classes: int) -> Tensor:
    """Labels (n,) -> int64 (n,) rows of an embedding of classes + 1 vectors, of which the last one is that of NO_LABEL.

    Raises ValueError without labels.
    """
    if label is None:
        raise ValueError("a conditional network needs labels: call it as model(x, t, label)")
    return torch.where(label == NO_LABEL, classes, label)


def one_hot(label: Tensor | None, classes: int) -> Tensor:
    """Labels (n,) -> float32 (n, classes). torch's own function reads values, which a compiled step cannot.

    Raises ValueError without labels.
    """
    if label is None:
        raise ValueError("a conditional network needs labels, (n,)")
    return (label[:, None] == torch.arange(classes, device=label.device)).float()
