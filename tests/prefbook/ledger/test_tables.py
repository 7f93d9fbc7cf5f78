"""Tables as they are read back from a folder: by name, by seed, with their provenance, and what is said where
one is missing or damaged.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import pandas as pd
import pytest

from prefbook.ledger.tables import FIELDS, NotMeasured, Tables, taken_from
from prefdyn.errors import PrefdynError
from prefdyn.experiments.provenance import Provenance

HEAD = "# commit: abc with changes\n# model: some: model\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "reference" / "first"
    folder.mkdir(parents=True)
    (folder / "points.csv").write_text(f'{HEAD}x,name,seed\n1,a,0\n2,b,0\n5,"c # d",1\n')
    (folder / "curves.csv").write_text(f"{HEAD}y,seed\n3,1\n")
    return folder


def test_tables_are_those_of_the_folder(folder: Path) -> None:
    tables = Tables(folder)
    assert list(tables) == ["curves", "points"] and len(tables) == 2 and tables.chapter == "first"
    assert tables["points"]["x"].tolist() == [1, 2, 5] and tables.seeds == [0, 1] and tables.seed == 0
    assert tables.provenance == {"commit": "abc with changes", "model": "some: model"}


def test_tables_of_a_seed_are_its_rows(folder: Path) -> None:
    tables = Tables(folder).of(1)
    assert tables["points"]["x"].tolist() == [5] and tables["points"].index.tolist() == [0]
    assert tables.seeds == [1] and tables.provenance["model"] == "some: model"


def test_provenance_is_that_of_the_table_made_last(folder: Path) -> None:
    for name, seconds in (("a", 3.5), ("b", 12.25), ("c", 4)):
        (folder / f"{name}.csv").write_text(f"# seeds: {name}\n# seconds: {seconds}\nx,seed\n1,0\n")
    assert Tables(folder).provenance == {"seeds": "b", "seconds": "12.25"}


def test_provenance_has_every_commit_and_device_that_made_a_table(tmp_path: Path) -> None:
    for name, commit, device, seconds in (
        ("a", "one", "cpu", 9),
        ("b", "two; one", "cpu", 3),
        ("c", "three", "gpu", 1),
    ):
        about = f"# commit: {commit}\n# device: {device}\n# seconds: {seconds}\n"
        (tmp_path / f"{name}.csv").write_text(f"{about}x,seed\n1,0\n")
    assert Tables(tmp_path).provenance == {"commit": "one; two; three", "device": "cpu; gpu", "seconds": "9"}


def test_what_is_done_to_a_table_is_done_to_a_copy(folder: Path) -> None:
    for tables in (Tables(folder), Tables(folder).of(0)):
        table = tables["points"]
        table.loc[:, "x"] = 0
        assert tables["points"]["x"].iloc[0] == 1


def test_table_that_changed_is_read_again(folder: Path) -> None:
    tables = Tables(folder)
    assert tables.seeds == [0, 1]
    for name in tables:
        (folder / f"{name}.csv").write_text(f"{HEAD}x,seed\n7,41\n")
    assert tables["points"]["x"].tolist() == [7] and tables.seeds == [41]


def test_missing_table_is_named_with_what_makes_it(folder: Path) -> None:
    with pytest.raises(PrefdynError, match=r"first/lines\.csv: no such table; run the chapter first again"):
        Tables(folder)["lines"]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "damaged"),
        ("x,seed\n1,0\n1,0,3,4\n", "damaged"),
        ("x,seed\n1,0\n1\n", "damaged .*whole number as its seed"),
        ("x\n1\n", "no column 'seed'"),
    ],
)
def test_file_that_is_no_table_is_named(folder: Path, content: str, said: str) -> None:
    (folder / "points.csv").write_text(content)
    with pytest.raises(PrefdynError, match=rf"points\.csv: .*{said}") as error:
        Tables(folder)["points"]
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("head", [b"# model: \xff\n", b"# seconds: ?\n"], ids=["no text", "no number"])
def test_damaged_provenance_names_its_file(folder: Path, head: bytes) -> None:
    (folder / "points.csv").write_bytes(head + b"x,seed\n1,0\n")
    with pytest.raises(PrefdynError, match=r"points\.csv: the table is damaged"):
        _ = Tables(folder).provenance


def test_empty_folder_has_no_seeds_and_no_provenance(tmp_path: Path) -> None:
    assert len(Tables(tmp_path)) == 0 and Tables(tmp_path).provenance == {}
    with pytest.raises(PrefdynError, match="holds no tables"):
        _ = Tables(tmp_path / "first").seeds


def test_what_is_not_ours_is_no_table(folder: Path) -> None:
    pd.DataFrame({"mine": [1]}).to_csv(folder / "mine.csv", index=False)
    (folder / "notes.csv").write_text("# my own: notes on this run\nmine\n1\n")
    (folder / "of mine.csv").mkdir()
    assert list(Tables(folder)) == ["curves", "points"] and Tables(folder).seeds == [0, 1]


def test_clearing_spares_what_is_not_ours(folder: Path) -> None:
    pd.DataFrame({"mine": [1]}).to_csv(folder / "mine.csv", index=False)
    Tables(folder).clear()
    assert [path.name for path in folder.iterdir()] == ["mine.csv"]
    Tables(folder / "none").clear()


def test_fields_are_those_of_provenance() -> None:
    assert set(FIELDS) == {field.name for field in fields(Provenance)}


@pytest.mark.parametrize(
    "use",
    [
        lambda table: table.query("nosuch == 1"),
        lambda table: table.nosuch,
        lambda table: pd.concat([pd.concat([table, table], axis=1), table]),  # columns of the same names
        lambda table: table["name"].abs(),  # words where numbers should be
    ],
)
def test_what_pandas_says_of_a_damaged_table_is_one_sentence(
    folder: Path, use: Callable[..., object]
) -> None:
    tables = Tables(folder)
    with (
        pytest.raises(PrefdynError, match="a number cannot be taken from these tables"),
        taken_from(tables, "a number"),
    ):
        use(tables["points"])


def test_table_to_come_is_told_from_one_that_is_missing(folder: Path) -> None:
    (folder / "pending.txt").write_text("later\npoints\n\n")
    tables = Tables(folder).of(0)
    assert set(tables.pending) == {"later", "points"} and list(tables) == ["curves", "points"]
    assert len(tables["points"]) == 2  # it has come
    with pytest.raises(NotMeasured, match=r"later\.csv: this table is not made yet"):
        tables["later"]
    with pytest.raises(PrefdynError, match="no such table") as error:
        tables["never"]
    assert not isinstance(error.value, NotMeasured)


def test_seed_to_come_is_told_from_one_that_is_there(folder: Path) -> None:
    (folder / "pending.txt").write_text("curves: 0 2\n")
    tables = Tables(folder)
    assert tables.pending == {"curves": {0, 2}} and tables.seeds == [0, 1]
    assert tables["curves"]["y"].tolist() == tables.of(1)["curves"]["y"].tolist() == [3]
    with pytest.raises(NotMeasured, match=r"curves\.csv: the seed 0 is not made yet"):
        tables.of(0)["curves"]
    for content, said in (
        (b"curves: 0, 2\n", "seeds as numbers, as in 'curves: 1 2'"),
        (b"curves\xff\n", "UTF-8"),
    ):
        (folder / "pending.txt").write_bytes(content)
        with pytest.raises(PrefdynError, match=rf"pending\.txt: write .*{said}") as error:
            tables.of(1)["curves"]
        assert not isinstance(error.value, NotMeasured)


def test_a_run_that_begins_anew_has_nothing_to_come(folder: Path) -> None:
    (folder / "pending.txt").write_text("later\n")
    Tables(folder).clear()
    assert list(folder.iterdir()) == []
