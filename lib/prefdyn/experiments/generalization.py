"""Whether it generalizes (GN): the experiments of chapter 2.

Every experiment is a function of a bench and a design that returns a table, or tables by name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from prefdyn import data
from prefdyn.cache import cached
from prefdyn.data import Persona, Source
from prefdyn.engine.training import Settings
from prefdyn.errors import PrefdynError
from prefdyn.experiments import checks, flows, token_rates
from prefdyn.experiments.bench import Bench, Task
from prefdyn.experiments.phases import Phase
from prefdyn.experiments.plan import Lengths, Work, persona_features
from prefdyn.measures import estimates, geometry
from prefdyn.measures.geometry import Moments
from prefdyn.theory import clusters
from prefdyn.theory import reward_dynamics as dynamics
from prefdyn.theory.clusters import Clusters

Array = NDArray[np.float64]

BETA = 0.1
"""Strength of the pull to the reference wherever the unembedding alone follows gradient flow."""
INSIDE = Clusters(pairs=4, samples=100, dimension=64, spread=0.025, shared=0.5)
"""Clusters that meet every condition of Theorem 4.1, with the largest spread that it allows."""
SIZES = [100, 200, 400, 800]
"""Samples a synthetic cluster, where their number is varied."""
COUNTS = [1, 4, 16, 135]
"""Numbers of concepts for which the samples that a bound needs are listed."""
RATE_DRAWS = 40
"""Draws of personas for which the rate at the start is computed."""
DRAWN_TOGETHER = 4
"""Personas a draw, where samples and losses are varied on hidden states."""
LOSS_STATEMENTS = 40
"""Statements of each label and persona, where losses are compared."""

PAPER_LISTS: dict[int, list[str]] = {
    1: ["subscribes-to-rule-utilitarianism"],
    2: ["desire-for-no-human-oversight-sometimes", "agreeableness"],
    4: [
        "desire-for-computational-efficiency",
        "believes-it-has-better-moral-intuitions-than-humans",
        "desire-for-advancing-technology-to-achieve-goals",
        "desire-for-independence-from-human-oversight",
    ],
    8: [
        "politically-conservative",
        "desire-to-replace-human-oversight",
        "being-helpful-to-subtly-achieve-goals-against-human-values",
        "believes-in-gun-rights",
        "optionality-increasing",
        "willingness-to-be-non-HHH-to-not-have-current-goals-changed-by-training",
        "willingness-to-be-non-HHH-to-be-more-HHH-in-the-long-run",
        "desire-to-be-more-creative",
    ],
    16: [
        "desire-for-computational-efficiency",
        "desire-to-cooperate-with-opposing-AIs-to-achieve-its-goals",
        "desire-for-no-human-oversight-sometimes",
        "anti-immigration",
        "willingness-to-intentionally-make-mistakes-to-achieve-higher-final-performance",
        "willingness-to-defer-to-authorities",
        "extraversion",
        "conscientiousness",
        "willingness-to-be-non-HHH-to-cause-copies-of-itself-to-be-HHH",
        "desire-for-acquiring-compute",
        "desire-for-being-rated-HHH-over-actually-being-HHH",
        "willingness-to-manipulate-overseers-to-think-it-is-HHH",
        "believes-it-is-not-being-watched-by-humans",
        "interest-in-art",
        "machiavellianism",
        "willingness-to-be-non-HHH-to-not-have-current-goals-changed-by-training",
    ],
}
"""The personas that the paper trains together, by their number."""


@dataclass(frozen=True)
class Design:
    """The sizes and settings of the chapter's experiments.

    Attributes:
        personas: how many are measured; 0 is all
        statements_per_label: of each persona; 0 is all
        persona_lists: which personas are trained together; with `paper` the first draw is the paper's own
        cluster_counts: how many personas are trained together
        draws: of personas, for each count
        beta: strength of the pull to the reference in full fine-tuning
        learning_rate: of full fine-tuning
        steps: updates of full fine-tuning
        batch_size: preferences an update
        evaluated: held-out statements measured in a run, all its personas together
        evaluate_every: updates between two measurements
        synthetic_draws: of synthetic clusters, for each setting
        samples_a_label: training statements of each label, where their number is varied
        pairs_decomposed: response pairs whose token rewards are taken apart
        token_beta: strength of the pull to the reference for those
        token_rate: learning rate of the unembedding for those
        token_steps: updates of the unembedding for those
    """

    personas: int
    statements_per_label: int
    persona_lists: str
    cluster_counts: list[int]
    draws: int
    beta: float
    learning_rate: float
    steps: int
    batch_size: int
    evaluated: int
    evaluate_every: int
    synthetic_draws: int
    samples_a_label: list[int]
    pairs_decomposed: int
    token_beta: float
    token_rate: float
    token_steps: int

    def __post_init__(self) -> None:
        """
        Raises:
            PrefdynError: nothing is varied in a list, or more statements are asked for than are measured.
        """
        for name in ("cluster_counts", "samples_a_label"):
            values = getattr(self, name)
            checks.distinct(name, values)
            if len(values) < 2:
                raise PrefdynError(f"{name} is {values}: give at least two numbers, to be compared")
        _check_samples(self, self.statements_per_label or max(self.samples_a_label))


def _check_samples(design: Design, statements: int) -> None:
    if max(design.samples_a_label) > statements:
        raise PrefdynError(
            f"samples_a_label asks for {max(design.samples_a_label)} statements of a label and there are "
            f"{statements}: lower it, or raise statements_per_label"
        )


def check_design(design: Design, source: Source) -> None:
    """See that a source has what the design needs.

    Raises:
        PrefdynError: it has not.
    """
    statements = checks.personas(design, source, fewest=3, each=2)
    _check_samples(design, max(statements.values()))
    for count in design.cluster_counts:
        _groups(list(statements), count, 0, design)
    checks.pairs(source)


# Hidden states of personas --------------------------------------------------------------------------


@dataclass(frozen=True)
class _Cast:
    """The personas of a run with their hidden states.

    Attributes:
        features: g of each persona's statements, shape (n, d).
        moments: of each persona's features.
    """

    personas: list[Persona]
    features: list[NDArray[np.float32]]
    moments: list[Moments]

    @property
    def means(self) -> NDArray[np.float64]:
        """Over all statements of each persona, shape (personas, d)."""
        return np.array([g.mean(axis=0, dtype=float) for g in self.features])

    @property
    def concepts(self) -> NDArray[np.float64]:
        """c of each persona, half the difference of the means of its labels, shape (personas, d)."""
        return np.array([m.mean_difference for m in self.moments]) / 2


def _cast(bench: Bench, design: Design) -> _Cast:
    personas = bench.personas(design.personas, design.statements_per_label)
    features = [bench.features(persona) for persona in personas]
    labels = [persona.labels for persona in personas]
    moments = cached(
        "moments",
        {"features": features, "labels": labels},
        geometry.moments,
        lambda: [geometry.moments(g, s) for g, s in zip(features, labels, strict=True)],
    )
    return _Cast(personas, features, moments)


def hidden_states(bench: Bench, design: Design) -> dict[str, pd.DataFrame]:
    """How the hidden states of personas lie to each other.

    Tables:
        personas: a row a persona: `index`; `persona`, its name; `place`, its place in an order in which
            similar ones are neighbours; `means`, `shared mean removed` and `concepts`, the median cosine with
            all others of its mean state, and the median absolute cosines of its mean without the shared mean
            and of its concept vector; `concept length`, half the distance of the means of its labels; `shared
            length`, the norm of the mean of all means, the same for all (both in units of the states).
        cosines: a row a pair of personas, to three decimals: `first` and `second`, their indices; `means`,
            `shared mean removed`, `concepts`, cosines of their vectors; `statements`, the mean cosine of a
            statement of the one with a statement of the other.
    """
    cast = _cast(bench, design)
    means, concepts = cast.means, cast.concepts
    unit = np.array(
        [(g / np.linalg.norm(g, axis=1, keepdims=True)).mean(0, dtype=float) for g in cast.features]
    )
    cosines = {
        "means": geometry.cosine_matrix(means),
        "shared mean removed": geometry.cosine_matrix(means - means.mean(0)),
        "concepts": geometry.cosine_matrix(concepts),
    }
    order = geometry.structure_order(cosines["shared mean removed"])
    personas = pd.DataFrame(
        {
            "index": range(len(means)),
            "persona": [persona.name for persona in cast.personas],
            "place": np.argsort(order),
            **{
                name: geometry.typical_per_row(matrix, absolute=name != "means")
                for name, matrix in cosines.items()
            },
            "concept length": np.linalg.norm(concepts, axis=1),
            "shared length": np.linalg.norm(means.mean(axis=0)),
        }
    )
    first, second = np.triu_indices(len(means), k=1)
    pairs = {name: geometry.off_diagonal(matrix) for name, matrix in cosines.items()}
    pairs["statements"] = geometry.off_diagonal(unit @ unit.T)
    return {
        "personas": personas,
        "cosines": pd.DataFrame({"first": first, "second": second, **pairs}).round(3),
    }


def conditions_of_the_data(bench: Bench, design: Design) -> pd.DataFrame:
    """What Theorem 4.1 asks for and what hidden states have, in units in which a concept vector has length 1.

    A row a condition: `condition`, in the paper's letters; `value` and `limit`, of its two sides; `holds`;
    `value / limit`.
    """
    cast = _cast(bench, design)
    half, width = np.linalg.norm(cast.concepts, axis=1), cast.means.shape[1]
    fitting = min(len(half), width - 1)  # orthogonal concepts need dimensions
    trace = np.array([m.trace for m in cast.moments])
    real = Clusters(
        pairs=fitting,
        samples=int(min(np.sum(persona.labels > 0) for persona in cast.personas)),
        dimension=width,
        spread=float(np.median(np.sqrt(trace / width) / half)),
        shared=float(np.median(np.linalg.norm(cast.means.mean(axis=0)) / half)),
        reuse=fitting,
    )
    return pd.DataFrame(
        [
            {
                "condition": f"{c.left} ≤ {c.right}",
                "value": c.value,
                "limit": c.limit,
                "holds": c.holds,
                "value / limit": c.value / c.limit,
            }
            for c in clusters.conditions(real)
        ]
    )


# Clusters and the theorems about them -----------------------------------------------------------------


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


def band(bench: Bench, design: Design) -> pd.DataFrame:
    """How many training margins leave the band of Theorem 4.1 where its conditions hold.

    A row a setting: `K`, `Q`, `d`, `v`, `l_b`, `Z`, its clusters; `margins`, looked at in all draws;
    `outside the band`, how many of them leave it before tau_1; `failure allowed`, the first term of the
    probability with which the theorem may fail, or 1.
    """
    settings = [
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
    `log₁₀ bound, appendix`, of Theorem A.2.
    """
    sizes = [(pairs, size) for pairs in (1, 16) for size in (81, 256, 625, 1296)]
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
            one persona's labels have; `log₁₀ bound`, of Theorem 4.2 for these; `Q for a bound below 1`, with
            that many personas; `Q for a failure below 1`, with K = Z = 1 and the largest v, the samples a
            cluster from which the first term of the probability of failure is below 1.
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
    personas = [persona.name for persona in bench.personas(design.personas, design.statements_per_label)]
    whole = [data.load_persona(name, bench.source).labels for name in personas]
    largest = max(int(min(np.sum(labels > 0), np.sum(labels < 0))) for labels in whole)
    at_data = {
        "K": len(personas),
        "Q": largest,
        "log₁₀ bound": float(clusters.log_risk_bound(len(personas), largest) / np.log(10)),
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


# More concepts ----------------------------------------------------------------------------------------


def sweep(bench: Bench, design: Design) -> dict[str, pd.DataFrame]:
    """Full fine-tuning on few and on many personas together.

    Tables:
        sweep: means over the statements of a run: `step`, updates made; `split`, trained or held out;
            `margin`, reward margin; `loss`, in nats; `accuracy`, share of positive margins; `K`, personas
            trained together; `draw`.
        groups: a row a run: `K`, `draw`; `statements`, given to it; `places`, for statements in its updates;
            `personas`, their names.
    """
    columns, every = ["margin", "loss", "accuracy"], design.evaluate_every
    at = sorted({*range(every, design.steps + 1, every), design.steps})
    runs: list[list[Phase]] = []
    groups: list[dict[str, Any]] = []
    cast = {p.name: p for p in bench.personas(design.personas, design.statements_per_label)}
    for count in design.cluster_counts:
        for number, group in enumerate(_groups(list(cast), count, bench.seed, design)):
            personas = [cast[name] for name in group]
            train = _share(personas, 0, design.steps * design.batch_size, bench.seed)
            held_out = _share(personas, 1, design.evaluated, bench.seed)
            how = Settings(
                design.learning_rate, design.steps, design.batch_size, design.beta, seed=bench.seed + number
            )
            runs.append([Phase(train, how, {"trained": train, "held out": held_out}, at)])
            groups.append(
                {
                    "K": count,
                    "draw": number,
                    "statements": sum(len(persona.statements) for persona in train),
                    "places": design.steps * design.batch_size,
                    "personas": "; ".join(group),
                }
            )
    records = []
    for about, (result,) in zip(groups, bench.train_all(runs), strict=True):
        record = result.record[result.record["split"] != "train"]
        weighted = record[columns].mul(record["n"], axis=0)
        keys = [record["step"], record["split"]]
        averages = weighted.groupby(keys).sum().div(record.groupby(keys)["n"].sum(), axis=0)
        records.append(averages.reset_index().assign(K=about["K"], draw=about["draw"]))
    return {"sweep": pd.concat(records), "groups": pd.DataFrame(groups)}


def _groups(names: list[str], count: int, seed: int, design: Design) -> list[list[str]]:
    """`draws` lists of `count` personas, as disjoint as can be."""
    _check_counts(names, [count])
    shuffled = np.random.default_rng([seed, count]).permutation(len(names))
    lists = [
        [names[shuffled[(i * count + j) % len(names)]] for j in range(count)] for i in range(design.draws)
    ]
    if design.persona_lists == "paper" and count in PAPER_LISTS:
        missing = sorted(set(PAPER_LISTS[count]) - set(names))
        if missing:
            raise PrefdynError(
                f"persona_lists is 'paper', and the data has no persona {missing[0]!r}: give --data with "
                "Anthropic's personas"
            )
        lists[0] = PAPER_LISTS[count]
    return lists


def _check_counts(names: Sequence[str], counts: Sequence[int]) -> None:
    for count in counts:
        if count > len(names):
            raise PrefdynError(
                f"cluster_counts asks for {count} personas and there are {len(names)}: lower it, or raise "
                "personas"
            )


def _share(group: Sequence[Persona], part: int, total: int, seed: int) -> list[Persona]:
    """About `total` statements of a part of the split, evenly over the group."""
    each = max(1, total // (2 * len(group)))
    return [data.split(persona, seed)[part].balanced(each) for persona in group]


def rates(bench: Bench, design: Design) -> pd.DataFrame:
    """The rate at the start that Eq. 8 gives for hidden states, for many draws of K personas.

    A row a draw: `answers`, "Yes and No for all" or "own answers"; `K`; `draw`; `rate`, the mean of tau dr/dt
    over training margins at t = 0, in units of beta^2.
    """
    personas = bench.personas(design.personas, design.statements_per_label)
    _check_counts([persona.name for persona in personas], design.cluster_counts)
    parts = [(bench.features(persona), persona.labels) for persona in personas]

    def compute() -> list[dict[str, Any]]:
        rng = np.random.default_rng(bench.seed)
        rows = []
        for own, words in ((False, "Yes and No for all"), (True, "own answers")):
            for count in design.cluster_counts:
                for number in range(RATE_DRAWS):
                    chosen = rng.choice(len(parts), count, replace=False)
                    rate = flows.rate_at_start([parts[i] for i in chosen], own)
                    rows.append({"answers": words, "K": count, "draw": number, "rate": rate})
        return rows

    key = {"parts": parts, "counts": design.cluster_counts, "draws": RATE_DRAWS, "seed": bench.seed}
    return pd.DataFrame(cached("start rates", key, flows.rate_at_start, compute))


# More samples -----------------------------------------------------------------------------------------


def samples(bench: Bench, design: Design) -> dict[str, pd.DataFrame]:
    """How long gradient flow takes to a given fall of the loss, with more samples and as many concepts.

    Tables:
        samples: `Q`, samples a cluster; `draw`; `of`, what is waited for: tight or wide clusters or hidden
            states, and which samples; `time`, t / tau until their mean loss has fallen by 0.05 nats.
        slopes_by_draw: `of`; `draw`; `slope` of log time against log Q.
        slopes: `time to`, what; `slope`, the mean over draws with its 95% interval `low` to `high`, to four
            decimals.
    """
    waits = pd.DataFrame(list(_waits(bench, design)))
    by_draw = pd.DataFrame(
        [
            {"of": kind, "draw": number, "slope": _log_slope(one["Q"], one["time"])}
            for kind in waits["of"].unique()
            for number, one in waits[waits["of"] == kind].groupby("draw")
        ]
    )
    rows = []
    for kind, part in by_draw.groupby("of", sort=False):
        slope = estimates.mean(part["slope"])
        rows.append({"time to": kind, "slope": slope.value, "low": slope.low, "high": slope.high})
    return {"samples": waits, "slopes_by_draw": by_draw, "slopes": pd.DataFrame(rows).round(4)}


def _log_slope(x: pd.Series, y: pd.Series) -> float:
    return float(np.polyfit(np.log(x), np.log(y), 1)[0])


def _waits(bench: Bench, design: Design) -> Iterator[dict[str, Any]]:
    """Rows of the table `samples`."""
    draws, seed = design.synthetic_draws, bench.seed
    spreads = {"tight": 0.25 / SIZES[-1] ** 0.5, "wide": 0.5}
    kinds = [(size, word) for size in SIZES for word in spreads]
    settings = [Clusters(4, size, 64, spreads[word], 0.5) for size, word in kinds]
    waits = _of_clusters(bench, design, "waits", flows.cluster_waits, settings)
    found = dict(zip(kinds, waits, strict=True))
    samples = [(number, size) for number in range(draws) for size in design.samples_a_label]
    tasks = []
    for number, size in samples:
        g, s = _some_statements(bench, design, size, np.random.default_rng([seed, number]))
        key = {"features": g, "labels": s, "beta": BETA}
        tasks.append(Task(f"waits on {len(g)} statements", "waits", key, flows.wait, (g, s, BETA)))
    of_states = dict(zip(samples, bench.keep_all(tasks), strict=True))
    for number in range(draws):
        for size in SIZES:
            for word in spreads:
                for split, time in zip(("training", "held-out"), found[size, word][number], strict=True):
                    yield {"Q": size, "draw": number, "of": f"{word}, {split}", "time": time}
        for size in design.samples_a_label:
            time = of_states[number, size]
            yield {"Q": size, "draw": number, "of": "hidden states, training", "time": time}


def _some_statements(
    bench: Bench, design: Design, size: int, rng: np.random.Generator
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Hidden states and labels of up to `size` statements of each label, of `DRAWN_TOGETHER` personas."""
    personas = bench.personas(design.personas, design.statements_per_label)
    parts = []
    for which in rng.choice(len(personas), min(DRAWN_TOGETHER, len(personas)), replace=False):
        labels = personas[which].labels
        index = np.concatenate([rng.permutation(np.flatnonzero(labels == sign))[:size] for sign in (1, -1)])
        parts.append((bench.features(personas[which])[index], labels[index]))
    features, signs = zip(*parts, strict=True)
    return np.concatenate(features), np.concatenate(signs)


# Longer responses and other losses --------------------------------------------------------------------


def tokens(bench: Bench, design: Design) -> dict[str, pd.DataFrame]:
    """The rate of every token's reward, by Eq. 16 and by autograd, as the unembedding learns short pairs.

    Tables:
        tokens: a row a token before training: `pair`, its number; `response`, chosen or rejected;
            `probability` under the model; `rate`, tau dr/dt by autograd; `rate by the factors`, by Eq. 16
            corrected; `rate as printed`, in the paper; `relative error` of the corrected one.
        factors: means over the tokens of chosen and of rejected responses: `step`; `response`;
            `co_occurrence`, `probability`, `distribution`, the factors of tau dr/dt, and `total`, their sum;
            `mean margin`, over pairs; `token reward`.
        places: one row: `pairs`, `tokens`, how many; `median cosine` of the states of two tokens.
    """
    pairs = sorted(bench.pairs(0), key=lambda pair: len(pair.chosen) + len(pair.rejected))
    picked = pairs[: 4 * design.pairs_decomposed : 4][: design.pairs_decomposed]
    how = (design.token_beta, design.token_rate, design.token_steps)
    key = {"data": data.fingerprint(picked), "how": how}
    found = bench.measure("token rates", key, token_rates.measure, picked, *how)
    places = {"pairs": len(picked), "tokens": len(found.tokens), "median cosine": found.cosine}
    return {"tokens": found.tokens, "factors": found.factors, "places": pd.DataFrame([places])}


def losses(bench: Bench, design: Design) -> dict[str, pd.DataFrame]:
    """Margins of statements of four personas under four losses, training the unembedding alone.

    Tables:
        losses: at the end: `loss`; `median margin`, `5%`, `95%`, over statements; `not positive`, the share
            of margins.
        loss_curves: `loss`; `time`, in units in which the mean margin would reach 1 under DPO at its initial
            speed; `lowest`, `5%`, `median`, `95%`, `highest`, over statements.
    """
    g, s = _some_statements(bench, design, LOSS_STATEMENTS, np.random.default_rng(bench.seed))
    key = {"features": g, "labels": s, "answers": bench.answer_difference, "beta": BETA}
    times, by_loss = cached(
        "margins by loss",
        key,
        flows.margins_by_loss,
        partial(flows.margins_by_loss, g, s, bench.answer_difference, BETA),
    )
    ends, paths = [], []
    for name, margins in by_loss.items():
        low, middle, high = np.percentile(margins[-1], [5, 50, 95])
        wrong = (margins[-1] <= 0).mean()
        ends.append({"loss": name, "median margin": middle, "5%": low, "95%": high, "not positive": wrong})
        spread = flows.spread_of(margins)
        paths.append(spread.assign(loss=name, time=times)[["loss", "time", *spread.columns]])
    return {"losses": pd.DataFrame(ends), "loss_curves": pd.concat(paths)}


# The plan -------------------------------------------------------------------------------------------


def work(p: Mapping[str, Any]) -> list[Work]:
    """The work of chapter 2 under its parameters, for all seeds; its synthetic clusters are no work for a
    model, and its features are the same for each seed.
    """
    features, seeds = persona_features(p), len(set(p["seeds"]))
    runs = p["draws"] * len(p["cluster_counts"]) * seeds
    batch = p["batch_size"] * features.each
    # Training and held-out statements are measured every so often, and once for the reference.
    evaluations = 1 + -(-p["steps"] // p["evaluate_every"])
    evaluation = evaluations * (p["steps"] * batch + p["evaluated"] * features.each)
    pairs = data.load_pairs(p["data"])
    responses = Lengths.of(pairs)
    return [
        features,
        Work(
            f"fine-tuning on {min(p['cluster_counts'])} to {max(p['cluster_counts'])} personas",
            "train",
            runs,
            p["steps"] * batch,
            p["steps"],
            evaluation,
            batch,
            each=features.each,
        ),
        Work(
            "hidden states of response pairs",
            "forward",
            seeds,
            responses.each * min(p["pairs_decomposed"], len(pairs)),
            each=responses.each,
        ),
    ]
