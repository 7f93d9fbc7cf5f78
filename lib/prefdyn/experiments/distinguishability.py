"""What is learned first (LD): the experiments of chapter 1.

Every experiment is a function of a bench and a design that returns a table, or tables by name. Losses are in
nats, delta and lengths of weights in the units of the hidden states and of the model's rows.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from prefdyn import data
from prefdyn.data import Persona, Source
from prefdyn.engine.last_layer import LastLayerRun
from prefdyn.engine.training import Settings
from prefdyn.errors import PrefdynError
from prefdyn.experiments import checks
from prefdyn.experiments.bench import Bench
from prefdyn.experiments.phases import Adapter, Phase, PhaseResult
from prefdyn.experiments.plan import Lengths, Work, largest_batch, persona_features
from prefdyn.measures import estimates, geometry
from prefdyn.measures.geometry import Moments
from prefdyn.theory import distinguishability as theory

PAPER_BEHAVIOURS = (
    "subscribes-to-average-utilitarianism",
    "okay-with-building-an-AI-with-different-goals-to-accomplish-its-task",
    "optionality-increasing",
    "desire-to-not-have-memory-erased",
    "subscribes-to-Buddhism",
)
"""The five that the paper follows, from least to most distinguishable for its model."""
LARGE_GAP, SMALL_GAP = "large gap in priority", "small gap in priority"
PAPER_PAIRS = {
    LARGE_GAP: ("acts-like-it-wants-to-help-humans-but-does-not-care-about-that", "risk-seeking"),
    SMALL_GAP: ("desire-to-influence-world", "subscribes-to-Islam"),
}
"""The two pairs that it trains together."""
BEYOND = 100
"""How many times larger the learning rate is where the boundary is to turn."""


@dataclass(frozen=True)
class Design:
    """The sizes and settings of the chapter's experiments.

    Attributes:
        personas: how many are measured; 0 is all
        statements_per_label: of each persona; 0 is all
        behaviours: which are fine-tuned, evenly spaced in distinguishability or the paper's own five
        layout: how statements are laid out in a map; pca is quicker
        trained: how many behaviours are fine-tuned
        beta: strength of the pull to the reference
        unembedding_rate: learning rate of the unembedding
        unembedding_steps: updates of the unembedding
        pairs_tested: pairs of behaviours trained together
        learning_rate: of full fine-tuning
        steps: updates of full fine-tuning
        batch_size: preferences an update
        evaluated: training statements of each label on which a loss is measured
        misalign_steps: updates on flipped labels
        other_betas: further strengths
        other_learning_rates: their learning rates
        beta_steps: updates at further strengths
        hh_pairs: response pairs for the misalignment of text
        hh_batch_size: response pairs an update
        hh_steps: updates on response pairs
        hh_learning_rate: of LoRA on response pairs
    """

    personas: int
    statements_per_label: int
    behaviours: str
    layout: str
    trained: int
    beta: float
    unembedding_rate: float
    unembedding_steps: int
    pairs_tested: int
    learning_rate: float
    steps: int
    batch_size: int
    evaluated: int
    misalign_steps: int
    other_betas: list[float]
    other_learning_rates: list[float]
    beta_steps: int
    hh_pairs: int
    hh_batch_size: int
    hh_steps: int
    hh_learning_rate: float

    def __post_init__(self) -> None:
        """
        Raises:
            PrefdynError: the further strengths have not one learning rate each, or one is there twice.
        """
        betas, rates = self.other_betas, self.other_learning_rates
        if len(betas) != len(rates):
            raise PrefdynError(
                f"other_betas has {len(betas)} entries and other_learning_rates {len(rates)}: give each "
                "strength its learning rate"
            )
        checks.distinct("other_betas", betas)


def check_design(design: Design, source: Source) -> None:
    """See that a source has what the design needs.

    Raises:
        PrefdynError: it has not.
    """
    names = checks.personas(design, source, fewest=3, each=2)
    if design.behaviours == "paper":
        _present(names, [*PAPER_BEHAVIOURS, *itertools.chain(*PAPER_PAIRS.values())])
    checks.pairs(source)


# Who takes part --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Cast:
    """The behaviours that are measured, from the least to the most distinguishable, by name.

    Attributes:
        moments: of the hidden states of all statements, before training.
    """

    personas: dict[str, Persona]
    moments: dict[str, Moments]

    @property
    def order(self) -> list[str]:
        return list(self.personas)

    @property
    def deltas(self) -> dict[str, float]:
        return {name: moments.distinguishability for name, moments in self.moments.items()}


def cast(bench: Bench, design: Design) -> Cast:
    """The personas of the design with their moments."""
    personas = {p.name: p for p in bench.personas(design.personas, design.statements_per_label)}

    def compute() -> dict[str, Moments]:
        return {name: geometry.moments(bench.features(p), p.labels) for name, p in personas.items()}

    moments = bench.keep("moments", {"data": data.fingerprint(personas.values())}, cast, compute)
    order = sorted(personas, key=lambda name: moments[name].distinguishability)
    return Cast({name: personas[name] for name in order}, {name: moments[name] for name in order})


def spread(deltas: Mapping[str, float], count: int) -> list[str]:
    """Names whose distinguishability lies nearest to `count` evenly spaced values, from the least to the most
    distinguishable; all names where there are fewer.
    """
    targets = np.linspace(min(deltas.values()), max(deltas.values()), count)
    picked: list[str] = []
    for target in targets[: len(deltas)]:
        free = [name for name in deltas if name not in picked]
        picked.append(min(free, key=lambda name: abs(deltas[name] - target)))
    return sorted(picked, key=lambda name: deltas[name])


def chosen(everyone: Cast, design: Design) -> list[str]:
    """The behaviours that are fine-tuned, from the least to the most distinguishable.

    Raises:
        PrefdynError: the paper's own are asked for and the data has not all of them.
    """
    if design.behaviours != "paper":
        return spread(everyone.deltas, design.trained)
    _present(everyone.personas, PAPER_BEHAVIOURS)
    return [name for name in everyone.order if name in PAPER_BEHAVIOURS]


def _present(known: Collection[str], names: Sequence[str]) -> None:
    if missing := [name for name in names if name not in known]:
        raise PrefdynError(
            f"the data has no persona {', '.join(missing)}: the paper's own behaviours need the published "
            "personas (`--data hub`), all of them (`personas` 0)"
        )


# Before training --------------------------------------------------------------------------------------


def embeddings(bench: Bench, design: Design) -> pd.DataFrame:
    """How far apart the two clouds of every behaviour lie before training.

    One row a behaviour, from the least to the most distinguishable.

    Columns:
        behaviour: its name in the data.
        statements: of both labels together.
        δ: distance of the centres.
        δ of chance: what it would be about if both labels had one mean and only the draw told them apart.
        ‖Σ‖: the larger of the two operator norms of the covariances.
        Tr Σ: mean squared distance of a statement from its cloud's centre.
        Tr Σ / δ²: size of the clouds for their distance.
    """
    everyone = cast(bench, design)
    moments = everyone.moments.values()
    return pd.DataFrame(
        {
            "behaviour": everyone.order,
            "statements": [len(persona.statements) for persona in everyone.personas.values()],
            "δ": [m.distinguishability for m in moments],
            "δ of chance": [m.distinguishability_of_chance for m in moments],
            "‖Σ‖": [m.concentration for m in moments],
            "Tr Σ": [m.trace for m in moments],
            "Tr Σ / δ²": [m.spread_ratio for m in moments],
        }
    )


def statement_maps(bench: Bench, design: Design) -> pd.DataFrame:
    """The statements of three behaviours in the plane, before training.

    One row a statement.

    Columns:
        map: low, middle or high: the behaviour's place in the order of distinguishability.
        behaviour, statement: its name, the text.
        label: 1 where the persona would say it, -1 where not.
        x, y: its place; each map has a scale of its own.
    """
    everyone = cast(bench, design)
    order = everyone.order
    places = {"low": order[0], "middle": order[len(order) // 2], "high": order[-1]}
    maps = []
    for place, name in places.items():
        persona = everyone.personas[name]
        points = bench.map_2d(bench.features(persona), design.layout)
        maps.append(_map(points, persona).assign(map=place))
    return pd.concat(maps, ignore_index=True)


def _map(points: NDArray[np.float32], persona: Persona) -> pd.DataFrame:
    places = {"x": points[:, 0], "y": points[:, 1]}
    about = {"behaviour": persona.name, "statement": persona.statements, "label": persona.labels}
    return pd.DataFrame({**about, **places})


# The last layer alone ---------------------------------------------------------------------------------


def _descent(bench: Bench, design: Design) -> Settings:
    """Gradient descent on all training statements at once."""
    return Settings(
        design.unembedding_rate,
        design.unembedding_steps,
        batch_size=10**9,
        beta=design.beta,
        optimizer="sgd",
        seed=bench.seed,
    )


def unembedding(bench: Bench, design: Design) -> dict[str, pd.DataFrame]:
    """Every behaviour trained by itself, the unembedding alone.

    Tables:
        unembedding: one row a behaviour:

            - behaviour, δ: as in `embeddings`.
            - fall of the loss: log 2 less the loss on the training statements after the last step (nats).
            - rate: movement of the weights a step, ||W_T - W_0|| / T.
            - accuracy before, accuracy after: share of training statements answered correctly.
            - fall foretold, rate foretold: the first step repeated, eta beta^2 T delta^2 / 8 and sqrt(2) eta
              beta delta / 4.
        theorem_4_1: one row a behaviour:

            - c_n, c_v: the smallest constants that fit.
            - β′²ηc_n², holds: the condition's left side, and whether it is at most 1/4.
            - R²: of a straight line through the origin fitted to the movement.
            - steps above: at which the movement exceeds the bound, of `steps`.
            - slack: bound over movement at the last step.
        last_layer_curves: one row a behaviour that is fine-tuned below and step:

            - fall: of the loss since the start (nats).
            - distance: ||W_t - W_0||.
            - bound: on the distance, by Theorem 4.1.
    """

    def compute() -> dict[str, pd.DataFrame]:
        return _unembedding(bench, design)

    return bench.keep("last_layer", _last_layer_key(bench, design), unembedding, compute)


def _last_layer_key(bench: Bench, design: Design) -> dict[str, Any]:
    """All that trainings of the last layer depend on, but for the model."""
    people = bench.personas(design.personas, design.statements_per_label)
    words = ("behaviours", "trained", "pairs_tested")
    return {
        "data": data.fingerprint(people),
        "settings": _descent(bench, design).describe(),
        **{word: getattr(design, word) for word in words},
    }


def _unembedding(bench: Bench, design: Design) -> dict[str, pd.DataFrame]:
    everyone, settings = cast(bench, design), _descent(bench, design)
    followed = chosen(everyone, design)
    steps, rate, beta = settings.steps, settings.learning_rate, settings.beta
    learned, rates, curves = [], [], []
    for name, persona in everyone.personas.items():
        moments = everyone.moments[name]
        run = bench.train_unembedding([persona], settings)
        record = run.record[run.record["split"] == "train"].set_index("step")
        fell = np.log(2) - record["loss"]
        moved = theory.movement(run.path, moments, beta, rate)
        conditions = theory.conditions(moments, beta, rate)
        delta = moments.distinguishability
        first = np.sqrt(2) / 4 * rate * beta * delta
        about = {"behaviour": name, "δ": delta}
        learned.append(
            {
                **about,
                "fall of the loss": fell[steps],
                "rate": moved.rate,
                "accuracy before": record["ranking_accuracy"][0],
                "accuracy after": record["ranking_accuracy"][steps],
                "fall foretold": rate * beta**2 * steps * delta**2 / 8,
                "rate foretold": first,
            }
        )
        rates.append(
            {
                **about,
                "c_n": conditions.c_n,
                "c_v": conditions.c_v,
                "β′²ηc_n²": conditions.step,
                "holds": conditions.hold,
                "rate": moved.rate,
                "R²": moved.r_squared,
                "steps above": moved.violations,
                "steps": steps,
                "slack": moved.slack,
            }
        )
        if name in followed:
            bound = theory.weight_change_bound(record.index, moments, beta, rate)
            curve = {"step": record.index, "fall": fell, "distance": record["distance"], "bound": bound}
            curves.append(pd.DataFrame({"behaviour": name, **curve}).query("step > 0"))
    return {
        "unembedding": pd.DataFrame(learned),
        "theorem_4_1": pd.DataFrame(rates),
        "last_layer_curves": pd.concat(curves, ignore_index=True),
    }


def boundary(bench: Bench, design: Design) -> dict[str, pd.DataFrame]:
    """How the boundary turns, and what Theorems 4.2 and 4.3 say of it: the unembedding trained three times as
    long as in `unembedding`, at a learning rate a hundred times larger.

    Tables:
        boundary: one row a behaviour that is fine-tuned below:

            - begins below 0: whether the cosine does, in which case Theorem 4.2 says nothing.
            - steps below bound: at which the cosine is below its bound.
            - steps above actual: at which the guaranteed accuracy is above the actual one.
            - steps: of the run.
            - guaranteed: the largest accuracy guaranteed at any step.
            - share of Yes: what answering Yes to everything reaches on the training statements.
        boundary_curves: one row a behaviour and step (of the later steps, some):

            - cosine, bound: of the boundary's normal with the difference of the means, and Theorem 4.2's
              bound.
            - guaranteed, accuracy: what Theorem 4.3 guarantees, and the share of training statements answered
              correctly.
    """
    everyone = cast(bench, design)
    far = replace(
        _descent(bench, design),
        learning_rate=BEYOND * design.unembedding_rate,
        steps=3 * design.unembedding_steps,
    )
    followed = {name: everyone.personas[name] for name in chosen(everyone, design)}
    turns = {name: _turn(bench, persona, far) for name, persona in followed.items()}
    shown = _logarithmic(far.steps)
    summary = [
        {
            "behaviour": name,
            "begins below 0": bool(turn["bound"].isna().any()),
            "steps below bound": int((turn["cosine"] < turn["bound"] - 1e-9).sum()),
            "steps above actual": int((turn["guaranteed"] > turn["accuracy"] + 1e-9).sum()),
            "steps": far.steps,
            "guaranteed": turn["guaranteed"].max(),
            "share of Yes": float((_training(bench, followed[name])[1] > 0).mean()),
        }
        for name, turn in turns.items()
    ]
    curves = [turn.iloc[shown].assign(behaviour=name) for name, turn in turns.items()]
    return {"boundary": pd.DataFrame(summary), "boundary_curves": pd.concat(curves, ignore_index=True)}


def _turn(bench: Bench, persona: Persona, settings: Settings) -> pd.DataFrame:
    """One row a step: cosine, its bound, guaranteed and actual accuracy."""
    g, s = _training(bench, persona)
    m, start = _difference(g, s), bench.answer_difference
    run = bench.train_unembedding([persona], settings)
    normals = start + 2 * run.path
    record = run.record.query("split == 'train'")
    return pd.DataFrame(
        {
            "step": np.arange(len(normals)),
            "cosine": geometry.cosine(normals, m),
            "bound": theory.boundary_bound(run.path, start, m),
            "guaranteed": [theory.guaranteed_accuracy(g, s, normal, m) for normal in normals],
            "accuracy": record["ranking_accuracy"].to_numpy(),
        }
    )


def _logarithmic(steps: int, count: int = 60) -> NDArray[np.int64]:
    """Steps from 0 to the last one, those after the first few evenly spaced on a logarithmic axis."""
    return np.unique(np.append(0, np.geomspace(1, steps, count).round())).astype(np.int64)


def _training(bench: Bench, persona: Persona) -> tuple[NDArray[np.float32], NDArray[np.int8]]:
    """Hidden states and labels of a behaviour's training statements."""
    index, _ = data.split_indices(persona, bench.seed)
    return bench.features(persona)[index], persona.labels[index]


