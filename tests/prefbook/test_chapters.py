"""Every chapter, executed headlessly under the smoke profile: what it leaves has the right shape, whatever
its numbers are.
"""

from __future__ import annotations

import ast
import functools
import json
import math
import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

import nbformat
import pandas as pd
import pytest
import yaml

from prefbook.ledger import claims
from prefbook.project import chapters
from prefbook.running import runs
from prefbook.running.runs import Run
from prefdyn.experiments.provenance import Provenance

ROOT = Path(__file__).parents[2]
VERDICTS = {"supported", "not supported", "inconclusive"}
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


def ledger(run: Run) -> list[dict[str, Any]]:
    return json.loads((run.folder / "claims.json").read_text(encoding="utf-8"))


def tables_in_source(run: Run) -> set[str]:
    """The names that the chapter gives its tables."""
    nodes = [node for cell in code_cells(run) for node in ast.walk(ast.parse(cell.source))]
    calls = [node for node in nodes if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)]
    return {ast.literal_eval(call.args[1]) for call in calls if call.func.id == "show_table"}


# The executed notebook ----------------------------------------------------------------------------


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
    assert runs.run_chapter(run, progress=False) is False
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
def test_page_ends_with_what_it_ran_on(executed_chapters: dict[str, Run], chapter: str) -> None:
    (table,) = shown(code_cells(executed_chapters[chapter])[-1], "text/html")
    assert all(field.name.replace("_", " ") in table for field in fields(Provenance))
    assert all(value in table for value in ("smoke", "sample", "torch "))


@each_chapter
def test_injected_parameters_are_those_of_the_profile_and_hidden(
    executed_chapters: dict[str, Run], chapter: str
) -> None:
    run = executed_chapters[chapter]
    (injected,) = [cell for cell in code_cells(run) if "injected-parameters" in cell.metadata.get("tags", [])]
    assert "hide-input" in injected.metadata.tags
    given: dict[str, Any] = {}
    exec(injected.source, given)
    assert {name: given[name] for name in run.values} == run.values
    profile = yaml.safe_load((ROOT / "book" / "profiles" / "smoke.yml").read_text())[chapter]
    assert {name: given[name] for name in profile} == profile


# The ledger ---------------------------------------------------------------------------------------


@each_chapter
def test_ledger_holds_the_declared_claims(executed_chapters: dict[str, Run], chapter: str) -> None:
    declared = {
        id_: claim
        for id_, claim in claims.load_claims(ROOT / "book" / "claims.yml").items()
        if claim.chapter == chapter
    }
    entries = ledger(executed_chapters[chapter])
    assert [entry["id"] for entry in entries] == list(declared)
    for entry in entries:
        claim = declared[entry["id"]]
        assert (entry["sentence"], entry["paper"], entry["place"]) == (
            claim.sentence,
            claim.paper,
            claim.place,
        )
        assert [part["statistic"] for part in entry["statistics"]] == list(claim.statistics)
        assert [part["criterion"] for part in entry["statistics"]] == [
            str(criterion) for criterion in claim.statistics.values()
        ]


def expected_verdict(part: dict[str, Any]) -> str:
    """What a statistic's numbers say, read from its criterion in words."""
    (low, high), criterion = part["interval"], part["criterion"]
    if low is None:
        return "inconclusive"
    if criterion == "no violation":
        return "supported" if part["estimate"] == 0 else "not supported"
    side, bound = re.fullmatch(r"interval (above|below) (\S+)", criterion).groups()
    sides = {
        "above" if end > float(bound) else "below" if end < float(bound) else "on it" for end in (low, high)
    }
    return (
        "inconclusive"
        if len(sides) > 1 or sides == {"on it"}
        else "supported"
        if sides == {side}
        else "not supported"
    )


