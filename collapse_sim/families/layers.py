"""Outputs of a model's layers, and linear maps of them to the sizes of another model's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

from torch import Tensor, nn
from torch.utils import _pytree as pytree

Outputs = tuple[Tensor, ...]  # of one layer: one for each time that the forward pass calls it


@contextmanager
def captured(model: nn.Module, paths: Sequence[str]) -> Iterator[dict[str, Outputs]]:
    """Within it, the outputs of the modules at `paths` are added to the mapping whenever the model computes them.

    Of an output of several tensors it is the first one of floating point.
    """
    outputs: dict[str, Outputs] = {}
    handles = []
    for path in paths:

        def keep(module: nn.Module, args: Any, output: Any, path: str = path) -> None:
            tensors = [t for t in pytree.tree_leaves(output) if isinstance(t, Tensor) and t.is_floating_point()]
            if tensors:
                outputs[path] = (*outputs.get(path, ()), tensors[0])

        handles.append(model.get_submodule(path).register_forward_hook(keep))
    try:
        yield outputs
    finally:
        for handle in handles:
            handle.remove()


class Resizing(NamedTuple):
    """A linear map along one axis of an output."""

    axis: int  # features, or channels
    before: int
    after: int


def resizing(student: Sequence[int], teacher: Sequence[int]) -> Resizing | None:
    """The map from a student's output to its teacher's, from their shapes; None where they are equal.

    Raises ValueError when they differ in more than one axis, or in the number of rows.
    """
    differing = [axis for axis, (own, other) in enumerate(zip(student, teacher, strict=False)) if own != other]
    if len(student) == len(teacher) and not differing:
        return None
    if len(student) != len(teacher) or len(differing) > 1 or differing[0] == 0:
        raise ValueError(
            f"its output is of shape {tuple(student)} in the student and {tuple(teacher)} in the teacher; a linear map "
            "changes one axis only, that of features or channels"
        )
    (axis,) = differing
    return Resizing(axis, student[axis], teacher[axis])


class LayerMaps(nn.Module):
    """Learned linear maps of a student's layers to the sizes of its teacher's (FitNets, Romero et al. 2015, section
    2.2; of images the same at every place)."""

    def __init__(self, sizes: Mapping[str, Resizing]) -> None:
        """`sizes`: by the path of the layer; other layers stay as they are."""
        super().__init__()
        self._names = {path: str(number) for number, path in enumerate(sorted(sizes))}  # a name has no dots
        self._axes = {path: size.axis for path, size in sizes.items()}
        self.maps = nn.ModuleDict(
            {self._names[path]: nn.Linear(sizes[path].before, sizes[path].after) for path in self._names}
        )

    def forward(self, outputs: Mapping[str, Outputs]) -> dict[str, Outputs]:
        """The layers' outputs, each as large as the teacher's."""
        return {path: tuple(self._mapped(path, each) for each in of_layer) for path, of_layer in outputs.items()}

    def _mapped(self, path: str, output: Tensor) -> Tensor:
        if path not in self._names:
            return output
        mapped: Tensor = self.maps[self._names[path]](output.movedim(self._axes[path], -1))
        return mapped.movedim(-1, self._axes[path])


def aligned(student: Any, teacher: Any, fill: Any = Tensor.detach) -> Any:
    """The teacher's prediction, where the student's has tensors of another shape with `fill` of these instead: a term
    that compares them has no meaning. Both are predictions of one family."""
    return pytree.tree_map(
        lambda own, other: other if not isinstance(own, Tensor) or own.shape == other.shape else fill(own),
        student,
        teacher,
    )