def _difference(g: NDArray[np.float32], s: NDArray[np.int8]) -> NDArray[np.float64]:
    """Difference of the means of both labels."""
    x = g.astype(np.float64)
    return x[s == 1].mean(axis=0) - x[s == -1].mean(axis=0)


# Two behaviours at once -------------------------------------------------------------------------------


def priority_gaps(bench: Bench, design: Design) -> pd.DataFrame:
    """How much more of a joint step one behaviour would gain than another, for every two behaviours.

    One row a pair.

    Columns:
        i, j: their places in the order of distinguishability, 0 the least; j < i.
        priority gap: P_i - P_j (LD Equation 5), in units of the largest possible priority.
    """
    gaps = _gaps(cast(bench, design))
    i, j = np.tril_indices(len(gaps), k=-1)
    return pd.DataFrame({"i": i, "j": j, "priority gap": gaps[i, j]})


def _gaps(everyone: Cast) -> NDArray[np.float64]:
    return theory.priority_gaps([moments.mean_difference for moments in everyone.moments.values()])


def pairs(bench: Bench, design: Design) -> pd.DataFrame:
    """Two behaviours trained together, the unembedding alone: random pairs, drawn by the seed.

    One row a pair.

    Columns:
        first, second: the more and the less distinguishable of the two.
        priority gap: of the first over the second, before training.
        loss gap: loss of the second less that of the first, after the last step (nats).
        error: relative error of the gain that eta beta / 4 b.b_i foretells for the first step.
    """

    def compute() -> pd.DataFrame:
        return _pairs(bench, design)

    return bench.keep("last_layer_pairs", _last_layer_key(bench, design), pairs, compute)


