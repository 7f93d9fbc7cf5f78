"""What every benchmark here has in common: its options, its model, and the rows that it prints."""

from __future__ import annotations

import argparse
import json
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

PRECISIONS = {
    "float32": ("float32", "float32"),
    "bfloat16": ("bfloat16", "float32"),
    "bfloat16 both": ("bfloat16", "bfloat16"),
}
"""Rows of what a model does: our precision, and the peer's."""


def options(doc: str, device: str = "", data: str = "") -> argparse.ArgumentParser:
    """A parser of the options that benchmarks share.

    Args:
        doc: the benchmark's own, whose first line describes it.
        device, data: defaults of the options --device, and of --data with --model, --shape and --rows; ""
            where it has none.
    """
    parser = argparse.ArgumentParser(description=doc.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="a list of objects instead of a table")
    parser.add_argument("--repeats", type=int, default=3)
    if device:
        parser.add_argument("--device", default=device, help="auto, cpu, cuda")
    if data:
        parser.add_argument("--data", default=data, help="sample, hub or a folder in the publishers' layout")
        parser.add_argument("--model", default="default")
        parser.add_argument("--shape", help="random weights of a real architecture instead: see shapes.py")
        parser.add_argument("--rows", nargs="+", choices=list(PRECISIONS), help="only these")
    return parser


def model(chosen: argparse.Namespace):  # type: ignore[no-untyped-def]
    """The model that --shape or --model names, on the device that --device names."""
    import shapes

    from prefdyn.models import loading

    if chosen.shape:
        return shapes.load(chosen.shape, chosen.device)
    return loading.load(chosen.model, chosen.device)


def precisions(lm, chosen: argparse.Namespace) -> dict[str, tuple[str, str]]:  # type: ignore[no-untyped-def]
    """The rows that were asked for, else all that make sense: without native bfloat16, autocast costs."""
    from prefdyn.models import devices

    native = devices.choose_precision(lm.device) == "bfloat16"
    return {name: PRECISIONS[name] for name in chosen.rows or (PRECISIONS if native else ["float32"])}


@dataclass
class Peak:
    """The most GiB of a GPU that were taken during a run, with what was there before; NaN elsewhere."""

    device: Any

    def __enter__(self) -> Peak:
        import torch

        self.gib = math.nan
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
            torch.cuda.reset_peak_memory_stats(self.device)
        return self

    def __exit__(self, *_: object) -> None:
        import torch

        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
            self.gib = torch.cuda.max_memory_allocated(self.device) / 2**30


def row(
    name: str,
    precision: str,
    device: str,
    peer: Sequence[float],
    ours: Sequence[float],
    difference: float,
    unit: str,
    **more: float,
) -> dict[str, Any]:
    """One row: medians of the seconds that both took, their ratio, how far results are apart, and more."""
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
        **more,
    }


def use(  # type: ignore[no-untyped-def]
    lm, precision: str, tokens: int, passed: int, seconds: Sequence[float]
) -> dict[str, float]:
    """How well our seconds were used.

    Args:
        tokens: of the texts, each prompt counted with each of its responses, as a peer runs them.
        passed: tokens that pass our layers, counted once forward and twice backward.

    Returns:
        Tokens a second, and the share of the speed of a plain matrix product on the device, in the layers
        alone.
    """
    from prefdyn.experiments import plan

    body = sum(weight.numel() for weight in lm.model.base_model.parameters())
    body -= lm.model.get_input_embeddings().weight.numel()
    took = statistics.median(seconds)
    return {
        "tokens_per_second": tokens / took,
        "matrix_product_share": 2.0 * body * passed / took / plan.speed(lm.device, precision),  # type: ignore[arg-type]
    }


def show(rows: list[dict[str, Any]], as_json: bool) -> None:
    """Print rows as JSON, or as a table without their long names."""
    short = pd.DataFrame(rows).drop(columns=["name", "unit"])
    print(json.dumps(rows, indent=1) if as_json else short.to_string(index=False))
