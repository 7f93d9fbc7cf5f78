"""The data set that is published: its RO-Crate is held against the specification's rules, its provenance
against the comment lines of the tables, its ledger against its schema.
"""

from __future__ import annotations

import copy
import csv
import hashlib
import json
import re
import shutil
from collections.abc import Callable, Iterator
from datetime import date, datetime
from itertools import dropwhile
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from jsonschema import Draft202012Validator

from prefbook import command_line
from prefbook.ledger.claims import VACUOUS, VERDICTS, Kind, Outcome
from prefbook.ledger.tables import Tables
from prefbook.publishing import crate, repository, shipped
from prefdyn.errors import PrefdynError

ROOT = Path(__file__).parents[3]
RESULTS = ROOT / "results"
TABLES = sorted(path.relative_to(RESULTS) for path in RESULTS.glob("*/*/*.csv"))
PROFILE = "https://w3id.org/ro/crate/1.1"
OF_CONTEXT = {
    *("CreativeWork", "Dataset", "File", "CreateAction", "SoftwareApplication", "Organization", "Book"),
    *("ScholarlyArticle", "about", "abstract", "author", "citation", "conformsTo", "contentSize"),
    *("dateCreated", "dateModified", "datePublished", "description", "encodingFormat", "endTime", "hasPart"),
    *("identifier", "instrument", "isPartOf", "keywords", "license", "mentions", "name", "object"),
    *("publisher", "result", "softwareRequirements", "softwareVersion", "url", "variableMeasured", "version"),
}
"""Words of the JSON-LD context of RO-Crate 1.1 (version 1.1.3, on schema.org 10), read off its file; JSON-LD
passes over a word that no context defines.
"""
LICENCE = "https://creativecommons.org/licenses/by/4.0/"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return crate.write(ROOT, tmp_path_factory.mktemp("made") / "crate")


@pytest.fixture(scope="module")
def graph(folder: Path) -> dict[str, dict[str, Any]]:
    """The entities by id."""
    whole = json.loads((folder / "ro-crate-metadata.json").read_text(encoding="utf-8"))
    context, more = whole["@context"]
    assert context == f"{PROFILE}/context"
    words = {word for entity in whole["@graph"] for word in (*entity, entity["@type"])}
    assert words - {"@id", "@type"} - OF_CONTEXT == set(more), (
        "what the context lacks is defined, and no more"
    )
    assert all(address == f"https://schema.org/{word}" for word, address in more.items())
    found = {entity["@id"]: entity for entity in whole["@graph"]}
    assert len(found) == len(whole["@graph"]), "an id twice"
    return found


@pytest.fixture(scope="module")
def schema(folder: Path) -> dict[str, Any]:
    read: dict[str, Any] = json.loads((folder / "claims.schema.json").read_text(encoding="utf-8"))
    Draft202012Validator.check_schema(read)
    return read


@pytest.fixture(scope="module")
def ledger(folder: Path) -> list[dict[str, Any]]:
    def refuse(word: str) -> None:
        raise AssertionError(f"{word} is no JSON")

    read: list[dict[str, Any]] = json.loads(
        (folder / "claims.json").read_text(encoding="utf-8"), parse_constant=refuse
    )
    return read


def values(entity: dict[str, Any], name: str) -> list[Any]:
    """Of a property, which may have one or several."""
    found = entity.get(name, [])
    return found if isinstance(found, list) else [found]


def ids(entity: dict[str, Any], name: str) -> list[str]:
    return [link["@id"] for link in values(entity, name)]


