"""Where a number comes from: code, model, data, settings, machine, versions, time."""

from __future__ import annotations

import csv
import importlib.metadata
import platform
import subprocess
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from prefdyn.files import atomic_file, public_name

PACKAGES = ("torch", "transformers", "numpy", "scipy")
"""Packages whose versions can move a number."""


@dataclass(frozen=True)
class Provenance:
    """What a table or a chapter rests on; fields as text, ready to print."""

    commit: str
    model: str
    model_fingerprint: str
    data: str
    data_fingerprint: str
    profile: str
    seeds: str
    device: str
    precision: str
    versions: str
    made: str
    seconds: float

    @classmethod
    def of(cls, *, device: torch.device, data: str, model: str, **fields: Any) -> Provenance:
        """Add to the named fields what the machine itself tells; of a place on it, the last name alone."""
        versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in PACKAGES)
        return cls(
            device=describe_device(device),
            data=public_name(data),
            model=public_name(model),
            versions=f"Python {platform.python_version()}, {versions}",
            made=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
            **fields,
        )

    def table(self) -> pd.DataFrame:
        """One row a field, for the end of a page."""
        rows = {name.replace("_", " "): value for name, value in asdict(self).items()}
        rows["seconds"] = f"{self.seconds:.0f}"
        return pd.DataFrame({"value": [str(value) for value in rows.values()]}, index=list(rows))


def commit() -> str:
    """The commit of the checkout that the library runs from; "unknown" outside a checkout.

    It is marked where files differ from it.
    """
    here = Path(__file__).parent

    def git(*words: str) -> str:
        return subprocess.run(
            ["git", "-C", str(here), *words], capture_output=True, text=True, check=True
        ).stdout.strip()

    try:
        return git("rev-parse", "--short=12", "HEAD") + (
            " with changes" if git("status", "--porcelain") else ""
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def describe_device(device: torch.device) -> str:
    """A device in words: the GPU's name, or the CPU's with the number of threads."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    if device.type == "cpu":
        name = torch.cpu.get_capabilities().get("cpu_name") or platform.processor() or platform.machine()
        return f"{name}, {torch.get_num_threads()} threads"
    return device.type


def save_table(table: pd.DataFrame, path: Path, provenance: Provenance) -> None:
    """Write a table as CSV, its provenance in comment lines above it.

    Read it with `pandas.read_csv(path, comment="#")`.
    """
    header = "".join(f"# {name}: {value}\n" for name, value in asdict(provenance).items())
    rows = table.to_csv(index=False, float_format="%.6g")
    if "#" in rows:  # inside quotes it begins no comment
        rows = table.to_csv(index=False, float_format="%.6g", quoting=csv.QUOTE_ALL)
    with atomic_file(path) as made:
        made.write_text(header + rows, encoding="utf-8")
