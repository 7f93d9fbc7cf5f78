"""The weights of a model around a training: which get gradients, which are there at all, how far they have
come, and how they are brought back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from transformers import PreTrainedModel

from prefdyn.engine.likelihood import TokenPair
from prefdyn.engine.memory import copy_of, short, takes
from prefdyn.engine.states import TOKENS_PER_FORWARD
from prefdyn.models import LanguageModel


def distance(weights: Sequence[Tensor], start: Sequence[Tensor]) -> Tensor:
    """Euclidean, of all weights together, from where they began."""
    with torch.no_grad():
        parts = [
            full_tensor((now - then).float().square().sum()) for now, then in zip(weights, start, strict=True)
        ]
        return torch.stack(parts).sum().sqrt()


def full_tensor(value: Tensor) -> Tensor:
    """What was computed of a weight, brought together where several processes hold a part of it each."""
    return value.full_tensor() if isinstance(value, DTensor) else value


@contextmanager
def requiring_grad(weights: Sequence[nn.Parameter]) -> Iterator[None]:
    """While it lasts, these weights get gradients; afterwards they have none."""
    for weight in weights:
        weight.requires_grad_(True)
    try:
        yield
    finally:
        for weight in weights:
            weight.requires_grad_(False)
            weight.grad = None


@contextmanager
def vocabulary_of(
    model: PreTrainedModel, pairs: Sequence[TokenPair], active: bool
) -> Iterator[Callable[[TokenPair], TokenPair]]:
    """While it lasts, the embedding and unembedding hold only the rows of tokens that occur.

    It yields how pairs are then written. Exact where every answer is one token and its softmax cancels: no
    other row gets a gradient. Elsewhere (`active` is false) it changes nothing.
    """
    if not active:
        yield lambda pair: pair
        return
    used = sorted({token for pair in pairs for token in (*pair.prompt, *pair.chosen, *pair.rejected)})
    index = {token: row for row, token in enumerate(used)}
    rows = torch.tensor(used, device=model.device)
    embedding: Any = model.get_input_embeddings()
    unembedding: Any = model.get_output_embeddings()
    whole = (embedding.weight, unembedding.weight)
    padding = embedding.padding_idx
    small = nn.Parameter(whole[0].detach()[rows].clone())
    embedding.weight, embedding.padding_idx = small, index.get(padding) if padding is not None else None
    unembedding.weight = small if whole[1] is whole[0] else nn.Parameter(whole[1].detach()[rows].clone())
    try:
        yield lambda pair: pair.remapped(index)
    finally:
        with torch.no_grad():
            whole[0][rows] = embedding.weight
            if whole[1] is not whole[0]:
                whole[1][rows] = unembedding.weight
        embedding.weight, embedding.padding_idx, unembedding.weight = whole[0], padding, whole[1]


@contextmanager
def restoring(lm: LanguageModel) -> Iterator[None]:
    """Whatever training happens inside, the model has its old weights afterwards.

    Their copy is where the model is, or on the host where a GPU has no room for it beside a training.
    """
    weights = list(lm.model.parameters())
    # Beside it, training takes a gradient and two moments of each weight.
    on_host = short(lm, takes(lm, weights, 4, TOKENS_PER_FORWARD))
    before = [(weight, copy_of(weight, on_host)) for weight in weights]
    try:
        yield
    finally:
        with torch.no_grad():
            for weight, value in before:
                weight.copy_(value)
