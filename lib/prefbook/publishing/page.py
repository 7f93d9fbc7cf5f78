"""What every chapter does with a result: show it, and keep it where the run keeps its tables."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from IPython.display import HTML, display

from prefbook.ledger import claims
from prefbook.publishing import scoreboard
from prefdyn.experiments.bench import Bench
from prefdyn.experiments.provenance import save_table

SHOWN_ROWS = 24


def show_table(table: pd.DataFrame, name: str, output: str, lab: Bench, display_it: bool = True) -> None:
    """Show a table (a long one from both ends) and, where the run has an output folder, keep it there with
    its provenance.
    """
    if output:
        save_table(table, Path(output) / "tables" / f"{name}.csv", lab.provenance())
    if not display_it:
        return
    shown = table
    if len(table) > SHOWN_ROWS:
        half = SHOWN_ROWS // 2
        shown = pd.concat([table.head(half), table.tail(half)])
    html = shown.to_html(index=False, float_format=lambda value: f"{value:.3g}", border=0, classes="measured")
    more = (
        f"<p>{len(table)} rows in all; the first and the last {SHOWN_ROWS // 2} are shown.</p>"
        if len(table) > SHOWN_ROWS
        else ""
    )
    display(HTML(html + more))


def show_provenance(lab: Bench) -> None:
    """Show what the page ran on, for its end."""
    with pd.option_context("display.max_colwidth", None):
        display(HTML(lab.provenance().table().to_html(border=0, header=False, classes="provenance")))


def show_ledger(ledger: claims.Ledger, output: str, lab: Bench) -> None:
    """Show the chapter's ledger of claims, and keep it where the run has an output folder."""
    provenance = lab.provenance()
    if output:
        ledger.save(Path(output), provenance)
    display(HTML(scoreboard.ledger(ledger.claims, ledger.entries(provenance))))
