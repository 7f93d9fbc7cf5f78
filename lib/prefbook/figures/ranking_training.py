"""The figures of chapter 4 on training: pairs followed one by one, and the world with a known judge."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import PathPatch
from matplotlib.path import Path

from prefbook.figures import style
from prefbook.figures.ranking import OWN, bars, both, legend
from prefbook.ledger.derived import ranking as derived
from prefbook.ledger.quoted import ranking as quoted
from prefbook.ledger.tables import Tables
from prefdyn.measures import estimates
from prefdyn.theory import ranking as theory

SPLITS = ("trained", "unseen")
RANKED = {True: ("ranked right", style.POSITIVE, "o"), False: ("ranked wrong", style.NEGATIVE, "s")}
OBJECTIVES = {
    "DPO": (style.POSITIVE, "o"),
    "γ 0": (style.NEGATIVE, "s"),
    "γ 2": (style.FIRST, "^"),
    "IPO": (style.SECOND, "v"),
    "SLiC": ("#E69F00", "D"),
    "SimPO": ("#56B4E9", "P"),
    "SFT": (style.NEUTRAL, "X"),
}
DOTS: dict[str, Any] = {
    "linestyle": "none",
    "markeredgecolor": "white",
    "markeredgewidth": 0.4,
    "markersize": 5,
    "alpha": 0.8,
}


# Flips as flows -------------------------------------------------------------------------------------


def flows(reference: Tables, here: Tables | None) -> Figure:
    """From the reference's rankings to the policy's at the lowest validation loss, on response pairs."""
    tables = reference.of(reference.seed)
    at = tables["flips"][["run", "split", "step"]]
    return _two_flows(tables["followed"].merge(at, on=["run", "split", "step"]))


def world_flows(reference: Tables, here: Tables | None) -> Figure:
    """The same in the world with a known judge, at the end of DPO at the paper's strength."""
    tables = reference.of(reference.seed)
    return _two_flows(pd.concat([derived.last_look(tables, split) for split in SPLITS]))


def _two_flows(pairs: pd.DataFrame) -> Figure:
    figure, axes = style.panels(1, 2, height=3.4)
    for ax, split in zip(axes, SPLITS, strict=True):
        part = pairs[pairs["split"] == split]
        before, now = (part["c"] <= 0).to_numpy(), (part["gain"] >= part["c"]).to_numpy()
        counts = {
            (a, b): int(((before == a) & (now == b)).sum()) for a in (True, False) for b in (True, False)
        }
        _flow(ax, counts)
        ax.set_title(f"{split} pairs, n = {len(part)}")
    return figure


def _flow(ax: Axes, counts: dict[tuple[bool, bool], int]) -> None:
    """Bands between two bars, the reference's rankings on the left and the policy's on the right."""
    whole = max(1, sum(counts.values()))
    order = [(True, True), (True, False), (False, True), (False, False)]
    left = {pair: sum(counts[q] for q in order[:i]) / whole for i, pair in enumerate(order)}
    by_end = sorted(order, key=lambda pair: (not pair[1], not pair[0]))
    right = {pair: sum(counts[q] for q in by_end[:i]) / whole for i, pair in enumerate(by_end)}
    for pair in order:
        share = counts[pair] / whole
        if not share:
            continue
        _, colour, _ = RANKED[pair[1]]
        a, b = 1 - left[pair], 1 - right[pair]
        corners = [
            (0.1, a),
            (0.5, a),
            (0.5, b),
            (0.9, b),
            (0.9, b - share),
            (0.5, b - share),
            (0.5, a - share),
        ]
        corners += [(0.1, a - share), (0.1, a)]
        codes = [Path.MOVETO, *[Path.CURVE4] * 3, Path.LINETO, *[Path.CURVE4] * 3, Path.CLOSEPOLY]
        turned = pair[0] != pair[1]
        ax.add_patch(PathPatch(Path(corners, codes), facecolor=colour, alpha=0.75 if turned else 0.3, lw=0))
    last = 2.0
    for pair in by_end:
        share = counts[pair] / whole
        if share:  # the words of thin bands would lie on each other
            last = min(1 - right[pair] - share / 2, last - 0.06)
            ax.text(0.93, last, f"{share:.0%}" if share >= 0.005 else "<1%", va="center", fontsize=9)
    for place, side in ((0.1, 0), (0.9, 1)):
        right_share = sum(counts[pair] for pair in order if pair[side]) / whole
        for low, high, ranked in ((1 - right_share, 1, True), (0, 1 - right_share, False)):
            ax.plot([place] * 2, [low, high], color=RANKED[ranked][1], linewidth=7, solid_capstyle="butt")
    ax.text(0.06, 0.98, "right", rotation=90, ha="right", va="top", fontsize=10)
    ax.text(0.06, 0.02, "wrong", rotation=90, ha="right", va="bottom", fontsize=10)
    ax.set(xlim=(-0.05, 1.05), ylim=(-0.02, 1.02), yticks=[], xticks=[0.1, 0.9])
    ax.set_xticklabels(["reference", "policy"])
    ax.grid(False)
    ax.spines[["left", "bottom"]].set_visible(False)