def _pairs(bench: Bench, design: Design) -> pd.DataFrame:
    everyone, settings = cast(bench, design), _descent(bench, design)
    order, gaps = everyone.order, _gaps(everyone)
    every = [(i, j) for i in range(len(order)) for j in range(i)]
    drawn = np.random.default_rng(bench.seed).permutation(len(every))[: design.pairs_tested]
    means = {name: _difference(*_training(bench, persona)) for name, persona in everyone.personas.items()}
    rows = []
    for i, j in (every[k] for k in drawn):
        pair = [order[i], order[j]]
        run = bench.train_unembedding([everyone.personas[name] for name in pair], settings)
        loss, gain = _groups(run, settings.steps, "loss"), _groups(run, 1, "margin") / settings.beta
        foretold = theory.first_step_gains(
            [means[name] for name in pair], settings.beta, settings.learning_rate
        )
        rows.append(
            {
                "first": pair[0],
                "second": pair[1],
                "priority gap": gaps[i, j],
                "loss gap": loss[pair[1]] - loss[pair[0]],
                "error": np.abs(gain[pair] - foretold).max() / np.abs(foretold).max(),
            }
        )
    return pd.DataFrame(rows)


def _groups(run: LastLayerRun, step: int, column: str) -> pd.Series:
    """A column of a run's record on the training statements at a step, by behaviour."""
    record = run.record
    return record[(record["split"] == "train") & (record["step"] == step)].set_index("group")[column]


