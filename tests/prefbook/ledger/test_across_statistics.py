"""Statistics of chapter 5's claims, from tables that are drawn, against the functions that they stand for."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from written import write_table

from prefbook.ledger.claims import load_claims
from prefbook.ledger.derived import across as derived
from prefbook.ledger.quoted import across as quoted
from prefbook.ledger.statistics import across as statistics
from prefbook.ledger.tables import Tables
from prefbook.project import home
from prefdyn.measures import halves
from prefdyn.measures.estimates import Estimate

NAMES = (*statistics.CLAIMED, "cost of noise", "left out", "depth", "alignment", "right before")
FAMILIES = 5


def drawn(seed: int, people: int = 12) -> dict[str, np.ndarray]:
    """Measures that share something with each other, and have noise of their own; a share among them."""
    draw = np.random.default_rng(seed)
    truth = draw.normal(size=(people, 1, 1))
    values = {name: truth + draw.normal(size=(people, 3, 2)) for name in NAMES}
    values["in company"] = draw.integers(0, 3, (people, 3, 2)) / 3
    return values


def families(people: int) -> list[str]:
    return [f"family-{i % FAMILIES}" for i in range(people)]


@pytest.fixture
def leave(tmp_path: Path) -> Callable[..., Tables]:
    """Writes the tables of a run as the chapter leaves them, with as many digits."""

    def write(people: int = 12, seeds: tuple[int, ...] = (0, 1), **changes: np.ndarray) -> Tables:
        folder = tmp_path / "across"
        folder.mkdir(exist_ok=True)
        names = [f"persona-{i}" for i in range(people)]
        parts: dict[str, list[pd.DataFrame]] = {
            "measures": [],
            "personas": [],
            "correlations": [],
            "held": [],
        }
        for seed in seeds:
            values = {**drawn(seed, people), **changes}
            rho = halves.correlations(values, seed, resamples=20)
            parts["measures"].append(halves.as_table(values, "persona", names))
            extra = {"under noise", "under noise, centred"}
            means = {name: value.mean(axis=(1, 2)) for name, value in values.items()}
            means |= {name: means["accuracy"] for name in extra}
            means |= {"violations": np.zeros(people, int), "statements": np.full(people, 80)}
            who = {"persona": names, "family": families(people)}
            parts["personas"].append(pd.DataFrame({**who, **means, "stops early": 0.75})[::-1])
            parts["correlations"].append(_pairs(rho))
            parts["held"].append(_held(rho))
        for name, tables in parts.items():
            whole = pd.concat(table.assign(seed=seed) for table, seed in zip(tables, seeds, strict=True))
            write_table(whole, folder / f"{name}.csv")
        return Tables(folder)

    return write


def _pairs(rho: halves.Correlations) -> pd.DataFrame:
    rows = [
        (x, y, *_three(rho.between(x, y)), {x, y} == {"δ", "δ/√Tr Σ"})
        for i, x in enumerate(rho.names)
        for y in rho.names[: i + 1]
    ]
    rows.append(("under noise, centred", "δ", 0.5, 0.4, 0.6, False))
    return pd.DataFrame(rows, columns=["measure", "with", "ρ", "low", "high", "by definition"])


def _held(rho: halves.Correlations) -> pd.DataFrame:
    rows = [
        (outcome, *_three(rho.left("δ", outcome, through="accuracy")))
        for outcome in (
            "flipped",
            "left out",
            "cost of noise",
            "in company",
            "flipped half-way",
            "cost, centred",
        )
    ]
    return pd.DataFrame(rows, columns=["outcome", "left", "left low", "left high"])


def _three(e: Estimate) -> tuple[float, float, float]:
    return e.value, e.low, e.high


def test_every_statistic_that_a_claim_names_is_there_and_none_besides() -> None:
    named = [
        statistic.function
        for claim in load_claims(home() / "book" / "claims.yml").values()
        if claim.chapter == "across"
        for statistic in claim.statistics
    ]
    assert sorted(named) == sorted(statistics.STATISTICS)


@pytest.mark.parametrize("seed", [0, 1])
def test_statistics_are_those_of_the_measures(leave: Callable[..., Tables], seed: int) -> None:
    tables = leave().of(seed)
    rho = halves.correlations(drawn(seed), seed, clusters=families(12))
    expected = {
        "cost": rho.between("δ", "cost, centred"),
        "cost_left": rho.left("δ", "cost, centred", through="accuracy, centred"),
        "flipped": rho.between("flipped", "δ"),
        "flipped_half_way": rho.between("δ", "flipped half-way"),
        "company": rho.between("δ", "in company"),
        "company_left": rho.left("δ", "in company", through="accuracy"),
        "gain_for_cost": rho.gain("δ/√Tr Σ", "δ", "cost, centred"),
        "gain_in_company": rho.gain("δ/√Tr Σ", "δ", "in company"),
    }
    for name, statistic in statistics.STATISTICS.items():
        found = statistic(tables)
        np.testing.assert_allclose(_three(found), _three(expected[name]), atol=1e-12)
        assert found.n == 12


def test_thirds_written_with_six_digits_are_still_ties(leave: Callable[..., Tables]) -> None:
    tables = leave()
    in_table = derived.correlation(tables.of(0), "in company", "δ").value
    assert statistics.company(tables.of(0)).value == pytest.approx(in_table, abs=1e-6)


def test_a_measure_that_never_varies_decides_nothing(leave: Callable[..., Tables]) -> None:
    tables = leave(flipped=np.full((12, 3, 2), 0.5)).of(0)
    assert np.isnan(statistics.flipped(tables).value)
    assert all(text and "nan" not in text for text in (tell(tables) for tell in quoted.QUOTED.values()))


def test_quoted_numbers_come_from_the_tables(leave: Callable[..., Tables]) -> None:
    tables = leave().of(0)
    said = {key: tell(tables) for key, tell in quoted.QUOTED.items()}
    assert said["stops-early"] == "75%" and said["violations"] == "0 of 960"
    assert str(derived.correlation(tables, "δ", "under noise, centred")) == "0.5 [0.4, 0.6]"
    assert said["cost-raw-left"] == str(derived.left(tables, "cost of noise"))
    mean = tables["personas"]["accuracy"].mean()
    assert said["accuracy-alone"].startswith(f"{mean:.3g}".replace("-", "−"))
    assert said["agreement-left-out"] == str(derived.correlation(tables, "left out", "alignment"))


def test_a_persona_with_nothing_to_flip_is_in_no_claim(leave: Callable[..., Tables]) -> None:
    lacking = drawn(0)["flipped"]
    lacking[3, 1, 0] = np.nan
    tables = leave(flipped=lacking).of(0)
    assert {statistic(tables).n for statistic in statistics.STATISTICS.values()} == {11}


def test_a_full_run_is_judged_quickly(leave: Callable[..., Tables]) -> None:
    """All claims together ask for the correlations once a seed; the bound is for a machine that is busy."""
    tables = leave(people=135).of(0)
    statistics.cost(tables)
    start = time.process_time()
    for statistic in statistics.STATISTICS.values():
        statistic(tables)
    assert time.process_time() - start < 2
