"""Every chapter, executed headlessly under the smoke profile: what it leaves has the right shape, whatever
its numbers are.
"""

from __future__ import annotations

import functools
import math
import re
import shutil
import subprocess
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

import nbformat
import pandas as pd
import pytest
import yaml
from pandas.testing import assert_frame_equal

from prefbook.ledger import judging
from prefbook.ledger.claims import VACUOUS, VERDICTS, Claim, load_claims
from prefbook.ledger.editions import HERE, reference
from prefbook.ledger.judging import Entry
from prefbook.ledger.tables import Tables
from prefbook.project import chapters
from prefbook.publishing import notebooks as publish
from prefbook.running import execution, runs
from prefbook.running.runs import Run
from prefdyn.data import SAMPLE
from prefdyn.data.personas import PERSONA_FOLDER
from prefdyn.experiments.provenance import Provenance
from prefdyn.models import LanguageModel

ROOT = Path(__file__).parents[2]
each_chapter = pytest.mark.parametrize("chapter", chapters(ROOT))


@functools.cache
def executed(path: Path) -> nbformat.NotebookNode:
    return nbformat.read(path, as_version=4)


def code_cells(run: Run) -> list[nbformat.NotebookNode]:
    return [cell for cell in executed(run.notebook).cells if cell.cell_type == "code"]


def shown(cell: nbformat.NotebookNode, kind: str) -> list[str]:
    """What a cell shows of a MIME type."""
    return ["".join(output.data[kind]) for output in cell.outputs if kind in output.get("data", {})]


def drawing_cells(run: Run) -> list[nbformat.NotebookNode]:
    return [cell for cell in code_cells(run) if shown(cell, "image/png") or shown(cell, "image/svg+xml")]


def claims(chapter: str) -> dict[str, Claim]:
    declared = load_claims(ROOT / "book" / "claims.yml")
    return {id_: claim for id_, claim in declared.items() if claim.chapter == chapter}


def judged(run: Run) -> list[Entry]:
    """The chapter's claims, judged from the tables of the run."""
    return _judged(run.chapter, run.folder)


@functools.cache
def _judged(chapter: str, folder: Path) -> list[Entry]:
    return [judging.judge(claim, Tables(folder), HERE) for claim in claims(chapter).values()]


# The executed notebook ----------------------------------------------------------------------------


