"""Checks of what a family offers beside its contract: families/hooks.py."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from collapse_sim.core.errors import MissingError
from collapse_sim.core.randomness import Draws, ShapedDraws
from collapse_sim.data.base import Info
from collapse_sim.engine.stacked_sampling import StackedSampling
from collapse_sim.families.base import Conditions, Inputs, ModelFamily, Rows
from collapse_sim.families.hooks import (
    Continues,
    Deterministic,
    Encodes,
    EncodesNoised,
    Exports,
    FromLatents,
    Guided,
    HasBlocks,
    HasConditions,
    HasLossUnit,
    HasPositions,
    HasRowCounts,
    HasTextLikelihood,
    HasTrajectory,
    ImportsModel,
    PredictsTokens,
    Regularised,
    ReusesConditions,
    RowsAtOnce,
    StacksSampling,
    Tempered,
    conditioning_of,
)
from collapse_sim.testing.shared import CPU, built, fixed_draws, named_conditions


def check_stacks_sampling(family: ModelFamily, info: Info, rows: Mapping[str, Tensor], tolerance: float = 1e-4) -> None:
    """Check that rows of several models, drawn as one program (engine/stacked_sampling.py), are those of each alone:
    integers up to one, others up to a share of the largest value."""
    models = [built(family, info, seed).requires_grad_(False) for seed in (0, 1, 2)]
    names = named_conditions(family)
    given = [{name: rows[name][first : first + 5] for name in names} for first in (0, 1, 0)]
    draws = Draws((0, 1, 1), "sample", 0, stacked=True)
    stacked = StackedSampling(family, models, CPU)
    together = {name: torch.stack([columns[name] for columns in given]) for name in names}
    with torch.no_grad():
        try:
            columns, finite = stacked.sample(5, together, draws)
        except RuntimeError as error:
            raise AssertionError(f"stacks_sampling: torch.func.vmap refuses `sample`: {error}") from error
        assert finite.all(), "stacks_sampling: rows are not finite"
        for i, (model, own) in enumerate(zip(models, given, strict=True)):
            alone = family.sample(model, Conditions(5, own), fixed_draws("sample", min(i, 1)))
            assert alone.keys() == columns.keys(), "stacks_sampling: other columns"
            for name, column in alone.items():
                difference = float((columns[name][i].double() - column.double()).abs().max())
                most = tolerance * float(column.abs().max()) if column.is_floating_point() else 1
                assert difference <= most, f"stacks_sampling: {name} differs by {difference:.1e} from that of one model"


def check_hooks(family: ModelFamily, model: nn.Module, info: Info, rows: Mapping[str, Tensor]) -> None:
    """Check every optional ability that a family has (families/hooks.py), on rows of its columns."""
    model = model.eval().requires_grad_(False)
    columns = {name: column for name, column in rows.items() if name in family.columns}
    n = len(next(iter(columns.values())))
    if isinstance(family, HasLossUnit):
        assert isinstance(family.loss_unit, str), "loss_unit must be text"
    if isinstance(family, Regularised):
        unknown = set(family.regularised) - set(family.terms)
        assert not unknown, f"regularised names {', '.join(sorted(unknown))}, which are not terms"
    if isinstance(family, HasConditions):
        unknown = set(family.conditions) - set(info.columns)
        assert not unknown, f"conditions names {', '.join(sorted(unknown))}, which are not columns of the data"
    assert conditioning_of(family) in ("real", "fitted"), "conditioned_on must be 'real' or 'fitted'"
    if isinstance(family, ReusesConditions) and family.reuses_conditions and named_conditions(family):
        given = {name: rows[name][[0, 1, 0]] for name in named_conditions(family)}
        samples = family.sample(model, Conditions(3, given), fixed_draws("sample"))
        wrong = [name for name, column in given.items() if name in samples and not torch.equal(samples[name], column)]
        assert not wrong, f"reuses_conditions: samples' {', '.join(wrong)} differ from those they were generated for"
    if isinstance(family, Deterministic) and family.deterministic:
        conditions = Conditions(n, {name: rows[name] for name in named_conditions(family)})
        first, second = (family.sample(model, conditions, fixed_draws("sample", seed)) for seed in (0, 1))
        same = all(torch.equal(first[name], second[name]) for name in first)
        assert same, "deterministic: other draws gave other samples for the same conditions"
    if isinstance(family, HasBlocks):
        _check_blocks(family.blocks(model), model, lambda: family.predict(model, _corrupted(family, columns)))
    if isinstance(family, RowsAtOnce):
        assert family.rows_at_once(model, columns) >= 1, "rows_at_once must be at least 1"
    if isinstance(family, HasRowCounts):
        inputs = family.corrupt(columns, fixed_draws("corrupt"))
        counts = family.row_counts(inputs)
        assert counts.shape == (n,), f"row_counts has shape {tuple(counts.shape)}, needed: ({n},)"
        assert int(counts.sum()) == int(inputs.count), "row_counts must add up to the batch's count"
    if isinstance(family, Encodes):
        mean, log_variance = family.encode(model, columns)
        assert mean.shape == log_variance.shape, "encode must give a mean and a log variance of one shape"
        assert len(mean) == n, f"encode gives {len(mean)} latents for {n} rows"
        one, _ = family.encode(model, {name: column[:1] for name, column in columns.items()})
        assert torch.allclose(one[0], mean[0], rtol=1e-4, atol=1e-5), "encode must not depend on the other rows"
    if isinstance(family, EncodesNoised):
        encoded = family.encode_noised(model, columns, 0.5, fixed_draws("noise"))
        assert encoded.dim() == 2, f"encode_noised gives {tuple(encoded.shape)}, needed: ({n}, features)"
        assert len(encoded) == n, f"encode_noised gives {len(encoded)} rows of features for {n} rows"
        again = family.encode_noised(model, columns, 0.5, fixed_draws("noise"))
        assert torch.equal(encoded, again), "encode_noised is not repeatable"
    if isinstance(family, PredictsTokens):
        _check_token_predictions(family, model, columns)
    if isinstance(family, HasTextLikelihood):
        nats, tokens = family.nats(model, columns)
        assert nats.shape == tokens.shape == (n,), f"nats must give two columns of {n} rows"
        assert nats.dtype == torch.float64, "nats must be float64"
        assert bool((nats >= 0).all()), "a row of tokens cannot be more likely than 1"
        assert not bool(nats[tokens == 0].any()), "a row without predicted tokens has 0 nats"
    if isinstance(family, HasPositions):
        inputs = family.corrupt(columns, fixed_draws("corrupt"))
        positions = family.positions("", inputs, 7)
        assert positions.shape == (n, 7), f"positions has shape {tuple(positions.shape)}, needed: ({n}, 7)"
        assert positions.dtype == torch.bool, "positions must be bool"
    if isinstance(family, Continues):
        prompts, tokenizer = next(iter(columns.values()))[:, :3], info.text()
        going_on = ((prompts[:, 1:] != tokenizer.end) & (prompts[:, 1:] >= 0)).all(1)
        prompts = prompts[going_on][:4]
        texts = family.continuations(model, prompts, fixed_draws("continuations"))
        assert torch.equal(texts[:, : prompts.shape[1]], prompts), "continuations must begin with their prompts"
    if isinstance(family, HasTrajectory):
        conditions = Conditions(2, {name: rows[name][:2] for name in named_conditions(family)})
        frames = family.trajectory(model, conditions, 4, fixed_draws("trajectory"))
        shape, dtype = next(info.columns[name] for name in family.columns if name in info.columns)
        assert frames.shape == (4, 2, *shape), f"trajectory has shape {tuple(frames.shape)}, needed: {(4, 2, *shape)}"
        assert str(frames.dtype) == f"torch.{dtype}", f"trajectory is {frames.dtype}, rows are {dtype}"
        again = family.trajectory(model, conditions, 4, fixed_draws("trajectory"))
        assert torch.equal(frames, again), "trajectory is not repeatable"
    _check_guidance(family, model, info, {name: column[:5] for name, column in columns.items()})
    if isinstance(family, Exports):
        with tempfile.TemporaryDirectory() as folder:
            paths = family.export(model, info, Path(folder))
            outside = [path for path in paths if not path.is_file() or not path.is_relative_to(folder)]
            assert not outside, f"export returns {outside[0]}, which is not a file that it has written into the folder"
            if isinstance(family, ImportsModel):
                _check_round_trip(family, model, info, {Path(folder) / p.relative_to(folder).parts[0] for p in paths})
    if isinstance(family, ImportsModel):
        _check_refusal(family, info)
    if isinstance(family, StacksSampling) and family.stacks_sampling:
        check_stacks_sampling(family, info, rows)


def _corrupted(family: ModelFamily, columns: Rows) -> Inputs:
    return family.corrupt(columns, fixed_draws("corrupt"))


def _check_blocks(blocks: Sequence[nn.Module], model: nn.Module, predict: Callable[[], object]) -> None:
    """Check that blocks are called, and that their parameters are theirs alone."""
    within = list(model.modules())
    owners = [id(parameter) for block in blocks for parameter in block.parameters()]
    inner = {id(module) for block in blocks for module in block.modules()}
    shared = {id(p) for module in within if id(module) not in inner for p in module.parameters(recurse=False)}
    assert all(any(block is module for module in within) for block in blocks), "blocks must be modules of the model"
    assert len(owners) == len(set(owners)), "blocks must not share parameters, nor be within another"
    assert not shared & set(owners), "blocks must not share parameters with the rest of the model"
    called: set[int] = set()
    hooks = [block.register_forward_hook(lambda module, *_: called.add(id(module))) for block in blocks]
    predict()
    for hook in hooks:
        hook.remove()
    assert called == {id(block) for block in blocks}, "predict must call every block, not only its methods"


def _check_round_trip(family: ImportsModel, model: nn.Module, info: Info, places: set[Path]) -> None:
    """Check that what a family exported is imported as it was."""
    for place in places:
        state, own = family.import_model(place, info), model.state_dict()
        unlike = sorted(state.keys() ^ own.keys())
        assert not unlike, (
            f"import_model: {unlike[0]} is in what was exported, or in what was imported, but not in both"
        )
        for name, tensor in own.items():
            assert torch.equal(tensor, state[name]), f"import_model: {name} is not what was exported"


def _check_refusal(family: ImportsModel, info: Info) -> None:
    assert isinstance(family.importable, str), "importable must be text"
    with tempfile.TemporaryDirectory() as folder:
        try:
            family.import_model(Path(folder), info)
        except (ValueError, MissingError):
            return
    raise AssertionError("import_model: a folder without a model must raise ValueError or MissingError")


def _check_guidance(family: ModelFamily, model: nn.Module, info: Info, rows: Rows) -> None:
    """Check sampling with a second model, at a temperature, and from latents."""
    plain = _drawn(family, model, rows)
    if isinstance(family, Guided) and family.guides:
        other = built(family, info, 1).requires_grad_(False)
        unguided = _drawn(family, family.guided(model, other, 0.0).eval(), rows)
        assert _equal(unguided, plain), "guided: w = 0 must change nothing"
        replaced = _drawn(family, family.guided(model, other, -1.0).eval(), rows)
        assert _equal(replaced, _drawn(family, other, rows)), "guided: w = -1 must be the auxiliary model"
    if isinstance(family, Tempered) and family.tempers:
        same = _drawn(*family.tempered(model, 1.0), rows)
        assert all(_close(same[name], column) for name, column in plain.items()), "tempered: 1 must change nothing"
    if isinstance(family, FromLatents) and family.from_latents:
        alike = {name: column[:1].expand_as(column) for name, column in rows.items()}
        fixed = _drawn(family, model, alike, ShapedDraws(fixed_draws("sample"), scale=0.0))
        assert all(_one_row(column) for column in fixed.values()), (
            "from_latents: latents of 0 must always give the same row"
        )


def _one_row(column: Tensor) -> bool:
    """Whether all rows are equal; real numbers up to rounding, since some matrix products round the rows of one batch
    differently."""
    first = column[:1].expand_as(column)
    return _close(column, first) if column.is_floating_point() else torch.equal(column, first)


def _drawn(family: ModelFamily, model: nn.Module, rows: Rows, draws: Draws | None = None) -> dict[str, Tensor]:
    with torch.no_grad():
        conditions = Conditions(5, {name: rows[name] for name in named_conditions(family)})
        return family.sample(model, conditions, draws or fixed_draws("sample"))


def _equal(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    return all(torch.equal(one[name], other[name]) for name in other)


def _close(one: Tensor, other: Tensor) -> bool:
    if one.is_floating_point():
        return torch.allclose(one, other, rtol=1e-3, atol=1e-3)
    return bool((one.float() - other.float()).abs().max() <= 1)


def _check_token_predictions(family: PredictsTokens, model: nn.Module, columns: Mapping[str, Tensor]) -> None:
    predicted = family.token_predictions(model, columns)
    total = predicted.log_p.exp().sum(-1)
    assert torch.allclose(total, torch.ones_like(total), atol=1e-4), "token_predictions must be log probabilities"
    there = predicted.targets >= 0
    tokens = columns[predicted.column][:, predicted.first :].long()
    assert torch.equal(predicted.targets[there], tokens[:, : there.shape[1]][there]), "targets must be the rows' tokens"
    if isinstance(family, HasTextLikelihood):
        own = predicted.log_p.gather(2, predicted.targets.clamp(min=0)[..., None])[..., 0]
        nats, _ = family.nats(model, columns)
        sums = -own.where(there, torch.zeros_like(own)).double().sum(1)
        assert torch.allclose(sums.cpu(), nats, rtol=1e-4, atol=1e-4), "token_predictions must add up to nats"