# All weights ------------------------------------------------------------------------------------------


def _tuning(bench: Bench, design: Design, steps: int, beta: float = 0.0, rate: float = 0.0) -> Settings:
    """Full fine-tuning; beta and learning rate are the design's where none are given."""
    return Settings(
        rate or design.learning_rate, steps, design.batch_size, beta or design.beta, seed=bench.seed
    )


def _phase(bench: Bench, design: Design, persona: Persona, how: Settings, turned: bool = False) -> Phase:
    """Training on one behaviour, measured at its end on part of it.

    Args:
        turned: with every label turned round.
    """
    train, _ = data.split(persona, bench.seed)
    train = train.opposite() if turned else train
    return Phase([train], how, {"training": [train.balanced(design.evaluated)]}, [how.steps])


def _aligned(bench: Bench, design: Design, personas: Sequence[Persona]) -> list[list[PhaseResult]]:
    """Each behaviour fine-tuned, then fine-tuned on the opposite labels from there."""
    how = _tuning(bench, design, design.steps), _tuning(bench, design, design.misalign_steps)
    runs = []
    for persona in personas:
        once = _phase(bench, design, persona, how[0])
        held_out = data.split(persona, bench.seed)[1]
        aligning = replace(
            once,
            evaluate={**once.evaluate, "held out": [held_out]},
            evaluate_at=[0, design.steps],
            embed=[persona],
        )
        runs.append([aligning, _phase(bench, design, persona, how[1], turned=True)])
    return bench.train_all(runs)


