"""The figures of chapter 4 on its world with a known judge."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from prefbook.figures import style
from prefbook.figures.ranking import OWN
from prefbook.figures.ranking_training import RANKED, SPLITS, two_flows
from prefbook.ledger.derived import ranking as derived
from prefbook.ledger.tables import Tables
from prefdyn.measures import estimates
from prefdyn.theory import ranking as theory

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


def world_flows(reference: Tables, here: Tables | None) -> Figure:
    """The same in the world with a known judge, at the end of DPO at the paper's strength."""
    tables = reference.of(reference.seed)
    return two_flows(pd.concat([derived.last_look(tables, split) for split in SPLITS]))


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
        for edition, own in style.both(reference, here):
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
    style.legend_of_both(figure, here)
    return figure


def reach(reference: Tables, here: Tables | None) -> Figure:
    """What the log-ratio of each pair gained against what it gains at the theorem's optimum, at each
    strength.
    """
    tables = reference.of(reference.seed)
    ends = _ends(tables)
    betas = sorted(ends["β"].unique())
    figure, axes = style.panels(1, len(betas), height=3.4)
    for ax, beta in zip(axes, betas, strict=True):
        for edition, own in style.both(reference, here):
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
    style.legend_of_both(figure, here, 3)
    return figure


def win_rates(reference: Tables, here: Tables | None) -> Figure:
    """Ranking accuracy and win rate over the updates of DPO, at each strength, and once on fresh pairs."""
    tables = reference.of(reference.seed)
    betas = sorted(tables["world_answers"].query("objective == 'DPO'")["β"].unique())
    figure, axes = style.panels(1, len(betas), height=3.4, sharey=True)
    for ax, beta in zip(axes, betas, strict=True):
        for edition, own in style.both(reference, here):
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
    style.legend_of_both(figure, here, 3)
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
        yerr=style.bars(list(found.values())),
        color=colour,
        **look,
    )


def law(reference: Tables, here: Tables | None) -> Figure:
    """The share of pairs ranked right at the end of DPO over c, in sevenths, beside what the gains of the
    pairs that the reference has right foretell.
    """
    figure, axes = style.panels(1, 2, height=3.4, sharey=True)
    for tables, own in style.both(reference, here):
        for ax, split in zip(axes, SPLITS, strict=True):
            pairs = derived.last_look(tables, split).sort_values("c", ignore_index=True)
            c, right = pairs["c"].to_numpy(), (pairs["gain"] >= pairs["c"]).to_numpy()
            parts = [part for part in np.array_split(np.arange(len(c)), 7) if len(part) > 2]
            prompts = pairs["cluster"].to_numpy()
            found = [estimates.proportion(right[part], prompts[part]) for part in parts]
            look = OWN if own else {"linestyle": "none", "marker": "o", "capsize": 3, "label": "found"}
            middle = [float(np.median(c[part])) for part in parts]
            ax.errorbar(
                middle, [one.value for one in found], yerr=style.bars(found), color=style.POSITIVE, **look
            )
            if not own:
                line = np.linspace(c.min(), c.max(), 300)
                foretold = theory.flips_foretold(pairs["gain"][c <= 0], line)
                ax.plot(line, foretold, "--", color=style.THEORY, label="P(gain > c), gains of right pairs")
    for ax, split in zip(axes, SPLITS, strict=True):
        ax.axvline(0, color=style.NEUTRAL, linewidth=1)
        ax.set(title=f"{split} pairs", xlabel="c, how wrong the reference is (nats)", ylim=(-0.03, 1.03))
    axes[0].set_ylabel("ranked right after DPO")
    style.legend_of_both(figure, here, 3)
    return figure


def equal_divergence(reference: Tables, here: Tables | None) -> Figure:
    """Objectives over the KL divergence from the reference: ranking accuracy of unseen pairs, wrong trained
    pairs that flipped, and win rate.
    """
    figure, axes = style.panels(1, 3, height=3.6)
    for tables, own in style.both(reference, here):
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
    style.legend_of_both(figure, here)
    return figure


def _first_draw(tables: Tables) -> dict[str, pd.DataFrame]:
    """By objective, in the first draw of the world: KL, and the three measures, a row a look."""
    pairs, answers = derived.first_draw(tables)
    out = {}
    for name, part in pairs.groupby("objective"):
        of = answers[answers["objective"] == name].groupby("step")
        wrong = part.query("split == 'trained' and c > 0").groupby("step")["right"].mean()
        unseen = part.query("split == 'unseen'").groupby("step")["right"].mean()
        columns = {"KL": of["KL"].mean(), "unseen": unseen, "flipped": wrong, "win": of["win rate"].mean()}
        out[str(name)] = pd.DataFrame(columns).reset_index(drop=True)
    return out


def beside_dpo(reference: Tables, here: Tables | None) -> Figure:
    """What each other objective has at the end less what DPO has, with intervals over prompts."""
    titles = {"KL": "KL (nats)", "unseen": "unseen right", "flipped": "wrong flipped", "win": "win rate"}
    found = derived.less_dpo(reference.of(reference.seed))
    names = [name for name in OBJECTIVES if name in found]
    figure, axes = style.panels(1, len(titles), height=3.2, sharey=True)
    for tables, own in style.both(reference, here):
        ends = derived.less_dpo(tables)
        for ax, measure in zip(axes, titles, strict=True):
            for place, name in enumerate(names):
                if name in ends:
                    one, (colour, marker) = ends[name][measure], OBJECTIVES[name]
                    look = OWN if own else {"marker": marker, "capsize": 3}
                    ax.errorbar(
                        [one.value],
                        [place + (0.25 if own else 0)],
                        xerr=style.bars([one]),
                        color=colour,
                        **look,
                    )
    for ax, title in zip(axes, titles.values(), strict=True):
        ax.axvline(0, color=style.THEORY, linestyle="--", linewidth=1, label="DPO")
        ax.set(title=title, xlabel="less DPO's")
    axes[0].set(yticks=range(len(names)), yticklabels=names, ylim=(len(names) - 0.4, -0.6))
    style.legend_of_both(figure, here, 1)
    return figure
