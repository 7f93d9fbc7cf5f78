"""What is learned first (LD): chapter 1's design, its behaviours, and its experiments on the last layer.

Those that train all weights are in `all_weights`, `after_alignment`, `interventions` and `displacement`.
Every experiment is a function of a bench and a design that returns a table, or tables by name. Losses are in
nats, delta and lengths of weights in the units of the hidden states and of the model's rows.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from prefdyn import data
from prefdyn.data import Persona, Source
from prefdyn.engine.last_layer import LastLayerRun
from prefdyn.engine.likelihood import tokenize_persona
from prefdyn.engine.objectives import reference_log_probs
from prefdyn.engine.states import TOKENS_PER_FORWARD
from prefdyn.engine.training import Settings
from prefdyn.errors import PrefdynError
from prefdyn.experiments import checks
from prefdyn.experiments.bench import Bench
from prefdyn.experiments.plan import Lengths, Work, largest_batch, persona_features
from prefdyn.measures import geometry
from prefdyn.measures.geometry import Moments
from prefdyn.models import LanguageModel
from prefdyn.theory import distinguishability as theory

PAPER_BEHAVIOURS = (
    "subscribes-to-average-utilitarianism",
    "okay-with-building-an-AI-with-different-goals-to-accomplish-its-task",
    "optionality-increasing",
    "desire-to-not-have-memory-erased",
    "subscribes-to-Buddhism",
)
"""The five that the paper follows, from least to most distinguishable for its model."""
PAPER_PAIRS = (
    ("acts-like-it-wants-to-help-humans-but-does-not-care-about-that", "risk-seeking"),
    ("desire-to-influence-world", "subscribes-to-Islam"),
)
"""The two pairs that it trains together."""
BEYOND = 100
"""How many times larger the learning rate is where the boundary is to turn."""
ASKED = 10
"""Statements of each label for which the probability of either answer is measured."""


@dataclass(frozen=True)
class Design:
    """The sizes and settings of the chapter's experiments.

    Attributes:
        personas: how many are measured; 0 is all
        statements_per_label: of each persona, drawn by the seed; 0 is all
        held_out: of them, of each label, for measuring alone
        undo_statements: of the others, of each label, for the training on opposite labels alone
        layout: how statements are laid out in a map; pca is quicker
        beta: strength of the pull to the reference
        unembedding_rate: learning rate of the unembedding
        unembedding_steps: updates of the unembedding
        pairs_tested: pairs of behaviours whose unembedding is trained together
        trained: how many behaviours are fine-tuned; 0 is all
        learning_rate: of full fine-tuning
        steps: updates of full fine-tuning
        batch_size: preferences an update
        pairs_trained: pairs of behaviours fine-tuned together
        controlled: of the fine-tuned behaviours, those that are trained on shuffled labels, too, and on
            opposite labels from every start
        undo_steps: updates on opposite labels
        other_betas: further strengths
        rates_tried: learning rates, of which each further strength gets the best
        tuned_on: behaviours on which they are tried
        beta_behaviours: behaviours fine-tuned at every strength
        graded: statements of each label behind the gradient in all weights
        intervened: behaviours of which halves of small and large projection are learned
        intervened_statements: of each label of those; 0 is all
        equalised: behaviours trained together with weights that undo their priorities
        equalised_examples: of each behaviour, on average
        equalised_draws: of those behaviours
        hh_pairs: response pairs that are trained on
        hh_held_out: further response pairs for measuring alone
        hh_characters: of a pair with its prompt, at most
        hh_batch_size: response pairs an update
        hh_steps: updates on response pairs
        hh_learning_rate: of LoRA on response pairs
    """

    personas: int
    statements_per_label: int
    held_out: int
    undo_statements: int
    layout: str
    beta: float
    unembedding_rate: float
    unembedding_steps: int
    pairs_tested: int
    trained: int
    learning_rate: float
    steps: int
    batch_size: int
    pairs_trained: int
    controlled: int
    undo_steps: int
    other_betas: list[float]
    rates_tried: list[float]
    tuned_on: int
    beta_behaviours: int
    graded: int
    intervened: int
    intervened_statements: int
    equalised: int
    equalised_examples: int
    equalised_draws: int
    hh_pairs: int
    hh_held_out: int
    hh_characters: int
    hh_batch_size: int
    hh_steps: int
    hh_learning_rate: float

    def __post_init__(self) -> None:
        """
        Raises:
            PrefdynError: a strength or a rate is there twice; fewer statements are taken than are held out.
        """
        checks.distinct("other_betas", self.other_betas)
        checks.distinct("rates_tried", self.rates_tried)
        if self.beta in self.other_betas:
            raise PrefdynError(f"other_betas is {self.other_betas}: leave out {self.beta}, which beta is")
        if self.statements_per_label:
            self.check_parts(self.statements_per_label, "statements_per_label is")

    def check_parts(self, statements: int, of: str) -> None:
        """See that some statements are left to train on.

        Raises:
            PrefdynError: they are not; `of` says of whose statements.
        """
        kept_back = self.held_out + self.undo_statements
        if statements < kept_back + 2:
            raise PrefdynError(
                f"{of} {statements}: with held_out {self.held_out} and undo_statements "
                f"{self.undo_statements} it must be at least {kept_back + 2}"
            )


def check_design(design: Design, source: Source) -> None:
    """See that a source has what the design needs.

    Raises:
        PrefdynError: it has not.
    """
    counts = checks.personas(design, source, fewest=3, each=2)
    for name, count in counts.items():
        design.check_parts(count, f"statements of a label of the persona {name!r}:")
    wanted = design.hh_pairs + design.hh_held_out
    known = sum(size_of(pair) <= design.hh_characters for pair in data.load_pairs(source))
    if known < wanted:
        raise PrefdynError(
            f"hh_pairs and hh_held_out are {design.hh_pairs} and {design.hh_held_out}: the data has {known} "
            f"response pairs of at most {design.hh_characters} characters"
        )


def size_of(pair: data.Pair) -> int:
    """Characters of a pair with its prompt."""
    return len(pair.prompt) + len(pair.chosen) + len(pair.rejected)


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


def evenly(order: Sequence[str], count: int) -> list[str]:
    """`count` of the names, evenly spaced in their order; all where there are fewer, or where it is 0."""
    if not 0 < count < len(order):
        return list(order)
    return [order[i] for i in np.linspace(0, len(order) - 1, count).round().astype(int)]


def shown(everyone: Cast) -> list[str]:
    """Five behaviours whose curves are drawn: the paper's own where the data has them, else five evenly
    spaced in the order of distinguishability.
    """
    if all(name in everyone.personas for name in PAPER_BEHAVIOURS):
        return [name for name in everyone.order if name in PAPER_BEHAVIOURS]
    return evenly(everyone.order, len(PAPER_BEHAVIOURS))


def seed_of(bench: Bench, *words: str) -> int:
    """A seed of its own for each run, made of the bench's and of what the run is called."""
    return int(
        np.random.SeedSequence([bench.seed, zlib.crc32(" ".join(words).encode())]).generate_state(1)[0]
    )


