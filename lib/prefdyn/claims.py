"""The ledger of claims: each declared once in book/claims.yml, measured by a chapter, judged here."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pandas as pd

from prefdyn.errors import PrefdynError
from prefdyn.files import atomic_file
from prefdyn.project import home, read_sections

if TYPE_CHECKING:  # to read a ledger needs neither torch nor scipy
    from prefdyn.intervals import Estimate
    from prefdyn.provenance import Provenance

Verdict = Literal["supported", "not supported", "inconclusive"]
THIS_BOOK = "this book"
"""What stands for the paper of a claim that no paper makes."""


@dataclass(frozen=True)
class Criterion:
    """When a statistic supports a claim; fixed before looking.

    Attributes:
        kind: "above" or "below": the whole interval lies on that side of the bound. "none": the statistic counts violations, and there
            are none.
    """

    kind: Literal["above", "below", "none"]
    bound: float = 0.0

    def __str__(self) -> str:
        return "no violation" if self.kind == "none" else f"interval {self.kind} {self.bound:g}"

    def judge(self, measured: Estimate) -> Verdict:
        """Supported if the interval lies on the side asked for, not supported if on the other, inconclusive if it holds the bound."""
        if any(math.isnan(value) for value in (measured.value, measured.low, measured.high)):
            return "inconclusive"
        if self.kind == "none":
            return "supported" if measured.value == 0 else "not supported"
        low, high = (measured.low, measured.high) if self.kind == "above" else (-measured.high, -measured.low)
        bound = self.bound if self.kind == "above" else -self.bound
        return "supported" if low > bound else "not supported" if high < bound else "inconclusive"


@dataclass(frozen=True)
class Claim:
    """A claim of a paper, or an answer to a question of this book's own.

    Attributes:
        paper: a key of references.bib, or `THIS_BOOK`.
        statistics: what is measured, in words, with the criterion for each; all of them must hold. The first is the headline.
        published: the paper's own figure with its place in the paper, for each statistic of which it gives one, or one that compares.
    """

    id: str
    chapter: str
    sentence: str
    paper: str
    place: str
    statistics: dict[str, Criterion]
    published: dict[str, str] = field(default_factory=dict)


def load_claims(path: Path | None = None) -> dict[str, Claim]:
    """Every declared claim, by id.

    Raises:
        PrefdynError: an entry is incomplete, or its criterion is none that `Criterion` knows.
    """
    path = path or home() / "book" / "claims.yml"
    claims = {}
    for id_, entry in read_sections(path).items():
        try:
            statistics = {name: _criterion(words) for name, words in entry["statistics"].items()}
            if not statistics:
                raise ValueError("it has no statistics")
            published = entry.get("published", {})
            if unknown := set(published) - set(statistics):
                raise ValueError(f"a published figure of no statistic: {', '.join(sorted(unknown))}")
            claims[id_] = Claim(id_, entry["chapter"], entry["sentence"], entry["paper"], str(entry["place"]), statistics, published)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise PrefdynError(f"{path}: the claim {id_} is malformed ({error!r})") from error
    return claims


def _criterion(words: str) -> Criterion:
    kind, _, bound = words.partition(" ")
    if kind not in ("above", "below", "none") or (kind == "none") != (bound == ""):
        raise ValueError(f"criterion {words!r}: write 'above X', 'below X' or 'none'")
    return Criterion(kind, float(bound or 0))  # type: ignore[arg-type]


class Ledger:
    """The claims of one chapter with what it measured of them."""

    def __init__(self, chapter: str) -> None:
        self.claims = {id_: claim for id_, claim in load_claims().items() if claim.chapter == chapter}
        self.measured: dict[str, dict[str, Estimate]] = {id_: {} for id_ in self.claims}

    def measure(self, id_: str, statistic: str, measured: Estimate) -> Verdict:
        """Enter a measurement; returns the verdict on this statistic.

        Raises:
            PrefdynError: the claim or the statistic is not declared.
        """
        if id_ not in self.claims or statistic not in self.claims[id_].statistics:
            raise PrefdynError(f"book/claims.yml declares no claim {id_} of this chapter with the statistic {statistic!r}")
        self.measured[id_][statistic] = measured
        return self.claims[id_].statistics[statistic].judge(measured)

    def verdict(self, id_: str) -> Verdict:
        """Of a whole claim: supported if every statistic is, not supported if any fails, else inconclusive."""
        claim = self.claims[id_]
        missing = [name for name in claim.statistics if name not in self.measured[id_]]
        if missing:
            raise PrefdynError(f"the claim {id_} was not measured: {', '.join(missing)}")
        verdicts = {criterion.judge(self.measured[id_][name]) for name, criterion in claim.statistics.items()}
        if "not supported" in verdicts:
            return "not supported"
        return "inconclusive" if "inconclusive" in verdicts else "supported"

    def entries(self, provenance: Provenance) -> list[dict[str, Any]]:
        """The ledger as plain objects; `estimate`, `interval`, `n` and `criterion` are those of a claim's first statistic."""
        out = []
        for id_, claim in self.claims.items():
            verdict = self.verdict(id_)
            parts = [
                {
                    "statistic": name,
                    "estimate": _number(self.measured[id_][name].value),
                    "interval": [_number(self.measured[id_][name].low), _number(self.measured[id_][name].high)],
                    "n": self.measured[id_][name].n,
                    "criterion": str(criterion),
                    "verdict": criterion.judge(self.measured[id_][name]),
                }
                for name, criterion in claim.statistics.items()
            ]
            head = {key: parts[0][key] for key in ("statistic", "estimate", "interval", "n", "criterion")}
            source = {"model": provenance.model, "data": provenance.data, "profile": provenance.profile, "made": provenance.made}
            about = {"id": id_, "chapter": claim.chapter, "sentence": claim.sentence, "paper": claim.paper, "place": claim.place}
            out.append({**about, "verdict": verdict, **head, **source, "statistics": parts})
        return out

    def save(self, folder: Path, provenance: Provenance) -> None:
        """Write the ledger to claims.json in a folder."""
        with atomic_file(folder / "claims.json") as made:
            made.write_text(json.dumps(self.entries(provenance), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
            made.chmod(0o644)


def collect(folder: Path) -> list[dict[str, Any]]:
    """The entries of every claims.json under a folder, by claim id."""
    entries: list[dict[str, Any]] = []
    for path in sorted(folder.glob("**/claims.json")):
        try:
            entries.extend(json.loads(path.read_text(encoding="utf-8")))
        except ValueError as error:
            raise PrefdynError(f"{path}: the ledger is damaged ({error}): delete it and run its chapter again") from error
    return sorted(entries, key=lambda entry: entry["id"])


def table(entries: Sequence[dict[str, Any]]) -> pd.DataFrame:
    """One row a statistic: claim, verdict on the claim, what was measured."""
    rows = []
    for entry in entries:
        for number, part in enumerate(entry["statistics"]):
            first = number == 0
            rows.append(
                {
                    "claim": entry["id"] if first else "",
                    "sentence": entry["sentence"] if first else "",
                    "verdict": entry["verdict"] if first else "",
                    "statistic": part["statistic"],
                    "estimate": _text(part["estimate"]),
                    "95% interval": f"{_text(part['interval'][0])} to {_text(part['interval'][1])}",
                    "n": part["n"],
                    "criterion": part["criterion"],
                }
            )
    return pd.DataFrame(rows)


def _number(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _text(value: float | None) -> str:
    return "none" if value is None else f"{value:.3g}"
