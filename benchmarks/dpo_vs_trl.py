"""Full fine-tuning with DPO on personas: prefdyn's fast path beside TRL's DPOTrainer.

The same examples in the same order for both, 32 a step, 160 in all unless `--steps` says otherwise. Both
train on the same token ids (TRL's end-of-sequence token is left out of both) and neither shuffles further.
TRL runs as one would have it who wants it fast: without gradient checkpointing, and with the reference's
log-probabilities precomputed. The rows:

- float32: both in float32; `max_difference` is the largest difference of the two losses at any step, in nats.
- bfloat16: ours under bfloat16 autocast, TRL in float32.
- bfloat16 both: both under bfloat16 autocast.

The last two are left out where the device does not multiply bfloat16 natively, unless `--rows` names them.

`seconds_*` are medians of `--repeats` alternating runs of the training itself with the reference's
log-probabilities; loading is not counted. `tokens_per_second` counts a prompt with each of its responses, and
the reference's pass; `matrix_product_share` is that of our layers in what a plain matrix product reaches;
`gib_*` is the most memory that a run took on a GPU.
"""

from __future__ import annotations

import contextlib
import io
import shutil
import sys
import time
import warnings
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import datasets
import pandas as pd
import report
import trl_engine

from prefdyn import data
from prefdyn.engine import training, weights
from prefdyn.engine.captured import Answers, Responses
from prefdyn.engine.likelihood import TokenPair, as_trees, tokenize_persona
from prefdyn.models import loading

BATCH, EXAMPLES = 32, 160


def main() -> None:
    parser = report.options(__doc__, device="auto", data="sample")
    parser.add_argument("--steps", type=int, default=EXAMPLES // BATCH)
    options = parser.parse_args()
    warnings.simplefilter("ignore")

    lm = report.model(options)
    settings = training.Settings(learning_rate=1e-5, steps=options.steps, batch_size=BATCH, beta=0.1)
    pairs = examples(lm, options.data, BATCH * options.steps)
    name = f"full fine-tuning with DPO, {len(pairs)} persona examples, TRL"
    rows = compare(name, lm, pairs, settings, options.repeats, report.precisions(lm, options))
    report.show(rows, options.json)


def compare(
    name: str,
    lm: loading.LanguageModel,
    pairs: list[TokenPair],
    settings: training.Settings,
    repeats: int,
    wanted: dict[str, tuple[str, str]],
) -> list[dict[str, Any]]:
    """Both engines in the precisions that the rows want, alternating; a row for each."""
    seconds: dict[tuple[str, str], list[float]] = {}
    losses: dict[tuple[str, str], pd.Series] = {}
    peaks: dict[tuple[str, str], float] = {}
    needed = [("ours", ours) for ours, _ in wanted.values()] + [("peer", peer) for _, peer in wanted.values()]
    for repeat in range(repeats):
        for who, precision in sorted(set(needed), key=lambda pair: (pair[1], pair[0])):
            run = timed_ours if who == "ours" else timed_peer
            with report.Peak(lm.device) as peak:
                took, losses[who, precision] = run(replace(lm, precision=precision), pairs, settings)
            peaks[who, precision] = peak.gib
            seconds.setdefault((who, precision), []).append(took)
            print(f"repeat {repeat + 1}, {precision}, {who}: {took:.2f} s", file=sys.stderr, flush=True)
    tokens, distinct = tokens_of(pairs, settings)
    rows = []
    for label, (ours, peer) in wanted.items():
        took = seconds["peer", peer], seconds["ours", ours]
        used = report.use(lm, ours, tokens, distinct, took[1])
        memory = {"gib_peer": peaks["peer", peer], "gib_ours": peaks["ours", ours]}
        difference = float((losses["ours", ours] - losses["peer", peer]).abs().max())
        unit = "nats, largest loss difference at a step"
        rows.append(report.row(name, label, str(lm.device), *took, difference, unit, **used, **memory))
    return rows


def tokens_of(pairs: list[TokenPair], settings: training.Settings) -> tuple[int, int]:
    """Tokens that a peer runs, and tokens times passes that our layers run: the reference's one of what is
    drawn, and three of each step.
    """
    batches = [[pairs[i] for i in batch] for batch in training.batch_order(len(pairs), settings)]
    drawn = list({id(pair): pair for batch in batches for pair in batch}.values())

    def plain(some: list[TokenPair]) -> int:
        return sum(2 * len(pair.prompt) + len(pair.chosen) + len(pair.rejected) for pair in some)

    def ours(some: list[TokenPair]) -> int:
        alone = all(pair.one_token for pair in some)
        return (Answers(some) if alone else Responses(as_trees(some))).size().tokens

    return (
        plain(drawn) + sum(map(plain, batches)),
        ours(drawn) + 3 * sum(map(ours, batches)),
    )


def examples(lm: loading.LanguageModel, source: str, count: int) -> list[TokenPair]:
    """Examples of the source's first personas: so many, or all if there are fewer."""
    pairs: list[TokenPair] = []
    for name in data.persona_names(source):
        if len(pairs) < count:
            pairs += [
                replace(pair, group="all") for pair in tokenize_persona(lm, data.load_persona(name, source))
            ]
    if len(pairs) < min(count, EXAMPLES):
        raise SystemExit(f"the data holds fewer than {EXAMPLES} statements")
    return pairs[:count]


def timed_ours(
    lm: loading.LanguageModel, pairs: list[TokenPair], settings: training.Settings
) -> tuple[float, pd.Series]:
    with weights.restoring(lm):
        start = time.perf_counter()
        record = training.fine_tune(lm, pairs, settings)
        return time.perf_counter() - start, record["loss"]


def timed_peer(
    lm: loading.LanguageModel, pairs: list[TokenPair], settings: training.Settings
) -> tuple[float, pd.Series]:
    with weights.restoring(lm), contextlib.redirect_stdout(io.StringIO()), precomputing() as reference:
        trainer = trl_engine.trainer(
            lm, pairs, settings, gradient_checkpointing=False, precompute_ref_log_probs=True
        )
        start = time.perf_counter()
        trainer.train()
        seconds = time.perf_counter() - start + reference[0]
        lm.model.__dict__.pop("forward", None)
        lm.model.eval().requires_grad_(False)
        shutil.rmtree(str(trainer.args.output_dir), ignore_errors=True)
    return seconds, pd.Series([entry["loss"] for entry in trainer.state.log_history if "loss" in entry])


@contextlib.contextmanager
def precomputing() -> Iterator[list[float]]:
    """While it lasts, TRL keeps no reference in a file, and the seconds that it takes for it add up."""
    from trl import DPOTrainer

    measure, taken = DPOTrainer._precompute_ref_logps, [0.0]

    def timed(self, *args):  # type: ignore[no-untyped-def]
        start = time.perf_counter()
        out = measure(self, *args)
        taken[0] += time.perf_counter() - start
        return out

    DPOTrainer._precompute_ref_logps = timed
    datasets.disable_caching()
    try:
        yield taken
    finally:
        DPOTrainer._precompute_ref_logps = measure
        datasets.enable_caching()


if __name__ == "__main__":
    main()
