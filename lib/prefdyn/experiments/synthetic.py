"""Synthetic clusters, and the theorems about them (chapter 2): no model takes part."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from prefdyn.experiments import flows
from prefdyn.experiments.bench import Bench
from prefdyn.experiments.generalization import BETA, Design, samples_of_the_data
from prefdyn.experiments.tasks import Task
from prefdyn.measures import estimates
from prefdyn.theory import clusters
from prefdyn.theory import reward_dynamics as dynamics
from prefdyn.theory.clusters import Clusters

Array = NDArray[np.float64]
INSIDE = Clusters(pairs=4, samples=100, dimension=64, spread=0.025, shared=0.5)
"""Clusters that meet every condition of Theorem 4.1, with the largest spread that it allows."""
BOUNDED = 14_000
"""Samples a cluster at which the appendix's bound is below 1 for one concept, and may fail for sure."""
COUNTS = [1, 4, 16, 135]
"""Numbers of concepts for which the samples that a bound needs are listed."""


def interactions(bench: Bench, design: Design) -> pd.DataFrame:
    """What samples of six clusters with shared tokens (K = 6, Z = 2, Q = 12) do to each other.

    A row a pair of samples, the second not before the first: `first` and `second`, their numbers, a concept
    after the other, + before −; `interaction`, C of Eq. 10, to three decimals.
    """
    few = Clusters(pairs=6, samples=12, dimension=64, spread=0.05, shared=0.5, reuse=2)
    samples = few.draw(np.random.default_rng(bench.seed))
    first, second = np.triu_indices(len(samples))
    values = dynamics.interactions(samples, samples)[first, second]
    return pd.DataFrame({"first": first, "second": second, "interaction": values.round(3)})


def descent(bench: Bench, design: Design) -> pd.DataFrame:
    """How far gradient descent ends from gradient flow, at tau_1, on clusters that meet every condition.

    A row a number of steps: `steps`; `gap`, the largest difference of any margin.
    """
    samples = INSIDE.draw(np.random.default_rng(bench.seed))
    end = clusters.tau_1(INSIDE, BETA)
    exact = dynamics.flow(samples, np.linspace(0, end, 41), BETA).margins(samples)[-1]
    rows = []
    for steps in (5, 10, 20, 40):
        margins = dynamics.descend(samples, steps, end / steps, BETA).margins(samples)[-1]
        rows.append({"steps": steps, "gap": np.abs(margins - exact).max()})
    return pd.DataFrame(rows)


def curves(bench: Bench, design: Design) -> pd.DataFrame:
    """Training margins of one draw of clusters up to tau_1: tight ones, which meet every condition, and wide.

    A row a time: `v`, the spread; `by`, flow or descent in five steps; `time`, in units of tau_1; `lowest`,
    `5%`, `median`, `95%`, `highest`, of the margins; `lower edge` and `upper edge`, of the theorem's band;
    `conditions that fail`, in words.
    """
    parts = []
    end = clusters.tau_1(INSIDE, BETA)
    for of in (INSIDE, replace(INSIDE, spread=0.5)):
        samples = of.draw(np.random.default_rng(bench.seed))
        paths = {"flow": dynamics.flow(samples, np.linspace(0, end, 41), BETA)}
        if of == INSIDE:
            paths["descent"] = dynamics.descend(samples, 5, end / 5, BETA)
        for by, path in paths.items():
            lower, upper = clusters.band(of, path.times, BETA)
            about = pd.DataFrame({"v": of.spread, "by": by, "time": path.times / end})
            edges = pd.DataFrame(
                {"lower edge": lower, "upper edge": upper, "conditions that fail": _broken(of)}
            )
            parts.append(pd.concat([about, flows.spread_of(path.margins(samples)), edges], axis=1))
    return pd.concat(parts)


def _broken(of: Clusters) -> str:
    return "; ".join(str(c) for c in clusters.conditions(of) if not c.holds) or "none"


def _of_clusters(
    bench: Bench, design: Design, kind: str, by: Callable[..., Array], settings: Sequence[Clusters]
) -> list[Array]:
    """What `by` finds of draws of clusters, for each setting, kept."""
    draws, seed = design.synthetic_draws, bench.seed
    return bench.keep_all(
        [
            Task(
                f"{kind} of {of}",
                kind,
                {"of": asdict(of), "beta": BETA, "draws": draws, "seed": seed},
                by,
                (of, BETA, draws, seed),
            )
            for of in settings
        ]
    )


