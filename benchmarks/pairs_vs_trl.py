"""Training on response pairs of HH-RLHF: prefdyn's fast path beside TRL's DPOTrainer.

Both take the pairs in the same order, `--batch` a step, 4 steps of 4 unless it is said otherwise; full
fine-tuning. Both train on the same token ids, at most 512 of them, and all else is as `dpo_vs_trl.py` has it,
rows and columns, too. `--data sample` takes the embedded pairs, which are shorter.
"""

from __future__ import annotations

import warnings

import numpy as np
import report
from dpo_vs_trl import compare

from prefdyn import data
from prefdyn.engine import training
from prefdyn.engine.likelihood import tokenize_pairs


def main() -> None:
    parser = report.options(__doc__, device="auto", data="hub")
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--batch", type=int, default=4)
    options = parser.parse_args()
    warnings.simplefilter("ignore")

    lm = report.model(options)
    every = data.load_pairs(options.data)
    drawn = np.random.default_rng(0).permutation(len(every))[: options.steps * options.batch]
    pairs = tokenize_pairs(lm, [every[i] for i in drawn])
    settings = training.Settings(learning_rate=1e-6, steps=options.steps, batch_size=options.batch, beta=0.1)
    name = f"full fine-tuning with DPO, {len(pairs)} response pairs, TRL"
    rows = compare(name, lm, pairs, settings, options.repeats, report.precisions(lm, options))
    report.show(rows, options.json)


if __name__ == "__main__":
    main()