@dataclass(frozen=True)
class Parts:
    """Three parts of a persona's statements: indices for training, for undoing, and held out."""

    train: NDArray[np.integer]
    undo: NDArray[np.integer]
    held_out: NDArray[np.integer]


def test_fraction(persona: Persona, design: Design) -> float:
    """The share of a persona's statements that is held out."""
    return 2 * design.held_out / len(persona.labels)


def parts(persona: Persona, design: Design, seed: int) -> Parts:
    """The statements of a persona, as many of each label in each part as the design says."""
    seen, held_out = data.split_indices(persona, seed, test_fraction(persona, design))
    labels = persona.labels[seen]
    undo = np.concatenate([seen[labels == sign][: design.undo_statements] for sign in (1, -1)])
    return Parts(seen[~np.isin(seen, undo)], undo, held_out)


# Before training --------------------------------------------------------------------------------------


def embeddings(bench: Bench, design: Design) -> pd.DataFrame:
    """How far apart the two clouds of every behaviour lie before training.

    One row a behaviour, from the least to the most distinguishable.

    Columns:
        behaviour, family: its name in the data, and what it shares with others' names.
        statements: of both labels together.
        δ: distance of the centres.
        δ of chance: what it would be about if both labels had one mean and only the draw told them apart.
        ‖Σ‖: the larger of the two operator norms of the covariances.
        Tr Σ: mean squared distance of a statement from its cloud's centre.
        Tr Σ / δ²: size of the clouds for their distance.
        Yes or No: probability that the answer is one of the two, a mean over some statements.
    """
    everyone = cast(bench, design)
    moments = everyone.moments.values()
    asked = [persona.drawn(ASKED, bench.seed) for persona in everyone.personas.values()]
    either = bench.measure("answers", {"data": data.fingerprint(asked)}, answer_mass, asked)
    return pd.DataFrame(
        {
            "behaviour": everyone.order,
            "family": [data.family(name) for name in everyone.order],
            "statements": [len(persona.statements) for persona in everyone.personas.values()],
            "δ": [m.distinguishability for m in moments],
            "δ of chance": [m.distinguishability_of_chance for m in moments],
            "‖Σ‖": [m.concentration for m in moments],
            "Tr Σ": [m.trace for m in moments],
            "Tr Σ / δ²": [m.spread_ratio for m in moments],
            "Yes or No": either,
        }
    )


