"""What a published data set tells machines of itself: the metadata of an RO-Crate, from the provenance that
each table carries.

RO-Crate 1.1 (https://w3id.org/ro/crate/1.1) is a folder with one file of JSON-LD that says what each other
file is, and what it was made by.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from prefbook.ledger.tables import NOTHING
from prefbook.publishing import repository
from prefbook.publishing.shipped import RUN, Shipped, Table
from prefdyn.files import sha256

METADATA, LEDGER, SCHEMA = "ro-crate-metadata.json", "claims.json", "claims.schema.json"
CARD, HISTORY = "README.md", "EDITIONS.md"
"""The data card, and how the editions came about: results/README.md."""
LATER = {"sha256": "https://schema.org/sha256", "creditText": "https://schema.org/creditText"}
"""Words newer than the schema.org of RO-Crate 1.1, whose context lacks them: undefined, they would be passed
over.
"""
CONTEXT = ["https://w3id.org/ro/crate/1.1/context", LATER]
"""Where the words of the metadata are defined."""
LICENCE = "https://creativecommons.org/licenses/by/4.0/"
CONTRIBUTORS, BOOK = "#contributors", "#book"

Entity = dict[str, Any]
"""An object of the JSON-LD file."""


def metadata(
    shipped: Shipped, citation: Mapping[str, Any], folder: Path, published: repository.Repository | None
) -> Entity:
    """All that a crate's metadata tells.

    Args:
        citation: what CITATION.cff says.
        folder: the crate, with all of its other files.
    """
    return {"@context": CONTEXT, "@graph": list(_entities(shipped, citation, folder, published))}


def _entities(
    shipped: Shipped, citation: Mapping[str, Any], folder: Path, published: repository.Repository | None
) -> Iterator[Entity]:
    """In the order in which they are best read."""
    about = {table.path.as_posix(): table for table in shipped.tables}
    names = [path.relative_to(folder).as_posix() for path in sorted(folder.rglob("*")) if path.is_file()]
    parts = sorted({table.path.parent.as_posix() for table in shipped.tables})
    runs = {
        run: f"#run-{number}" for number, run in enumerate(dict.fromkeys(t.run for t in shipped.tables), 1)
    }
    yield {
        "@id": METADATA,
        "@type": "CreativeWork",
        "conformsTo": {"@id": "https://w3id.org/ro/crate/1.1"},
        "about": {"@id": "./"},
    }
    yield {
        "@id": "./",
        "@type": "Dataset",
        "name": f"{citation['title']}: tables and ledger",
        "description": "What was measured of the claims of four papers on preference learning: tidy tables "
        "with their provenance, and the claims with their verdicts.",
        "version": citation["version"],
        "datePublished": str(citation["date-released"]),
        "dateModified": max(table.made for table in shipped.tables),
        "license": {"@id": LICENCE},
        "author": {"@id": CONTRIBUTORS},
        "publisher": {"@id": CONTRIBUTORS},
        "keywords": citation["keywords"],
        "isPartOf": {"@id": BOOK},
        "hasPart": _links([*(f"{part}/" for part in parts), *(name for name in names if name not in about)]),
        "mentions": _links(list(runs.values())),
    }
    for part in parts:
        inside = [name for name in about if name.startswith(f"{part}/")]
        yield {
            "@id": f"{part}/",
            "@type": "Dataset",
            "name": f"{part}: the tables of one chapter of one edition",
            "hasPart": _links(inside),
        }
    for name in names:
        yield _file(name, folder, about.get(name))
    for run, id_ in runs.items():
        yield from _run(id_, run, [table for table in shipped.tables if table.run == run], published)
    url = {"url": published.url} if published else {}
    yield {"@id": CONTRIBUTORS, "@type": "Organization", "name": named(citation["authors"][0]), **url}
    yield {"@id": LICENCE, "@type": "CreativeWork", "name": "Creative Commons Attribution 4.0 International"}
    yield {
        "@id": BOOK,
        "@type": "Book",
        "name": citation["title"],
        "abstract": citation["abstract"],
        "citation": [{"@id": _address(work)} for work in citation["references"]],
    } | ({"url": published.site} if published else {})
    for work in citation["references"]:
        authors = [named(person) for person in work["authors"]]
        yield {
            "@id": _address(work),
            "@type": "ScholarlyArticle",
            "name": work["title"],
            "creditText": ", ".join(authors),
        }


def _links(ids: Sequence[str]) -> Any:
    """References to entities; a single one is no list."""
    links = [{"@id": id_} for id_ in ids]
    return links[0] if len(links) == 1 else links


def named(person: Mapping[str, Any]) -> str:
    """An author as CITATION.cff has one: an entity by its name, a person by both of theirs."""
    return str(person.get("name") or f"{person['given-names']} {person['family-names']}")


def _address(work: Mapping[str, Any]) -> str:
    return f"https://doi.org/{work['doi']}"


WORDS = {
    LEDGER: "The ledger: every claim judged, an object a claim and edition",
    SCHEMA: "The JSON schema of the ledger",
    CARD: "The data card",
    HISTORY: "How the editions were made, and what was cut",
    "LICENSE": "The licence",
    "CITATION.cff": "How to cite the book, and the papers that it measures",
}
"""What the files beside the tables are."""
FORMATS = {
    ".csv": "text/csv",
    ".json": "application/json",
    ".md": "text/markdown",
    ".cff": "application/yaml",
}


def _file(name: str, folder: Path, table: Table | None) -> Entity:
    path = folder / name
    out: Entity = {
        "@id": name,
        "@type": "File",
        "name": f"{table.chapter}: {table.path.stem}" if table else WORDS[name],
        "encodingFormat": FORMATS.get(path.suffix, "text/plain"),
        "contentSize": str(path.stat().st_size),
        "sha256": sha256(path),
    }
    if table:
        out |= {"dateCreated": table.made, "variableMeasured": list(table.columns)}
        out |= {"description": table.about} if table.about else {}
    if name == LEDGER:
        out["conformsTo"] = {"@id": SCHEMA}
    return out


def _run(
    id_: str, run: Sequence[str], tables: Sequence[Table], published: repository.Repository | None
) -> Iterator[Entity]:
    """A run of chapters, with the library, the model and the data that it used."""
    about = dict(zip(RUN, run, strict=True))
    chapters = ", ".join(dict.fromkeys(table.chapter for table in tables))
    code, model, data = f"{id_}-code", f"{id_}-model", f"{id_}-data"
    used_data = about["data_fingerprint"] != NOTHING
    yield {
        "@id": id_,
        "@type": "CreateAction",
        "name": f"{chapters} under the profile {about['profile']}",
        "description": f"seeds {about['seeds']}; {about['precision']}; {about['device']}",
        "endTime": max(table.made for table in tables),
        "instrument": _links([code, model]),
        "result": _links([table.path.as_posix() for table in tables]),
    } | ({"object": _links([data])} if used_data else {})
    yield {
        "@id": code,
        "@type": "SoftwareApplication",
        "name": "prefdyn",
        "softwareVersion": f"commit {about['commit']}",
        "softwareRequirements": about["versions"],
    } | ({"url": f"{published.url}/tree/{about['commit'].partition(' ')[0]}"} if published else {})
    yield {
        "@id": model,
        "@type": "SoftwareApplication",
        "name": about["model"],
        "softwareVersion": about["model_fingerprint"],
    }
    if used_data:
        named = {"name": about["data"], "identifier": about["data_fingerprint"]}
        yield {"@id": data, "@type": "CreativeWork", **named}