def _shares_outside(bench: Bench, design: Design, settings: Sequence[Clusters]) -> list[Array]:
    """Share of training margins outside the band, for each draw, of each setting."""
    return _of_clusters(bench, design, "band", flows.shares_outside, settings)


def _promised(design: Design) -> list[Clusters]:
    """Clusters of one concept, as wide as the theorems allow, at which they promise something."""
    return [replace(clusters.at_the_limits(1, size, 1), dimension=64) for size in design.promised]


def band(bench: Bench, design: Design) -> pd.DataFrame:
    """How many training margins leave the band of Theorem 4.1 where its conditions hold.

    A row a setting: `K`, `Q`, `d`, `v`, `l_b`, `Z`, its clusters; `margins`, looked at in all draws;
    `outside the band`, how many of them leave it before tau_1; `failure allowed`, the first term of the
    probability with which the theorem may fail, or 1.
    """
    settings = [
        *_promised(design),
        replace(INSIDE, pairs=1),
        INSIDE,
        replace(INSIDE, pairs=16),
        replace(INSIDE, dimension=500),
        replace(clusters.at_the_limits(4, 256), dimension=64),
        replace(clusters.at_the_limits(9, 625), dimension=64),
    ]
    allowed = [of for of in settings if all(condition.holds for condition in clusters.conditions(of))]
    return pd.DataFrame(
        [
            {
                "K": of.pairs,
                "Q": of.samples,
                "d": of.dimension,
                "v": of.spread,
                "l_b": of.shared,
                "Z": of.reuse,
                "margins": of.total * design.synthetic_draws,
                "outside the band": round(shares.sum() * of.total),
                "failure allowed": np.exp(min(0.0, clusters.log_failure(of))),
            }
            for of, shares in zip(allowed, _shares_outside(bench, design, allowed), strict=True)
        ]
    )


SWEPT: dict[str, tuple[str, list[float]]] = {
    "spread v": ("spread", [0.025, 0.05, 0.1, 0.2, 0.4, 0.8]),
    "shared length l_b": ("shared", [0.25, 0.5, 1, 4, 16, 64]),
    "reuse Z, with K = 16": ("reuse", [1, 2, 3, 4]),
    "samples a cluster Q": ("samples", [10, 30, 100, 300]),
    "concepts K": ("pairs", [1, 4, 16, 63]),
    "dimension d": ("dimension", [8, 64, 500, 1000]),
}
"""What `conditions` varies: by its title, the field of `Clusters` and its values."""


def conditions(bench: Bench, design: Design) -> pd.DataFrame:
    """How many margins leave the band when one quantity is changed from `INSIDE`, beyond what is allowed.

    A row a setting: `varied`, the quantity, and its `value`; `v`, the spread; `share outside`, of training
    margins, the mean over draws, with its 95% interval `low` to `high`; `conditions that fail`, in words.
    """
    rows, swept = [], list(_swept())
    for (title, value, of), outside in zip(
        swept, _shares_outside(bench, design, [of for *_, of in swept]), strict=True
    ):
        shares = estimates.mean(outside)
        rows.append(
            {
                "varied": title,
                "value": value,
                "v": of.spread,
                "share outside": shares.value,
                "low": shares.low,
                "high": shares.high,
                "conditions that fail": _broken(of),
            }
        )
    return pd.DataFrame(rows)


def _swept() -> Iterator[tuple[str, float, Clusters]]:
    """Title, value and clusters of each setting of `conditions`."""
    for title, (field, values) in SWEPT.items():
        for spread in (INSIDE.spread,) if field == "spread" else (INSIDE.spread, 0.4):
            base = replace(INSIDE, spread=spread, pairs=16 if field == "reuse" else INSIDE.pairs)
            for value in values:
                yield title, value, replace(base, **{field: value})  # type: ignore[arg-type]


