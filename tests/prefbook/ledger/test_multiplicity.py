"""Holm's correction of verdicts, by hand and against intervals of known width."""

from __future__ import annotations

from typing import Any

import pytest
from scipy import stats

from prefbook.ledger.claims import Claim, Criterion, Statistic
from prefbook.ledger.multiplicity import _p_value, after_holm

Z = stats.norm.ppf(0.975)


def claim(id_: str, *criteria: Criterion) -> Claim:
    statistics = tuple(Statistic(f"s{i}", "f", criterion) for i, criterion in enumerate(criteria))
    return Claim(id_, "c", "empirical", "A sentence.", "this book", "here", "0abc123", statistics)


def entry(*parts: tuple[float, float], verdict: str = "supported", kind: str = "empirical") -> dict[str, Any]:
    """A judged claim whose statistics have such estimates and standard errors."""
    seeds = [
        {"seeds": [{"estimate": value, "interval": [value - Z * error, value + Z * error]}]}
        for value, error in parts
    ]
    return {"kind": kind, "verdict": verdict, "statistics": seeds}


@pytest.mark.parametrize("z", [0.5, 1.0, 1.96, 3.0])
def test_p_value_is_that_of_a_normal_estimate(z: float) -> None:
    above, below = claim("E-1", Criterion("above", 0.5)), claim("E-2", Criterion("below", 0.5))
    for one, value in ((above, 0.5 + 0.1 * z), (below, 0.5 - 0.1 * z)):
        (part,) = entry((value, 0.1))["statistics"]
        assert _p_value(one, 0, part["seeds"][0]) == pytest.approx(2 * stats.norm.sf(z))


@pytest.mark.parametrize(
    ("value", "low", "p"),
    [(-0.1, -0.2, 1.0), (0.2, 0.2, 0.0), (None, None, 1.0), (0.3, None, 1.0)],
    ids=["on the wrong side", "without an error", "not measured", "without an end"],
)
def test_p_value_at_the_edges(value: float | None, low: float | None, p: float) -> None:
    measured = {"estimate": value, "interval": [low, low]}
    assert _p_value(claim("E-1", Criterion("above", 0.0)), 0, measured) == p


def test_counted_violations_have_no_chance() -> None:
    counts = claim("E-1", Criterion("none"))
    assert [_p_value(counts, 0, {"estimate": n, "interval": [n, n]}) for n in (0, 2)] == [0.0, 1.0]


def test_holm_by_hand() -> None:
    """p = .001, .012, .02, .04 of four: asked are .0125, .0167, .025, .05, so that all pass; with a fifth of
    .5 they are .01, .0125, .0167, and .02 fails, and with it all larger ones.
    """
    zs = [stats.norm.isf(p / 2) for p in (0.001, 0.012, 0.02, 0.04, 0.5)]
    names = [f"E-{i}" for i in range(5)]
    claims = {name: claim(name, Criterion("above", 0.0)) for name in names}
    entries = {name: entry((z, 1.0)) for name, z in zip(names, zs, strict=True)}
    entries["E-4"]["verdict"] = "inconclusive"
    four = {name: entries[name] for name in names[:4]}
    assert after_holm(claims, four) == set(names[:4])
    assert after_holm(claims, entries) == {"E-0", "E-1"}


def test_a_claim_is_as_sure_as_its_weakest_statistic() -> None:
    both = (Criterion("above", 0.0), Criterion("above", 0.0))
    claims = {name: claim(name, *both) for name in ("E-0", "E-1")}
    entries = {"E-0": entry((9.0, 1.0), (2.0, 1.0)), "E-1": entry((9.0, 1.0), (3.0, 1.0))}
    assert after_holm(claims, entries) == {"E-0", "E-1"}
    claims["E-2"] = claim("E-2", Criterion("above", 0.0))
    entries["E-2"] = entry((0.5, 1.0), verdict="inconclusive")
    entries["E-0"]["statistics"][1] = entry((2.2, 1.0))["statistics"][0]
    assert after_holm(claims, entries) == {"E-1"}, "p = .028 where .025 is asked"


def test_a_claim_is_as_sure_as_its_weakest_seed() -> None:
    claims = {name: claim(name, Criterion("above", 0.0)) for name in ("E-0", "E-1")}
    entries = {"E-0": entry((9.0, 1.0)), "E-1": entry((9.0, 1.0))}
    entries["E-0"]["statistics"][0]["seeds"] += entry((1.97, 1.0))["statistics"][0]["seeds"]
    assert after_holm(claims, entries) == {"E-0", "E-1"}, "p = .049, the larger of two, where .05 is asked"
    claims["E-2"] = claim("E-2", Criterion("above", 0.0))
    entries["E-2"] = entry((0.5, 1.0), verdict="inconclusive")
    assert after_holm(claims, entries) == {"E-1"}, "and where .025 is asked"


def test_what_follows_from_algebra_is_not_counted() -> None:
    claims = {"I-1": claim("I-1", Criterion("none"))}
    assert after_holm(claims, {"I-1": entry((0.0, 1.0), verdict="checked", kind="identity")}) == frozenset()
