"""The chapter on noise's controlled experiment: matrix products beside one model and optimizer a run.

One setting of Figure 1: d = 512, gamma = 1/8, angle pi/3, 1,000 + 1,000 training points and as many test
points, 41 noise rates, 20 trials, 10 epochs of full-batch descent on the DPO loss. Ours is
`prefdyn.experiments.noisy.controlled`, all of it. The plain way draws the points of every trial and noise
rate with scipy's `vonmises_fisher`, makes a `torch.nn.Linear` with two outputs and a `torch.optim.SGD`, and
trains it by autograd. It is timed on `--sample` of its 820 runs, spread evenly over trials and rates, and its
time is scaled up: `seconds_peer` is an estimate, as the field `scaled_from` says. `max_difference` is the
largest difference of the two test accuracies, each a mean over the runs with noise rates below, at, or above
one half, in units of its standard error.
"""

from __future__ import annotations

import math
import sys
import time

import numpy as np
import pandas as pd
import report
import torch
import torch.nn.functional as F
from scipy.stats import vonmises_fisher

from prefdyn.engine import losses
from prefdyn.engine.last_layer import Descent
from prefdyn.experiments import noisy

CLOUD = noisy.Cloud(relative_kappa=1 / 8, angle=math.pi / 3, dimension=512)
DESCENT = Descent(beta=0.1, learning_rate=0.05, steps=10)
RATES, TRIALS, PER_LABEL = np.arange(41) / 40, 20, 1000


def main() -> None:
    parser = report.options(__doc__, device="cpu")  # of ours; the plain way runs on the CPU
    parser.add_argument(
        "--sample", type=int, default=15, help="runs of the plain way that are timed in each repeat"
    )
    options = parser.parse_args()

    runs = [(trial, rate) for trial in range(TRIALS) for rate in RATES]
    sampled = [runs[i] for i in np.linspace(0, len(runs) - 1, options.sample).round().astype(int)]
    ours, peer, plain = [], [], []
    for repeat in range(options.repeats):
        start = time.perf_counter()
        table = noisy.controlled(
            CLOUD,
            {"dpo": losses.dpo()},
            {"": DESCENT},
            RATES,
            PER_LABEL,
            TRIALS,
            (repeat, 0),
            options.device,
        )
        ours.append(time.perf_counter() - start)
        start = time.perf_counter()
        plain.extend((rate, plain_run(1000 * repeat + trial, rate)) for trial, rate in sampled)
        peer.append((time.perf_counter() - start) * len(runs) / len(sampled))
        print(
            f"repeat {repeat + 1}: ours {ours[-1]:.2f} s, the plain way {peer[-1]:.0f} s (scaled)",
            file=sys.stderr,
            flush=True,
        )
    row = report.row(
        "noise rates of one controlled setting, plain loop",
        "float32",
        options.device,
        peer,
        ours,
        difference(table, pd.DataFrame(plain, columns=["rate", "accuracy"])),
        "standard errors, largest difference in test accuracy",
    )
    report.show([row | {"scaled_from": f"{len(sampled)} of {len(runs)} runs"}], options.json)


def plain_run(seed: int, rate: float) -> float:
    """One trial at one noise rate, written as one would."""
    rng = np.random.default_rng([seed, int(1000 * rate)])
    means = np.zeros((2, CLOUD.dimension))
    means[:, 0] = math.cos(CLOUD.angle / 2)
    means[:, 1] = math.sin(CLOUD.angle / 2), -math.sin(CLOUD.angle / 2)

    def draw() -> tuple[torch.Tensor, torch.Tensor]:
        points = np.concatenate(
            [vonmises_fisher(mean, CLOUD.kappa, seed=rng).rvs(PER_LABEL) for mean in means]
        )
        return torch.tensor(points, dtype=torch.float32), torch.tensor([1.0] * PER_LABEL + [-1.0] * PER_LABEL)

    def margin(model: torch.nn.Linear, x: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        logits = model(x)
        return DESCENT.beta * labels * (logits[:, 0] - logits[:, 1])

    (x, labels), (test_x, test_labels) = draw(), draw()
    noisy_labels = torch.where(torch.from_numpy(rng.random(len(labels)) < rate), -labels, labels)
    model = torch.nn.Linear(CLOUD.dimension, 2, bias=False)
    torch.nn.init.zeros_(model.weight)
    optimizer = torch.optim.SGD(model.parameters(), lr=DESCENT.learning_rate)
    for _ in range(DESCENT.steps):
        loss = -F.logsigmoid(margin(model, x, noisy_labels)).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        return (margin(model, test_x, test_labels) > 0).double().mean().item()


def difference(ours: pd.DataFrame, theirs: pd.DataFrame) -> float:
    """Between accuracies below, at and above one half: the largest difference over its standard error.

    The noise rates of the sample weigh alike in both.
    """
    curve = ours.groupby("rate")["accuracy"].agg(["mean", "std"])
    expected, spread = (np.interp(theirs["rate"], curve.index, curve[name]) for name in ("mean", "std"))
    gap = theirs["accuracy"] - expected
    side = np.sign(theirs["rate"] - 0.5)
    return float(
        max(abs(gap[side == s].sum()) / math.sqrt((spread[side == s] ** 2).sum()) for s in side.unique())
    )


if __name__ == "__main__":
    main()
