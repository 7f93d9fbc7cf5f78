"""Reward dynamics of Gaussian clusters: prefdyn's blocks beside the dense system of Eq. 8.

Both are solved by scipy's solve_ivp, ours by its LSODA, the dense system by its RK45. The peer makes the N x
N matrix of Eq. 10 with NumPy and multiplies by it, as the equation reads; making the matrix counts. Samples,
times and relative tolerance are the same; `max_difference` is the largest difference of any margin at tau_1.

`seconds_*` are medians of `--repeats` alternating runs.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

import numpy as np
import report
from scipy.integrate import solve_ivp
from scipy.special import expit

from prefdyn.engine import losses
from prefdyn.theory import clusters as theory
from prefdyn.theory import reward_dynamics as dynamics

BETA = 0.1
TOLERANCE = 1e-8
SETTINGS = (
    theory.Clusters(pairs=4, samples=100, dimension=64, spread=0.025, shared=0.5),
    theory.Clusters(pairs=16, samples=100, dimension=500, spread=0.025, shared=0.35, reuse=2),
    theory.Clusters(pairs=16, samples=200, dimension=1000, spread=0.017, shared=0.35, reuse=2),
)


def main() -> None:
    options = report.options(__doc__).parse_args()
    rows = []
    for of in SETTINGS:
        train = of.draw(np.random.default_rng(0))
        times = np.linspace(0, theory.tau_1(of, BETA), 11)
        ours, peer = [], []
        for repeat in range(options.repeats):
            seconds, margins = timed(by_blocks, train, times)
            ours.append(seconds)
            seconds, dense = timed(as_it_reads, train, times)
            peer.append(seconds)
            print(
                f"repeat {repeat + 1}, N = {len(train)}: ours {ours[-1]:.2f} s, dense {seconds:.2f} s",
                file=sys.stderr,
                flush=True,
            )
        name = (
            f"reward dynamics of {len(train)} samples, {of.pairs} concepts, d = {of.dimension}; dense system"
        )
        difference = float(np.abs(margins[-1] - dense[-1]).max())
        unit = "largest difference of a margin at tau_1"
        rows.append(report.row(name, "float64", "cpu", peer, ours, difference, unit))
    report.show(rows, options.json)


Solver = Callable[[dynamics.OneTokenPreferences, np.ndarray], np.ndarray]


def timed(solve: Solver, train: dynamics.OneTokenPreferences, times: np.ndarray) -> tuple[float, np.ndarray]:
    start = time.perf_counter()
    margins = solve(train, times)
    return time.perf_counter() - start, margins


def by_blocks(train: dynamics.OneTokenPreferences, times: np.ndarray) -> np.ndarray:
    return dynamics.flow(train, times, BETA, losses.dpo(), tolerance=TOLERANCE).margins(train)


def as_it_reads(train: dynamics.OneTokenPreferences, times: np.ndarray) -> np.ndarray:
    c = dynamics.interactions(train, train) * (BETA**2 / len(train))
    start = np.zeros(len(train))
    return solve_ivp(
        lambda _, r: c @ expit(-r), (0, times[-1]), start, t_eval=times, rtol=TOLERANCE, atol=TOLERANCE
    ).y.T


if __name__ == "__main__":
    main()
