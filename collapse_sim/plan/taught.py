"""Teachers that are fits of their own. What one of other sizes can teach is found out on two rows, before anything
is made."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from collapse_sim.core.plugins import error_text, plugin_errors
from collapse_sim.core.randomness import Draws
from collapse_sim.data.base import Info
from collapse_sim.data.sources import REAL, Plan, Source
from collapse_sim.families.base import Inputs, ModelFamily
from collapse_sim.plan.data_checks import misfit
from collapse_sim.plan.layer_paths import layer_paths, unknown_layers
from collapse_sim.plan.memory import check_weights
from collapse_sim.plan.settings import Arm, Recipe, layer_path
from collapse_sim.plan.specs import FitSpec, fit_spec

if TYPE_CHECKING:
    from torch import Tensor, nn

    from collapse_sim.families.layers import Outputs, Resizing

ROWS = 2


class Passes(NamedTuple):
    """What student and teacher compute for the same rows."""

    inputs: Inputs
    student: Any  # predictions
    teacher: Any
    student_layers: Mapping[str, Outputs]
    teacher_layers: Mapping[str, Outputs]


def teacher_of_its_own(arm: Arm, fit: FitSpec) -> FitSpec | None:
    """The teacher of an arm that gives it a `model`, `rows` or weights of its own: otherwise fitted as generation 0's
    `fit` is. None if it is of a generation, or teaches nothing."""
    teacher = arm.teacher
    if teacher is None or not teacher.active or not teacher.own_fit:
        return None
    plan = fit.plan if teacher.rows is None else Plan((Source(REAL, teacher.rows),))
    train = fit.train
    if teacher.untrained and train is not None:
        train = train.model_copy(update={"steps": 0, "evaluate": "never", "keep": "last", "patience": None})
    return fit_spec(0, arm.teacher_model or fit.family, train, plan, fit.data, {}, weighting=arm.weighting)


def taught_misfits(recipe: Recipe, arm: Arm, own: Recipe, info: Info) -> Iterator[str]:
    """The problems of an arm whose teacher is a fit of its own; `own` is the recipe with the arm's settings."""
    teacher, other, family = arm.teacher, arm.teacher_model, own.model
    if teacher is None or not teacher.active:
        return
    where = f"arms.{arm.name}.teacher"
    if teacher.rows is not None and teacher.rows >= info.rows:
        yield (
            f"{recipe.where(f'{where}.rows')}: {where}.rows: {teacher.rows} asked for, and generation 0 is fitted to "
            f"{info.rows} real rows; allowed: 1 to {info.rows - 1}, or no `rows` for a teacher that is generation 0"
        )
    if other is None:
        return
    misfits = [*misfit(recipe, f"{where}.model", other, partial(other.check, info))]
    if misfits:
        yield from misfits
        return
    check_weights(replace(own, model=other), info, f"{where}.model")
    paths = [path for term in teacher.weights if (path := layer_path(term)) is not None]
    absent = list(unknown_layers(teacher.weights, layer_paths(other, info), "the teacher's model"))
    if absent:
        yield from (f"{recipe.where(f'{where}.weights')}: {where}.weights: {problem}" for problem in absent)
        return
    try:
        passes = _passes(family, other, info, paths)
        _check_batches(family, other, passes, info)
    except ValueError as error:
        yield f"{recipe.where(f'{where}.model')}: {where}.model: {error}"
        return
    usable = usable_terms(family, passes)
    for term, weight in teacher.weights.items():
        if weight and layer_path(term) is None and term not in usable:
            yield (
                f"{recipe.where(f'{where}.weights')}: {where}.weights: {term!r}: it compares tensors that have other "
                f"shapes in this teacher; allowed: {', '.join(usable) or 'none of the model itself'}, and layers"
            )
    for path in paths:
        try:
            _resizing(path, passes)
        except ValueError as error:
            yield f"{recipe.where(f'{where}.weights')}: {where}.weights: 'layer {path}': {error}"


def layer_sizes(student: ModelFamily, teacher: ModelFamily, info: Info, paths: Sequence[str]) -> dict[str, Resizing]:
    """The linear maps that are needed for these layers of a student, by their paths.

    Raises ValueError where a linear map is not enough.
    """
    if not paths:
        return {}
    passes = _passes(student, teacher, info, paths)
    return {path: size for path in paths if (size := _resizing(path, passes)) is not None}


