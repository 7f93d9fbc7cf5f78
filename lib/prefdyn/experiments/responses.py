"""Longer responses, token by token, and other losses than DPO's (chapter 2)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
import pandas as pd

from prefdyn import data
from prefdyn.cache import cached
from prefdyn.data import Pair
from prefdyn.experiments import flows, moved_tokens, token_rates
from prefdyn.experiments.bench import Bench
from prefdyn.experiments.generalization import BETA, Design, states

LOSS_PERSONAS = 4
"""Personas on whose statements losses are compared."""
LOSS_STATEMENTS = 40
"""Statements of each label and persona, where losses are compared."""


def tokens(bench: Bench, design: Design) -> dict[str, pd.DataFrame]:
    """The rate of every token's reward, by Eq. 16 and by autograd, as the unembedding learns short pairs.

    Tables:
        tokens: a row a token before training: `pair`, its number; `response`, chosen or rejected;
            `probability` under the model; `rate`, tau dr/dt by autograd; `rate by the factors`, by Eq. 16
            corrected; `rate as printed`, in the paper; `relative error` of the corrected one.
        factors: means over the tokens of chosen and of rejected responses: `step`; `response`;
            `co_occurrence`, `probability`, `distribution`, the factors of tau dr/dt, and `total`, their sum;
            `mean margin`, over pairs; `token reward`.
        places: one row: `pairs`, `tokens`, how many; `median cosine` of the states of two tokens.
    """
    picked = _short(bench.pairs(0))[: 4 * design.pairs_decomposed : 4][: design.pairs_decomposed]
    how = (design.token_beta, design.token_rate, design.token_steps)
    key = {"data": data.fingerprint(picked), "how": how}
    found = bench.measure("token rates", key, token_rates.measure, picked, *how)
    places = {"pairs": len(picked), "tokens": len(found.tokens), "median cosine": found.cosine}
    return {"tokens": found.tokens, "factors": found.factors, "places": pd.DataFrame([places])}


def _short(pairs: Sequence[Pair]) -> list[Pair]:
    """Response pairs from the shortest."""
    return sorted(pairs, key=lambda pair: len(pair.chosen) + len(pair.rejected))


def moved(bench: Bench, design: Design) -> pd.DataFrame:
    """One step of gradient descent on short pairs with all weights free, beside what Eq. 16 says of it with
    the states held still.

    One row a token.

    Columns:
        pair: its number.
        response: chosen or rejected.
        rate: tau dr/dt of the token's reward by Eq. 16 corrected.
        moved: its measured change over the learning rate.
    """
    picked = _short(bench.pairs(0))[: design.moved_pairs]
    key = {"data": data.fingerprint(picked), "beta": design.token_beta}
    return bench.measure("moved tokens", key, moved_tokens.measure, picked, design.token_beta)


def losses(bench: Bench, design: Design) -> dict[str, pd.DataFrame]:
    """Margins of statements of four personas under four losses, training the unembedding alone.

    Tables:
        losses: at the end: `loss`; `median margin`, `5%`, `95%`, over statements; `not positive`, the share
            of margins.
        loss_curves: `loss`; `time`, in units in which the mean margin would reach 1 under DPO at its initial
            speed; `lowest`, `5%`, `median`, `95%`, `highest`, over statements.
    """
    rng, everyone = np.random.default_rng(bench.seed), states(bench, design)
    parts = []
    for number in rng.choice(len(everyone), min(LOSS_PERSONAS, len(everyone)), replace=False):
        of = everyone[number]
        index = of.drawn(LOSS_STATEMENTS, LOSS_STATEMENTS, rng)
        parts.append((of.train[index], of.train_labels[index]))
    g, s = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    key = {"features": g, "labels": s, "answers": bench.answer_difference, "beta": BETA}
    times, by_loss = cached(
        "margins by loss",
        key,
        flows.margins_by_loss,
        partial(flows.margins_by_loss, g, s, bench.answer_difference, BETA),
    )
    ends, paths = [], []
    for name, margins in by_loss.items():
        low, middle, high = np.percentile(margins[-1], [5, 50, 95])
        wrong = (margins[-1] <= 0).mean()
        ends.append({"loss": name, "median margin": middle, "5%": low, "95%": high, "not positive": wrong})
        spread = flows.spread_of(margins)
        paths.append(spread.assign(loss=name, time=times)[["loss", "time", *spread.columns]])
    return {"losses": pd.DataFrame(ends), "loss_curves": pd.concat(paths)}
