"""The Lagrangian bound lies below every point for any multipliers, and the ascent climbs; linear maps are the interpreter's."""

import numpy as np
import pytest
import random_networks
import torch
import units

from bvverify.bounds.ascent import Objective, Settings, ascend
from bvverify.bounds.units import inner
from bvverify.model.certificate import units as number_of_units
from bvverify.model.ops import Concat, Reshape, Transpose, inputs
from bvverify.run import interpreter
from bvverify.run.adjoint import adjoint
from bvverify.search.root import Root


def _prepared(seed):
    rng = np.random.default_rng(seed)
    net = random_networks.network(rng)
    where = random_networks.box(rng, net)
    x = random_networks.points(where)
    y = interpreter.run(net, x).reshape(len(x), -1)
    query = random_networks.Query(net, where, random_networks.prop(rng, net, where, y))
    root = Root.of(query, [])
    return rng, net, root, root.relaxation(), x, y


def _corners(root, relaxation, rows, dtype):
    out = {}
    for index, unit in relaxation.units.items():
        lo, hi = (torch.from_numpy(side[:, unit.keep].copy()).expand(rows, -1) for side in root.ranges.acc[index])
        out[index] = relaxation.corners(index, lo, hi, dtype)
    return out


@pytest.mark.parametrize("block", range(8))
def test_any_multipliers_bound_every_point(block):
    climbed = 0
    for seed in range(block * 25, block * 25 + 25):
        rng, net, root, relaxation, _, y = _prepared(seed)
        rows = 4
        c = rng.integers(-3, 4, (rows, y.shape[1]))
        output = net.output.tensor
        keep = relaxation.keep[output]
        forms = torch.from_numpy(c[:, keep].astype(np.float64))
        constant = torch.from_numpy((c @ relaxation.reference[output].reshape(-1)).astype(np.float64))
        least = (y @ c.T).min(axis=0)
        corners = _corners(root, relaxation, rows, torch.float64)
        for _ in range(3):
            m = {i: torch.from_numpy(rng.normal(0, 0.7, (rows, len(u.keep)))) for i, u in relaxation.units.items()}
            value = relaxation.evaluate(corners, m, {output: forms}, constant).value.numpy()
            assert (value <= least + 1e-6).all(), seed
        start = relaxation.start(corners, {output: forms})
        start = {i: v.double() for i, v in start.items()}
        before = relaxation.evaluate(corners, start, {output: forms}, constant).value
        objective = Objective({output: forms[:, None]}, constant[:, None], torch.ones_like(constant[:, None], dtype=torch.bool))
        after = ascend(relaxation, corners, start, torch.zeros((rows, 1), dtype=torch.float64), objective, Settings(60, 0.2, 0.97)).value
        assert (after.numpy() <= least + 1e-6).all(), seed
        assert (after >= before - 1e-9).all()
        climbed += int((after > before + 1e-6).sum())
    assert climbed > 2


@pytest.mark.parametrize("seed", range(60))
def test_the_residual_is_a_supergradient(seed):
    """L at other multipliers is at most L here plus the residual times the difference: that is what an ascent direction has to be."""
    rng, net, root, relaxation, _, _ = _prepared(seed)
    if not relaxation.units:
        return
    output = net.output.tensor
    forms = {output: torch.from_numpy(rng.normal(0, 1, (3, len(relaxation.keep[output]))))}
    corners, constant = _corners(root, relaxation, 3, torch.float64), torch.zeros(3, dtype=torch.float64)
    here = {i: torch.from_numpy(rng.normal(0, 0.5, (3, len(u.keep)))) for i, u in relaxation.units.items()}
    there = {i: v + torch.from_numpy(rng.normal(0, 0.3, tuple(v.shape))) for i, v in here.items()}
    point = relaxation.evaluate(corners, here, forms, constant)
    slope = sum(((there[i] - here[i]) * g).sum(1) for i, g in point.residual.items())
    assert (relaxation.evaluate(corners, there, forms, constant).value <= point.value + slope + 1e-6).all()


@pytest.mark.parametrize("seed", range(60))
def test_blur_changes_minimisers_alone_and_they_are_the_slopes_of_a_smoothed_bound(seed):
    rng, _, root, relaxation, _, _ = _prepared(seed)
    corners = _corners(root, relaxation, 3, torch.float64)
    for index, of in corners.items():
        n = of.left.shape[3]
        if n == 0:
            continue
        c, m = (torch.from_numpy(rng.normal(0, 1, (3, n))) for _ in range(2))
        m /= relaxation.units[index].step
        blur = torch.from_numpy(rng.uniform(0.05, 0.5, (3, 1)))
        sharp, (a, z) = inner(of, c, m)
        value, averages = inner(of, c, m, blur=blur)
        assert torch.allclose(value, sharp)
        both = of.left if of.right is None else torch.where(m > 0, of.right, of.left)
        m.requires_grad_()
        c.requires_grad_()
        b = (blur * c.detach().abs()).clamp(min=1e-9)
        smooth = -(b * torch.logsumexp(-(c * both[1] - m * both[0]) / b * np.log(2), 0) / np.log(2)).sum()
        by_c, by_m = torch.autograd.grad(smooth, (c, m))
        assert torch.allclose(averages[0], -by_m, atol=1e-6 * (1 + float(a.abs().max()))), index
        assert torch.allclose(averages[1], by_c, atol=1e-6 * (1 + float(z.abs().max()))), index


@pytest.mark.parametrize("seed", range(60))
def test_linear_maps_and_adjoints_are_the_interpreters_accumulators(seed):
    rng, net, _, relaxation, x, _ = _prepared(seed)
    tensors = interpreter.trace(net, x[:7])
    acc = units.accumulators(net, tensors)
    for index, op in enumerate(net.ops):
        size = number_of_units(net, index)
        values = [
            torch.from_numpy((tensors[t] - relaxation.reference[t]).reshape(len(x[:7]), -1)[:, relaxation.keep[t]]).double()
            for t in inputs(op)
        ]
        maps = relaxation.maps[torch.float64][index]
        if isinstance(op, Concat | Reshape | Transpose):
            moved = (tensors[index + 1] - relaxation.reference[index + 1]).reshape(len(x[:7]), -1)[:, relaxation.keep[index + 1]]
            assert np.array_equal(maps.forward(values).numpy(), moved)
        elif index in relaxation.units and maps is not None:
            unit = relaxation.units[index]
            assert np.array_equal(maps.forward(values).numpy(), acc[index][:, unit.keep] - unit.a0.numpy())
            m = torch.from_numpy(rng.normal(0, 1, (len(x[:7]), len(unit.keep))))
            there = sum((form * v).sum(1) for form, v in zip(maps.backward(m), values, strict=True))
            assert torch.allclose((maps.forward(values) * m).sum(1), there)
        if size and op.__class__.__name__ != "MaxPool":
            m = rng.integers(-5, 6, (3, size))
            forms, constant = adjoint(net, index, m)
            total = constant[:, None] + sum(form.reshape(3, -1) @ tensors[t].reshape(len(x[:7]), -1).T for t, form in forms)
            assert np.array_equal(total, m @ acc[index].T)