# How low must the loss go? --------------------------------------------------------------------------


def _ends(tables: Tables) -> pd.DataFrame:
    """All followed pairs at the end of DPO, at every strength."""
    pairs = tables["world_pairs"].query("objective == 'DPO'")
    return pairs[pairs["step"] == pairs["step"].max()]


def thresholds(reference: Tables, here: Tables | None) -> Figure:
    """The loss of each pair at the end of DPO against c, at each strength, with the threshold of Theorem
    4.1.
    """
    tables = reference.of(reference.seed)
    ends = _ends(tables)
    betas = sorted(ends["β"].unique())
    figure, axes = style.panels(1, len(betas), height=3.4, sharex=True)
    line = np.linspace(ends["c"].min(), ends["c"].max(), 400)
    for ax, beta in zip(axes, betas, strict=True):
        for edition, own in both(reference, here):
            part = _ends(edition)
            part = part[part["β"] == beta]
            for right, (label, colour, marker) in RANKED.items():
                side = part[(part["gain"] >= part["c"]) == right]
                loss = side["loss"].clip(lower=1e-12)
                ax.plot(
                    side["c"],
                    loss,
                    color=colour,
                    **(OWN if own else DOTS | {"marker": marker, "label": label}),
                )
        ax.plot(
            line, theory.dpo_threshold(line, beta).clip(1e-12), "--", color=style.THEORY, label="threshold"
        )
        ax.set(title=f"β = {beta:g}", xlabel="c (nats)", yscale="log")
    axes[0].set_ylabel("DPO loss (nats)")
    legend(figure, here, 4)
    return figure


# The world with a known judge -----------------------------------------------------------------------


def reach(reference: Tables, here: Tables | None) -> Figure:
    """What the log-ratio of each pair gained against what it gains at the theorem's optimum, at each
    strength.
    """
    tables = reference.of(reference.seed)
    ends = _ends(tables)
    betas = sorted(ends["β"].unique())
    figure, axes = style.panels(1, len(betas), height=3.4)
    for ax, beta in zip(axes, betas, strict=True):
        for edition, own in both(reference, here):
            part = _ends(edition)
            part = part[part["β"] == beta]
            for split, colour, marker in (("trained", style.POSITIVE, "o"), ("unseen", style.SECOND, "s")):
                side = part[part["split"] == split]
                look = OWN if own else DOTS | {"marker": marker, "label": f"{split} pairs"}
                ax.plot(side["difference"] / beta, side["gain"], color=colour, **look)
        far = float((ends["difference"].abs() / beta).max())
        ax.plot([-far, far], [-far, far], "--", color=style.THEORY, linewidth=1.2, label="the optimum")
        ax.set(title=f"β = {beta:g}", xlabel="gain of the optimum (nats)")
        ends_of = ends[ends["β"] == beta]["gain"]
        ax.set_ylim(1.15 * min(ends_of.min(), -1), 1.15 * max(ends_of.max(), 1))
    axes[0].set_ylabel("gain of DPO (nats)")
    legend(figure, here, 3)
    return figure