def usable_terms(family: ModelFamily, passes: Passes) -> list[str]:
    """The family's own distillation terms that compare nothing of different shapes: those that do not depend on what
    stands in its place."""
    import torch

    from collapse_sim.families.layers import aligned

    def terms(seed: int) -> dict[str, Tensor]:
        generator = torch.Generator().manual_seed(seed)

        def noise(own: Tensor) -> Tensor:
            return torch.randn(own.shape, generator=generator).to(own.dtype)

        return family.distillation(passes.student, aligned(passes.student, passes.teacher, noise), passes.inputs)

    with torch.no_grad():
        first, second = terms(0), terms(1)
    return [term for term in family.terms if torch.equal(first[term], second[term])]


def _passes(student: ModelFamily, teacher: ModelFamily, info: Info, paths: Sequence[str]) -> Passes:
    """Raises ValueError when the teacher cannot read what the student reads."""
    import torch

    from collapse_sim.families.layers import captured

    inputs = student.corrupt(_some_rows(student, info), Draws((0,), "teacher", 0))

    def passed(family: ModelFamily, model: nn.Module) -> tuple[Any, dict[str, Outputs]]:
        with captured(model, paths) as layers:
            return family.predict(model, inputs), layers

    with torch.random.fork_rng(devices=[]), torch.no_grad():
        with plugin_errors(student, "build", (ValueError,)):
            models = [family.build(info).eval() for family in (student, teacher)]
        own, own_layers = passed(student, models[0])
        try:
            other, other_layers = passed(teacher, models[1])
        except (RuntimeError, ValueError, IndexError) as error:
            raise ValueError(
                f"it cannot predict what the student predicts ({error_text(error)}): only sizes inside of the network "
                "may differ"
            ) from error
    return Passes(inputs, own, other, own_layers, other_layers)


def _check_batches(student: ModelFamily, teacher: ModelFamily, passes: Passes, info: Info) -> None:
    """Raise ValueError where the teacher's settings give batches or losses another meaning."""
    import torch

    other = teacher.corrupt(_some_rows(teacher, info), Draws((0,), "teacher", 0))
    for name, tensor in passes.inputs.tensors.items():
        if name not in other.tensors or not torch.equal(tensor, other[name]):
            raise ValueError(
                f"with its settings batches would be others ({name}), as of another noise schedule: only sizes of the "
                "network may differ"
            )
    with torch.no_grad():
        losses = [family.loss(passes.student, passes.inputs) for family in (student, teacher)]
    if not torch.equal(*losses):
        raise ValueError("with its settings the same prediction has another loss: only sizes of the network may differ")


def _resizing(path: str, passes: Passes) -> Resizing | None:
    """Raises ValueError where a linear map is not enough, or the layer is not computed."""
    from collapse_sim.families.layers import resizing

    own, other = passes.student_layers.get(path, ()), passes.teacher_layers.get(path, ())
    if not own or len(own) != len(other):
        raise ValueError(
            f"the forward pass computes it {len(own)} times in the student and {len(other)} times in the teacher; "
            "name another"
        )
    sizes = {resizing(a.shape, b.shape) for a, b in zip(own, other, strict=True)}
    if len(sizes) > 1:
        raise ValueError("its outputs have different sizes in one forward pass; name another")
    return sizes.pop()


def _some_rows(family: ModelFamily, info: Info) -> dict[str, Tensor]:
    """Any rows: noise, intensities, tokens, and labels of 0 or 1."""
    import torch

    generator = torch.Generator().manual_seed(0)
    rows: dict[str, Tensor] = {}
    for name, (shape, dtype) in info.columns.items():
        kind = getattr(torch, dtype)
        if name not in family.columns:
            continue
        if kind.is_floating_point:
            rows[name] = torch.randn(ROWS, *shape, generator=generator, dtype=torch.float64).to(kind)
        else:
            high = 256 if kind == torch.uint8 else info.tokenizer.size if info.tokenizer else 2
            rows[name] = torch.randint(0, high, (ROWS, *shape), generator=generator).to(kind)
    return rows
