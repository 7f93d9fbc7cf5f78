"""What a page calls: with and without measuring, beside a reference edition and without one."""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import matplotlib.pyplot as plt
import nbformat
import pandas as pd
import pytest

from prefbook import chapter as pages
from prefbook.chapter import Chapter
from prefbook.ledger import judging
from prefbook.ledger.tables import Tables
from prefbook.running import execution, runs
from prefbook.running.runs import Run
from prefdyn.errors import PrefdynError
from prefdyn.experiments import CHAPTERS
from prefdyn.experiments.bench import Bench
from prefdyn.measures.estimates import Estimate

CLAIMS = """
A-1:
  chapter: small
  kind: empirical
  sentence: Things rise.
  paper: this book
  place: here
  declared: 0abc123
  statistics:
    slope: {statistic: slope, criterion: above 0}
    exceptions: {statistic: exceptions, criterion: none}
"""


@dataclass(frozen=True)
class Design:
    points: int


def curve(bench: Bench, design: Design) -> pd.DataFrame:
    return pd.DataFrame({"x": range(design.points), "y": [bench.seed + 0.5] * design.points})


def several(bench: Bench, design: Design) -> dict[str, pd.DataFrame]:
    return {"one": pd.DataFrame({"a": [bench.seed]}), "two": pd.DataFrame({"b": ["x # y"]})}


def slope(tables: Tables) -> Estimate:
    y = tables["curve"]["y"]
    return Estimate(float(y.mean()), float(y.mean()) - 1, float(y.mean()) + 1, len(y))


def exceptions(tables: Tables) -> Estimate:
    return Estimate(0, 0, 0, len(tables["curve"]))


def check_design(design: Design, source: str) -> None:
    if design.points > 50:
        raise PrefdynError(f"points is {design.points}, and {source} has 50")


EXPERIMENTS = SimpleNamespace(__name__="experiments.small", Design=Design, check_design=check_design)


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A book with one claim of its chapter `small`, as the working folder."""
    (tmp_path / "book").mkdir()
    (tmp_path / "_config.yml").touch()
    (tmp_path / "book" / "claims.yml").write_text(CLAIMS, encoding="utf-8")
    (tmp_path / "book" / "small.md").write_text(PAGE, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(judging, "STATISTICS", {"small": {"slope": slope, "exceptions": exceptions}})
    monkeypatch.setattr(
        pages, "QUOTED", {"small": {"end": lambda tables: f"{tables['curve']['y'].iloc[-1]}"}}
    )
    return tmp_path


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What pages display, in turn."""
    out: list[Any] = []
    monkeypatch.setattr(pages, "display", out.append)
    return out


@pytest.fixture
def glued(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    out: dict[str, str] = {}
    monkeypatch.setattr(pages, "glue", lambda key, value, display: out.update({key: value.data}))
    return out


def page(output: Path | str = "", measure: bool = True, **changes: Any) -> Chapter:
    settings = {"model": "smoke", "data": "sample", "profile": "smoke", "device": "cpu", "points": 3}
    settings |= {"precision": "float32", "seeds": [0], "measure": measure, "output": str(output), **changes}
    return Chapter(EXPERIMENTS, settings)  # type: ignore[arg-type]


def ship(root: Path, name: str = "reference", points: int = 3, **changes: Any) -> None:
    """Make an edition."""
    chapter = page(root / "results" / name / "small", points=points, **changes)
    chapter.measure(curve, several)


def words(html: str) -> str:
    return " ".join(re.sub(r"<[^>]+>", " ", html).split())


# Measuring ----------------------------------------------------------------------------------------


def test_experiments_leave_tables_with_every_seed_and_their_provenance(root: Path) -> None:
    chapter = page(root / "out" / "small", seeds=[3, 5, 3])
    chapter.measure(curve, several)
    tables = Tables(root / "out" / "small")
    assert list(tables) == ["curve", "one", "two"] and tables.seeds == [3, 5]
    assert tables["curve"].columns.tolist() == ["x", "y", "seed"]
    assert tables["curve"]["y"].tolist() == [3.5] * 3 + [5.5] * 3
    assert tables["one"]["a"].tolist() == [3, 5] and tables["two"]["b"].tolist() == ["x # y"] * 2
    assert (tables.provenance["model"], tables.provenance["seeds"]) == ("smoke", "3, 5")


def test_tables_of_an_earlier_run_do_not_stay(root: Path) -> None:
    page(root / "out" / "small").measure(curve, several)
    page(root / "out" / "small").measure(curve)
    assert list(Tables(root / "out" / "small")) == ["curve"]


def test_without_an_output_folder_the_page_has_its_tables_all_the_same(root: Path) -> None:
    chapter = page()
    chapter.measure(curve)
    assert len(chapter.reference["curve"]) == 3
    assert {path.name for path in root.iterdir()} == {"book", "_config.yml"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"points": 0}, r"the parameter points is 0: it must be in \[1, 100\]"),
        ({"points": 51}, "points is 51, and sample has 50"),
        ({"device": "cdua"}, "the device 'cdua' is not available"),
        ({"In": ["", "# Parameters\npionts = 5\n"], "pionts": 5}, "'pionts' .*did you mean points"),
    ],
)
def test_parameters_are_checked_before_a_table_is_touched(
    root: Path, changes: dict[str, Any], message: str
) -> None:
    page(root / "out" / "small").measure(curve)
    with pytest.raises(PrefdynError, match=message):
        page(root / "out" / "small", **changes)
    assert len(Tables(root / "out" / "small")["curve"]) == 3


