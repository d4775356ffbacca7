"""Weights of forms: on a simplex, or free beside the last; and how a weighted sum rises with their logits."""

import pytest
import torch

from bvverify.bounds.ascent import Objective


def objective(scaled, present=(True, True, True)):
    one = torch.tensor([[0.5, -1.0, 2.0]], dtype=torch.float64)
    return Objective({0: one[:, :, None]}, one, torch.tensor([present]), scaled)


def test_free_weights_leave_the_last_at_one():
    weights = objective(True).weights(torch.tensor([[0.0, 1.0, 5.0]], dtype=torch.float64))
    assert weights.tolist() == [[1.0, pytest.approx(2.718281828), 1.0]]


def test_what_is_not_there_weighs_nothing():
    for scaled in (False, True):
        assert objective(scaled, (True, False, True)).weights(torch.zeros(1, 3))[0, 1] == 0


@pytest.mark.parametrize("scaled", [False, True])
def test_the_rise_is_the_derivative(scaled):
    of = objective(scaled)
    logits = torch.tensor([[0.3, -0.2, 0.7]], dtype=torch.float64, requires_grad=True)
    values = torch.tensor([[1.5, -2.0, 0.25]], dtype=torch.float64)
    (of.weights(logits) * values).sum().backward()
    assert torch.allclose(of.rise(of.weights(logits), values), logits.grad)


@pytest.mark.parametrize("scaled", [False, True])
def test_rows_and_copies_keep_the_kind_of_weights(scaled):
    of = objective(scaled)
    for other in (of.at(slice(0, 1)), of.repeat(3), of.to(torch.float32)):
        assert other.scaled is scaled
    assert of.repeat(3).constant.tolist() == [[0.5, -1.0, 2.0]] * 3
    assert of.repeat(3).forms[0].shape == (3, 3, 1)
