"""Log-likelihoods of 120 responses of HH-RLHF: prefdyn's token trees beside lm-evaluation-harness.

60 pairs drawn at random, 8 responses a batch for both, the default model, prompts and responses as they are
(none is cut). The harness is called as its users call it, `HFLM.loglikelihood` on (prompt, response)
requests; its text is tokenised within the timing, and so is ours. The rows:

- float32: both in float32; `max_difference` is the largest difference of a response's summed log-likelihood,
  in nats.
- bfloat16: ours under bfloat16 autocast, the harness in float32.
- bfloat16 both: both under bfloat16 autocast.

`seconds_*` are medians of `--repeats` alternating runs; loading is not counted. Bfloat16 is worth a look only
where the device multiplies it natively.
"""

from __future__ import annotations

import logging
import sys
import time
import warnings

import numpy as np
import report
from numpy.typing import NDArray

from prefdyn import data
from prefdyn.data import Pair
from prefdyn.engine import scoring
from prefdyn.models import LanguageModel, Precision, loading

PAIRS, RESPONSES_A_BATCH, MAX_LENGTH = 60, 8, 2048
ROWS: tuple[tuple[str, Precision, Precision], ...] = (
    ("float32", "float32", "float32"),
    ("bfloat16", "bfloat16", "float32"),
    ("bfloat16 both", "bfloat16", "bfloat16"),
)


def main() -> None:
    parser = report.options(__doc__, device="auto", data="sample")
    parser.add_argument("--float32-only", action="store_true", help="for a device without bfloat16")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)

    lm = loading.load(options.model, options.device)
    pairs = examples(options.data)
    harness = peer(lm)
    precisions: tuple[Precision, ...] = ("float32",) if options.float32_only else ("float32", "bfloat16")
    seconds: dict[tuple[str, Precision], list[float]] = {
        (who, p): [] for who in ("ours", "peer") for p in precisions
    }
    values: dict[tuple[str, Precision], NDArray[np.float64]] = {}
    for repeat in range(options.repeats):
        for precision in precisions:
            for who, run in (
                ("ours", lambda p: ours(lm, pairs, p)),
                ("peer", lambda p: theirs(lm, harness, pairs, p)),
            ):
                start = time.perf_counter()
                values[who, precision] = run(precision)
                seconds[who, precision].append(time.perf_counter() - start)
            took = {who: seconds[who, precision][-1] for who in ("ours", "peer")}
            print(
                f"repeat {repeat + 1}, {precision}: ours {took['ours']:.1f} s, lm-eval {took['peer']:.1f} s",
                file=sys.stderr,
                flush=True,
            )
    rows = []
    for name, our_precision, peer_precision in ROWS:
        if our_precision not in precisions:
            continue
        difference = float(np.abs(values["ours", our_precision] - values["peer", peer_precision]).max())
        took = seconds["peer", peer_precision], seconds["ours", our_precision]
        what = "log-likelihoods of 120 responses of HH-RLHF, lm-evaluation-harness"
        unit = "nats, largest difference of a response"
        rows.append(report.row(what, name, str(lm.device), *took, difference, unit))
    report.show(rows, options.json)


def examples(source: str) -> list[Pair]:
    """Pairs drawn from those of the source of which both responses say something."""
    pairs = [pair for pair in data.load_pairs(source) if pair.chosen.strip() and pair.rejected.strip()]
    if len(pairs) < PAIRS:
        raise SystemExit(f"the data holds fewer than {PAIRS} pairs")
    return [pairs[i] for i in np.random.default_rng(0).permutation(len(pairs))[:PAIRS]]


def ours(lm: LanguageModel, pairs: list[Pair], precision: Precision) -> NDArray[np.float64]:
    """Batches of as many responses as the peer's, sorted by length as it sorts."""
    out = np.empty((len(pairs), 2))
    order = np.argsort([len(pair.prompt + pair.chosen + pair.rejected) for pair in pairs])
    for part in np.split(order, range(RESPONSES_A_BATCH // 2, len(order), RESPONSES_A_BATCH // 2)):
        batch = [pairs[i] for i in part]
        scored = scoring.score(
            lm,
            [pair.prompt for pair in batch],
            [(pair.chosen, pair.rejected) for pair in batch],
            MAX_LENGTH,
            precision,
            tokens_per_forward=RESPONSES_A_BATCH * MAX_LENGTH,
        )
        out[part] = [likelihoods.total for likelihoods in scored]
    return out.ravel()


def peer(lm: LanguageModel):  # type: ignore[no-untyped-def]
    from lm_eval.models.huggingface import HFLM

    return HFLM(
        pretrained=lm.model, tokenizer=lm.tokenizer, batch_size=RESPONSES_A_BATCH, max_length=MAX_LENGTH
    )


def theirs(lm: LanguageModel, harness, pairs: list[Pair], precision: Precision) -> NDArray[np.float64]:  # type: ignore[no-untyped-def]
    from lm_eval.api.instance import Instance

    requests = [(pair.prompt, response) for pair in pairs for response in (pair.chosen, pair.rejected)]
    instances = [Instance("loglikelihood", {}, request, number) for number, request in enumerate(requests)]
    with lm.autocast(precision):
        return np.array([value for value, _ in harness.loglikelihood(instances, disable_tqdm=True)])


if __name__ == "__main__":
    main()
