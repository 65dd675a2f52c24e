"""The network of points: what its output depends on, and which layer the encoder's output is."""

from __future__ import annotations

import pytest
import torch

from collapse_sim.families.mlp import MLP


def network(widths: tuple[int, ...] = (16, 12, 8), d: int = 3, dropout: float = 0.0) -> MLP:
    torch.manual_seed(0)
    return MLP((d,), widths, dropout).eval()


def points(n: int = 7, d: int = 3) -> torch.Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(
    ("widths", "middle"), [((16,), 16), ((16, 12), 16), ((16, 12, 8), 12), ((5, 6, 7, 8), 6), ((5, 6, 7, 8, 9), 7)]
)
@pytest.mark.parametrize("d", [1, 3])
def test_shapes_and_the_middle_layer(widths: tuple[int, ...], middle: int, d: int) -> None:
    x, t = points(7, d), torch.rand(7)
    output, encoded = network(widths, d)(x, t)
    assert output.shape == x.shape
    assert encoded.shape == (7, middle)


def test_rows_do_not_see_each_other_and_times_are_told_apart() -> None:
    model, x, t = network(), points(), torch.linspace(0, 900, 7)
    whole, _ = model(x, t)
    for i in range(7):
        alone, _ = model(x[i : i + 1], t[i : i + 1])
        torch.testing.assert_close(alone, whole[i : i + 1])
    same = model(x[:1].expand(7, 3), t)[0]
    assert len({tuple(row.tolist()) for row in same}) == 7


def test_the_time_scales_the_layers_and_does_not_only_shift_them() -> None:
    """Of a network without non-linearity: how far two points are apart after it depends on the time."""
    model, x = network((16,)), points(2)
    for layer in model.hidden:
        layer.activation = torch.nn.Identity()
    apart = [(model(x, torch.full((2,), t))[0].diff(dim=0)) for t in (0.0, 500.0)]
    assert not torch.allclose(apart[0], apart[1], rtol=1e-3)


def test_every_weight_has_a_gradient() -> None:
    model = network().train()
    output, _ = model(points(), torch.linspace(1, 900, 7))
    output.square().sum().backward()
    assert [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_dropout_acts_in_training_only() -> None:
    model, x, t = network(dropout=0.5), points(), torch.rand(7)
    assert torch.equal(model(x, t)[0], model(x, t)[0])
    model.train()
    assert not torch.equal(model(x, t)[0], model(x, t)[0])


def test_labels_are_told_apart() -> None:
    """Each class, and rows without a label, have an output of their own; without classes there is nothing to tell."""
    torch.manual_seed(0)
    model = MLP((3,), (16, 12), 0.0, classes=4).eval()
    x, t = points(1).expand(5, 3), torch.zeros(5)
    outputs = model(x, t, torch.tensor([0, 1, 2, 3, -1]))[0].detach()
    assert float(torch.pdist(outputs).min()) > 1e-3
    assert model.class_embedding.weight.shape == (5, 32)
    assert not hasattr(network(), "class_embedding")
    with pytest.raises(ValueError, match="a conditional network needs labels"):
        model(x, t)
