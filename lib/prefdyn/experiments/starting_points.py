"""What a model says of preferences before it trains on them, so that no other training need ask it again."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from prefdyn.engine import losses
from prefdyn.engine.likelihood import TokenPair
from prefdyn.engine.objectives import Content, Margins, Reference
from prefdyn.engine.training import Settings, batch_order
from prefdyn.experiments.phases import Phase, tokenized
from prefdyn.models import LanguageModel


def asked_of_reference(lm: LanguageModel, phase: Phase) -> dict[Content, TokenPair]:
    """The preferences of a phase's batches and of its splits, each once, in the order of `fine_tune`."""
    train = tokenized(lm, phase.train, phase.max_length)
    if not train:
        return {}
    strata = [(pair.group, pair.chosen) for pair in train]
    batches = batch_order(len(train), phase.settings, strata)
    pairs = [train[i] for batch in batches for i in batch]
    for part in phase.evaluate.values():
        pairs.extend(tokenized(lm, part, phase.max_length))
    return {(pair.prompt, pair.chosen, pair.rejected): pair for pair in pairs}


def measure(
    lm: LanguageModel, asked: dict[Content, TokenPair], settings: Settings, known: Reference
) -> NDArray[np.float32]:
    """Log-ratios and log-probabilities of the preferences under the model as it is, in nats, shape (n, 3).

    Args:
        known: what was measured of the model already; what is missing is added.

    Raises:
        PrefdynError: the model computes what is no number.
    """
    loss = losses.get(settings.loss, settings.smoothing)
    Margins(lm, list(asked.values()), loss, settings.beta, settings.gamma, known, settings.tokens_per_forward)
    return np.array([known[content] for content in asked], dtype=np.float32)
