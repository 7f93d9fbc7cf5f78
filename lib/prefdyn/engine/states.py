"""g(x): hidden states at the last prompt token, after the final norm, for many prompts at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import nn

from prefdyn.errors import PrefdynError
from prefdyn.models import LanguageModel
from prefdyn.models.token_trees import last_hidden_states, pack_sequences

TOKENS_PER_FORWARD = 4096
"""Tokens run at once where the caller names no other number; bounds the memory of activations."""


def by_length(lengths: Sequence[int], tokens: int) -> Iterator[NDArray[np.integer]]:
    """Indices of sequences, sorted by length and cut into parts of at most `tokens` tokens.

    A part holds at least one sequence.
    """
    order = np.argsort(lengths, kind="stable")
    ends = np.cumsum(np.asarray(lengths)[order])
    start = 0
    while start < len(order):
        taken = ends[start - 1] if start else 0
        stop = max(start + 1, int(np.searchsorted(ends, taken + tokens, side="right")))
        yield order[start:stop]
        start = stop


@contextmanager
def without_dropout(model: nn.Module) -> Iterator[None]:
    """Measurements are of the whole model, and draw no random numbers that the next step would have had."""
    dropping = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in dropping:
            module.training = True


def check_numbers(lm: LanguageModel, values: ArrayLike) -> None:
    """Stop where a model computes NaN or infinities.

    Raises:
        PrefdynError: it does.
    """
    if not np.isfinite(values).all():
        raise PrefdynError(
            f"the model {lm.name!r} computes what is no number (NaN or infinite): its weights are damaged, "
            "too large for float32, or were driven too far in training"
        )


@torch.no_grad()
def hidden_states(
    lm: LanguageModel, prompts: Sequence[str], tokens_per_forward: int = TOKENS_PER_FORWARD
) -> NDArray[np.float32]:
    """Hidden states g(x) at the last token of each prompt, float32, shape (n, d) (LD Section 4.1).

    They are what the unembedding multiplies. Each equals that of the prompt run by itself, whatever else is
    in the batch.

    Args:
        tokens_per_forward: run at once; bounds the memory of activations.

    Raises:
        PrefdynError: there are no prompts, one is empty, or some states are no numbers.
    """
    if not prompts:
        raise PrefdynError("there is nothing to take hidden states of: the list of prompts is empty")
    ids = lm.tokenizer(list(prompts))["input_ids"]
    if not all(ids):
        raise PrefdynError(f"prompt {ids.index([])} is empty: it has no last token, drop it")
    out = torch.empty(len(ids), lm.model.get_output_embeddings().weight.shape[1])
    for part in by_length([len(sequence) for sequence in ids], tokens_per_forward):
        trees = pack_sequences([ids[i] for i in part], lm.device)
        with lm.autocast("float32"), without_dropout(lm.model):
            out[torch.from_numpy(part)] = (
                lm.run(last_hidden_states, trees)[trees.last_of_branch()].float().cpu()
            )
    check_numbers(lm, out.numpy())
    return out.numpy()
