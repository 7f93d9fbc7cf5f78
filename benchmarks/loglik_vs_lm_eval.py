"""Log-likelihoods of responses of HH-RLHF: prefdyn's token trees beside lm-evaluation-harness.

60 pairs drawn at random and 8 responses a batch for both, unless `--pairs` and `--batch` say otherwise;
prompts and responses as they are (none is cut). The harness is called as its users call it,
`HFLM.loglikelihood` on (prompt, response) requests; its text is tokenised within the timing, and so is ours.
The rows:

- float32: both in float32; `max_difference` is the largest difference of a response's summed log-likelihood,
  in nats.
- bfloat16: ours under bfloat16 autocast, the harness in float32.
- bfloat16 both: both under bfloat16 autocast.

`seconds_*` are medians of `--repeats` alternating runs; loading is not counted. Bfloat16 is worth a look only
where the device multiplies it natively. The other columns are as in `dpo_vs_trl.py`.
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
from prefdyn.engine.captured import Responses
from prefdyn.engine.likelihood import tokenize_responses
from prefdyn.models import LanguageModel, Precision

MAX_LENGTH = 2048


def main() -> None:
    parser = report.options(__doc__, device="auto", data="sample")
    parser.add_argument("--pairs", type=int, default=60)
    parser.add_argument("--batch", type=int, default=8, help="responses at once")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)

    lm = report.model(options)
    pairs = examples(options.data, options.pairs)
    harness = peer(lm, options.batch)
    wanted = report.precisions(lm, options)
    precisions: list[Precision] = sorted({one for both in wanted.values() for one in both})  # type: ignore[arg-type]
    peaks: dict[tuple[str, str], float] = {}
    seconds: dict[tuple[str, Precision], list[float]] = {
        (who, p): [] for who in ("ours", "peer") for p in precisions
    }
    values: dict[tuple[str, Precision], NDArray[np.float64]] = {}
    for repeat in range(options.repeats):
        for precision in precisions:
            for who, run in (
                ("ours", lambda p: ours(lm, pairs, p, options.batch)),
                ("peer", lambda p: theirs(lm, harness, pairs, p)),
            ):
                start = time.perf_counter()
                with report.Peak(lm.device) as peak:
                    values[who, precision] = run(precision)
                seconds[who, precision].append(time.perf_counter() - start)
                peaks[who, precision] = peak.gib
            took = {who: seconds[who, precision][-1] for who in ("ours", "peer")}
            print(
                f"repeat {repeat + 1}, {precision}: ours {took['ours']:.1f} s, lm-eval {took['peer']:.1f} s",
                file=sys.stderr,
                flush=True,
            )
    trees = [tokenize_responses(lm, pair.prompt, (pair.chosen, pair.rejected), MAX_LENGTH) for pair in pairs]
    tokens = sum(2 * len(prompt) + sum(map(len, tails)) for prompt, tails in trees)
    rows = []
    for name, (our_precision, peer_precision) in wanted.items():
        difference = float(np.abs(values["ours", our_precision] - values["peer", peer_precision]).max())
        took = seconds["peer", peer_precision], seconds["ours", our_precision]
        what = f"log-likelihoods of {2 * len(pairs)} responses of HH-RLHF, lm-evaluation-harness"
        unit = "nats, largest difference of a response"
        used = report.use(lm, our_precision, tokens, Responses(trees).size().tokens, took[1])
        memory = {"gib_peer": peaks["peer", peer_precision], "gib_ours": peaks["ours", our_precision]}
        rows.append(report.row(what, name, str(lm.device), *took, difference, unit, **used, **memory))
    report.show(rows, options.json)


def examples(source: str, count: int) -> list[Pair]:
    """Pairs drawn from those of the source of which both responses say something."""
    pairs = [pair for pair in data.load_pairs(source) if pair.chosen.strip() and pair.rejected.strip()]
    return [pairs[i] for i in np.random.default_rng(0).permutation(len(pairs))[:count]]


def ours(lm: LanguageModel, pairs: list[Pair], precision: Precision, batch: int) -> NDArray[np.float64]:
    """On a CPU in batches of as many responses as the peer's, sorted by length as it sorts; on a GPU in those
    that are chosen by themselves.
    """
    prompts, responses = [pair.prompt for pair in pairs], [(pair.chosen, pair.rejected) for pair in pairs]
    if lm.device.type != "cpu":
        return np.concatenate(
            [scores.total for scores in scoring.score(lm, prompts, responses, MAX_LENGTH, precision)]
        )
    out = np.empty((len(pairs), 2))
    order = np.argsort([len(pair.prompt + pair.chosen + pair.rejected) for pair in pairs])
    for part in np.split(order, range(batch // 2, len(order), batch // 2)):
        scored = scoring.score(
            lm,
            [prompts[i] for i in part],
            [responses[i] for i in part],
            MAX_LENGTH,
            precision,
            tokens_per_forward=batch * MAX_LENGTH,
        )
        out[part] = [likelihoods.total for likelihoods in scored]
    return out.ravel()


def peer(lm: LanguageModel, batch: int):  # type: ignore[no-untyped-def]
    from lm_eval.models.huggingface import HFLM

    return HFLM(pretrained=lm.model, tokenizer=lm.tokenizer, batch_size=batch, max_length=MAX_LENGTH)


def theirs(lm: LanguageModel, harness, pairs: list[Pair], precision: Precision) -> NDArray[np.float64]:  # type: ignore[no-untyped-def]
    from lm_eval.api.instance import Instance

    requests = [(pair.prompt, response) for pair in pairs for response in (pair.chosen, pair.rejected)]
    instances = [Instance("loglikelihood", {}, request, number) for number, request in enumerate(requests)]
    with lm.autocast(precision):
        return np.array([value for value, _ in harness.loglikelihood(instances, disable_tqdm=True)])


if __name__ == "__main__":
    main()