def test_private_paths_stay_out_of_what_a_run_leaves(
    fresh_smoke: LanguageModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of data, model, cache and output; and names that begin formulas stop nothing."""
    place = tmp_path / "telling-home" / "me"
    shutil.copytree(SAMPLE, place / "my-data")
    personas = sorted((place / "my-data" / PERSONA_FOLDER).glob("*.jsonl"))
    personas[0].rename(personas[0].with_name("$x^{$.jsonl"))
    fresh_smoke.model.save_pretrained(place / "my-$x^{$-model")
    fresh_smoke.tokenizer.save_pretrained(place / "my-$x^{$-model")
    monkeypatch.setenv("PREFDYN_CACHE", str(place / "my-cache"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    given = {"data": str(place / "my-data"), "model": str(place / "my-$x^{$-model")}
    (run,) = runs.prepare(ROOT, ["noise"], "smoke", given, {}, place / "my-runs")
    execution.run_chapter(run, progress=False)
    publish.notebook(run.notebook, tmp_path / "as readers get it.ipynb")
    left = {
        path: path.read_text(encoding="utf-8")
        for path in (*tmp_path.glob("*.ipynb"), *run.folder.glob("*.csv"))
    }
    assert len(left) > 5 and [str(path) for path, text in left.items() if "telling-home" in text] == []
    assert "telling-home" not in str(executed(run.notebook).cells)
    (injected,) = [cell for cell in code_cells(run) if "injected-parameters" in cell.metadata.get("tags", [])]
    assert 'data = "my-data"' in injected.source and 'output = ""' in injected.source
    about = Tables(run.folder).provenance
    assert about["data"] == "my-data" and about["model"] == "my-$x^{$-model"
    assert "$x^{$" in set(Tables(run.folder)["persona_noise"]["behaviour"])


@each_chapter
def test_chapter_runs_to_its_end_without_an_error(executed_chapters: dict[str, Run], chapter: str) -> None:
    cells = [cell for cell in code_cells(executed_chapters[chapter]) if cell.source.strip()]
    assert [output for cell in cells for output in cell.outputs if output.output_type == "error"] == []
    numbers = [cell.execution_count for cell in cells]
    assert numbers == list(range(1, len(cells) + 1))


@each_chapter
def test_chapter_shows_no_warning(executed_chapters: dict[str, Run], chapter: str) -> None:
    streams = [
        output
        for cell in code_cells(executed_chapters[chapter])
        for output in cell.outputs
        if output.output_type == "stream"
    ]
    assert [output.text for output in streams if output.name == "stderr" or "arning" in output.text] == []


@each_chapter
def test_second_execution_does_nothing(executed_chapters: dict[str, Run], chapter: str) -> None:
    run = executed_chapters[chapter]
    before = run.notebook.stat().st_mtime_ns
    assert execution.run_chapter(run, progress=False) is False
    assert run.notebook.stat().st_mtime_ns == before


@each_chapter
def test_every_figure_has_a_name_a_caption_and_words_for_those_who_do_not_see_it(
    executed_chapters: dict[str, Run], chapter: str
) -> None:
    drawing = drawing_cells(executed_chapters[chapter])
    assert drawing
    names = []
    for cell in drawing:
        about = cell.metadata.get("mystnb", {})
        assert len(about.get("image", {}).get("alt", "").split()) >= 8, cell.source[:80]
        assert about["figure"]["caption"].strip().endswith("."), cell.source[:80]
        names.append(about["figure"]["name"])
    assert len(set(names)) == len(names) and all(name.startswith("fig-") for name in names)


@each_chapter
def test_every_declared_figure_is_drawn_once(executed_chapters: dict[str, Run], chapter: str) -> None:
    run = executed_chapters[chapter]
    declared = [cell for cell in code_cells(run) if "figure" in cell.metadata.get("mystnb", {})]
    assert [cell.source for cell in declared] == [cell.source for cell in drawing_cells(run)]
    for cell in declared:
        assert len(shown(cell, "image/png")) == 1


@each_chapter
def test_every_map_is_labelled_and_no_id_is_used_twice_on_the_page(
    executed_chapters: dict[str, Run], chapter: str
) -> None:
    drawn = [
        html
        for cell in code_cells(executed_chapters[chapter])
        for html in shown(cell, "text/html")
        if "<svg" in html and "scoreboard ledger" not in html
    ]
    assert all(
        re.search(r'<figure class="statement-map"[^>]* aria-label="[^"]{20,}"', html) for html in drawn
    )
    ids = [id_ for html in drawn for id_ in re.findall(r'\bid="([^"]+)"', html)]
    assert len(ids) == len(set(ids))


@each_chapter
def test_page_ends_with_what_each_edition_ran_on(executed_chapters: dict[str, Run], chapter: str) -> None:
    (table,) = shown(code_cells(executed_chapters[chapter])[-1], "text/html")
    assert all(field.name.replace("_", " ") in table for field in fields(Provenance))
    assert all(value in table for value in ("smoke", "sample", "torch ", HERE))
    assert ("reference" in table) == reference(ROOT).has(chapter)


@each_chapter
def test_injected_parameters_are_those_of_the_profile_and_hidden(
    executed_chapters: dict[str, Run], chapter: str
) -> None:
    run = executed_chapters[chapter]
    (injected,) = [cell for cell in code_cells(run) if "injected-parameters" in cell.metadata.get("tags", [])]
    assert "hide-input" in injected.metadata.tags
    given: dict[str, Any] = {}
    exec(injected.source, given)
    assert {name: given[name] for name in run.values} == {**run.values, "output": ""}
    profile = yaml.safe_load((ROOT / "book" / "profiles" / "smoke.yml").read_text())[chapter]
    assert {name: given[name] for name in profile} == profile


@each_chapter
def test_every_number_that_the_text_quotes_is_there(executed_chapters: dict[str, Run], chapter: str) -> None:
    """And none of them is empty, though a run this small leaves much undefined."""
    run = executed_chapters[chapter]
    outputs = [output for cell in code_cells(run) for output in cell.outputs]
    glued = {
        output.metadata["scrapbook"]["name"]: str(list(output.data.values()))
        for output in outputs
        if "scrapbook" in output.get("metadata", {})
    }
    used = set(re.findall(r"\{glue(?::\w+)?\}`([^`]+)`", run.source.read_text(encoding="utf-8")))
    assert used and used <= set(glued)
    for key in used:
        assert re.sub(r"<[^>]*>", "", glued[key]).strip(), key
        assert not re.search(r"\bnan\b|None", glued[key]), (key, glued[key])


# The ledger ---------------------------------------------------------------------------------------


@each_chapter
def test_every_claim_is_judged_from_the_tables(executed_chapters: dict[str, Run], chapter: str) -> None:
    run = executed_chapters[chapter]
    for claim, entry in zip(claims(chapter).values(), judged(run), strict=True):
        words = {*VERDICTS[claim.kind].values(), *([VACUOUS] if claim.kind == "theorem" else [])}
        assert {entry["verdict"], *(part["verdict"] for part in entry["statistics"])} <= words
        assert [part["statistic"] for part in entry["statistics"]] == [one.words for one in claim.statistics]
        assert (entry["id"], entry["model"], entry["data"], entry["profile"]) == (
            claim.id,
            "smoke",
            "sample",
            "smoke",
        )
        assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d UTC", entry["made"])


@each_chapter
def test_intervals_hold_their_estimate(executed_chapters: dict[str, Run], chapter: str) -> None:
    for entry in judged(executed_chapters[chapter]):
        for part in entry["statistics"]:
            numbers = [part["interval"][0], part["estimate"], part["interval"][1]]
            assert part["n"] >= 1 or part["estimate"] is None
            if None not in numbers:
                assert all(math.isfinite(number) for number in numbers) and numbers[0] <= numbers[2]
                assert numbers[0] - 1e-12 <= numbers[1] <= numbers[2] + 1e-12, (entry["id"], part)


@each_chapter
def test_ledger_on_the_page_is_that_of_the_tables(executed_chapters: dict[str, Run], chapter: str) -> None:
    run = executed_chapters[chapter]
    (table,) = [
        html
        for cell in code_cells(run)
        for html in shown(cell, "text/html")
        if 'class="scoreboard ledger"' in html
    ]
    cell = r'<td data-edition="This machine"><span class="verdict verdict-[\w-]+">([^<]+)</span>'
    assert re.findall(cell, table) == [entry["verdict"] for entry in judged(run)]
    rows = re.findall(r'<tbody id="claim-([\w-]+)"', table)
    assert rows == [id_.lower() for id_ in claims(chapter)]


# The tables ---------------------------------------------------------------------------------------


@each_chapter
def test_every_table_that_the_page_shows_is_left(executed_chapters: dict[str, Run], chapter: str) -> None:
    run = executed_chapters[chapter]
    named = re.findall(r'chapter\.table\(\s*"([^"]+)"', run.source.read_text(encoding="utf-8"))
    assert set(named) <= set(Tables(run.folder))


@each_chapter
def test_every_table_reads_back_and_carries_its_provenance(
    executed_chapters: dict[str, Run], chapter: str
) -> None:
    tables = sorted(executed_chapters[chapter].folder.glob("*.csv"))
    assert tables
    for path in tables:
        lines = path.read_text(encoding="utf-8").splitlines()
        head = dict(line.removeprefix("# ").split(": ", 1) for line in lines if line.startswith("# "))
        assert list(head) == [field.name for field in fields(Provenance)], path
        assert (head["model"], head["data"], head["profile"], head["seeds"]) == (
            "smoke",
            "sample",
            "smoke",
            "0",
        )
        assert re.fullmatch(r"[0-9a-f]{12}( with changes)?|unknown", head["commit"])
        table = pd.read_csv(path, comment="#")
        assert len(table) > 0 and (table["seed"] == 0).all(), path
        assert not any(name.startswith("Unnamed") for name in table.columns), path


# Without the command line -------------------------------------------------------------------------


def plain_papermill(chapter: str, folder: Path) -> nbformat.NotebookNode:
    """A chapter run as the documentation says, by jupytext and papermill alone."""
    values = yaml.safe_load((ROOT / "book" / "profiles" / "smoke.yml").read_text())[chapter]
    options = [
        word
        for name, value in values.items()
        if not isinstance(value, list)
        for word in ("-p", name, str(value))
    ]
    lists = yaml.safe_dump({name: value for name, value in values.items() if isinstance(value, list)})
    options += ["-y", lists, "-p", "profile", "smoke", "-p", "output", str(folder)]
    to_notebook = [sys.executable, "-m", "jupytext", "--to", "ipynb", "-o", "-", f"book/{chapter}.md"]
    notebook = subprocess.run(to_notebook, cwd=ROOT, check=True, capture_output=True).stdout
    run = [sys.executable, "-m", "papermill", "--no-progress-bar", "-", str(folder / "out.ipynb"), *options]
    done = subprocess.run(run, cwd=ROOT, input=notebook, check=False, capture_output=True)
    assert done.returncode == 0, done.stderr.decode()[-3000:]
    return nbformat.read(folder / "out.ipynb", as_version=4)


def test_plain_papermill_measures_the_same(executed_chapters: dict[str, Run], tmp_path: Path) -> None:
    """Half a minute for a chapter, and all are run in the same way."""
    chapter = "distinguishability"
    made = plain_papermill(chapter, tmp_path)
    assert all(output.output_type != "error" for cell in made.cells for output in cell.get("outputs", []))
    ours, theirs = Tables(executed_chapters[chapter].folder), Tables(tmp_path)
    assert list(ours) == list(theirs)
    for name in ours:
        assert_frame_equal(theirs[name], ours[name])
