"""Wrong labels on the hidden states of personas, and the shapes of these (chapter 3)."""

from __future__ import annotations

from dataclasses import asdict

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from prefdyn import data
from prefdyn.data import Persona
from prefdyn.engine import losses, states
from prefdyn.experiments import noisy
from prefdyn.experiments.bench import Bench
from prefdyn.experiments.noise import BARE, Design, descents
from prefdyn.experiments.tasks import Task
from prefdyn.files import public_name
from prefdyn.measures import estimates, geometry
from prefdyn.theory import noise as theory
from prefdyn.theory import vmf as distribution

PERSONA_RATES = np.round(np.arange(0, 0.5 + 0.0125, 0.025), 6)
PREDICTORS = ("δ", "‖Σ‖", "Tr Σ / δ²")


def vmf(bench: Bench, design: Design) -> dict[str, pd.DataFrame]:
    """Whether hidden states look like draws from von Mises-Fisher distributions (NZ Table 2, and more).

    Two states stand for a statement: that at its own end, which NZ takes, here of at most `BARE` statements
    of a label; and that at the end of the question about it, which is trained on.

    Tables:
        vmf: model; state ("statement", "question"); average norm; norm variance; average cosine (of a state
            with the mean of its kind); cosine variance over behaviours. The first row is the paper's.
        vmf_by_behaviour: behaviour; state; spread of the norm (standard deviation over mean); cosine; γ (2
            kappa / d, of the distribution with this mean cosine); variance of the cosine; that of a vMF;
            ratio (of the two); angle (°) (between the means of the two kinds); widest share (of the variance
            in all directions, ‖Σ‖ / Tr Σ); dimension; statements.
    """
    cast = _cast(bench, design)
    own = {"model": "the paper's (Llama-2-7B)", "state": "statement", "average norm": 140.3}
    own |= {"norm variance": 1.618, "average cosine": 0.9876, "cosine variance over behaviours": 1.106e-5}
    summary, parts = [own], []
    for state in ("statement", "question"):
        rows, norms = [], []
        for persona in cast:
            part = persona.drawn(BARE, bench.seed) if state == "statement" else persona
            g = _bare(bench, part) if state == "statement" else bench.features(part)
            norms.append(np.linalg.norm(g, axis=1))
            rows.append({"behaviour": persona.name, "state": state, **_look(g, part)})
        looks, lengths = pd.DataFrame(rows), np.concatenate(norms).astype(float)
        parts.append(looks)
        summary.append(
            {
                "model": public_name(bench.model_name),
                "state": state,
                "average norm": lengths.mean(),
                "norm variance": lengths.var(),
                "average cosine": looks["cosine"].mean(),
                "cosine variance over behaviours": looks["cosine"].var(ddof=0),
            }
        )
    return {"vmf": pd.DataFrame(summary), "vmf_by_behaviour": pd.concat(parts, ignore_index=True)}


def _cast(bench: Bench, design: Design) -> list[Persona]:
    """The personas that take part, each with statements of either label that the seed draws."""
    most = design.statements_per_label or 10**6
    return [persona.drawn(most, bench.seed) for persona in bench.personas(design.personas, 0)]


def _bare(bench: Bench, persona: Persona) -> NDArray[np.float32]:
    """The state at the end of each statement, with nothing around it, shape (n, d)."""
    key = {"statements": list(persona.statements)}
    return bench.measure("features", key, states.hidden_states, persona.statements)


def _look(g: NDArray[np.float32], persona: Persona) -> dict[str, float]:
    shapes = [distribution.shape(g[persona.labels == sign]) for sign in (1, -1)]
    norms = np.linalg.norm(g, axis=1)
    moments = geometry.moments(g, persona.labels)
    cosine = geometry.cosine(moments.mean_positive, moments.mean_negative)
    variance = np.mean([shape.variance for shape in shapes])
    expected = np.mean([shape.expected_variance for shape in shapes])
    return {
        "spread of the norm": float(norms.std() / norms.mean()),
        "cosine": float(np.mean([shape.cosine for shape in shapes])),
        "γ": float(2 * np.mean([shape.kappa for shape in shapes]) / g.shape[1]),
        "variance of the cosine": float(variance),
        "that of a vMF": float(expected),
        "ratio": float(variance / expected),
        "angle (°)": float(np.degrees(np.arccos(np.clip(cosine, -1, 1)))),
        "widest share": moments.concentration / moments.trace,
        "dimension": g.shape[1],
        "statements": len(g),
    }


