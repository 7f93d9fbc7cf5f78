"""The figures of chapter 1 on what is learned with all weights free, drawn as those in `distinguishability`
are; those on what training leaves are in `distinguishability_effects`.
"""

from __future__ import annotations

import matplotlib as mpl
import matplotlib.ticker
import numpy as np
from matplotlib.figure import Figure

from prefbook.figures import style
from prefbook.figures.behaviours import (
    DELTA,
    FALL,
    correlated,
    part_of,
    some,
    titled,
    whole_steps,
)
from prefbook.figures.explorer import rendered
from prefbook.ledger.derived import distinguishability as derived
from prefbook.ledger.statistics import distinguishability as statistics
from prefbook.ledger.tables import Tables
from prefdyn.data import PAPER_BEHAVIOURS

# All weights ------------------------------------------------------------------------------------------


def fine_tuning(reference: Tables, here: Tables | None) -> Figure:
    """Full fine-tuning: held-out loss and accuracy on the way, of five, and the fall of all behaviours."""
    known, own = style.first_runs(reference, here)
    table, curves = known["fine_tuning"], known["fine_tuning_curves"]
    falls = reference["fine_tuning"]
    colours = style.ordered_colours(list(falls["behaviour"].unique()))
    names = list(table["behaviour"])
    papers = [name for name in names if name in PAPER_BEHAVIOURS]
    figure, (left, middle, right) = style.panels(1, 3, height=3.9)
    for name in papers if len(papers) == len(PAPER_BEHAVIOURS) else some(names):
        part = part_of(curves, behaviour=name)
        for ax, column in ((left, "loss"), (middle, "accuracy")):
            ax.plot(part["step"], part[column], "o-", color=colours[name], label=style.readable(name))
    shades = [colours[name] for name in falls["behaviour"]]
    right.scatter(falls["δ of training"], falls[FALL], c=shades, s=26, edgecolor="white", linewidth=0.4)
    if own is not None:
        style.this_machine(right, own["fine_tuning"]["δ of training"], own["fine_tuning"][FALL])
    for ax in (left, middle):
        whole_steps(ax)
    left.set(ylabel="held-out loss (nats)", title="Loss")
    middle.axhline(0.5, color=style.NEUTRAL, linewidth=1)
    middle.set(ylabel="held-out accuracy", title="Accuracy")
    right.axhline(0, color=style.NEUTRAL, linewidth=1)
    right.set(xlabel=DELTA, ylabel="fall of the held-out loss (nats)")
    correlated(right, statistics.fall_of_all_weights(known))
    style.legend_below(figure, columns=2)
    return figure


OUTCOMES = {
    "fall, all weights": ("fine_tuning", FALL),
    "held-out accuracy, all weights": ("fine_tuning", "accuracy after"),
    "fall, last layer": ("unembedding", FALL),
    "held-out accuracy, last layer": ("unembedding", "accuracy after"),
}
"""What the vertical axis of `who_is_who` may be, with its table and column."""


def who_is_who(reference: Tables, here: Tables | None) -> str:
    """Every behaviour as a point that says who it is; the outcome on the vertical axis can be changed."""
    known, _ = style.first_runs(reference, here)
    table = known["unembedding"].set_index("behaviour")
    names = list(table.index)
    tables = {name: known[name].set_index("behaviour") for name in ("fine_tuning", "unembedding")}
    outcomes = {
        words: [_number(tables[name][column].get(who)) for who in names]
        for words, (name, column) in OUTCOMES.items()
    }
    colours = style.ordered_colours(names).values()
    shades = [mpl.colors.to_hex((red, green, blue)) for red, green, blue, _ in colours]
    content = {
        "names": [name.replace("-", " ") for name in names],
        "delta": [round(float(value), 3) for value in table["δ of training"]],
        "colours": shades,
        "outcomes": outcomes,
    }
    return rendered("behaviours.html", "behaviours", content)


def _number(value: float | None) -> float | None:
    return None if value is None or np.isnan(value) else round(float(value), 4)