def win_rates(reference: Tables, here: Tables | None) -> Figure:
    """Ranking accuracy and win rate over the updates of DPO, at each strength, and once on fresh pairs."""
    tables = reference.of(reference.seed)
    betas = sorted(tables["world_answers"].query("objective == 'DPO'")["β"].unique())
    figure, axes = style.panels(1, len(betas), height=3.4, sharey=True)
    for ax, beta in zip(axes, betas, strict=True):
        for edition, own in both(reference, here):
            answers, pairs = edition["world_answers"], edition["world_pairs"]
            for name, dash in (("DPO", "-"), ("DPO, fresh pairs", ":"), ("DPO, same pairs", "--")):
                of = f"objective == {name!r} and β == {beta}"
                curves = {"win rate": (answers.query(of), "win rate", style.FIRST, "D")}
                right = pairs.assign(right=(pairs["gain"] >= pairs["c"]).astype(float)).query(of)
                for split, colour, marker in (
                    ("trained", style.POSITIVE, "o"),
                    ("unseen", style.SECOND, "s"),
                ):
                    part = right.query("split == @split")
                    curves[f"ranking accuracy, {split}"] = (part, "right", colour, marker)
                for label, (table, column, colour, marker) in curves.items():
                    _course(ax, table, column, colour, label if name == "DPO" else None, marker, dash, own)
        ax.axhline(0.5, color=style.NEUTRAL, linewidth=1, linestyle=":")
        ax.set(title=f"β = {beta:g}", xlabel="step", ylim=(0.2, 1.02))
    axes[0].set_ylabel("share")
    legend(figure, here, 3)
    return figure


def _course(
    ax: Axes,
    table: pd.DataFrame,
    column: str,
    colour: str,
    label: str | None,
    marker: str,
    dash: str,
    own: bool,
) -> None:
    """A column over steps, means over prompts with Student's intervals."""
    if table.empty:
        return
    by_prompt = table.groupby(["step", "run", "prompt"])[column].mean()
    found = {step: estimates.mean(part) for step, part in by_prompt.groupby(level="step") if len(part) > 2}
    look = OWN if own else {"marker": marker, "linestyle": dash, "capsize": 2, "label": label}
    ax.errorbar(
        np.array(list(found), dtype=float),
        [one.value for one in found.values()],
        yerr=bars(list(found.values())),
        color=colour,
        **look,
    )


def law(reference: Tables, here: Tables | None) -> Figure:
    """The share of pairs ranked right at the end of DPO over c, in sevenths, beside what the gains of the
    pairs that the reference has right foretell.
    """
    figure, axes = style.panels(1, 2, height=3.4, sharey=True)
    for tables, own in both(reference, here):
        for ax, split in zip(axes, SPLITS, strict=True):
            pairs = derived.last_look(tables, split).sort_values("c", ignore_index=True)
            c, right = pairs["c"].to_numpy(), (pairs["gain"] >= pairs["c"]).to_numpy()
            parts = [part for part in np.array_split(np.arange(len(c)), 7) if len(part) > 2]
            found = [estimates.proportion(right[part]) for part in parts]
            look = OWN if own else {"linestyle": "none", "marker": "o", "capsize": 3, "label": "found"}
            middle = [float(np.median(c[part])) for part in parts]
            ax.errorbar(middle, [one.value for one in found], yerr=bars(found), color=style.POSITIVE, **look)
            if not own:
                line = np.linspace(c.min(), c.max(), 300)
                foretold = theory.flips_foretold(pairs["gain"][c <= 0], line)
                ax.plot(line, foretold, "--", color=style.THEORY, label="P(gain > c), gains of right pairs")
    for ax, split in zip(axes, SPLITS, strict=True):
        ax.axvline(0, color=style.NEUTRAL, linewidth=1)
        ax.set(title=f"{split} pairs", xlabel="c, how wrong the reference is (nats)", ylim=(-0.03, 1.03))
    axes[0].set_ylabel("ranked right after DPO")
    legend(figure, here, 3)
    return figure