def risk(bench: Bench, design: Design) -> pd.DataFrame:
    """The risk on new samples at tau_1 beside the paper's bounds, at the largest v and l_b that it allows.

    A row a draw of clusters (Z = 1, d = 64): `K`, `Q`, `draw`; `log₁₀ risk`; `log₁₀ bound`, of Theorem 4.2;
    `log₁₀ bound, appendix`, of Theorem A.2; `log₁₀ failure`, of the first term of the probability with which
    either may fail.
    """
    sizes = [(pairs, size) for pairs in (1, 16) for size in (81, 256, 625, 1296)]
    sizes += [(1, size) for size in (BOUNDED, *design.promised)]
    settings = [replace(clusters.at_the_limits(*size, 1), dimension=64) for size in sizes]
    rows = []
    for (pairs, size), of, found in zip(
        sizes, settings, _of_clusters(bench, design, "risks", flows.log_risks, settings), strict=True
    ):
        for number, log_risk in enumerate(found):
            logs = {
                "log₁₀ risk": log_risk,
                "log₁₀ bound": clusters.log_risk_bound(pairs, size),
                "log₁₀ bound, appendix": clusters.log_risk_bound_appendix(of),
                "log₁₀ failure": clusters.log_failure(of),
            }
            about = {"K": pairs, "Q": size, "draw": number}
            rows.append({**about, **{name: value / np.log(10) for name, value in logs.items()}})
    return pd.DataFrame(rows)


def bounds(bench: Bench, design: Design) -> dict[str, pd.DataFrame]:
    """What the bounds of Theorem 4.2 and of its appendix promise, from formulas alone.

    Tables:
        bounds: `K`, `Q`; `log₁₀ bound`, of Theorem 4.2; `log₁₀ bound, appendix`, of Theorem A.2 with Z = 1
            and the largest v and d.
        samples_needed: a row a form of the bound: `form`; `Q for K = …`, the samples a cluster from which it
            is below 1.
        bound_of_the_data: one row: `K`, personas of the data; `Q`, the most statements of a label that all of
            one persona's labels have; `log₁₀ bound`, of Theorem 4.2 for these; `log₁₀ bound, appendix`, of
            Theorem A.2 with the largest v and Z = 1, at 81 samples where there are fewer; `Q for a bound
            below 1`, with that many personas; `Q for a failure below 1`, with K = Z = 1 and the
            largest v, the samples a cluster from which the first term of the probability of failure is below
            1.
    """
    sizes = np.unique(np.round(np.logspace(np.log10(81), 11, 400)))
    lines = pd.concat(
        [
            pd.DataFrame(
                {
                    "K": pairs,
                    "Q": sizes,
                    "log₁₀ bound": clusters.log_risk_bound(pairs, sizes) / np.log(10),
                    "log₁₀ bound, appendix": [
                        clusters.log_risk_bound_appendix(clusters.at_the_limits(pairs, int(size), 1))
                        / np.log(10)
                        for size in sizes
                    ],
                }
            )
            for pairs in (1, 16)
        ]
    )
    forms = ("Theorem 4.2", "Theorem A.2, Z = 1", "Theorem A.2, Z largest")
    needed = [{"form": form, **{f"Q for K = {k}": _needed(k, form) for k in COUNTS}} for form in forms]
    personas = bench.personas(design.personas, design.statements_per_label)
    largest = samples_of_the_data(personas, bench.source)
    widest = clusters.at_the_limits(len(personas), max(largest, 81), 1)
    at_data = {
        "K": len(personas),
        "Q": largest,
        "log₁₀ bound": float(clusters.log_risk_bound(len(personas), largest) / np.log(10)),
        "log₁₀ bound, appendix": clusters.log_risk_bound_appendix(widest) / np.log(10),
        "Q for a bound below 1": _needed(len(personas), "Theorem 4.2"),
        "Q for a failure below 1": clusters.samples_until(
            lambda q: clusters.log_failure(clusters.at_the_limits(1, round(q), 1)), 81
        ),
    }
    return {
        "bounds": lines,
        "samples_needed": pd.DataFrame(needed),
        "bound_of_the_data": pd.DataFrame([at_data]),
    }


def _needed(pairs: int, form: str) -> float:
    """The Q from which a form of the bound is below 1."""
    if form == "Theorem 4.2":
        return clusters.samples_until(lambda q: float(clusters.log_risk_bound(pairs, q)))
    reuse = None if form == "Theorem A.2, Z largest" else 1
    return clusters.samples_until(
        lambda q: clusters.log_risk_bound_appendix(clusters.at_the_limits(pairs, round(q), reuse)),
        smallest=81,
    )