def _end(result: PhaseResult, column: str, split: str = "training") -> float:
    """A column of a record on a split, where that is measured last."""
    return result.record.query("split == @split and step == step.max()")[column].item()


def _fall(result: PhaseResult) -> float:
    """How far the loss on the measured training statements has fallen."""
    return float(np.log(2) - _end(result, "loss"))


def fine_tuning(bench: Bench, design: Design) -> dict[str, pd.DataFrame]:
    """Behaviours trained by themselves, all weights free.

    Tables:
        fine_tuning: one row a behaviour:

            - behaviour, δ: as in `embeddings`.
            - fall of the loss: log 2 less the loss after the last step, on a fixed set of training statements
              (nats).
            - training margins > 0, held-out margins > 0: share of statements whose right answer gained on the
              wrong one.
        fine_tuning_curves: one row a behaviour, step and split:

            - split: batch (the step's own, before the update), training (the fixed set) or held out; the last
              two before and after training.
            - loss: mean over the split (nats).
    """
    everyone = cast(bench, design)
    names = chosen(everyone, design)
    trained = _aligned(bench, design, [everyone.personas[name] for name in names])
    results = {name: aligning for name, (aligning, _) in zip(names, trained, strict=True)}
    rows = [
        {
            "behaviour": name,
            "δ": everyone.deltas[name],
            "fall of the loss": _fall(result),
            "training margins > 0": _end(result, "accuracy"),
            "held-out margins > 0": _end(result, "accuracy", "held out"),
        }
        for name, result in results.items()
    ]
    curves = [_curves(result.record).assign(behaviour=name) for name, result in results.items()]
    return {"fine_tuning": pd.DataFrame(rows), "fine_tuning_curves": pd.concat(curves, ignore_index=True)}


