"""Check of the exercise ex-code: `descend` against a first step by hand and autograd, `distance` against the
library on the cloud of the page.
"""

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


@test_case(
    failure_message="The first step from u = 0 is not that of the equation: "
    "there, the sigmoid is one half for every statement."
)
def test_first_step(descend):
    g, s = cloud()
    by_hand = 0.5 * 2.0 / 9 * (g[s > 0].sum(axis=0) - g[s < 0].sum(axis=0)) / 2
    np.testing.assert_allclose(descend(g, s, 1, 0.5, 2.0), by_hand, rtol=1e-9)


@test_case(failure_message="After 25 steps u is not where gradient descent on the mean DPO loss arrives.")
def test_gradient(descend):
    g, s = cloud()
    features, labels = torch.tensor(g), torch.tensor(s)
    # How far the rows of Yes and No have moved.
    rows = torch.zeros(2, 6, dtype=torch.float64, requires_grad=True)
    for _ in range(25):
        log_ratio = features @ (rows[0] - rows[1])
        loss = -torch.nn.functional.logsigmoid(2.0 * labels * log_ratio).mean()
        (gradient,) = torch.autograd.grad(loss, rows)
        rows = (rows - 0.5 * gradient).detach().requires_grad_()
    np.testing.assert_allclose(descend(g, s, 25, 0.5, 2.0), rows[0].detach().numpy(), rtol=1e-7)


@test_case(
    failure_message="`distance` is not the library's: take the cloud, 100 steps, a rate of 0.1 and a "
    "strength of 0.5, and the norm of the change of both rows."
)
def test_distance(distance, cloud, cloud_labels):
    from prefdyn.engine import last_layer
    from prefdyn.engine.training import Settings

    how = Settings(0.1, 100, len(cloud_labels), 0.5, optimizer="sgd")
    run = last_layer.train(cloud, cloud_labels, how, np.zeros(cloud.shape[1]))
    np.testing.assert_allclose(distance, run.record.query("split == 'train'")["distance"].iloc[-1], rtol=1e-6)
