"""Verdicts and numbers in HTML, as a text quotes them, this machine's beside the reference edition's."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from contextlib import suppress

import jinja2

from prefbook.ledger.claims import Claim, Criterion
from prefbook.ledger.editions import HERE, NO_MODEL, NOT_RUN, REFERENCE
from prefbook.ledger.judging import Entry
from prefbook.ledger.tables import NotMeasured, Tables, taken_from

TEMPLATES = jinja2.Environment(
    loader=jinja2.PackageLoader("prefbook.publishing"),
    autoescape=jinja2.select_autoescape(),
    trim_blocks=True,
    lstrip_blocks=True,
    undefined=jinja2.StrictUndefined,
)


def chip(verdict: str, local: str | None = None) -> str:
    """A verdict as a coloured word in HTML; a different one of this machine's stands beside it."""
    return _part("chip", verdict, local)


def quote(finding: str, local: str | None = None, whole: str | None = None) -> str:
    """A number of the reference edition in HTML with this machine's beside it, where that is another.

    Args:
        whole: this machine's in full, for those who point at it.
    """
    return _part("quote", finding, local, whole)


def of_claims(
    claims: Mapping[str, Claim], finding: Mapping[str, Entry], local: Mapping[str, Entry] | None
) -> dict[str, str]:
    """What a text can quote of claims, in HTML, this machine's beside the reference edition's: of a claim ID
    its estimate (ID, and ID-2 for the second statistic), ID-n and ID-2-n, ID-verdict.
    """
    out: dict[str, str] = {}
    for id_, claim in claims.items():
        entry, own = finding.get(id_), (local or {}).get(id_)
        out[f"{id_}-verdict"] = chip(verdict_of(entry), own["verdict"] if own else None)
        for number, statistic in enumerate(claim.statistics):
            key = f"{id_}-{number + 1}" if number else id_
            if entry is None:
                out[key] = out[f"{key}-n"] = quote(NOT_RUN)
                continue
            part, other = entry["statistics"][number], own["statistics"][number] if own else None
            out[key] = _compared(part, other, statistic.criterion)
            out[f"{key}-n"] = quote(f"{part['n']:,}", f"{other['n']:,}" if other else None)
    return out


def of_others(claims: Mapping[str, Claim], judged: Mapping[str, Mapping[str, Entry]]) -> dict[str, str]:
    """The same of other models' editions, by their titles: NAME/ID and so on, of *reference-NAME*."""
    return {
        f"{_model(title)}/{key}": value
        for title, entries in judged.items()
        if title not in (REFERENCE, HERE)
        for key, value in of_claims(claims, entries, None).items()
    }


def _model(title: str) -> str:
    """The name in *reference-NAME*."""
    return title.removeprefix(f"{REFERENCE}-")


def _compared(finding: Entry, local: Entry | None, criterion: Criterion) -> str:
    if local is None:
        return quote(numbers(finding, criterion))
    whole = numbers(local, criterion)
    shown = whole if criterion.kind == "none" else estimate(local, criterion)
    return quote(numbers(finding, criterion), shown, whole)


def quotes(
    tellers: Mapping[str, Callable[[Tables], str]], finding: Tables, local: Tables | None
) -> dict[str, str]:
    """What functions of tables tell, with the first seed, in HTML like `of_claims`.

    Raises:
        PrefdynError: a table that one needs is missing, damaged or of another version.
    """
    first, own = finding.of(finding.seed), None if local is None else local.of(local.seed)

    def told(key: str, tables: Tables) -> str:
        with taken_from(tables, f"the number {key}"):
            return tellers[key](tables)

    def compared(key: str) -> str:
        local = None
        if own is not None:
            with suppress(NotMeasured):
                local = told(key, own)
        try:
            return quote(told(key, first), local)
        except NotMeasured:
            return quote(NOT_RUN)

    return {key: compared(key) for key in tellers}


def quotes_of_others(
    tellers: Mapping[str, Callable[[Tables], str]], editions: Mapping[str, Tables]
) -> dict[str, str]:
    """The same of other models' editions, by their titles: NAME/KEY, of *reference-NAME*.

    Raises:
        PrefdynError: as `quotes`.
    """
    return {
        f"{_model(title)}/{key}": value
        for title, tables in editions.items()
        if title not in (REFERENCE, HERE)
        for key, value in quotes(tellers, tables, None).items()
    }


def _part(macro: str, *arguments: object) -> str:
    return str(getattr(TEMPLATES.get_template("parts.html").module, macro)(*arguments)).strip()


def numbers(part: Entry, criterion: Criterion) -> str:
    """An estimate with its interval in text: "0.98 [0.97, 0.99]", "0 of 640"; an end that is missing is
    infinite.
    """
    if part["estimate"] is None:
        return "could not be measured"
    if criterion.kind == "none":
        return f"{estimate(part, criterion)} of {part['n']:,}"
    low, high = (_end(value, criterion.bound) for value in ends(part))
    return f"{estimate(part, criterion)} [{low}, {high}]"


def estimate(part: Entry, criterion: Criterion) -> str:
    """An estimate in text; a number of violations is a count, and stands in full."""
    if part["estimate"] is None:
        return "none"
    return f"{part['estimate']:,.0f}" if criterion.kind == "none" else rounded(part["estimate"])


def verdict_of(entry: Entry | None, claim: Claim | None = None, title: str = REFERENCE) -> str:
    """The verdict of an edition's claim; one without a model in it has nothing to say of another."""
    if entry is not None:
        return str(entry["verdict"])
    return NO_MODEL if claim and claim.model_free and title not in (REFERENCE, HERE) else NOT_RUN


def ends(part: Entry) -> tuple[float, float]:
    """Of an interval; one that is missing is infinite."""
    low, high = part["interval"]
    return (-math.inf if low is None else low, math.inf if high is None else high)


def _end(value: float, bound: float) -> str:
    """An end of an interval with as many digits as it takes to see on which side of the bound it lies."""
    digits = next(
        (digits for digits in range(3, 9) if value == bound or float(f"{value:.{digits}g}") != bound), 9
    )
    return rounded(value, digits)


def rounded(value: float, digits: int = 3) -> str:
    """A number in text, to so many digits."""
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    return f"{value:.{digits}g}".replace("-", "−")
