"""The optimisers that a recipe names: torch's own, to the bit, but without importing torch's compiler."""

from __future__ import annotations

import copy
import subprocess
import sys

import pytest
import torch
from torch import nn

from collapse_sim.engine.optimizers import CLEARED_EVERY, clear_subnormals, make_optimizer
from collapse_sim.families.training import Train

THEIRS = {
    "adamw": lambda groups, train: torch.optim.AdamW(groups, train.learning_rate, betas=train.betas, fused=True),
    "adam": lambda groups, train: torch.optim.Adam(groups, train.learning_rate, betas=train.betas, fused=True),
    "sgd": lambda groups, train: torch.optim.SGD(groups, train.learning_rate, momentum=train.momentum),
}


@pytest.mark.parametrize("kind", THEIRS)
def test_updates_are_those_of_torch(kind: str) -> None:
    """Also when one continues from the other's state."""
    train = Train(steps=1, optimizer=kind, learning_rate=0.03, weight_decay=0.2)
    torch.manual_seed(0)
    ours, rows = nn.Linear(5, 3), torch.randn(8, 5)
    theirs = copy.deepcopy(ours)
    of_theirs = [
        {"params": [theirs.weight], "weight_decay": 0.2},
        {"params": [theirs.bias], "weight_decay": 0.0},
    ]
    mine, yours = make_optimizer(train, ours), THEIRS[kind](of_theirs, train)
    for step in range(6):
        for model, optimizer in ((ours, mine), (theirs, yours)):
            model(rows).square().sum().backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        assert torch.equal(ours.weight, theirs.weight)
        assert torch.equal(ours.bias, theirs.bias)
        if step == 2:
            state = copy.deepcopy(mine.state_dict())
            mine.load_state_dict(yours.state_dict())
            yours.load_state_dict(state)
    assert ours.weight.grad is None


@pytest.mark.parametrize("kind", THEIRS)
def test_the_state_of_dead_units_is_cleared_and_no_weight_is_another(kind: str) -> None:
    train = Train(steps=1, optimizer=kind, momentum=0.9, weight_decay=0.0)
    torch.manual_seed(0)
    layers, rows = nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 3)), torch.randn(16, 5)
    models = [layers, copy.deepcopy(layers)]
    optimizers = [make_optimizer(train, model) for model in models]

    def subnormal(optimizer: torch.optim.Optimizer) -> int:
        tensors = [t for state in optimizer.state.values() for t in state.values() if t is not None and t.dim()]
        return sum(int(((t != 0) & (t.abs() < 2.0**-126)).sum()) for t in tensors)

    for step in range(12 * CLEARED_EVERY):
        for number, (model, optimizer) in enumerate(zip(models, optimizers, strict=True)):
            if step == 3:  # from here on half of the units see nothing but negative numbers
                with torch.no_grad():
                    model[0].bias[:4] = -1e3
            model(rows).square().sum().backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            if number == 0:
                clear_subnormals(optimizer, step)
    assert subnormal(optimizers[1]) >= 4 * 5
    assert subnormal(optimizers[0]) == 0
    for one, other in zip(*(model.parameters() for model in models), strict=True):
        assert torch.equal(one, other)


def test_what_is_not_finite_is_not_cleared() -> None:
    model = nn.Linear(2, 1)
    optimizer = make_optimizer(Train(steps=1), model)
    model(torch.full((1, 2), float("nan"))).sum().backward()
    optimizer.step()
    clear_subnormals(optimizer, CLEARED_EVERY - 1)
    assert optimizer.state[model.weight]["exp_avg"].isnan().all()


def test_no_update_is_recorded_for_gradients() -> None:
    model = nn.Linear(2, 1)
    optimizer = make_optimizer(Train(steps=1), model)
    model(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    assert torch.is_grad_enabled()
    assert all(parameter.is_leaf and parameter.requires_grad for parameter in model.parameters())


SCRIPT = """
import sys, torch
from collapse_sim.engine.optimizers import make_optimizer
from collapse_sim.families.training import Train
for kind in ("adamw", "adam", "sgd"):
    model = torch.nn.Linear(2, 1)
    optimizer = make_optimizer(Train(steps=1, optimizer=kind), model)
    model(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    optimizer.zero_grad()
    optimizer.load_state_dict(optimizer.state_dict())
sys.exit(f"imported {slow}" if (slow := {"torch._dynamo", "sympy"} & set(sys.modules)) else 0)
"""


def test_the_compiler_is_not_imported() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
