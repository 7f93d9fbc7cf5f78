"""What was ranked, for the eye, for a model card, and for other programs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from prefdyn import __version__
from prefdyn.experiments.rank_models import Ranked
from prefdyn.files import atomic_file

FORMATS = (".csv", ".json", ".md")
"""Endings of files that `write` knows."""
ABSENT = "–"


def text(ranked: Ranked) -> str:
    """Tables in columns, under what a reader of them has to know."""
    parts = ["\n".join(ranked.about)]
    parts += [table.to_string(index=False) for table in _shown(ranked).values()]
    return "\n\n".join(filter(None, parts))


def markdown(ranked: Ranked, settings: Mapping[str, Any]) -> str:
    """Tables for a model card, with what they rest on."""
    given = ", ".join(f"{name} {value}" for name, value in settings.items() if value != "")
    models = ", ".join(f"{name} {digest}" for name, digest in ranked.fingerprints.items())
    lines = [f"- {line}" for line in ranked.about]
    lines += [f"- `prefdyn rank` {__version__} with {given}", f"- fingerprints of the models: {models}"]
    lines += [f"- {name} failed: {why}" for name, why in ranked.failed.items()]
    for title, table in _shown(ranked).items():
        rows = [list(table.columns), ["---"] * len(table.columns), *table.to_numpy().tolist()]
        lines += ["", f"### {title}", ""]
        lines += ["| " + " | ".join(str(cell).replace("|", r"\|") for cell in row) + " |" for row in rows]
    return "\n".join(["## Ranking", "", *lines]) + "\n"


def write(path: Path, ranked: Ranked, settings: Mapping[str, Any]) -> None:
    """Write what was ranked so far: accuracies (.csv), a page for a model card (.md), or all of it (.json).

    The file takes its place whole.
    """
    if path.suffix == ".csv":
        content = ranked.accuracy.to_csv(index=False, float_format="%.6g")
    elif path.suffix == ".md":
        content = markdown(ranked, settings)
    else:
        tables = {"accuracy": ranked.accuracy, "comparisons": ranked.comparisons}
        rows = {name: json.loads(table.to_json(orient="records")) for name, table in tables.items()}
        content = json.dumps(_made(ranked, settings) | rows, indent=1, ensure_ascii=False) + "\n"
    with atomic_file(path) as made:
        made.write_text(content, encoding="utf-8")


def write_examples(path: Path, ranked: Ranked) -> None:
    """Write a line of JSON for each example and model, see `rank_tables.example_rows`."""
    with atomic_file(path) as made, open(made, "w", encoding="utf-8") as file:
        for row in ranked.example_rows():
            file.write(json.dumps(row, ensure_ascii=False) + "\n")


def _made(ranked: Ranked, settings: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "prefdyn": __version__,
        "settings": dict(settings),
        "models": ranked.fingerprints,
        "about": ranked.about,
        "failed": ranked.failed,
    }


def _shown(ranked: Ranked) -> dict[str, pd.DataFrame]:
    """The tables that have rows, as text in columns, by title."""
    accuracy, comparisons = ranked.accuracy, ranked.comparisons
    out = {}
    if len(accuracy):
        columns: dict[str, Any] = {name: accuracy[name] for name in ("data", "model", "score")}
        if accuracy["right"].nunique() > 1:
            columns["right"] = accuracy["right"]
        if accuracy["ties"].nunique() > 1:
            columns["ties"] = accuracy["ties"]
        columns |= {"examples": accuracy["examples"], "accuracy": accuracy["accuracy"].map(_number)}
        columns["95% interval"] = _interval(accuracy)
        columns["prefers shorter"] = accuracy["prefers_shorter"].map(_number)
        out["Accuracy"] = pd.DataFrame(columns)
    if len(comparisons):
        columns = {name: comparisons[name] for name in ("data", "first", "second", "score")}
        if comparisons["right"].nunique() > 1:
            columns["right"] = comparisons["right"]
        columns |= {"only first": comparisons["only_first"], "only second": comparisons["only_second"]}
        columns["difference"] = comparisons["difference"].map("{:+.3f}".format)
        columns["95% interval"] = _interval(comparisons)
        columns |= {"McNemar p": comparisons["p"].map(_p), "Holm's": comparisons["p_holm"].map(_p)}
        out["The same examples, two models"] = pd.DataFrame(columns)
    return out


def _number(value: float) -> str:
    return ABSENT if np.isnan(value) else f"{value:.3f}"


def _p(value: float) -> str:
    return f"{value:.3f}" if value >= 0.001 else f"{value:.0e}"


def _interval(table: pd.DataFrame) -> list[str]:
    ends = zip(table["low"], table["high"], strict=True)
    return [ABSENT if np.isnan(low) else f"{low:.3f} to {high:.3f}" for low, high in ends]