def persona_noise(bench: Bench, design: Design) -> dict[str, pd.DataFrame]:
    """Wrong labels on the hidden states of every behaviour, as they are and with the mean of all states
    subtracted.

    Each trial trains on a random half of a behaviour's statements and tests on the other. All states are
    divided by their mean length.

    Tables:
        persona_noise: behaviour; its δ, ‖Σ‖ and Tr Σ / δ²; for raw and centred states the accuracy without
            noise, at ε = 0.2, the fall from the one to the other, and the c of Equation 18 fitted to rates up
            to 0.35, all of means over trials; foretold off: root mean square, over rates, of what is foretold
            less what is measured.
        persona_curves: behaviour; rate; raw, centred: accuracy, mean over trials, with low, high: its 95%
            Student interval; and foretold: see `theory.accuracy_of_states`.
        persona_correlations: over behaviours: predictor; outcome (a column of persona_noise); correlation,
            low, high: Spearman's, with its 95% bootstrap interval over families; n.
    """
    cast = _cast(bench, design)
    whole = np.concatenate([bench.features(persona) for persona in cast])
    shared, scale = whole.mean(axis=0), np.linalg.norm(whole, axis=1).astype(float).mean()
    moved = {
        (word, persona.name): (bench.features(persona) - centre) / scale
        for word, centre in {"raw": 0, "centred": shared}.items()
        for persona in cast
    }
    people = {persona.name: persona for persona in cast}
    found = bench.keep_all(
        [_resplit(bench, design, people[name], word, g) for (word, name), g in moved.items()]
    )
    moments = {persona.name: geometry.moments(bench.features(persona), persona.labels) for persona in cast}
    near, at = PERSONA_RATES <= theory.FITTED + 1e-9, np.searchsorted(PERSONA_RATES, 0.2 - 1e-9)
    summary = {
        name: {
            "behaviour": name,
            "δ": m.distinguishability,
            "‖Σ‖": m.concentration,
            "Tr Σ / δ²": m.spread_ratio,
        }
        for name, m in moments.items()
    }
    curves = {name: pd.DataFrame({"behaviour": name, "rate": PERSONA_RATES}) for name in people}
    for ((word, name), g), table in zip(moved.items(), found, strict=True):
        runs = table.pivot(index="trial", columns="rate", values="accuracy").to_numpy()
        labels = people[name].labels
        size = min((labels > 0).sum(), (labels < 0).sum()) // 2
        law = theory.accuracy_of_states(g, labels, PERSONA_RATES, int(size), bench.seed)
        each = [estimates.mean(column) for column in runs.T]
        y = np.array([estimate.value for estimate in each])
        curves[name][word] = y
        curves[name][f"{word} low"] = [estimate.low for estimate in each]
        curves[name][f"{word} high"] = [estimate.high for estimate in each]
        curves[name][f"{word} foretold"] = law
        summary[name] |= {
            f"accuracy, {word}": y[0],
            f"at ε = 0.2, {word}": y[at],
            f"fall, {word}": y[0] - y[at],
            f"c, {word}": float(theory.fit_equation_18(PERSONA_RATES[near], 1 - y[near])[1]),
            f"foretold off, {word}": float(np.sqrt(((law - y) ** 2).mean())),
        }
    table = pd.DataFrame(list(summary.values()))
    return {
        "persona_noise": table,
        "persona_curves": pd.concat(list(curves.values()), ignore_index=True).round(5),
        "persona_correlations": _correlations(table, bench.seed),
    }


def _resplit(bench: Bench, design: Design, persona: Persona, word: str, g: NDArray[np.float32]) -> Task:
    """Accuracy on a behaviour's states g at each of `PERSONA_RATES`, in each trial.

    A behaviour has halves and wrong labels of its own, the same for raw and centred states: shared ones would
    leave chance in a mean over behaviours that an interval over them does not hold.
    """
    descent, trials = descents(design)["short"], design.persona_trials
    seed = bench.seed_of("wrong labels", persona.name)
    key = {
        "features": g,
        "labels": persona.labels,
        "descent": asdict(descent),
        "rates": PERSONA_RATES.tolist(),
        "trials": trials,
        "seed": seed,
        "device": bench.device.type,
    }
    arguments = (g, persona.labels, losses.dpo(), descent, PERSONA_RATES, trials, seed, bench.device)
    return Task(f"wrong labels of {persona.name}, {word}", "halves", key, noisy.resplit, arguments)


def _correlations(summary: pd.DataFrame, seed: int) -> pd.DataFrame:
    rows, families = [], summary["behaviour"].map(data.family)
    for outcome in ("at ε = 0.2, raw", "at ε = 0.2, centred", "fall, centred", "c, centred"):
        for predictor in PREDICTORS:
            rho = estimates.spearman(summary[predictor], summary[outcome], seed, families)
            rows.append((predictor, outcome, rho.value, rho.low, rho.high, rho.n))
    return pd.DataFrame(rows, columns=["predictor", "outcome", "correlation", "low", "high", "n"])
