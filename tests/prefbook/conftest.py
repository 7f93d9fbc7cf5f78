"""What tests of the ledger and of the scoreboard share: a small book with claims of every kind, whose
statistics are read straight from tables.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from prefbook.ledger import judging
from prefbook.ledger.tables import Tables
from prefdyn.measures.estimates import Estimate

CLAIM = """
{id}:
  chapter: {chapter}
  kind: {kind}
  sentence: A sentence of {id}.
  paper: someone2024
  place: Section 3
  declared: 0abc123
  statistics:
"""
STATISTIC = """    {words}:
      statistic: {words}
      criterion: {criterion}
"""
EMPIRICAL = {"rise": "above 0\n      matters: 0.3\n      n_for_power: 85", "fall": "below 0"}


def declare(id_: str, kind: str, statistics: dict[str, str], chapter: str = "first") -> str:
    rows = "".join(STATISTIC.format(words=words, criterion=about) for words, about in statistics.items())
    return CLAIM.format(id=id_, kind=kind, chapter=chapter) + rows


def read(name: str) -> Callable[[Tables], Estimate]:
    """A statistic that stands in the table of its own name: value, low, high, n."""

    def statistic(tables: Tables) -> Estimate:
        (row,) = tables[name].drop(columns="seed").to_numpy().tolist()
        return Estimate(*row[:3], int(row[3]))

    return statistic


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A book with an empirical claim E-1, an identity I-1, a theorem T-1 and E-2 of another chapter."""
    (tmp_path / "book").mkdir()
    (tmp_path / "_config.yml").touch()
    claims = [
        declare("E-1", "empirical", EMPIRICAL),
        declare("I-1", "identity", {"exceptions": "none"}),
        declare("T-1", "theorem", {"exceptions": "none", "size": "below 0\n      promise: true"}),
        declare("E-2", "empirical", {"rise": "above 0"}, "second"),
    ]
    (tmp_path / "book" / "claims.yml").write_text("".join(claims), encoding="utf-8")
    statistics = {name: read(name) for name in ("rise", "fall", "exceptions", "size")}
    monkeypatch.setattr(judging, "STATISTICS", {"first": statistics, "second": statistics})
    return tmp_path


UP, DOWN, ACROSS, NOTHING = (2, 1, 3, 9), (-2, -3, -1, 9), (1, -1, 3, 9), (0, 0, 0, 640)


@pytest.fixture
def leave() -> Callable[..., None]:
    """Leaves tables in a folder: by name, a row of each seed."""

    def leave(folder: Path, **tables: object) -> None:
        measured: dict[str, object] = {
            "rise": UP,
            "fall": DOWN,
            "exceptions": NOTHING,
            "size": DOWN,
            **tables,
        }
        folder.mkdir(parents=True, exist_ok=True)
        for name, rows in measured.items():
            every = rows if isinstance(rows, list) else [rows]
            lines = [",".join(map(str, (*row, seed))) for seed, row in enumerate(every)]
            head = "# model: some model\n# data: sample\n# profile: smoke\n# made: 2026-01-01 00:00 UTC\n"
            text = "\n".join(["value,low,high,n,seed", *lines])
            (folder / f"{name}.csv").write_text(f"{head}{text}\n", encoding="utf-8")

    return leave
