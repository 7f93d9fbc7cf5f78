"""What training does where memory is short: activations made twice, a copy of the weights on the host."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer

from prefdyn.models import LanguageModel
from prefdyn.models.devices import free_memory
from prefdyn.models.token_trees import attending_again

ACTIVATION_BYTES = 100
"""Kept for backward of each token, layer and number of the hidden width."""


def takes(lm: LanguageModel, trainable: Sequence[Tensor], numbers: int, tokens: int) -> float:
    """Bytes that training takes beyond the weights.

    Args:
        numbers: kept of each weight that trains: its gradient, its moments.
        tokens: run at once.
    """
    config = lm.model.config.get_text_config()
    activations = ACTIVATION_BYTES * tokens * config.hidden_size * config.num_hidden_layers
    return 4.0 * numbers * sum(weight.numel() for weight in trainable) + activations


def short(lm: LanguageModel, bytes: float) -> bool:
    """Whether the model is on a GPU that has not so many bytes free; a CPU's memory is checked by plans."""
    return lm.device.type == "cuda" and free_memory(lm.device) < bytes


@contextmanager
def recomputing(model: PreTrainedModel, active: bool) -> Iterator[None]:
    """While it lasts, of each layer only what it reads is kept, and backward makes its activations again.

    transformers does that in training mode, which is switched on for the layers themselves and not for what
    is in them, so that there is still no dropout.
    """
    layers: list[Any] = [
        layer for layer in model.modules() if active and isinstance(layer, GradientCheckpointingLayer)
    ]
    for layer in layers:
        layer.gradient_checkpointing = layer.training = True
        layer._gradient_checkpointing_func = functools.partial(
            checkpoint, use_reentrant=False, context_fn=attending_again
        )
    try:
        yield
    finally:
        for layer in layers:
            layer.gradient_checkpointing = layer.training = False


def copy_of(weight: nn.Parameter, on_host: bool) -> Tensor:
    """A weight's value now, in the host's pinned memory if it shall be there."""
    if not on_host:
        return weight.detach().clone()
    return torch.empty_like(weight, device="cpu", pin_memory=True).copy_(weight.detach())
