"""What a page calls: its experiments are run here or not, and its tables, figures, numbers and verdicts are
shown, the reference edition's as the finding and this machine's beside them.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
from IPython.display import HTML, display
from matplotlib.figure import Figure
from myst_nb import glue
from transformers.utils import logging

from prefbook.figures.style import NEUTRAL, note, use_style
from prefbook.ledger.claims import Claim, load_claims
from prefbook.ledger.editions import HERE, REFERENCE, others, reference
from prefbook.ledger.judging import Entry, judge_all
from prefbook.ledger.quoted import OF_OTHER_MODELS, QUOTED
from prefbook.ledger.tables import NotMeasured, Tables
from prefbook.project import home
from prefbook.publishing import claim_rows, quoting
from prefbook.running import parameters
from prefdyn.errors import PrefdynError
from prefdyn.experiments.bench import Bench
from prefdyn.experiments.provenance import save_table
from prefdyn.files import writing

SHOWN_ROWS = 24
SHORT = 18  # letters
NOT_YET = f"the {REFERENCE} edition has not measured this yet"

Experiment = Callable[[Bench, Any], pd.DataFrame | Mapping[str, pd.DataFrame]]
"""A function of a bench and a design; it returns the table of its own name, or several by name."""
Drawing = Callable[..., Figure | str]
"""A function of the tables of the reference edition and of this machine's, or None, that returns a figure or
HTML.
"""


class Chapter:
    """A page's way to its tables.

    Attributes:
        name: of the chapter.
        design: the sizes and settings of its experiments.
        bench: None where nothing is measured.
        reference: the tables that the page reports. Where none are shipped, or where they are being made
            anew, these are the ones measured here.
        here: the tables measured here, where they stand beside the reference edition's.
    """

    def __init__(self, experiments: ModuleType, settings: Mapping[str, Any]) -> None:
        """Take the page's parameters from `settings`, its globals.

        Raises:
            PrefdynError: parameters that cannot be (see `parameters.of_notebook` and `parameters.design`);
                nothing is to be measured, and no reference edition of the chapter is shipped.
        """
        use_style()
        self.name = experiments.__name__.rpartition(".")[2]
        self.root = home()
        declared = parameters.declared(self.root / "book" / f"{self.name}.md")
        settings = parameters.of_notebook(declared, settings)
        self.design = parameters.design(experiments, settings)
        self.seeds: list[int] = list(dict.fromkeys(settings["seeds"]))
        self.bench: Bench | None = None
        self.reference = reference(self.root).tables(self.name)
        self.here: Tables | None = None
        self._shown = {REFERENCE: self.reference}
        if settings["measure"]:
            names = ("model", "data", "device", "precision", "profile")
            model, data, device, precision, profile = (settings[name] for name in names)
            # Where it is measured is no parameter: it decides no number.
            on, shard = os.environ.get("PREFDYN_ON", ""), int(os.environ.get("PREFDYN_SHARD") or 0)
            self.bench = Bench(model, data, self.seeds[0], device, precision, profile, on, shard)
            logging.disable_progress_bar()  # of loading a model; as a widget it would be a second figure
            self._begin(settings["output"])
        elif not len(self.reference):
            raise PrefdynError(
                f"{self.reference.folder} holds no tables, so there is nothing to show of the chapter "
                f"{self.name}: run it (`prefdyn run {self.name}`)"
            )
        for edition in others(self.root):
            if edition.has(self.name):
                self._shown[edition.title] = edition.tables(self.name)
        if self.here is not None:
            self._shown[HERE] = self.here  # the last column

    def _begin(self, output: str) -> None:
        """Empty the folder for the tables measured here (without a name, one that vanishes with the kernel),
        and see whether they stand beside shipped ones: those that go to the reference edition do not.
        """
        if not output:
            self._vanishing = tempfile.TemporaryDirectory(prefix="prefdyn-")
        folder = Path(output) if output else Path(self._vanishing.name) / self.name
        self._folder = folder
        Tables(folder).clear()
        again = folder.resolve().parent == self.reference.folder.resolve().parent
        if again or not len(self.reference):
            self.reference = Tables(folder)
            self._shown = {REFERENCE if again else HERE: self.reference}
        else:
            self.here = Tables(folder)

    def measure(self, *experiments: Experiment) -> None:
        """Run experiments with each seed, and write their tables, with a column `seed`; nothing is done where
        the page shows the reference edition alone.
        """
        if self.bench is None:
            return
        for experiment in experiments:
            by_name: dict[str, list[pd.DataFrame]] = {}
            for seed in self.seeds:
                found = experiment(self.bench.seeded(seed), self.design)
                tables = {experiment.__name__: found} if isinstance(found, pd.DataFrame) else found
                for name, table in tables.items():
                    by_name.setdefault(name, []).append(table.assign(seed=seed))
            for name, parts in by_name.items():
                whole = pd.concat(parts, ignore_index=True)
                with writing(self._folder.parent):
                    save_table(whole, self._folder / f"{name}.csv", self.bench.provenance(self.seeds))

    def draw(self, drawing: Drawing, **options: Any) -> None:
        """Show a figure of the reference edition's tables, with this machine's over it; where that edition
        does not hold them yet, this machine's alone under words that say so, or words alone.
        """
        try:
            drawn = drawing(self.reference, self.here, **options)
        except NotMeasured:
            plt.close("all")  # what the drawing had begun
            drawn = note(NOT_YET) if self.here is None else drawing(self.here, None, **options)
            if self.here is not None and isinstance(drawn, Figure):
                drawn.suptitle(f"{HERE} alone; {NOT_YET}", fontsize=10, color=NEUTRAL, x=0.01, ha="left")
        if isinstance(drawn, str):
            display(HTML(drawn))
        else:
            display(drawn)
            plt.close(drawn)  # or the notebook shows it once more

    def table(self, name: str, view: Callable[[pd.DataFrame], pd.DataFrame] | None = None) -> None:
        """Show a table, the rows of the first seed, a long one from both ends; this machine's lies folded
        below it.

        Args:
            view: what is shown of it; by default, all.
        """
        try:
            shown = _table_html(self.reference, name, view)
        except NotMeasured:
            shown = f"<p>The {REFERENCE} edition does not hold this table yet.</p>"
        if self.here is not None:
            shown += f"<details><summary>On {HERE}</summary>{_table_html(self.here, name, view)}</details>"
        display(HTML(shown))

    def ledger(self) -> None:
        """Show the chapter's claims with the verdict of each edition, and glue every number that the text
        quotes: of a claim ID its estimate (ID, and ID-2 for the second statistic), ID-n, ID-verdict; the
        same of another model's edition, *reference-NAME*, under NAME/ID; and what `QUOTED` has, of other
        models what `OF_OTHER_MODELS` names, under NAME/KEY.
        """
        finding = next(iter(self._judged.values()))
        local = None if self.here is None else self._judged[HERE]
        tellers = QUOTED.get(self.name, {})
        told = {
            **quoting.of_claims(self._claims, finding, local),
            **quoting.of_others(self._claims, self._judged),
            **quoting.quotes(tellers, self.reference, self.here),
        }
        shared = {key: tellers[key] for key in OF_OTHER_MODELS.get(self.name, ())}
        told |= quoting.quotes_of_others(shared, self._shown)
        for key, value in told.items():
            glue(key, HTML(value), display=False)
        display(HTML(claim_rows.ledger(self._claims, self._judged)))

    def quote_book(self) -> None:
        """Glue the reference edition's numbers of all other chapters' claims, as `ledger` does its own, for a
        page that draws the book together.
        """
        claims = load_claims(self.root / "book" / "claims.yml").values()
        for chapter in dict.fromkeys(claim.chapter for claim in claims):
            if chapter != self.name:
                own = {claim.id: claim for claim in claims if claim.chapter == chapter}
                judged = judge_all(own.values(), reference(self.root).tables(chapter), REFERENCE)
                for key, value in quoting.of_claims(own, judged, None).items():
                    glue(key, HTML(value), display=False)

    @cached_property
    def _claims(self) -> dict[str, Claim]:
        claims = load_claims(self.root / "book" / "claims.yml")
        return {id_: claim for id_, claim in claims.items() if claim.chapter == self.name}

    @cached_property
    def _judged(self) -> dict[str, dict[str, Entry]]:
        """By edition and claim."""
        return {
            title: judge_all(self._claims.values(), tables, title) for title, tables in self._shown.items()
        }

    def provenance(self) -> None:
        """Show what each edition on the page rests on, for its end."""
        columns = {title: tables.provenance for title, tables in self._shown.items()}
        for about in columns.values():
            about["seconds"] = f"{float(about.get('seconds', 0)):.0f}"
        rows = pd.DataFrame(columns).fillna("")
        rows.index = rows.index.str.replace("_", " ")
        with pd.option_context("display.max_colwidth", None):
            display(HTML(rows.to_html(border=0, classes="provenance")))


def _number(value: float) -> str:
    """To three digits, without an exponent below a million; a browser breaks no line at its minus."""
    plain = f"{value:.3g}" if abs(value) < 1000 else f"{float(f'{value:.3g}'):.0f}"
    return (plain if abs(value) < 1e6 else f"{value:.3g}").replace("-", "−")


def _table_html(tables: Tables, name: str, view: Callable[[pd.DataFrame], pd.DataFrame] | None) -> str:
    """A table of the first seed in HTML, with a line that says what is left out."""
    whole = tables.of(tables.seed)[name].drop(columns="seed")
    table = whole if view is None else view(whole)
    said = []
    if len(table) > SHOWN_ROWS:
        half = SHOWN_ROWS // 2
        said.append(f"{len(table)} rows in all; the first and the last {half} are shown.")
        shown = pd.concat([table.head(half), table.tail(half)])
    else:
        shown = table
    if len(tables.seeds) > 1:
        said.append(f"Measured with the seed {tables.seed}; the file has {len(tables.seeds)} seeds.")
    # Names of behaviours ask for room in the first column; what is short leaves it to the others.
    narrow = shown.iloc[:, 0].astype(str).str.len().max() <= SHORT
    classes = ["measured", "short"] if narrow else ["measured"]
    html = shown.to_html(index=False, float_format=_number, na_rep="", border=0, classes=classes)
    return html + (f"<p>{' '.join(said)}</p>" if said else "")
