"""The tables that a chapter's experiments left in a folder: where figures, statistics and pages take every number from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path

import pandas as pd

from prefdyn.errors import PrefdynError


class Tables(Mapping[str, pd.DataFrame]):
    """Tables by name, each read from FOLDER/NAME.csv when it is asked for; comment lines above one tell its provenance.

    Every table has a column `seed`.
    """

    def __init__(self, folder: Path, seed: int | None = None) -> None:
        """With a seed, the tables hold the rows of that seed alone."""
        self.folder = folder
        self._seed = seed
        self._read: dict[str, pd.DataFrame] = {}

    def __getitem__(self, name: str) -> pd.DataFrame:
        """A table.

        Raises:
            PrefdynError: it is not there, or it is no table.
        """
        if name not in self._read:
            whole = self._whole(name)
            self._read[name] = (
                whole if self._seed is None else whole[whole["seed"] == self._seed].reset_index(drop=True)
            )
        return self._read[name]

    def _whole(self, name: str) -> pd.DataFrame:
        path = self.folder / f"{name}.csv"
        if not path.is_file():
            raise PrefdynError(f"{path}: no such table; run the chapter {self.folder.name} again to make it")
        try:
            found = pd.read_csv(path, comment="#")
        except (ValueError, OSError) as error:
            raise PrefdynError(
                f"{path}: the table is damaged ({error}): run the chapter again to make it"
            ) from error
        if "seed" not in found:
            raise PrefdynError(f"{path}: the table has no column 'seed'")
        return found

    def __iter__(self) -> Iterator[str]:
        return (path.stem for path in sorted(self.folder.glob("*.csv")))

    def __len__(self) -> int:
        return sum(1 for _ in self)

    @property
    def chapter(self) -> str:
        return self.folder.name

    @cached_property
    def seeds(self) -> list[int]:
        """Of all tables, sorted."""
        if self._seed is not None:
            return [self._seed]
        return sorted({int(seed) for name in self for seed in self._whole(name)["seed"].unique()})

    @property
    def seed(self) -> int:
        """The first seed."""
        return self.seeds[0]

    def of(self, seed: int) -> Tables:
        """The rows of one seed."""
        return Tables(self.folder, seed)

    @cached_property
    def provenance(self) -> dict[str, str]:
        """Of the first table, by field."""
        for name in self:
            with open(self.folder / f"{name}.csv", encoding="utf-8") as file:
                lines = [line[2:].rstrip("\n").partition(": ") for line in file if line.startswith("# ")]
            return {field: value for field, _, value in lines}
        return {}
