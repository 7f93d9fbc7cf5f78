"""Check of the exercise ex-code: `descend` against a first step by hand and autograd, `distance` against the library."""

import numpy as np
import torch
from otter.test_files import test_case

OK_FORMAT = False
name = "ex-code"
points = 4


def cloud():
    """Nine statements of six features, with more Yes than No."""
    rng = np.random.default_rng(7)
    s = np.array([1.0, 1, 1, 1, 1, 1, -1, -1, -1])
    return rng.normal(size=(9, 6)) + s[:, None], s


@test_case(failure_message="With no step, u must be a zero for each feature.")
def test_start(descend):
    g, s = cloud()
    np.testing.assert_array_equal(descend(g, s, 0, 0.5, 2.0), np.zeros(6))


@test_case(failure_message="The first step from u = 0 is not that of the equation: there, the sigmoid is one half for every statement.")
def test_first_step(descend):
    g, s = cloud()
    by_hand = 0.5 * 2.0 / 9 * (g[s > 0].sum(axis=0) - g[s < 0].sum(axis=0)) / 2
    np.testing.assert_allclose(descend(g, s, 1, 0.5, 2.0), by_hand, rtol=1e-9)


@test_case(failure_message="After 25 steps u is not where gradient descent on the mean DPO loss arrives.")
def test_gradient(descend):
    g, s = cloud()
    features, labels = torch.tensor(g), torch.tensor(s)
    rows = torch.zeros(2, 6, dtype=torch.float64, requires_grad=True)  # how far the rows of Yes and No have moved
    for _ in range(25):
        log_ratio = features @ (rows[0] - rows[1])
        loss = -torch.nn.functional.logsigmoid(2.0 * labels * log_ratio).mean()
        (gradient,) = torch.autograd.grad(loss, rows)
        rows = (rows - 0.5 * gradient).detach().requires_grad_()
    np.testing.assert_allclose(descend(g, s, 25, 0.5, 2.0), rows[0].detach().numpy(), rtol=1e-7)


@test_case(failure_message="`distance` is not the library's: take the training statements alone, and the norm of the change of both rows.")
def test_distance(distance, last_layer, order):
    record = last_layer[order[-1]].record.query("split == 'train'")
    np.testing.assert_allclose(distance, record["distance"].iloc[-1], rtol=1e-3)
