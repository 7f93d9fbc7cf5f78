"""The shipped tables and the ledger as a data set that can be published: an RO-Crate with a data card.

The ledger is what `prefdyn claims --json` prints, of all editions.
"""

from __future__ import annotations

import json
import re
import shutil
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from prefbook.ledger.tables import NOTHING
from prefbook.project import read_sections
from prefbook.publishing import repository, ro_crate
from prefbook.publishing.quoting import TEMPLATES
from prefbook.publishing.ro_crate import CARD, HISTORY, LEDGER, METADATA, SCHEMA
from prefbook.publishing.shipped import RUN, Shipped
from prefdyn.errors import PrefdynError
from prefdyn.files import atomic_folder, needed_for

CITED = ("title", "version", "date-released", "abstract", "keywords", "authors", "references")
"""Fields of CITATION.cff that the data set tells."""
OF_A_WORK = ("title", "authors", "year", "doi")
"""Those of one of its references."""


def write(root: Path, output: Path) -> Path:
    """Write the data set; the same tables make the same files.

    Returns:
        Its folder: the editions' tables, the ledger with its JSON schema, a data card, the licence, how to
        cite, and the RO-Crate's metadata.

    Raises:
        PrefdynError: there is no table, one is damaged or without provenance, a file of the checkout is
            missing or says too little, or the disk is full.
    """
    shipped = Shipped(root)
    citation = _citation(root / "CITATION.cff")
    published = repository.of(root)
    with needed_for("the data set"), atomic_folder(output) as made:
        for table in shipped.tables:
            (made / table.path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(root / "results" / table.path, made / table.path)
        ledger = json.dumps(shipped.ledger, indent=1, ensure_ascii=False, allow_nan=False)
        (made / LEDGER).write_text(f"{ledger}\n", encoding="utf-8")
        shutil.copy2(Path(__file__).with_name("templates") / SCHEMA, made / SCHEMA)
        shutil.copy2(root / "LICENSE-TEXT", made / "LICENSE")
        shutil.copy2(root / "CITATION.cff", made)
        (made / HISTORY).write_text(_history(root, published), encoding="utf-8")
        (made / CARD).write_text(card(shipped, citation), encoding="utf-8")
        text = json.dumps(ro_crate.metadata(shipped, citation, made, published), indent=1, ensure_ascii=False)
        (made / METADATA).write_text(f"{text}\n", encoding="utf-8")
    return output


def _citation(path: Path) -> dict[str, Any]:
    """What CITATION.cff says, with all that a data set tells of it."""
    said = read_sections(path)
    if missing := [field for field in CITED if not said.get(field)]:
        raise PrefdynError(f"{path}: write its {', '.join(missing)}, which the data set tells as well")
    for work in said["references"]:
        if missing := [field for field in OF_A_WORK if not work.get(field)]:
            raise PrefdynError(
                f"{path}: write the {', '.join(missing)} of {work.get('title', 'a reference')}"
            )
    for person in [*said["authors"], *(one for work in said["references"] for one in work["authors"])]:
        if "name" not in person and not {"given-names", "family-names"} <= person.keys():
            raise PrefdynError(f"{path}: an author has a name, or given-names and family-names, not {person}")
    return said


def _history(root: Path, published: repository.Repository | None) -> str:
    """results/README.md, whose links into the checkout lead to the repository, or nowhere without one."""
    text = (root / "results" / "README.md").read_text(encoding="utf-8")
    place = rf"[\1]({published.url}/blob/{repository.BRANCH}/\2)" if published else r"\1"
    return re.sub(r"\[([^]]+)\]\(\.\./([^)]+)\)", place, text)


def card(shipped: Shipped, citation: Mapping[str, Any]) -> str:
    """The data card, in Markdown."""
    runs = [dict(zip(RUN, run, strict=True)) for run in dict.fromkeys(table.run for table in shipped.tables)]
    tally = Counter((entry["edition"], entry["kind"], entry["verdict"]) for entry in shipped.ledger)
    return TEMPLATES.get_template("data_card.md").render(
        citation=citation,
        tables=shipped.tables,
        runs=runs,
        nothing=NOTHING,
        named=ro_crate.named,
        tally=tally,
        pending=shipped.pending,
        claims=len({entry["id"] for entry in shipped.ledger}),
    )