def equal_divergence(reference: Tables, here: Tables | None) -> Figure:
    """Objectives over the KL divergence from the reference: ranking accuracy of unseen pairs, wrong trained
    pairs that flipped, and win rate.
    """
    figure, axes = style.panels(1, 3, height=3.6)
    for tables, own in both(reference, here):
        parts = _first_draw(tables)
        for name, (colour, marker) in OBJECTIVES.items():
            if name not in parts:
                continue
            course = parts[name]
            look = OWN if own else {"marker": marker, "markersize": 5, "label": name}
            for ax, column in zip(axes, course.columns[1:], strict=True):
                ax.plot(course["KL"], course[column], color=colour, **look)
    for ax, column in zip(
        axes, ("ranked right, unseen", "wrong trained pairs flipped", "win rate"), strict=True
    ):
        ax.set(xlabel="KL from the reference (nats)", title=column)
    legend(figure, here, 4)
    return figure


def _first_draw(tables: Tables) -> dict[str, pd.DataFrame]:
    """By objective, in the first draw of the world: KL, and the three measures, a row a look."""
    beta = derived.papers_beta(tables)
    first = f"objective == 'DPO' and run == 0 and β == {beta}"
    pairs, answers = tables["world_pairs"].query(first), tables["world_answers"].query(first)
    pairs, answers = (
        pd.concat([own, tables[f"objective_{name}"]])
        for own, name in ((pairs, "pairs"), (answers, "answers"))
    )
    pairs = pairs.assign(right=(pairs["gain"] >= pairs["c"]).astype(float))
    out = {}
    for name, part in pairs.groupby("objective"):
        of = answers[answers["objective"] == name].groupby("step")
        wrong = part.query("split == 'trained' and c > 0").groupby("step")["right"].mean()
        unseen = part.query("split == 'unseen'").groupby("step")["right"].mean()
        columns = {"KL": of["KL"].mean(), "unseen": unseen, "flipped": wrong, "win": of["win rate"].mean()}
        out[str(name)] = pd.DataFrame(columns).reset_index(drop=True)
    return out


# Answers by the judge of the design -----------------------------------------------------------------


def judged_answers(reference: Tables, here: Tables | None) -> Figure:
    """Ranking accuracy and win rate over the updates on response pairs, with what is known of the judge."""
    figure, (ax,) = style.panels(1, 1)
    for tables, own in both(reference, here):
        answers = tables["win_rate"]
        measures = {
            "ranking accuracy": ("accuracy", style.POSITIVE, "o"),
            "win rate": ("win", style.FIRST, "D"),
        }
        for run in answers["run"].unique().tolist():
            part = answers[answers["run"] == run]
            for column, (short, colour, marker) in measures.items():
                low, high = part[f"{short} low"], part[f"{short} high"]
                lengths = np.maximum([part[column] - low, high - part[column]], 0)
                look = OWN if own else {"marker": marker, "capsize": 3, "label": column}
                ax.errorbar(part["step"] + 0.1 * run, part[column], yerr=lengths, color=colour, **look)
        if not own:
            ax.set_title(_judged_by(tables))
    ax.axhline(0.5, color=style.NEUTRAL, linewidth=1, linestyle=":")
    ax.set(xlabel="step", ylabel="share", ylim=(0, 1.03))
    legend(figure, here, 3)
    return figure


def _judged_by(tables: Tables) -> str:
    judge = tables["judge"].iloc[0]
    if np.isnan(judge["accuracy"]):
        return style.plain(f"{judge['name']}, no verdict on {quoted.no_verdict(tables)}")
    return f"judge right on {judge['accuracy']:.0%} of unseen pairs"