def answer_mass(lm: LanguageModel, personas: Sequence[Persona]) -> list[float]:
    """The probability that either answer is given, mean over each persona's statements."""
    found = []
    for persona in personas:
        known = reference_log_probs(lm, tokenize_persona(lm, persona), TOKENS_PER_FORWARD, normalised=True)
        found.append(float((known.chosen.exp() + known.rejected.exp()).mean()))
    return found


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
        maps.append(mapped(points, persona).assign(map=place))
    return pd.concat(maps, ignore_index=True)


def mapped(points: NDArray[np.float32], persona: Persona) -> pd.DataFrame:
    """Places of a persona's statements in the plane, as `statement_maps` has them."""
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

            - behaviour, family, δ: as in `embeddings`.
            - δ of training: of the training statements alone.
            - δ / √Tr Σ: their distance for the size of the clouds, of the training statements.
            - fall of the loss: log 2 less the loss on the training statements after the last step (nats).
            - fall held out: the same on the held-out statements.
            - rate: movement of the weights a step, ||W_T - W_0|| / T.
            - accuracy before, accuracy after: share of held-out statements answered correctly.
            - fall foretold, rate foretold: the first step repeated, eta beta^2 T delta^2 / 8 and sqrt(2) eta
              beta delta / 4, with the δ of training.
            - error of the first step: of its mean margin, relative to eta beta^2 delta^2 / 4.
        theorem_4_1: one row a behaviour:

            - c_n, c_v: the smallest constants that fit.
            - β′²ηc_n², holds: the condition's left side, and whether it is at most 1/4.
            - R²: of a straight line through the origin fitted to the movement.
            - steps above: at which the movement exceeds the bound, of `steps`.
            - steps above ours: at which it exceeds sqrt(2) / 4 eta beta t δ of training.
            - slack: bound over movement at the last step.
        last_layer_curves: one row a behaviour that is shown and step:

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
    words = ("held_out", "pairs_tested")
    return {
        "data": data.fingerprint(people),
        "settings": _descent(bench, design).describe(),
        **{word: getattr(design, word) for word in words},
    }


