"""The tables that a chapter's experiments left in a folder: where figures, statistics and pages take every
number from.
"""

from __future__ import annotations

import functools
import hashlib
import itertools
import textwrap
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pandas as pd

from prefdyn.errors import PrefdynError

PENDING = "pending.txt"
"""The file beside an edition's tables that names those it does not hold yet, one a line; after a colon, the
seeds that a table lacks, where it is there with others."""

MADE_BY = ("commit", "device", "precision", "data_fingerprint")
"""Fields of provenance in which the tables of an edition may differ."""
FIELDS = (
    *("commit", "model", "model_fingerprint", "data", "data_fingerprint", "profile", "seeds"),
    *("device", "precision", "versions", "made", "seconds"),
)
"""The fields of a table's provenance; a file that begins with none of them is not ours."""
NOTHING = hashlib.sha256().hexdigest()[:16]
"""The fingerprint of the data of a run that used none."""


class NotMeasured(PrefdynError):
    """An edition says of a table, or of a seed of it, that it does not hold it yet."""


class Tables(Mapping[str, pd.DataFrame]):
    """Tables by name, each read from FOLDER/NAME.csv when it is asked for; comment lines above one tell its
    provenance.

    Every table has a column `seed`, and a file without provenance is none of ours. A run that is too long for
    one evening leaves some of its tables first, or one seed of them: those to come are named in
    FOLDER/pending.txt.
    """

    def __init__(self, folder: Path, seed: int | None = None) -> None:
        """With a seed, the tables hold the rows of that seed alone."""
        self.folder = folder
        self._seed = seed

    def __getitem__(self, name: str) -> pd.DataFrame:
        """A table.

        Raises:
            NotMeasured: it, or the seed asked for, is to come.
            PrefdynError: it is not there, or it is no table.
        """
        path = self.folder / f"{name}.csv"
        to_come = self.pending
        if name in to_come and not path.is_file():
            raise NotMeasured(f"{path}: this table is not made yet ({self.folder / PENDING} names it)")
        if self._seed in to_come.get(name, ()):
            raise NotMeasured(
                f"{path}: the seed {self._seed} is not made yet ({self.folder / PENDING} names it)"
            )
        found = _read(*_now(path)) if self._seed is None else _of_seed(*_now(path), self._seed)
        return found.copy(deep=False)  # shares the values until either is written to

    def __iter__(self) -> Iterator[str]:
        return (path.stem for path in sorted(self.folder.glob("*.csv")) if is_measured(path))

    def __len__(self) -> int:
        return sum(1 for _ in self)

    @property
    def pending(self) -> dict[str, frozenset[int]]:
        """Tables to come, by name, and of those that are there the seeds to come.

        Raises:
            PrefdynError: a seed is no number, or the file is no text.
        """
        path = self.folder / PENDING
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except FileNotFoundError:
            return {}
        except UnicodeDecodeError as error:
            raise PrefdynError(f"{path}: write the names of tables to come in UTF-8, one a line") from error
        parts = [line.partition(":") for line in lines if line.strip()]
        try:
            return {name.strip(): frozenset(map(int, seeds.split())) for name, _, seeds in parts}
        except ValueError as error:
            raise PrefdynError(f"{path}: write a table's seeds as numbers, as in 'curves: 1 2'") from error

    @property
    def chapter(self) -> str:
        return self.folder.name

    @property
    def seeds(self) -> list[int]:
        """Of all tables, sorted.

        Raises:
            PrefdynError: there is no table.
        """
        if self._seed is not None:
            return [self._seed]
        if not len(self):
            raise PrefdynError(f"{self.folder} holds no tables: run the chapter {self.chapter} to make them")
        return sorted(set().union(*(_seeds(*_now(self.folder / f"{name}.csv")) for name in self)))

    @property
    def seed(self) -> int:
        """The first seed."""
        return self.seeds[0]

    def of(self, seed: int) -> Tables:
        """The rows of one seed."""
        return Tables(self.folder, seed)

    def clear(self) -> None:
        """Remove the tables, so that none of another run stays among those to come, and the list of those
        that are not made yet; a file without provenance is not ours, and stays.
        """
        (self.folder / PENDING).unlink(missing_ok=True)
        for path in filter(is_measured, self.folder.glob("*.csv")):
            path.unlink()

    @property
    def provenance(self) -> dict[str, str]:
        """Of the table that was made last, by field: it rests on all that was used by then.

        Where tables were made by several commits, devices or in several precisions, it has them all.
        """
        heads = [head(self.folder / f"{name}.csv") for name in self]
        last = max(heads, key=lambda head: float(head.get("seconds", 0)), default={})
        return {field: _every(heads, field) if field in MADE_BY else last[field] for field in last}