# Which tables -------------------------------------------------------------------------------------


def test_page_reports_the_reference_and_what_was_measured_stands_beside_it(root: Path) -> None:
    ship(root)
    chapter = page(root / "out" / "small", points=4)
    chapter.measure(curve)
    assert chapter.here is not None
    assert (len(chapter.reference["curve"]), len(chapter.here["curve"])) == (3, 4)


def test_page_without_a_reference_reports_what_was_measured(root: Path) -> None:
    chapter = page(root / "out" / "small")
    chapter.measure(curve)
    assert chapter.here is None and len(chapter.reference["curve"]) == 3


def test_reference_is_made_anew_beside_nothing(root: Path) -> None:
    ship(root)
    chapter = page(root / "results" / "reference" / "small", points=5)
    assert chapter.here is None and len(chapter.reference) == 0, "the earlier tables are gone"
    chapter.measure(curve)
    assert len(chapter.reference["curve"]) == 5


def test_page_that_measures_nothing_shows_the_reference_alone(root: Path) -> None:
    ship(root)
    chapter = page(root / "out" / "small", measure=False)
    chapter.measure(curve)
    assert chapter.bench is None and chapter.here is None and len(chapter.reference["curve"]) == 3
    assert not (root / "out").exists()


def test_nothing_to_show_is_one_sentence(root: Path) -> None:
    with pytest.raises(PrefdynError, match=r"results/reference/small holds no tables, .*`prefdyn run small`"):
        page(measure=False)


# Showing ------------------------------------------------------------------------------------------


def test_figure_is_drawn_from_both_and_shown_once(root: Path, shown: list[Any]) -> None:
    ship(root)
    chapter = page(points=4)
    chapter.measure(curve)
    before = plt.get_fignums()
    sizes = []

    def drawing(reference: Tables, here: Tables | None, colour: str = "red") -> Any:
        sizes.append((len(reference["curve"]), here and len(here["curve"]), colour))
        return plt.figure()

    chapter.draw(drawing)
    chapter.draw(lambda reference, here, colour: f"<b>{colour}</b>", colour="blue")
    assert sizes == [(3, 4, "red")] and plt.get_fignums() == before
    assert isinstance(shown[0], plt.Figure) and shown[1].data == "<b>blue</b>"


def test_table_is_shown_from_both_ends_and_this_machines_folded(root: Path, shown: list[Any]) -> None:
    ship(root, points=30, seeds=[0, 1])
    chapter = page()
    chapter.measure(curve)
    chapter.table("curve")
    said = words(shown[0].data)
    assert said.startswith("x y 0 0.5 1 0.5") and "seed" not in said.split("30 rows")[0]
    assert "30 rows in all; the first and the last 12 are shown." in said
    assert "Measured with the seed 0; the file has 2 seeds." in said
    assert said.endswith("On this machine x y 0 0.5 1 0.5 2 0.5") and "<details>" in shown[0].data
    chapter.table("curve", lambda table: table[["x"]].head(1))
    assert words(shown[1].data).startswith("x 0 Measured")