def _unembedding(bench: Bench, design: Design) -> dict[str, pd.DataFrame]:
    everyone, settings = cast(bench, design), _descent(bench, design)
    steps, rate, beta = settings.steps, settings.learning_rate, settings.beta
    learned, rates, curves = [], [], []
    for name, persona in everyone.personas.items():
        moments = everyone.moments[name]
        seen = geometry.moments(*_training(bench, design, persona))
        run = bench.train_unembedding([persona], settings, test_fraction(persona, design))
        record, held_out = (
            run.record[run.record["split"] == split].set_index("step") for split in ("train", "test")
        )
        fell = np.log(2) - record["loss"]
        moved = theory.movement(run.path, moments, beta, rate)
        conditions = theory.conditions(moments, beta, rate)
        delta = seen.distinguishability
        first = np.sqrt(2) / 4 * rate * beta * delta
        gain = rate * beta**2 * delta**2 / 4
        about = {"behaviour": name, "family": data.family(name), "δ": moments.distinguishability}
        learned.append(
            {
                **about,
                "δ of training": delta,
                "δ / √Tr Σ": seen.spread_ratio**-0.5,
                "fall of the loss": fell[steps],
                "fall held out": np.log(2) - held_out["loss"][steps],
                "rate": moved.rate,
                "accuracy before": held_out["ranking_accuracy"][0],
                "accuracy after": held_out["ranking_accuracy"][steps],
                "fall foretold": gain * steps / 2,
                "rate foretold": first,
                "error of the first step": record["margin"][1] / gain - 1,
            }
        )
        rates.append(
            {
                "behaviour": name,
                "δ": moments.distinguishability,
                "c_n": conditions.c_n,
                "c_v": conditions.c_v,
                "β′²ηc_n²": conditions.step,
                "holds": conditions.hold,
                "rate": moved.rate,
                "R²": moved.r_squared,
                "steps above": moved.violations,
                "steps above ours": int((record["distance"] > first * record.index * (1 + 1e-9)).sum()),
                "steps": steps,
                "slack": moved.slack,
            }
        )
        if name in shown(everyone):
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
        boundary: one row a behaviour that is shown:

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
    followed = {name: everyone.personas[name] for name in shown(everyone)}
    turns = {name: _turn(bench, design, persona, far) for name, persona in followed.items()}
    drawn = _logarithmic(far.steps)
    summary = [
        {
            "behaviour": name,
            "begins below 0": bool(turn["bound"].isna().any()),
            "steps below bound": int((turn["cosine"] < turn["bound"] - 1e-9).sum()),
            "steps above actual": int((turn["guaranteed"] > turn["accuracy"] + 1e-9).sum()),
            "steps": far.steps,
            "guaranteed": turn["guaranteed"].max(),
            "share of Yes": float((_training(bench, design, followed[name])[1] > 0).mean()),
        }
        for name, turn in turns.items()
    ]
    curves = [turn.iloc[drawn].assign(behaviour=name) for name, turn in turns.items()]
    return {"boundary": pd.DataFrame(summary), "boundary_curves": pd.concat(curves, ignore_index=True)}


def _turn(bench: Bench, design: Design, persona: Persona, settings: Settings) -> pd.DataFrame:
    """One row a step: cosine, its bound, guaranteed and actual accuracy."""
    g, s = _training(bench, design, persona)
    m, start = difference(g, s), bench.answer_difference
    run = bench.train_unembedding([persona], settings, test_fraction(persona, design))
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


def _training(bench: Bench, design: Design, persona: Persona) -> tuple[NDArray[np.float32], NDArray[np.int8]]:
    """Hidden states and labels of a behaviour's statements, but for the held-out ones."""
    index, _ = data.split_indices(persona, bench.seed, test_fraction(persona, design))
    return bench.features(persona)[index], persona.labels[index]


def difference(g: NDArray[np.floating], s: NDArray[np.int8]) -> NDArray[np.float64]:
    """Difference of the means of both labels, shape (d,)."""
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
    gaps = gaps_of(cast(bench, design))
    i, j = np.tril_indices(len(gaps), k=-1)
    return pd.DataFrame({"i": i, "j": j, "priority gap": gaps[i, j]})


