"""Full fine-tuning with DPO: prefdyn's fast path beside TRL's DPOTrainer.

The same 160 persona examples in the same order for both. Batch 32, one epoch, the default model. Both train
on the same token ids (TRL's end-of-sequence token is left out of both) and neither shuffles further. TRL runs
without gradient checkpointing, which is faster than its default. The rows:

- float32: both in float32; `max_difference` is the largest difference of the two losses at any step, in nats.
- bfloat16: ours under bfloat16 autocast, TRL in float32.
- bfloat16 both: both under bfloat16 autocast.

The last two are left out where the device does not multiply bfloat16 natively: there autocast only costs.

`seconds_*` are medians of `--repeats` alternating runs of the training itself; loading is not counted.
"""

from __future__ import annotations

import contextlib
import io
import shutil
import sys
import time
import warnings
from dataclasses import replace
from typing import Any

import pandas as pd
import report

from prefdyn import data
from prefdyn.engine import training, trl_engine
from prefdyn.engine.likelihood import TokenPair, tokenize_persona
from prefdyn.models import devices, loading

SETTINGS = training.Settings(learning_rate=1e-5, steps=5, batch_size=32, beta=0.1)
ROWS = {
    "float32": ("float32", "float32"),
    "bfloat16": ("bfloat16", "float32"),
    "bfloat16 both": ("bfloat16", "bfloat16"),
}


def main() -> None:
    options = report.options(__doc__, device="auto", data="sample").parse_args()
    warnings.simplefilter("ignore")

    lm = loading.load(options.model, options.device)
    name = "full fine-tuning with DPO, 160 persona examples, TRL"
    rows = compare(name, lm, examples(lm, options.data), SETTINGS, options.repeats)
    report.show(rows, options.json)


def compare(
    name: str, lm: loading.LanguageModel, pairs: list[TokenPair], settings: training.Settings, repeats: int
) -> list[dict[str, Any]]:
    """Both engines in both precisions, alternating; a row for each of `ROWS`."""
    precisions = (
        ("float32", "bfloat16") if devices.choose_precision(lm.device) == "bfloat16" else ("float32",)
    )
    ours: dict[str, list[float]] = {precision: [] for precision in precisions}
    peer: dict[str, list[float]] = {precision: [] for precision in precisions}
    losses: dict[tuple[str, str], pd.Series] = {}
    for repeat in range(repeats):
        for precision in precisions:
            seconds, losses["ours", precision] = timed_ours(replace(lm, precision=precision), pairs, settings)
            ours[precision].append(seconds)
            seconds, losses["peer", precision] = timed_peer(replace(lm, precision=precision), pairs, settings)
            peer[precision].append(seconds)
            print(
                f"repeat {repeat + 1}, {precision}: ours {ours[precision][-1]:.1f} s, TRL {seconds:.1f} s",
                file=sys.stderr,
                flush=True,
            )
    rows = []
    for label, (our_precision, peer_precision) in ROWS.items():
        if our_precision not in precisions:
            continue
        difference = float((losses["ours", our_precision] - losses["peer", peer_precision]).abs().max())
        unit = "nats, largest loss difference at a step"
        took = peer[peer_precision], ours[our_precision]
        rows.append(report.row(name, label, str(lm.device), *took, difference, unit))
    return rows


def examples(lm: loading.LanguageModel, source: str) -> list[TokenPair]:
    """160 examples of the source's first personas."""
    pairs: list[TokenPair] = []
    for name in data.persona_names(source):
        pairs.extend(
            replace(pair, group="all") for pair in tokenize_persona(lm, data.load_persona(name, source))
        )
        if len(pairs) >= 160:
            return pairs[:160]
    raise SystemExit("the data holds fewer than 160 statements")


def timed_ours(
    lm: loading.LanguageModel, pairs: list[TokenPair], settings: training.Settings
) -> tuple[float, pd.Series]:
    with training.restoring(lm):
        start = time.perf_counter()
        record = training.fine_tune(lm, pairs, settings)
        return time.perf_counter() - start, record["loss"]


def timed_peer(
    lm: loading.LanguageModel, pairs: list[TokenPair], settings: training.Settings
) -> tuple[float, pd.Series]:
    with training.restoring(lm), contextlib.redirect_stdout(io.StringIO()):
        trainer = trl_engine.trainer(lm, pairs, settings, gradient_checkpointing=False)
        start = time.perf_counter()
        trainer.train()
        seconds = time.perf_counter() - start
        lm.model.__dict__.pop("forward", None)
        lm.model.eval().requires_grad_(False)
        shutil.rmtree(str(trainer.args.output_dir), ignore_errors=True)
    return seconds, pd.Series([entry["loss"] for entry in trainer.state.log_history if "loss" in entry])


if __name__ == "__main__":
    main()
