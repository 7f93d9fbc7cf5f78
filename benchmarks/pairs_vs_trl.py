"""Training on 16 response pairs of HH-RLHF: prefdyn's fast path beside TRL's DPOTrainer.

Both take the pairs in the same order. Batch 4, one epoch, the default model, full fine-tuning. Both train on
the same token ids, at most 512 of them (TRL's end-of-sequence token is left out of both), and neither
shuffles further. TRL runs without gradient checkpointing, which is faster than its default. `--data sample`
takes the embedded pairs, which are shorter. The rows:

- float32: both in float32; `max_difference` is the largest difference of the two losses at any step, in nats.
- bfloat16: ours under bfloat16 autocast, TRL in float32.
- bfloat16 both: both under bfloat16 autocast.

`seconds_*` are medians of `--repeats` alternating runs of the training itself, with the reference's
log-probabilities; loading is not counted.
"""

from __future__ import annotations

import warnings

import numpy as np
import report
from dpo_vs_trl import compare

from prefdyn import data
from prefdyn.engine import training
from prefdyn.engine.likelihood import tokenize_pairs
from prefdyn.models import loading

PAIRS, BATCH = 16, 4


def main() -> None:
    options = report.options(__doc__, device="auto", data="hub").parse_args()
    warnings.simplefilter("ignore")

    lm = loading.load(options.model, options.device)
    every = data.load_pairs(options.data)
    pairs = tokenize_pairs(lm, [every[i] for i in np.random.default_rng(0).permutation(len(every))[:PAIRS]])
    settings = training.Settings(learning_rate=1e-6, steps=PAIRS // BATCH, batch_size=BATCH, beta=0.1)
    name = f"full fine-tuning with DPO, {PAIRS} response pairs, TRL"
    rows = compare(name, lm, pairs, settings, options.repeats)
    report.show(rows, options.json)


if __name__ == "__main__":
    main()