def course(reference: Tables, here: Tables | None) -> Figure:
    """The rank correlation of distinguishability with the fall at every look, a line a seed."""
    seeds = reference["fine_tuning_curves"]["seed"].unique()
    figure, (ax,) = style.panels(1, 1, height=3.2, width=7)
    for seed in seeds:
        found = derived.with_falls_by_step(reference.of(seed))
        low, high = ([getattr(rho, end) for rho in found.values()] for end in ("low", "high"))
        ax.fill_between(list(found), low, high, color=style.POSITIVE, alpha=0.15, linewidth=0)
        ax.plot(list(found), [rho.value for rho in found.values()], "o-", color=style.POSITIVE)
    _, own = style.first_runs(reference, here)
    if own is not None:
        found = derived.with_falls_by_step(own)
        style.this_machine(ax, list(found), [rho.value for rho in found.values()])
        style.legend_below(figure)
    ax.axhline(0, color=style.NEUTRAL, linewidth=1)
    ax.set(ylim=(-0.42, 1.02), ylabel="rank correlation of δ\nwith the fall of the loss")
    whole_steps(ax)
    return figure


def betas(reference: Tables, here: Tables | None) -> Figure:
    """The rank correlation of distinguishability with the fall at every strength, a row each, by seed."""
    seeds = reference["beta_falls"]["seed"].unique()
    figure, (ax,) = style.panels(1, 1, height=0.9 + 0.55 * 4, width=7)
    by_seed = [derived.falls_by_beta(reference.of(seed)) for seed in seeds]
    for number, found in enumerate(by_seed):
        for place, rho in enumerate(found.values()):
            at = -place - 0.18 * (number - (len(by_seed) - 1) / 2)
            ax.plot([rho.low, rho.high], [at, at], color=style.POSITIVE, linewidth=2)
            ax.plot(rho.value, at, "o", color=style.POSITIVE, markersize=6)
    _, own = style.first_runs(reference, here)
    if own is not None:
        found_here = list(derived.falls_by_beta(own).items())
        strengths = list(by_seed[0])
        shown = [(strengths.index(beta), rho) for beta, rho in found_here if beta in strengths]
        style.this_machine(ax, [rho.value for _, rho in shown], [-place - 0.35 for place, _ in shown])
        style.legend_below(figure)
    ax.axvline(0, color=style.NEUTRAL, linewidth=1)
    ax.set(yticks=-np.arange(len(by_seed[0])), yticklabels=[f"β = {beta:g}" for beta in by_seed[0]])
    ax.set(xlim=(-1.02, 1.02), xlabel="rank correlation of δ with the fall of the held-out loss")
    return figure


# What it is of all weights ----------------------------------------------------------------------------


def gradients(reference: Tables, here: Tables | None) -> Figure:
    """How well two measures foretell the fall: distinguishability and the first gradient of all weights; and
    the gradient of single layers.
    """
    known, own = style.first_runs(reference, here)
    figure, (left, right) = style.panels(1, 2, height=3.6)
    table = known["fine_tuning"].merge(known["gradients"][["behaviour", "absolute"]], on="behaviour")
    shades = list(style.ordered_colours(list(table["behaviour"])).values())
    left.scatter(table["absolute"], table[FALL], c=shades, s=26, edgecolor="white", linewidth=0.4, zorder=3)
    correlated(left, derived.fall_by_gradient(known))
    if own is not None:
        mine = own["fine_tuning"].merge(own["gradients"][["behaviour", "absolute"]], on="behaviour")
        style.this_machine(left, mine["absolute"], mine[FALL], markersize=4)
    left.set(xlabel="sum of the first gradient's absolute values", ylabel="fall of the held-out loss (nats)")
    by_layer = derived.falls_by_layer(known)
    places = np.arange(len(by_layer))
    values = [rho.value for rho in by_layer.values()]
    right.bar(places, values, color=style.FIRST, width=0.7)
    lengths = [[rho.value - rho.low, rho.high - rho.value] for rho in by_layer.values()]
    right.errorbar(
        places, values, np.abs(np.array(lengths)).T, fmt="none", ecolor=style.THEORY, elinewidth=0.8
    )
    delta = statistics.fall_of_all_weights(known).value
    right.axhline(delta, color=style.THEORY, linestyle="--", linewidth=1.2, label="distinguishability δ")
    right.axhline(0, color=style.NEUTRAL, linewidth=1)
    right.set(xlabel="layer, from the first to the last", ylabel="ρ with the fall")
    right.locator_params(axis="x", integer=True)
    style.legend_below(figure)
    return figure