def test_numbers_of_the_text_are_the_references_with_this_machines_beside_them(
    root: Path, shown: list[Any], glued: dict[str, str]
) -> None:
    ship(root, seeds=[4])
    chapter = page(points=5)
    chapter.measure(curve)
    chapter.ledger()
    assert {key: words(value) for key, value in glued.items()} == {
        "A-1-verdict": "supported inconclusive here",
        "A-1": "4.5 [3.5, 5.5] 0.5 here",
        "A-1-n": "3 5 here",
        "A-1-2": "0 of 3 0 of 5 here",
        "A-1-2-n": "3 5 here",
        "end": "4.5 0.5 here",
    }
    assert all(value.startswith("<strong>") for key, value in glued.items() if key != "A-1-verdict")
    ledger = words(shown[-1].data)
    assert "Reference This machine A-1 Things rise." in ledger
    assert "supported inconclusive unlike the reference" in ledger


def test_another_chapters_numbers_are_the_references(
    root: Path, glued: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    ship(root, seeds=[4])
    shipped = root / "results" / "reference"
    shutil.copytree(shipped / "small", shipped / "large")
    claims = root / "book" / "claims.yml"
    others = CLAIMS.replace("A-1", "B-1").replace("chapter: small", "chapter: large")
    claims.write_text(CLAIMS + others, encoding="utf-8")
    monkeypatch.setitem(judging.STATISTICS, "large", judging.STATISTICS["small"])
    page().quote_book()
    assert words(glued["B-1"]) == "4.5 [3.5, 5.5]" and words(glued["B-1-verdict"]) == "supported"
    assert not any(key.startswith("A-1") for key in glued)


def test_numbers_that_agree_stand_once(root: Path, shown: list[Any], glued: dict[str, str]) -> None:
    ship(root)
    chapter = page()
    chapter.measure(curve)
    chapter.ledger()
    assert words(glued["end"]) == "0.5" and words(glued["A-1-verdict"]) == "inconclusive"


def test_other_models_have_their_column(root: Path, shown: list[Any], glued: dict[str, str]) -> None:
    ship(root)
    ship(root, "reference-large", seeds=[7])
    chapter = page(measure=False)
    chapter.ledger()
    chapter.provenance()
    assert "Reference Reference-large A-1" in words(shown[0].data)
    assert words(glued["A-1"]) == "0.5 [−0.5, 1.5]"
    assert words(shown[1].data).startswith("reference reference-large commit")


def test_what_the_reference_does_not_hold_yet_is_said(
    root: Path, shown: list[Any], glued: dict[str, str]
) -> None:
    ship(root)
    folder = root / "results" / "reference" / "small"
    (folder / "curve.csv").unlink()
    (folder / "other.csv").write_text("# model: some\nx,seed\n1,0\n")
    (folder / "pending.txt").write_text("curve\n")

    def drawing(reference: Tables, here: Tables | None) -> Any:
        figure, ax = plt.subplots()
        ax.set_title(f"{len(reference['curve'])} points, {here}")
        return figure

    chapter = page(measure=False)
    chapter.draw(drawing)
    chapter.table("curve")
    chapter.ledger()
    assert [text.get_text() for text in shown[0].axes[0].texts] == [
        "the reference edition has not measured this yet"
    ]
    assert plt.get_fignums() == []
    assert "does not hold this table yet" in shown[1].data
    assert words(glued["A-1"]) == words(glued["A-1-verdict"]) == "not run"

    chapter = page(points=4)
    chapter.measure(curve)
    chapter.draw(drawing)
    assert shown[-1].axes[0].get_title(loc="left") + shown[-1].axes[0].get_title() == "4 points, None"
    assert shown[-1].get_suptitle().startswith("this machine alone; the reference edition has not")


def test_missing_table_of_the_reference_is_one_sentence(root: Path) -> None:
    ship(root)
    (root / "results" / "reference" / "small" / "curve.csv").unlink()
    with pytest.raises(PrefdynError, match=r"reference/small/curve\.csv: no such table"):
        page(measure=False).ledger()


# As papermill runs it -----------------------------------------------------------------------------

PAGE = """---
jupytext:
  text_representation:
    extension: .md
    format_name: myst
kernelspec:
  display_name: Python 3
  language: python
  name: python3
---

# Small

It is {glue}`A-1`, {glue}`A-1-verdict`.

```{code-cell} ipython3
:tags: [parameters]

model: str = "smoke"  # a name
data: str = "sample"  # a source
profile: str = ""  # its name
output: str = ""  # a folder
device: str = "cpu"  # where
precision: str = "float32"  # one of auto, float32, bfloat16
seeds: list[int] = [0]  # in [0, 100]: of everything
measure: bool = True  # run the experiments here
points: int = 3  # in [1, 100]: how many
```

```{code-cell} ipython3
import sys
sys.path.insert(0, FOLDER)
import small_experiments as experiments
from prefbook.chapter import Chapter
from prefbook.ledger import judging, statistics
judging.STATISTICS["small"] = experiments.STATISTICS

chapter = Chapter(experiments, globals())
chapter.measure(experiments.curve)
```

```{code-cell} ipython3
chapter.draw(experiments.figure)
```

```{code-cell} ipython3
chapter.ledger()
chapter.provenance()
```
"""
MODULE = """
from dataclasses import dataclass
import matplotlib.pyplot as plt
import pandas as pd
from prefdyn.measures.estimates import Estimate

@dataclass(frozen=True)
class Design:
    points: int

def check_design(design, source):
    pass

def curve(bench, design):
    return pd.DataFrame({"x": range(design.points), "y": 1.0})

def figure(reference, here):
    drawn, ax = plt.subplots()
    ax.plot(reference["curve"]["x"], reference["curve"]["y"])
    return drawn

def slope(tables):
    return Estimate(1, 0.5, 2, len(tables["curve"]))

def exceptions(tables):
    return Estimate(0, 0, 0, len(tables["curve"]))

STATISTICS = {"slope": slope, "exceptions": exceptions}
__name__ = "prefdyn.experiments.small"
"""


@pytest.fixture
def book(root: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same book with its page."""
    (root / "modules").mkdir()
    (root / "modules" / "small_experiments.py").write_text(MODULE)
    text = PAGE.replace("FOLDER", repr(str(root / "modules")))
    (root / "book" / "small.md").write_text(text, encoding="utf-8")
    (root / "book" / "profiles").mkdir()
    (root / "book" / "profiles" / "smoke.yml").write_text("small:\n  points: 4\n")
    (root / "book" / "profiles" / "laptop.yml").write_text("small: {}\n")
    stand_in = SimpleNamespace(
        __name__="prefdyn.experiments.plan", Design=Design, check_design=check_design, work=lambda values: []
    )
    monkeypatch.setitem(CHAPTERS, "small", stand_in)
    monkeypatch.setattr(runs.plan, "check_memory", lambda *arguments: None)
    return root


def outputs(run: Run) -> list[nbformat.NotebookNode]:
    notebook = nbformat.read(run.notebook, as_version=4)
    return [output for cell in notebook.cells for output in cell.get("outputs", [])]


def test_page_runs_in_both_modes(book: Path) -> None:
    (making,) = runs.prepare(book, [], "smoke", {}, {"points": 9}, book / "results" / "reference")
    assert execution.run_chapter(making, progress=False)
    assert making.is_done(), "a reference does not go stale by its own tables"
    (own,) = runs.prepare(book, [], "smoke", {}, {})
    (showing,) = runs.to_show(book, ["small"])
    for run, kinds in ((own, ["curve"]), (showing, [])):
        assert execution.run_chapter(run, progress=False) and run.is_done()
        assert [path.stem for path in run.folder.glob("*.csv")] == kinds
        said = outputs(run)
        assert sum("image/png" in output.get("data", {}) for output in said) == 1
        records = {key: data for output in said for key, data in output.get("data", {}).items()}
        number = "".join(records["application/papermill.record/text/html"])
        assert ("here" in number) == (run is own)
    assert runs.kept(book, "small") == own
