"""Log-probabilities of a reference as a table: measured once, kept in a file, read by TRL as well."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from prefdyn.data import Pair
from prefdyn.engine.likelihood import TokenPair, tokenize_pairs
from prefdyn.engine.objectives import Reference, add_to_reference, reference_log_probs
from prefdyn.errors import PrefdynError
from prefdyn.models import LanguageModel

REFERENCE_COLUMNS = ["prompt", "chosen", "rejected", "ref_chosen_logps", "ref_rejected_logps"]
"""Of a reference as a table: the texts, and the log-probabilities of both responses in nats."""


def reference_table(lm: LanguageModel, pairs: Sequence[Pair]) -> pd.DataFrame:
    """Pairs with what the model as it is says of them, in the columns that TRL's DPOTrainer reads.

    As TRL has it, each response ends with the tokenizer's end-of-sequence token, which is added where it is
    missing. Nothing is cut, so TRL's `max_length` must hold the longest pair. `to_json(path,
    orient="records", lines=True)` or `to_parquet(path)` keeps the table, and `datasets` reads either.

    Returns:
        A row a pair, in the order given; its columns are `REFERENCE_COLUMNS`.

    Raises:
        PrefdynError: a prompt is empty, or the tokenizer has no end-of-sequence token.
    """
    end = lm.tokenizer.eos_token
    if end is None:
        raise PrefdynError(
            f"the tokenizer of {lm.name!r} has no end-of-sequence token, which TRL puts after each response: "
            "set its eos_token"
        )
    texts = [
        (pair.prompt, pair.chosen.removesuffix(end) + end, pair.rejected.removesuffix(end) + end)
        for pair in pairs
    ]
    measured = reference_log_probs(lm, _tokens(lm, texts), normalised=True)
    table = pd.DataFrame(texts, columns=REFERENCE_COLUMNS[:3])
    return table.assign(
        ref_chosen_logps=measured.chosen.double().cpu().numpy(),
        ref_rejected_logps=measured.rejected.double().cpu().numpy(),
    )


def reference_of(lm: LanguageModel, table: pd.DataFrame) -> Reference:
    """What such a table says, made by `reference_table` or by TRL, as `fine_tune` takes it.

    It speaks of the texts as they stand in the table, with their end-of-sequence tokens.

    Args:
        lm: whose tokenizer reads the texts.

    Raises:
        PrefdynError: a column is missing, or a text or a number in it is.
    """
    missing = [name for name in REFERENCE_COLUMNS if name not in table]
    if missing:
        raise PrefdynError(f"the table of a reference lacks {', '.join(missing)}: make it by reference_table")
    rows = table[REFERENCE_COLUMNS]
    holes = rows.isna().any(axis=1)
    if holes.any():
        raise PrefdynError(f"row {holes.argmax()} of the table of a reference has a hole: drop it")
    known: Reference = {}
    pairs = _tokens(lm, list(rows[REFERENCE_COLUMNS[:3]].itertuples(index=False, name=None)))
    numbers = rows[REFERENCE_COLUMNS[3:]].astype(float).itertuples(index=False, name=None)
    for pair, (chosen, rejected) in zip(pairs, numbers, strict=True):
        add_to_reference(known, pair, chosen - rejected, chosen, rejected)
    return known


def _tokens(lm: LanguageModel, texts: Sequence[tuple[str, str, str]]) -> list[TokenPair]:
    return tokenize_pairs(lm, [Pair(*text) for text in texts], max_length=2**31)