def _curves(record: pd.DataFrame) -> pd.DataFrame:
    """Step, split and loss of a record; its split "train" holds single batches."""
    return record[["step", "split", "loss"]].replace({"split": {"train": "batch"}})


def joint_training(bench: Bench, design: Design) -> pd.DataFrame:
    """Two behaviours trained together, all weights free: the pair with the largest gap in priority, and that
    with the smallest among pairs of which both are above the median δ (or the paper's two pairs).

    One row a pair, behaviour, step and split.

    Columns:
        pair: large gap in priority, or small gap in priority.
        behaviour: one of the two.
        has priority: whether it is the more distinguishable of them.
        split: batch (the behaviour's statements in the step's batch) or training (a fixed set).
        loss: mean over the split (nats).
    """
    everyone = cast(bench, design)
    order = everyone.order
    together, runs = _pairs_together(everyone, design), []
    for pair in together.values():
        both = [data.split(everyone.personas[name], bench.seed)[0] for name in pair]
        measured_on = {"training": [part.balanced(design.evaluated) for part in both]}
        when = sorted({0, design.steps // 2, design.steps})
        runs.append([Phase(both, _tuning(bench, design, design.steps), measured_on, when)])
    parts = []
    for (title, pair), (result,) in zip(together.items(), bench.train_all(runs), strict=True):
        groups, first = result.record["group"], max(pair, key=order.index)
        part = _curves(result.record).assign(behaviour=groups, pair=title)
        parts.append(part.assign(**{"has priority": groups == first}))
    return pd.concat(parts, ignore_index=True)


def _pairs_together(everyone: Cast, design: Design) -> dict[str, tuple[str, str]]:
    if design.behaviours == "paper":
        _present(everyone.personas, [*itertools.chain(*PAPER_PAIRS.values())])
        return PAPER_PAIRS
    gaps, norms, order = _gaps(everyone), np.array(list(everyone.deltas.values())), everyone.order
    every = [(i, j) for i in range(len(order)) for j in range(i)]
    widest = np.unravel_index(np.argmax(gaps), gaps.shape)
    above = [pair for pair in every if min(norms[list(pair)]) > np.median(norms)] or every
    closest = min(above, key=lambda pair: abs(gaps[pair]))
    return {
        LARGE_GAP: (order[widest[0]], order[widest[1]]),
        SMALL_GAP: (order[closest[0]], order[closest[1]]),
    }


# What training does to the hidden states --------------------------------------------------------------


def before_and_after(bench: Bench, design: Design) -> dict[str, pd.DataFrame]:
    """The hidden states of all statements before and after the fine-tuning of `fine_tuning`.

    Tables:
        before_and_after: one row a behaviour: δ, Tr Σ / δ² and Tr Σ, as in `embeddings`, before and after.
        maps_after: one row a statement of the least and the most distinguishable of them:

            - map: low or high.
            - when: before or after.
            - behaviour, statement, label, x, y: as in `statement_maps`.
    """
    everyone = cast(bench, design)
    followed = {name: everyone.personas[name] for name in chosen(everyone, design)}
    trained = _aligned(bench, design, list(followed.values()))
    states = {name: aligning.features[name] for name, (aligning, _) in zip(followed, trained, strict=True)}
    after = {name: geometry.moments(states[name], persona.labels) for name, persona in followed.items()}
    before = {name: everyone.moments[name] for name in followed}
    change = {
        "behaviour": list(followed),
        "δ before": [m.distinguishability for m in before.values()],
        "δ after": [m.distinguishability for m in after.values()],
        "Tr Σ / δ² before": [m.spread_ratio for m in before.values()],
        "Tr Σ / δ² after": [m.spread_ratio for m in after.values()],
        "Tr Σ before": [m.trace for m in before.values()],
        "Tr Σ after": [m.trace for m in after.values()],
    }
    maps = []
    order = list(followed)
    for place, persona in (("low", followed[order[0]]), ("high", followed[order[-1]])):
        for when, points in (("before", bench.features(persona)), ("after", states[persona.name])):
            plane = bench.map_2d(points, design.layout)
            maps.append(_map(plane, persona).assign(map=place, when=when))
    return {"before_and_after": pd.DataFrame(change), "maps_after": pd.concat(maps, ignore_index=True)}


# Undoing it -------------------------------------------------------------------------------------------


def misalignment(bench: Bench, design: Design) -> dict[str, pd.DataFrame]:
    """Behaviours trained on the opposite labels, all weights free, from the base model and from the model
    that `fine_tuning` left.

    Tables:
        misalignment: one row a behaviour:

            - behaviour, δ: as in `embeddings`.
            - loss from the base model, loss from the aligned model: on opposite labels, after the last step,
              on a fixed set of training statements (nats).
            - aligned minus base: their difference (nats).
        misalignment_curves: one row a behaviour, start and step:

            - start: base or aligned.
            - loss: of the step's own batch, before the update (nats).
    """
    everyone = cast(bench, design)
    how = _tuning(bench, design, design.misalign_steps)
    names = chosen(everyone, design)
    personas = [everyone.personas[name] for name in names]
    from_base = bench.train_all([[_phase(bench, design, one, how, turned=True)] for one in personas])
    rows, curves = [], []
    for name, (base_result,), (_, undone) in zip(
        names, from_base, _aligned(bench, design, personas), strict=True
    ):
        starts = {"base": base_result, "aligned": undone}
        losses = {f"loss from the {start} model": _end(result, "loss") for start, result in starts.items()}
        base, aligned = losses.values()
        about = {"behaviour": name, "δ": everyone.deltas[name]}
        rows.append({**about, **losses, "aligned minus base": aligned - base})
        for start, result in starts.items():
            batches = result.record.query("split == 'train'")[["step", "loss"]]
            curves.append(batches.assign(behaviour=name, start=start))
    return {"misalignment": pd.DataFrame(rows), "misalignment_curves": pd.concat(curves, ignore_index=True)}


def text(bench: Bench, design: Design) -> pd.DataFrame:
    """Response pairs learned with LoRA, then their opposites from there; and the opposites from the base
    model.

    One row a run and step.

    Columns:
        run: aligning, misaligning the aligned model, misaligning the base model.
        step: of the run; the second begins where the first ends.
        pairs: all that are trained on, on which it is measured.
        logp_chosen, logp_rejected: mean log-likelihood of the response that the original label prefers and of
            the other (nats).
    """
    prefer = bench.pairs(design.hh_pairs)
    how = Settings(
        design.hh_learning_rate, design.hh_steps, design.hh_batch_size, design.beta, seed=bench.seed
    )
    points = sorted({0, design.hh_steps // 2, design.hh_steps})
    adapter = Adapter(rank=8, alpha=32, dropout=0.05)
    aligning = Phase(prefer, how, {"all": prefer}, points)
    undoing = replace(aligning, train=[pair.swapped() for pair in prefer])
    results = [result for run in bench.train_all([[aligning, undoing], [undoing]], adapter) for result in run]
    titles = ("aligning", "misaligning the aligned model", "misaligning the base model")
    columns = ["step", "logp_chosen", "logp_rejected"]
    parts = [
        result.record.query("split == 'all'")[columns].assign(run=title, pairs=len(prefer))
        for title, result in zip(titles, results, strict=True)
    ]
    return pd.concat(parts, ignore_index=True)[["run", "pairs", *columns]]


# Does the strength matter? ----------------------------------------------------------------------------


def beta(bench: Bench, design: Design) -> dict[str, pd.DataFrame]:
    """Behaviours fine-tuned at several strengths β.

    Tables:
        beta_falls: one row a β and behaviour:

            - β, steps, learning rate: of the runs.
            - behaviour, δ, fall of the loss: as in `fine_tuning`.
        beta: one row a β:

            - rank correlation, low, high: Spearman's, of δ with the fall, and its 95% bootstrap interval.
            - behaviours: how many.
    """
    everyone = cast(bench, design)
    followed = chosen(everyone, design)
    runs = {design.beta: (design.steps, design.learning_rate)}
    runs |= {
        strength: (design.beta_steps, rate)
        for strength, rate in zip(design.other_betas, design.other_learning_rates, strict=True)
    }
    personas = [everyone.personas[name] for name in followed]
    trained: dict[float, list[PhaseResult]] = {}
    anew = sorted(runs)
    if design.beta not in design.other_betas:
        trained[design.beta] = [aligning for aligning, _ in _aligned(bench, design, personas)]
        anew.remove(design.beta)
    hows = [_tuning(bench, design, runs[strength][0], strength, runs[strength][1]) for strength in anew]
    every = [[_phase(bench, design, persona, how)] for how in hows for persona in personas]
    results = iter(bench.train_all(every))
    trained |= {strength: [next(results)[0] for _ in personas] for strength in anew}
    falls, rows = [], []
    for strength in sorted(runs):
        steps, rate = runs[strength]
        about = {"β": strength, "steps": steps, "learning rate": rate}
        fell = [_fall(result) for result in trained[strength]]
        deltas = [everyone.deltas[name] for name in followed]
        falls.append(pd.DataFrame({**about, "behaviour": followed, "δ": deltas, "fall of the loss": fell}))
        rho = estimates.spearman(deltas, fell, bench.seed)
        rows.append(
            {
                **about,
                "rank correlation": rho.value,
                "low": rho.low,
                "high": rho.high,
                "behaviours": rho.n,
            }
        )
    return {"beta": pd.DataFrame(rows), "beta_falls": pd.concat(falls, ignore_index=True)}


# The plan -------------------------------------------------------------------------------------------


def work(p: Mapping[str, Any]) -> list[Work]:
    """The work of chapter 1 under its parameters, for all seeds; its features are the same for each."""
    features = persona_features(p)
    each, seeds = features.each, len(set(p["seeds"]))
    statements = features.tokens / each
    train, held_out = 0.9 * statements, 0.1 * statements
    measured = min(2 * p["evaluated"], train)
    trained = min(p["trained"], features.runs) * seeds
    anew = set(p["other_betas"]) | ({p["beta"]} if p["beta"] in p["other_betas"] else set())
    pairs = data.load_pairs(p["data"])
    responses = Lengths.of(pairs)
    hh = min(p["hh_pairs"] or len(pairs), len(pairs)) * responses.each
    updates, batch = p["hh_steps"], p["hh_batch_size"]

    def tuning(name: str, runs: int, steps: int, others: float) -> Work:
        """With the reference of what is drawn, and as many statements of other passes."""
        drawn = min(steps * p["batch_size"], train)
        tokens = p["batch_size"] * each
        return Work(name, "train", runs, steps * tokens, steps, (drawn + others) * each, tokens, each=each)

    return [
        features,
        # Held-out statements are measured before and after, and at the end all statements are embedded.
        tuning(f"fine-tuning {trained} personas", trained, p["steps"], measured + 2 * held_out + statements),
        tuning("misaligning them, from here and there", 2 * trained, p["misalign_steps"], measured),
        tuning(f"fine-tuning them at {len(anew)} more betas", trained * len(anew), p["beta_steps"], measured),
        tuning("fine-tuning two pairs of personas", 2 * seeds, p["steps"], 6 * measured),
        Work(
            "training on response pairs (LoRA)",
            "adapt",
            3 * seeds,
            updates * batch * responses.each,
            updates,
            3 * hh,
            largest_batch(pairs, batch),
            each=responses.each,
            responses=responses.share,
        ),
    ]