def intervention(reference: Tables, here: Tables | None) -> Figure:
    """Halves of large and of small projections, and shuffled labels: the fall of the held-out loss."""
    known, own = style.first_runs(reference, here)
    arms = ("small projections", "large projections", "shuffled labels")
    colours = (style.NEGATIVE, style.POSITIVE, style.NEUTRAL)
    figure, (left, right) = style.panels(1, 2, height=3.6, gridspec_kw={"width_ratios": [1, 1.15]})
    falls = known["intervention"].pivot_table("fall", "behaviour", "arm")[list(arms)]
    for values in falls.to_numpy():
        left.plot([0, 1], values[:2], "-", color="#bbbbbb", linewidth=1, zorder=2)
    for place, (arm, colour) in enumerate(zip(arms, colours, strict=True)):
        left.plot(np.full(len(falls), place), falls[arm], "o", color=colour, markersize=5, zorder=3)
    if own is not None:
        mine = own["intervention"].pivot_table("fall", "behaviour", "arm")[list(arms)]
        for values in mine.to_numpy():
            style.this_machine(left, [0, 1, 2], values)
    left.axhline(0, color=style.NEUTRAL, linewidth=1)
    left.set(xticks=[0, 1, 2], xticklabels=[arm.replace(" ", "\n") for arm in arms], xlim=(-0.4, 2.4))
    left.set_ylabel("fall of the held-out loss (nats)")
    gaps = known["intervention"].pivot_table(["projected δ", "fall"], "behaviour", "arm")
    apart = gaps["projected δ"]["large projections"] - gaps["projected δ"]["small projections"]
    gained = gaps["fall"]["large projections"] - gaps["fall"]["small projections"]
    right.scatter(apart, gained, color=style.POSITIVE, s=34, edgecolor="white", zorder=3)
    right.axhline(0, color=style.NEUTRAL, linewidth=1)
    right.set(xlabel="projected δ, large less small", ylabel="fall, large less small (nats)")
    titled(right, "mean", statistics.larger_distance_learned_faster(known))
    if own is not None:
        style.legend_below(figure)
    return figure


def equalised(reference: Tables, here: Tables | None) -> Figure:
    """Behaviours trained together with equal weights and with those that undo the priority."""
    known, own = style.first_runs(reference, here)
    arms = {derived.EQUAL: style.NEUTRAL, derived.WEIGHTED: style.FIRST}
    figure, (left, right) = style.panels(1, 2, height=3.6)
    last = known["equalised_last_layer"]
    for arm, colour in arms.items():
        part = part_of(last, arm=arm)
        left.plot(part["δ"], 1e3 * part["fall"], "o", color=colour, markersize=4, label=arm)
    left.axhline(0, color=style.NEUTRAL, linewidth=1)
    left.set(xlabel=DELTA, ylabel="fall of the loss (10⁻³ nats)", title="Last layer, all together")
    spread = known["equalised"].groupby(["draw", "arm"])["fall"].std().unstack()[list(arms)]
    for values in spread.to_numpy():
        right.plot([0, 1], values, "-", color="#bbbbbb", linewidth=1)
    for place, (arm, colour) in enumerate(arms.items()):
        right.plot(np.full(len(spread), place), spread[arm], "o", color=colour, zorder=3)
    if own is not None:
        mine = own["equalised"].groupby(["draw", "arm"])["fall"].std().unstack()[list(arms)]
        for values in mine.to_numpy():
            style.this_machine(right, [0, 1], values)
    right.set(xticks=[0, 1], xticklabels=["equal\nweights", "weights that\nundo it"], xlim=(-0.5, 1.5))
    right.set(ylim=(0, None), ylabel="spread of the falls (nats)", title="All weights, some together")
    style.legend_below(figure)
    return figure
