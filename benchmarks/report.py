"""What every benchmark here has in common: its options, and the rows that it prints."""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Sequence
from typing import Any

import pandas as pd


def options(doc: str, device: str = "", data: str = "") -> argparse.ArgumentParser:
    """A parser of the options that benchmarks share.

    Args:
        doc: the benchmark's own, whose first line describes it.
        device, data: defaults of the options --device, and of --data with --model; "" where it has none.
    """
    parser = argparse.ArgumentParser(description=doc.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="a list of objects instead of a table")
    parser.add_argument("--repeats", type=int, default=3)
    if device:
        parser.add_argument("--device", default=device, help="auto, cpu, cuda")
    if data:
        parser.add_argument("--data", default=data, help="sample, hub or a folder in the publishers' layout")
        parser.add_argument("--model", default="default")
    return parser


def row(
    name: str,
    precision: str,
    device: str,
    peer: Sequence[float],
    ours: Sequence[float],
    difference: float,
    unit: str,
) -> dict[str, Any]:
    """One row: medians of the seconds that both took, their ratio, and how far the results are apart."""
    seconds_peer, seconds_ours = statistics.median(peer), statistics.median(ours)
    return {
        "name": name,
        "precision": precision,
        "device": device,
        "seconds_peer": seconds_peer,
        "seconds_ours": seconds_ours,
        "ratio": seconds_peer / seconds_ours,
        "max_difference": difference,
        "unit": unit,
    }


def show(rows: list[dict[str, Any]], as_json: bool) -> None:
    """Print rows as JSON, or as a table without their long names."""
    short = pd.DataFrame(rows).drop(columns=["name", "unit"])
    print(json.dumps(rows, indent=1) if as_json else short.to_string(index=False))
