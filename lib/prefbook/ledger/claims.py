"""The claims: each declared once in book/claims.yml, before it is measured."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from prefbook.project import home, read_sections
from prefdyn.errors import PrefdynError
from prefdyn.measures.estimates import Estimate

Kind = Literal["identity", "theorem", "empirical"]
Outcome = Literal["holds", "fails", "open", "zero"]
"""What a statistic says: its interval is on the side asked for, on the other, on both, or practically 0."""

VERDICTS: dict[str, dict[str, str]] = {
    "identity": {"holds": "checked", "fails": "violated", "open": "inconclusive"},
    "theorem": {"holds": "holds here", "fails": "violated", "open": "conditions not met"},
    "empirical": {
        "holds": "supported",
        "fails": "not supported",
        "open": "inconclusive",
        "zero": "practically zero",
    },
}
"""The words of a verdict, by the kind of claim."""
VACUOUS = "vacuous"
"""The verdict on a theorem that promises nothing at the size at hand."""
KNOWN = frozenset(
    ("chapter", "kind", "sentence", "paper", "place", "declared", "seen", "model_free", "statistics")
)
KNOWN_OF_A_STATISTIC = frozenset(("statistic", "criterion", "matters", "n_for_power", "published", "promise"))
"""The words of an entry of book/claims.yml, and of each of its statistics."""
THIS_BOOK = "this book"
"""What stands for the paper of a claim that no paper makes."""


@dataclass(frozen=True)
class Criterion:
    """When a statistic supports a claim; fixed before looking.

    Attributes:
        kind: "above" or "below": the whole interval lies on that side of the bound. "none": the statistic
            counts violations, and there are none.
        matters: the smallest difference from the bound that matters, in the statistic's units; None where
            the claim is not about a size.
    """

    kind: Literal["above", "below", "none"]
    bound: float = 0.0
    matters: float | None = None

    def __str__(self) -> str:
        return "no violation" if self.kind == "none" else f"interval {self.kind} {self.bound:g}"

    def judge(self, measured: Estimate) -> Outcome:
        """Holds if the interval lies on the side asked for. If it does not, and all of it is nearer to a
        bound of 0 than what matters, the effect is practically zero; else it fails if the interval lies on
        the other side, and is open if it holds the bound.
        """
        if any(math.isnan(value) for value in (measured.value, measured.low, measured.high)):
            return "open"
        if self.kind == "none":
            return "holds" if measured.value == 0 else "fails"
        sign = 1 if self.kind == "above" else -1
        low, high = sorted((sign * (measured.low - self.bound), sign * (measured.high - self.bound)))
        if low > 0:
            return "holds"
        if self.bound == 0 and self.matters is not None and max(-low, high) < self.matters:
            return "zero"
        return "fails" if high < 0 else "open"


@dataclass(frozen=True)
class Statistic:
    """What is measured for a claim.

    Attributes:
        words: what it is.
        function: the name of the function of the chapter's tables that returns it, in
            `prefbook.ledger.statistics`.
        n_for_power: units with which an effect that matters is found in four cases of five; None where that
            is no question.
        published: the paper's own figure with its place in the paper, or one that compares; "" without one.
        promise: for a theorem, that it promises something: a theorem whose promise fails is vacuous.
    """

    words: str
    function: str
    criterion: Criterion
    n_for_power: int | None = None
    published: str = ""
    promise: bool = False


@dataclass(frozen=True)
class Claim:
    """A claim of a paper, or an answer to a question of this book's own.

    Attributes:
        paper: a key of references.bib, or `THIS_BOOK`.
        declared: the commit that declared it.
        seen: what was known of the answer by then; "" where nothing is said.
        model_free: whether it is measured on drawn points alone, so that no other model says more.
        statistics: all of them must hold. The first is the headline.
    """

    id: str
    chapter: str
    kind: Kind
    sentence: str
    paper: str
    place: str
    declared: str
    statistics: tuple[Statistic, ...]
    seen: str = ""
    model_free: bool = False


def load_claims(path: Path | None = None) -> dict[str, Claim]:
    """Every declared claim, by id.

    Raises:
        PrefdynError: an entry is incomplete, or its criterion is none that `Criterion` knows.
    """
    path = path or home() / "book" / "claims.yml"
    claims = {}
    for id_, entry in read_sections(path).items():
        try:
            if entry["kind"] not in get_args(Kind):
                raise ValueError(f"kind {entry['kind']!r}: write one of {', '.join(get_args(Kind))}")
            statistics = tuple(_statistic(words, about) for words, about in entry["statistics"].items())
            if not statistics:
                raise ValueError("it has no statistics")
            _check_words(entry, KNOWN)
            fields = {
                name: str(entry[name]) for name in ("chapter", "sentence", "paper", "place", "declared")
            }
            claims[id_] = Claim(
                id=id_,
                kind=entry["kind"],
                statistics=statistics,
                seen=str(entry.get("seen", "")),
                model_free=bool(entry.get("model_free", False)),
                **fields,
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise PrefdynError(f"{path}: the claim {id_} is malformed ({error!r})") from error
    return claims


def _check_words(about: dict[str, Any], known: frozenset[str]) -> None:
    if unknown := set(about) - known:
        raise ValueError(f"unknown words {', '.join(sorted(unknown))}: there are {', '.join(sorted(known))}")


def _statistic(words: str, about: dict[str, Any]) -> Statistic:
    _check_words(about, KNOWN_OF_A_STATISTIC)
    kind, _, bound = str(about["criterion"]).partition(" ")
    if kind not in ("above", "below", "none") or (kind == "none") != (bound == ""):
        raise ValueError(f"criterion {about['criterion']!r}: write 'above X', 'below X' or 'none'")
    matters, n = about.get("matters"), about.get("n_for_power")
    criterion = Criterion(kind, float(bound or 0), None if matters is None else float(matters))  # type: ignore[arg-type]
    if not math.isfinite(criterion.bound) or (criterion.matters is not None and not criterion.matters > 0):
        raise ValueError(f"criterion {about['criterion']!r}, matters {matters!r}: a bound, and above 0")
    if n is not None and (type(n) is not int or n < 1):
        raise ValueError(f"n_for_power {n!r}: write a whole number, at least 1")
    return Statistic(
        words,
        about["statistic"],
        criterion,
        n,
        str(about.get("published", "")),
        bool(about.get("promise", False)),
    )
