"""Weights of forms: on a simplex, or free beside the last; how a weighted sum rises with them, and how they move."""

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


VALUES = torch.tensor([[1.5, -2.0, 0.25]], dtype=torch.float64)
LOGITS = torch.tensor([[0.3, -0.2, 0.7]], dtype=torch.float64)


def test_the_rise_of_free_weights_is_the_derivative_by_their_logits():
    of, logits = objective(True), LOGITS.clone().requires_grad_()
    (of.weights(logits) * VALUES).sum().backward()
    assert torch.allclose(of.rise(of.weights(logits), VALUES), logits.grad)


def test_the_rise_on_a_simplex_is_the_derivative_by_each_weight_of_what_is_normalised_after():
    of = objective(False)
    weights = of.weights(LOGITS).requires_grad_()
    ((weights / weights.sum(1, keepdim=True)) * VALUES).sum().backward()
    assert torch.allclose(of.rise(weights.detach(), VALUES), weights.grad)


def test_weights_on_a_simplex_go_as_far_as_they_are_told():
    of = objective(False)
    weights = of.weights(LOGITS)
    way = torch.tensor([[0.1, -0.05, -0.05]], dtype=torch.float64)
    assert torch.allclose(of.weights(of.moved(LOGITS, weights, way)), weights + way)


def test_free_weights_move_by_their_logits():
    way = torch.tensor([[0.1, -0.05, -0.05]], dtype=torch.float64)
    assert torch.equal(objective(True).moved(LOGITS, objective(True).weights(LOGITS), way), LOGITS + way)


def test_a_weight_that_went_to_zero_comes_back_as_fast_as_others():
    of = objective(False)
    logits = torch.tensor([[-40.0, 0.0, 0.0]], dtype=torch.float64)
    for _ in range(5):
        logits = of.moved(logits, of.weights(logits), 0.1 * of.rise(of.weights(logits), VALUES).sign())
    assert of.weights(logits)[0, 0] > 0.3


def test_what_is_not_there_neither_rises_nor_moves():
    of = objective(False, (True, False, True))
    weights = of.weights(LOGITS)
    assert of.rise(weights, VALUES)[0, 1] == 0
    moved = of.moved(LOGITS, weights, torch.full_like(weights, 0.2))
    assert moved[0, 1] == LOGITS[0, 1]
    assert torch.isfinite(of.moved(LOGITS, weights, torch.full_like(weights, -9.0))).all()


@pytest.mark.parametrize("scaled", [False, True])
def test_rows_and_copies_keep_the_kind_of_weights(scaled):
    of = objective(scaled)
    for other in (of.at(slice(0, 1)), of.repeat(3), of.to(torch.float32)):
        assert other.scaled is scaled
    assert of.repeat(3).constant.tolist() == [[0.5, -1.0, 2.0]] * 3
    assert of.repeat(3).forms[0].shape == (3, 3, 1)