def _every(heads: Iterable[Mapping[str, str]], field: str) -> str:
    """What any of the tables has in a field; a table whose seeds were made apart has several already."""
    parts = dict.fromkeys(part for head in heads for part in head.get(field, "").split("; ") if part)
    return "; ".join([part for part in parts if part != NOTHING] or parts)


def is_measured(path: Path) -> bool:
    """Whether a CSV file is a table of ours: it begins with its provenance."""
    if not path.is_file():  # a folder, a pipe, a link to nothing
        return False
    with open(path, "rb") as file:
        mark, _, field = file.readline(100).partition(b":")[0].partition(b" ")
    return mark == b"#" and field.decode("latin-1") in FIELDS


def head(path: Path) -> dict[str, str]:
    """The comment lines above a table, by field."""
    return dict(_head(*_now(path)))


@functools.lru_cache(maxsize=512)
def _head(path: Path, changed: int, size: int) -> dict[str, str]:
    try:
        with open(path, encoding="utf-8") as file:
            above = itertools.takewhile(lambda line: line.startswith("# "), file)
            lines = [line[2:].rstrip("\n").partition(": ") for line in above]
        fields = {field: value for field, _, value in lines}
        float(fields.get("seconds", 0))
    except ValueError as error:
        raise _damaged(path, str(error)) from error
    return fields


def _now(path: Path) -> tuple[Path, int, int]:
    """A table's file as it is at this time: what is read of it is read once, for every statistic asks for it.

    Raises:
        PrefdynError: it is not there.
    """
    try:
        about = path.stat()
    except FileNotFoundError as error:
        raise PrefdynError(
            f"{path}: no such table; run the chapter {path.parent.name} again to make it"
        ) from error
    return path, about.st_mtime_ns, about.st_size


@functools.lru_cache(maxsize=512)
def _read(path: Path, changed: int, size: int) -> pd.DataFrame:
    try:
        found = pd.read_csv(path, comment="#")
    except (ValueError, OSError) as error:
        raise _damaged(path, str(error)) from error
    if "seed" not in found:
        raise PrefdynError(f"{path}: the table has no column 'seed'")
    if len(found) and not pd.api.types.is_integer_dtype(found["seed"]):
        raise _damaged(path, "not every row has a whole number as its seed")
    return found


def _damaged(path: Path, said: str) -> PrefdynError:
    return PrefdynError(
        f"{path}: the table is damaged ({_line(said)}): run the chapter {path.parent.name} again to make it"
    )


def _line(said: str) -> str:
    """What an exception says, on one line: pandas prints whole columns."""
    return textwrap.shorten(said, 200, placeholder=" …")


DAMAGE = (
    *(ArithmeticError, AttributeError, LookupError, NameError, NotImplementedError, TypeError, ValueError),
    pd.errors.InvalidIndexError,
)
"""What pandas, numpy and Arrow (NotImplementedError: a quantile of words) raise where a table lacks a column,
or holds words, rows or types it should not.
"""


@contextmanager
def taken_from(tables: Tables, what: str) -> Iterator[None]:
    """Around a function of tables, for what is said of those that it cannot be a function of.

    Args:
        what: what the function gives.

    Raises:
        PrefdynError: the tables lack something, or hold what no experiment writes.
    """
    try:
        yield
    except DAMAGE as error:
        empty = "".join(
            f"; {name}.csv has no rows" for name, table in Tables(tables.folder).items() if table.empty
        )
        raise PrefdynError(
            f"{tables.folder}: {what} cannot be taken from these tables ({_line(str(error))}{empty}), so "
            "they are damaged or of another version of the chapter: run it again"
        ) from error


@functools.lru_cache(maxsize=512)
def _of_seed(path: Path, changed: int, size: int, seed: int) -> pd.DataFrame:
    whole = _read(path, changed, size)
    return whole[whole["seed"] == seed].reset_index(drop=True)


@functools.lru_cache(maxsize=512)
def _seeds(path: Path, changed: int, size: int) -> frozenset[int]:
    return frozenset(map(int, _read(path, changed, size)["seed"].unique()))
