"""Weights of forms: on a simplex, or free beside a form of its own; the weighted sum, how it rises with them, and how they move."""

import pytest
import torch

from bvverify.bounds.ascent import Objective


def objective(free, present=(True, True, True)):
    one = torch.tensor([[0.5, -1.0, 2.0]], dtype=torch.float64)
    own = {0: torch.tensor([[7.0]], dtype=torch.float64)} if free else {}
    return Objective({0: one[:, :, None]}, one, torch.tensor([present]), own)


def test_free_weights_are_those_of_their_logits():
    weights = objective(True).weights(torch.tensor([[0.0, 1.0, -5.0]], dtype=torch.float64))
    assert weights.tolist() == [[1.0, pytest.approx(2.718281828), pytest.approx(0.006737947)]]


def test_a_single_form_has_weights_only_beside_another():
    one = torch.tensor([[2.0]], dtype=torch.float64)
    present, logits = torch.ones(1, 1, dtype=torch.bool), torch.tensor([[1.0]], dtype=torch.float64)
    alone, beside = Objective({0: one[None]}, one, present), Objective({0: one[None]}, one, present, {0: one})
    assert not alone.several
    assert alone.weights(logits).tolist() == [[1.0]]
    assert beside.several
    assert beside.weights(logits).tolist() == [[pytest.approx(2.718281828)]]


@pytest.mark.parametrize("own", [False, True])
@pytest.mark.parametrize("forms", [1, 3])
def test_the_weighted_sum_is_the_same_whether_rows_share_their_forms_or_not(own, forms):
    generator = torch.Generator().manual_seed(forms)
    shared = {t: torch.rand((1, forms, 4 + t), dtype=torch.float64, generator=generator) for t in (0, 2)}
    constant = torch.rand((5, forms), dtype=torch.float64, generator=generator)
    mine = {t: torch.rand((5, 4 + t), dtype=torch.float64, generator=generator) for t in (1, 2)} if own else {}
    weights = torch.rand((5, forms), dtype=torch.float64, generator=generator)
    outputs = {t: torch.rand((5, 4 + t), dtype=torch.float64, generator=generator) for t in (0, 1, 2)}
    present = torch.ones((5, forms), dtype=torch.bool)
    one, each = (Objective({t: f.repeat(n, 1, 1) for t, f in shared.items()}, constant, present, mine) for n in (1, 5))
    for of in (one, each):
        expected = {t: sum(weights[:, k, None] * f[:, k] for k in range(forms)) for t, f in shared.items()}
        for t, f in mine.items():
            expected[t] = expected[t] + f if t in expected else f
        sums, number = of.weighted(weights)
        assert sums.keys() == expected.keys()
        assert all(torch.allclose(sums[t], f) for t, f in expected.items())
        assert torch.allclose(number, (weights * constant).sum(1))
        each_form = constant + sum((f * outputs[t][:, None]).sum(2) for t, f in shared.items())
        assert torch.allclose(of.values(outputs), each_form)
        assert all(torch.equal(mine[t], f) for t, f in of.at(slice(None)).own.items())


def test_what_is_not_there_weighs_nothing():
    for free in (False, True):
        assert objective(free, (True, False, True)).weights(torch.zeros(1, 3))[0, 1] == 0


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


@pytest.mark.parametrize("free", [False, True])
def test_rows_and_copies_keep_the_kind_of_weights(free):
    of = objective(free)
    for other in (of.at(slice(0, 1)), of.repeat(3), of.to(torch.float32)):
        assert (len(other.own) > 0) is free
    assert of.repeat(3).forms[0].shape == (1, 3, 1)
    assert of.repeat(3).constant.tolist() == [[0.5, -1.0, 2.0]] * 3
    assert of.to(torch.float32).weighted(torch.ones(1, 3))[0][0].dtype is torch.float32
