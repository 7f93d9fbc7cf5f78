"""Tables as a run leaves them, with what tells them from a user's own files."""

from __future__ import annotations

from pathlib import Path

import pandas as pd


def write_table(table: pd.DataFrame, path: Path) -> None:
    """Write a table with a line of provenance above it."""
    path.write_text("# profile: made up\n" + table.to_csv(index=False), encoding="utf-8")
