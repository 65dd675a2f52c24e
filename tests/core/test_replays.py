"""Recorded computations, with a stand-in for CUDA graphs; tests/gpu has the graphs themselves."""

from __future__ import annotations

import weakref

import pytest
import torch

from collapse_sim.core.replays import FEWEST, TRIES, Replays, record_of
from tests.core.replaying import Recordings


def product(weights, inputs):
    """A scalar of two weights, of which the second is not used."""
    return [(weights[0] * inputs[0]).square().sum()]


@pytest.fixture
def weights():
    return [torch.tensor([1.0, 2.0], requires_grad=True), torch.ones(1, requires_grad=True)]


@pytest.fixture
def reasons():
    return []


def test_nothing_is_recorded_on_a_cpu():
    assert record_of(torch.device("cpu")) is None


def test_gradients_are_those_of_the_function_and_belong_to_the_caller(weights, reasons):
    recordings = Recordings()
    function = Replays(recordings, 1e-6, reasons.append)
    for x in (torch.tensor([1.0, -1.0]), torch.tensor([3.0, 0.5])):  # as two micro-batches, whose gradients add up
        (3 * function(product, weights, [x])[0]).backward()
    assert weights[0].grad.tolist() == [6 * (1 + 9) * 1.0, 6 * (1 + 0.25) * 2.0]
    assert weights[1].grad is None
    kept = weights[0].grad
    weights[0].grad = None
    function(product, weights, [torch.zeros(2)])[0].backward()
    assert kept.tolist() == [60.0, 15.0]
    assert recordings.made == 1
    assert reasons == []


def test_weights_are_read_where_they_are_and_inputs_are_copied(weights, reasons):
    function = Replays(Recordings(), 1e-6, reasons.append)
    first = function(product, weights, [torch.ones(2)])[0]
    with torch.no_grad():
        weights[0].mul_(2)
    x = torch.ones(2)
    assert function(product, weights, [x])[0].item() == 4 * 5
    x.fill_(100)  # nothing of the caller's is part of the recording
    assert function(product, weights, [torch.ones(2)])[0].item() == 20
    assert first.item() == 5  # an output is the caller's, too


def test_other_weights_are_another_recording(weights, reasons):
    recordings = Recordings()
    function = Replays(recordings, 1e-6, reasons.append)
    others = [torch.tensor([5.0, 0.0], requires_grad=True), torch.ones(1, requires_grad=True)]
    for given_weights, value in ((weights, 5.0), (others, 25.0)):
        for _ in range(FEWEST):
            assert function(product, given_weights, [torch.ones(2)])[0].item() == value
    assert recordings.made == 2
    assert weights[0].tolist() == [1.0, 2.0]


def test_weights_that_move_in_every_call_are_not_recorded_any_more(reasons):
    recordings, kept = Recordings(), []
    function = Replays(recordings, 1e-6, reasons.append)
    for i in range(2 * TRIES):
        kept.append([torch.tensor([float(i), 0.0]), torch.ones(1)])
        assert float(function(product, kept[-1], [torch.ones(2)])[0]) == i * i
    assert recordings.made == TRIES
    assert reasons == ["not recorded as a CUDA graph: its weights are in other places in every call"]


def test_parts_of_stacked_weights_get_gradients(reasons):
    stacked = torch.arange(6.0).reshape(3, 2).requires_grad_()
    function = Replays(Recordings(), 1e-6, reasons.append)
    function(product, [stacked[[0, 2]], torch.ones(1)], [torch.ones(2, 2)])[0].backward()
    assert stacked.grad.tolist() == [[0.0, 2.0], [0.0, 0.0], [8.0, 10.0]]


def test_large_models_are_not_recorded(weights, reasons):
    recordings = Recordings()
    function = Replays(recordings, 1e-6, reasons.append, largest=2)
    assert function(product, weights, [torch.ones(2)])[0].item() == 5
    assert (recordings.made, reasons) == (0, [])


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        (Recordings(lambda written: written[0].add_(0.1)), "its replay computes something else"),
        (lambda *stages: [][0], "IndexError: list index out of range"),
    ],
    ids=["wrong", "impossible"],
)
def test_what_cannot_be_recorded_is_computed_as_it_is(weights, reasons, record, reason):
    function = Replays(record, 1e-3, reasons.append)
    for _ in range(2):
        value = function(product, weights, [torch.ones(2)])[0]
        value.backward()
        assert value.item() == 5
    assert weights[0].grad.tolist() == [4.0, 8.0]
    assert reasons == [f"not recorded as a CUDA graph: {reason}"]


def test_a_backward_pass_is_that_of_the_last_forward_pass(weights, reasons):
    function = Replays(Recordings(), 1e-6, reasons.append)
    first = function(product, weights, [torch.ones(2)])[0]
    function(product, weights, [torch.zeros(2)])
    with pytest.raises(RuntimeError, match="its last forward pass"):
        first.backward()


def test_a_recording_keeps_nothing_of_the_weights(weights, reasons):
    """Neither their graph of gradients nor themselves."""
    function = Replays(Recordings(), 1e-6, reasons.append)
    place = weights[0]
    function(product, weights, [torch.ones(2)])[0].backward()
    assert place.grad is not None
    kept = weakref.ref(place)
    del place
    weights.clear()
    assert kept() is None