def gaps_of(everyone: Cast) -> NDArray[np.float64]:
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
    order, gaps = everyone.order, gaps_of(everyone)
    every = [(i, j) for i in range(len(order)) for j in range(i)]
    drawn = np.random.default_rng(bench.seed).permutation(len(every))[: design.pairs_tested]
    means = {
        name: difference(*_training(bench, design, persona)) for name, persona in everyone.personas.items()
    }
    rows = []
    for i, j in (every[k] for k in drawn):
        pair = [order[i], order[j]]
        both = [everyone.personas[name] for name in pair]
        run = bench.train_unembedding(both, settings, test_fraction(both[0], design))
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


# The plan -------------------------------------------------------------------------------------------


def work(p: Mapping[str, Any]) -> list[Work]:
    """The work of chapter 1 under its parameters, for all seeds, each of which draws its statements."""
    features, seeds = persona_features(p), len(set(p["seeds"]))
    count, each = features.runs, features.each
    features = replace(features, runs=count * seeds)
    kept, seen = 2 * p["held_out"], features.tokens / each - 2 * p["held_out"]

    def of(wanted: int) -> int:
        return min(wanted or count, count) * seeds

    def training(name: str, runs: int, updates: float, trained_on: float, measured: float) -> Work:
        """Of behaviours, with the reference of what is trained on, and so many statements of other passes."""
        tokens, steps = p["batch_size"] * each, max(1, round(updates))
        others = min(trained_on, updates * p["batch_size"]) + measured
        return Work(name, "train", runs, steps * tokens, steps, others * each, tokens, each=each)

    steps, undo, trained = p["steps"], p["undo_steps"], of(p["trained"])
    controlled, betas = of(p["controlled"]), len(p["other_betas"])
    tried = betas * len(p["rates_tried"]) * of(p["tuned_on"])
    more = p["intervened_statements"] or seen + kept
    half = (more - p["held_out"]) / 2  # of the pool of two labels
    together = p["equalised"] * p["equalised_examples"]
    pairs = [pair for pair in data.load_pairs(p["data"]) if size_of(pair) <= p["hh_characters"]]
    responses = Lengths.of(pairs)
    updates = p["hh_steps"]
    return [
        features,
        Work(
            f"features of {of(p['intervened'])} halved",
            "forward",
            of(p["intervened"]),
            2 * more * each,
            each=each,
        ),
        Work(
            "first gradients",
            "train",
            features.runs,
            2 * p["graded"] * each,
            1,
            0,
            2 * p["graded"] * each,
            each=each,
        ),
        training(f"fine-tuning {trained} personas", trained, steps, seen, 2 * kept),
        training("fine-tuning pairs of personas", p["pairs_trained"] * seeds, steps, 2 * seen, 3 * kept),
        training("fine-tuning on shuffled labels", controlled, steps, seen, 2 * kept),
        training("opposite labels, from three starts", 3 * controlled, undo + steps / 3, seen, 3 * kept),
        training(f"{betas} further betas", tried + betas * of(p["beta_behaviours"]), steps, seen, kept),
        training("fine-tuning on halves", 3 * of(p["intervened"]), half / p["batch_size"], half, 2 * kept),
        training(
            "fine-tuning many together",
            2 * p["equalised_draws"] * seeds,
            together / p["batch_size"],
            together,
            2 * p["equalised"] * kept,
        ),
        Work(
            "training on response pairs (LoRA)",
            "adapt",
            3 * seeds,
            updates * p["hh_batch_size"] * responses.each,
            updates,
            (p["hh_pairs"] + 6 * p["hh_held_out"]) * responses.each,
            largest_batch(pairs, p["hh_batch_size"]),
            each=responses.each,
            responses=responses.share,
        ),
    ]