def references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if set(value) == {"@id"}:
            yield value["@id"]
        for inner in value.values():
            yield from references(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from references(inner)


# RO-Crate -----------------------------------------------------------------------------------------


def test_crate_is_what_the_specification_asks(graph: dict[str, dict[str, Any]]) -> None:
    descriptor, whole = graph["ro-crate-metadata.json"], graph["./"]
    assert descriptor["@type"] == "CreativeWork" and ids(descriptor, "about") == ["./"]
    assert ids(descriptor, "conformsTo") == [PROFILE]
    assert whole["@type"] == "Dataset" and len(whole["name"]) > 10 and len(whole["description"]) > 50
    date.fromisoformat(whole["datePublished"])
    datetime.fromisoformat(whole["dateModified"])
    assert ids(whole, "license") == [LICENCE] and graph[LICENCE]["name"]
    for entity in graph.values():
        assert isinstance(entity["@type"], str) and entity["@id"]
        assert entity is descriptor or entity["name"]
        for name, value in entity.items():
            assert value not in ("", None, [], {}), f"{entity['@id']}: {name} says nothing"
            assert not (isinstance(value, list) and len(value) == 1), f"{entity['@id']}: {name} is unpacked"
    assert set(references(list(graph.values()))) - {PROFILE} <= set(graph), "each entity is described"


def test_every_entity_belongs_to_the_crate(graph: dict[str, dict[str, Any]]) -> None:
    reached, waiting = set(), ["ro-crate-metadata.json"]
    while waiting:
        id_ = waiting.pop()
        if id_ in graph and id_ not in reached:
            reached.add(id_)
            waiting += references([value for name, value in graph[id_].items() if name != "@id"])
    assert reached == set(graph)


def test_every_file_is_described_as_it_is(folder: Path, graph: dict[str, dict[str, Any]]) -> None:
    found = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    described = {id_ for id_, entity in graph.items() if entity["@type"] == "File"}
    assert described == found - {"ro-crate-metadata.json"}
    assert {path for path in found if path.endswith(".csv")} == {path.as_posix() for path in TABLES}
    parts = [id_ for entity in graph.values() for id_ in ids(entity, "hasPart")]
    assert sorted(path for path in parts if not path.endswith("/")) == sorted(described), "each in one place"
    for id_ in described:
        content = (folder / id_).read_bytes()
        assert graph[id_]["contentSize"] == str(len(content))
        assert graph[id_]["sha256"] == hashlib.sha256(content).hexdigest()
    for path in TABLES:
        assert (folder / path).read_bytes() == (RESULTS / path).read_bytes()


def test_provenance_is_that_of_the_comment_lines(graph: dict[str, dict[str, Any]]) -> None:
    actions = [entity for entity in graph.values() if entity["@type"] == "CreateAction"]
    assert sorted(ids(graph["./"], "mentions")) == sorted(action["@id"] for action in actions)
    by_file = {id_: action for action in actions for id_ in ids(action, "result")}
    assert sum(len(ids(action, "result")) for action in actions) == len(by_file) == len(TABLES)
    for path in TABLES:
        text = (RESULTS / path).read_text(encoding="utf-8")
        says = dict(re.findall(r"^# (\w+): (.*)$", text, re.M))
        entity, action = graph[path.as_posix()], by_file[path.as_posix()]
        code, model = (graph[id_] for id_ in ids(action, "instrument"))
        assert code["softwareVersion"] == f"commit {says['commit']}"
        assert code["softwareRequirements"] == says["versions"]
        assert (model["name"], model["softwareVersion"]) == (says["model"], says["model_fingerprint"])
        if says["data_fingerprint"] == hashlib.sha256(b"").hexdigest()[:16]:
            assert "object" not in action, "no data were used"
        else:
            (data,) = (graph[id_] for id_ in ids(action, "object"))
            assert (data["name"], data["identifier"]) == (says["data"], says["data_fingerprint"])
        for words in (f"seeds {says['seeds']}", says["precision"], says["device"]):
            assert words in action["description"]
        assert says["profile"] in action["name"] and path.parent.name in action["name"]
        made = f"{says['made'].removesuffix(' UTC').replace(' ', 'T')}:00+00:00"
        assert entity["dateCreated"] == made <= action["endTime"] <= graph["./"]["dateModified"]
        rows = csv.reader(line for line in text.splitlines() if not line.startswith("#"))
        assert entity["variableMeasured"] == next(rows)


def test_same_tables_make_the_same_files(folder: Path, tmp_path: Path) -> None:
    again = crate.write(ROOT, tmp_path / "again")
    for path in folder.rglob("*"):
        if path.is_file():
            assert path.read_bytes() == (again / path.relative_to(folder)).read_bytes(), path.name


def test_nothing_tells_where_it_was_made(folder: Path) -> None:
    for path in folder.rglob("*"):
        if path.is_file():
            text = path.read_text(encoding="utf-8")
            assert str(ROOT) not in text and str(Path.home()) not in text.split(), path.name


# The ledger ---------------------------------------------------------------------------------------


def test_ledger_is_that_of_the_command_and_keeps_to_its_schema(
    ledger: list[dict[str, Any]],
    schema: dict[str, Any],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    Draft202012Validator(schema).validate(ledger)
    monkeypatch.chdir(ROOT)
    assert command_line.main(["claims", "--from", str(RESULTS / "reference"), "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed and [entry for entry in ledger if entry["edition"] == "reference"] == printed
    Draft202012Validator(schema).validate(printed)


SPOILS: dict[str, Callable[[dict[str, Any]], object]] = {
    "a verdict of another kind": lambda entry: entry.update(kind="identity", verdict="supported"),
    "no verdict": lambda entry: entry.pop("verdict"),
    "a field more": lambda entry: entry.update(comment="well done"),
    "no statistics": lambda entry: entry["statistics"].clear(),
    "an interval of one end": lambda entry: entry["interval"].pop(),
    "a number as text": lambda entry: entry.update(estimate="0.5"),
    "an unknown kind": lambda entry: entry.update(kind="opinion"),
    "an unknown outcome": lambda entry: entry["statistics"][0].update(outcome="maybe"),
    "a seed without its n": lambda entry: entry["statistics"][0]["seeds"][0].pop("n"),
    "no commit": lambda entry: entry.update(declared="yesterday"),
    "a criterion of another form": lambda entry: entry.update(criterion="p below 0.05"),
}


@pytest.mark.parametrize("spoil", SPOILS.values(), ids=SPOILS)
def test_schema_refuses(
    ledger: list[dict[str, Any]], schema: dict[str, Any], spoil: Callable[[dict[str, Any]], object]
) -> None:
    validator = Draft202012Validator(schema)
    entry = copy.deepcopy(next(entry for entry in ledger if entry["kind"] == "empirical"))
    assert validator.is_valid([entry])
    spoil(entry)
    assert not validator.is_valid([entry])


def test_schema_has_the_words_of_the_ledger(schema: dict[str, Any]) -> None:
    known = schema["$defs"]
    assert set(known["claim"]["properties"]["kind"]["enum"]) == set(get_args(Kind))
    assert set(known["outcome"]["enum"]) == set(get_args(Outcome))
    for kind, words in VERDICTS.items():
        verdicts = set(known[kind]["then"]["properties"]["verdict"]["enum"])
        assert verdicts == {*words.values(), *([VACUOUS] if kind == "theorem" else [])}
    for name in ("claim", "statistic", "seed"):
        assert set(known[name]["required"]) == set(known[name]["properties"])


# The data card ------------------------------------------------------------------------------------


def test_card_tells_of_every_table_and_every_verdict(folder: Path, ledger: list[dict[str, Any]]) -> None:
    text = (folder / "README.md").read_text(encoding="utf-8")
    front = yaml.safe_load(text.split("---\n")[1])
    assert front["license"] == "cc-by-4.0" and front["language"] == ["en"] and len(front["tags"]) > 2
    sections = dict(re.findall(r"^### (\S+)\n\n(.+?)(?=^##|\Z)", text, re.M | re.S))
    assert set(sections) == {path.with_suffix("").as_posix() for path in TABLES}
    for path in TABLES:
        with open(RESULTS / path, encoding="utf-8", newline="") as file:
            header, *rows = csv.reader(dropwhile(lambda line: line.startswith("# "), file))
        assert sections[path.with_suffix("").as_posix()].startswith(
            f"{len(rows)} rows. Columns: {', '.join(header)}."
        )
    counted = re.findall(r"^\| (\S+) \| (identity|theorem|empirical) \| (.+?) \| (\d+) \|$", text, re.M)
    assert sum(int(number) for *_, number in counted) == len(ledger)
    for edition, kind, verdict, number in counted:
        about = [(entry["edition"], entry["kind"], entry["verdict"]) for entry in ledger]
        assert about.count((edition, kind, verdict)) == int(number)
    for path in RESULTS.glob("*/*/pending.txt"):
        for name, seeds in Tables(path.parent).pending.items():
            if seeds or not path.with_name(f"{name}.csv").is_file():
                word = f" (seeds {', '.join(map(str, sorted(seeds)))})" if seeds else ""
                assert f"{path.parent.relative_to(RESULTS).as_posix()}/{name}{word}" in text


EXPERIMENTS = '''
def alone(bench, design):
    """One table.

    Columns:
        a: the first,
            in metres.
        b, c: the others.

    Raises:
        Nothing.
    """

def several(bench, design):
    """Two tables.

    Tables:
        left: a; b: what
            it says.
        right, wrong: c.
    """

def free(bench, design):
    """Words of its own.

    Returns: a row a pair: `d`.

    Raises:
        Nothing.
    """

def silent(bench, design):
    """No more than a line."""

def helper(rows):
    """No experiment.

    It makes no table.
    """
'''


def test_meaning_of_columns_is_that_of_the_docstrings(tmp_path: Path) -> None:
    first, last = tmp_path / "first.py", tmp_path / "last.py"
    first.write_text(EXPERIMENTS)
    last.write_text('def free(bench, design):\n    """Another.\n\n    A row a day."""\n')
    found = shipped.described([first])
    assert found == {
        "alone": "a: the first, in metres; b, c: the others",
        "left": "a; b: what it says",
        "right": "c",
        "wrong": "c",
        "free": "a row a pair: `d`",
        "silent": "",
    }
    assert shipped.described([first, last]) == found | {"free": "A row a day"}


def test_every_shipped_table_is_described(graph: dict[str, dict[str, Any]]) -> None:
    bare = [path.as_posix() for path in TABLES if len(graph[path.as_posix()].get("description", "")) < 20]
    assert not bare, "say in the experiment's docstring, under Columns: or Tables:, what the columns are"


# A repository, and what is refused ----------------------------------------------------------------


@pytest.fixture
def small(root: Path, leave: Callable[..., None]) -> Path:
    """The small book with what a data set needs beside its tables, which have their whole provenance."""
    for name in ("CITATION.cff", "LICENSE-TEXT"):
        shutil.copy(ROOT / name, root)
    leave(root / "results" / "reference" / "first")
    (root / "results" / "README.md").write_text("As [it is told](../book/rerun.md); [here](#there).\n")
    for path in (root / "results").rglob("*.csv"):
        lines = [f"# {name}: {name} 7\n" for name in shipped.RUN if name not in ("model", "data", "profile")]
        path.write_text("".join(lines) + path.read_text(encoding="utf-8"), encoding="utf-8")
    return root


def test_repository_is_linked_where_there_is_one(small: Path, tmp_path: Path) -> None:
    without = crate.write(small, tmp_path / "without")
    assert (without / "EDITIONS.md").read_text() == "As it is told; [here](#there).\n"
    assert "github" not in (without / "ro-crate-metadata.json").read_text()
    (small / "_config.yml").write_text("repository: {url: https://github.com/me/it}\n")
    linked = crate.write(small, tmp_path / "linked")
    assert (linked / "EDITIONS.md").read_text() == (
        "As [it is told](https://github.com/me/it/blob/main/book/rerun.md); [here](#there).\n"
    )
    found = {entity["@id"]: entity for entity in json.loads((linked / crate.METADATA).read_text())["@graph"]}
    assert found["#book"]["url"] == repository.Repository("me", "it").site
    assert found["#run-1-code"]["url"] == "https://github.com/me/it/tree/commit"


def test_table_without_provenance_is_refused(small: Path, tmp_path: Path) -> None:
    path = small / "results" / "reference" / "first" / "rise.csv"
    path.write_text(path.read_text().replace("# precision: precision 7\n", ""))
    with pytest.raises(
        PrefdynError, match=r"rise\.csv does not say where it comes from \(no line precision\)"
    ):
        crate.write(small, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["LICENSE-TEXT", "CITATION.cff", "results/README.md"])
def test_missing_file_is_named(small: Path, tmp_path: Path, name: str) -> None:
    (small / name).unlink()
    with pytest.raises(PrefdynError, match=rf"{re.escape(name)}: no such file"):
        crate.write(small, tmp_path / "out")


def test_what_the_citation_lacks_is_named(small: Path, tmp_path: Path) -> None:
    known = yaml.safe_load((small / "CITATION.cff").read_text())
    hollow = yaml.safe_dump({**known, "abstract": None})
    for said, lacks in (("", "title, version, .*, references"), (hollow, "abstract,")):
        (small / "CITATION.cff").write_text(said)
        with pytest.raises(PrefdynError, match=rf"CITATION\.cff: write its {lacks}"):
            crate.write(small, tmp_path / "out")


def test_authors_are_persons_or_entities_and_a_reference_is_whole(small: Path, tmp_path: Path) -> None:
    path = small / "CITATION.cff"
    said = yaml.safe_load(path.read_text())
    person = {"given-names": "Ada", "family-names": "Lovelace"}
    path.write_text(yaml.safe_dump(said | {"authors": [person]}))
    made = crate.write(small, tmp_path / "person")
    assert '"Ada Lovelace"' in (made / crate.METADATA).read_text()
    for wrong, told in (
        ({"authors": [{"given-names": "Ada"}]}, "an author has a name, or given-names and family-names"),
        ({"references": [{"title": "On engines", "authors": [person], "year": 1843}]}, "write the doi of On"),
    ):
        path.write_text(yaml.safe_dump(said | wrong))
        with pytest.raises(PrefdynError, match=told):
            crate.write(small, tmp_path / "out")


def test_book_without_tables_has_nothing_to_publish(small: Path, tmp_path: Path) -> None:
    shutil.rmtree(small / "results" / "reference")
    with pytest.raises(PrefdynError, match="holds no tables, so there is nothing to publish"):
        crate.write(small, tmp_path / "out")


def test_command_says_where_the_data_set_is(
    small: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(small)
    assert command_line.main(["crate"]) == 0
    assert capsys.readouterr().out == f"prefdyn: the data set is in {small / '_build' / 'crate'}\n"
    assert (small / "_build" / "crate" / "reference" / "first" / "rise.csv").is_file()