@each_chapter
def test_verdicts_follow_from_the_numbers(executed_chapters: dict[str, Run], chapter: str) -> None:
    for entry in ledger(executed_chapters[chapter]):
        parts = [part["verdict"] for part in entry["statistics"]]
        assert {entry["verdict"], *parts} <= VERDICTS
        assert parts == [expected_verdict(part) for part in entry["statistics"]]
        worst = next((word for word in ("not supported", "inconclusive") if word in parts), "supported")
        assert entry["verdict"] == worst


@each_chapter
def test_intervals_hold_their_estimate(executed_chapters: dict[str, Run], chapter: str) -> None:
    for entry in ledger(executed_chapters[chapter]):
        for part in entry["statistics"]:
            numbers = [part["interval"][0], part["estimate"], part["interval"][1]]
            assert part["n"] >= 1
            if None not in numbers:
                assert all(math.isfinite(number) for number in numbers) and numbers[0] <= numbers[2]
                assert numbers[0] - 1e-12 <= numbers[1] <= numbers[2] + 1e-12, (entry["id"], part)


@each_chapter
def test_ledger_says_what_it_was_measured_on(executed_chapters: dict[str, Run], chapter: str) -> None:
    for entry in ledger(executed_chapters[chapter]):
        assert (entry["model"], entry["data"], entry["profile"], entry["chapter"]) == (
            "smoke",
            "sample",
            "smoke",
            chapter,
        )
        assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d UTC", entry["made"])
        first = entry["statistics"][0]
        assert all(
            entry[field] == first[field] for field in ("statistic", "estimate", "interval", "n", "criterion")
        )


@each_chapter
def test_ledger_on_the_page_is_that_of_the_file(executed_chapters: dict[str, Run], chapter: str) -> None:
    run = executed_chapters[chapter]
    (table,) = [
        html
        for cell in code_cells(run)
        for html in shown(cell, "text/html")
        if 'class="scoreboard ledger"' in html
    ]
    assert re.findall(r'<span class="verdict-([a-z-]+)">', table) == [
        entry["verdict"].replace(" ", "-") for entry in ledger(run)
    ]


# The tables ---------------------------------------------------------------------------------------


@each_chapter
def test_every_table_is_kept(executed_chapters: dict[str, Run], chapter: str) -> None:
    run = executed_chapters[chapter]
    names = tables_in_source(run)
    assert names
    assert {path.name for path in (run.folder / "tables").iterdir()} == {f"{name}.csv" for name in names}


@each_chapter
def test_every_table_reads_back_and_carries_its_provenance(
    executed_chapters: dict[str, Run], chapter: str
) -> None:
    for path in sorted((executed_chapters[chapter].folder / "tables").iterdir()):
        lines = path.read_text(encoding="utf-8").splitlines()
        head = dict(line.removeprefix("# ").split(": ", 1) for line in lines if line.startswith("# "))
        assert list(head) == [field.name for field in fields(Provenance)], path
        assert (head["model"], head["data"], head["profile"], head["seed"]) == (
            "smoke",
            "sample",
            "smoke",
            "0",
        )
        assert re.fullmatch(r"[0-9a-f]{12}( with changes)?|unknown", head["commit"])
        table = pd.read_csv(path, comment="#")
        assert len(table) == len(lines) - len(head) - 1 > 0, path
        assert not any(name.startswith("Unnamed") for name in table.columns), path
        assert not table.isna().all().any(), path


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


@pytest.mark.parametrize(
    "chapter", ["distinguishability", "noise"]
)  # half a minute each; all are run in the same way
def test_plain_papermill_measures_the_same(
    executed_chapters: dict[str, Run], chapter: str, tmp_path: Path
) -> None:
    made = plain_papermill(chapter, tmp_path)
    assert all(output.output_type != "error" for cell in made.cells for output in cell.get("outputs", []))
    ours = json.loads((tmp_path / "claims.json").read_text(encoding="utf-8"))
    for mine, theirs in zip(ours, ledger(executed_chapters[chapter]), strict=True):
        assert {**mine, "made": ""} == {**theirs, "made": ""}
