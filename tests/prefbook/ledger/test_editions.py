"""Editions: which there are, what they say of a claim, and what is said of a folder that is none."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from prefbook.ledger.editions import HERE, NOT_RUN, editions, here, named, reference
from prefdyn.errors import PrefdynError

Leave = Callable[..., None]


def test_editions_are_the_reference_the_other_models_and_this_machines(root: Path, leave: Leave) -> None:
    for name in ("reference", "reference-small", "reference-large", "elsewhere"):
        leave(root / "results" / name / "first")
    assert [edition.title for edition in editions(root)] == [
        "reference",
        "reference-large",
        "reference-small",
        HERE,
    ]


def test_edition_judges_the_chapters_that_it_has(root: Path, leave: Leave) -> None:
    leave(root / "results" / "reference" / "first", rise=(1, -1, 3, 9))
    leave(root / "_build" / "runs" / "second")
    assert list(reference(root).entries) == ["E-1", "I-1", "T-1"]
    assert [reference(root).verdict(id_) for id_ in ("E-1", "E-2")] == ["inconclusive", NOT_RUN]
    assert list(here(root).entries) == ["E-2"] and here(root).verdict("E-2") == "supported"
    assert reference(root).entries["E-1"]["edition"] == "reference"


def test_empty_book_has_editions_that_say_nothing(root: Path) -> None:
    (root / "_build" / "runs" / "first").mkdir(parents=True)
    (root / "_build" / "runs" / "first" / "mine.csv").write_text("what,else\n1,2\n")
    assert [list(edition.entries) for edition in editions(root)] == [[], []]


def test_deleted_table_is_named(root: Path, leave: Leave) -> None:
    leave(root / "results" / "reference" / "first")
    (root / "results" / "reference" / "first" / "size.csv").unlink()
    with pytest.raises(PrefdynError, match=r"results/reference/first/size\.csv: no such table"):
        _ = reference(root).entries


def test_folder_names_its_edition(root: Path, leave: Leave, monkeypatch: pytest.MonkeyPatch) -> None:
    leave(root / "results" / "reference-large" / "first")
    monkeypatch.chdir(root / "results")
    assert named(root, Path("reference-large")).title == "reference-large"
    assert named(root, None).title == HERE
    with pytest.raises(PrefdynError, match="nowhere: no such folder"):
        named(root, Path("nowhere"))
