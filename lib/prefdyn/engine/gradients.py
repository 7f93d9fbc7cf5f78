"""The gradient of what a model makes of preferences before any training, weight by weight."""

from __future__ import annotations

import re
from collections.abc import Sequence

import pandas as pd

from prefdyn.engine.likelihood import TokenPair, check_tokens, log_probs
from prefdyn.engine.states import TOKENS_PER_FORWARD, by_length, without_dropout
from prefdyn.engine.weights import full_tensor, requiring_grad
from prefdyn.errors import PrefdynError
from prefdyn.models import LanguageModel


def mean_log_ratio_gradient(lm: LanguageModel, pairs: Sequence[TokenPair]) -> pd.DataFrame:
    """Sizes of the gradient of the mean of log pi(y_w|x) / pi(y_l|x) over the pairs, in every layer.

    Before its first update DPO's gradient is this one, times -beta / 2. For the persona task it is
    E[s grad h] with h = log pi(Yes|x) / pi(No|x) and s the label: the counterpart, in all weights, of
    half of mu_+ - mu_-, which it is in the row of Yes of the unembedding alone; in that of No it is the
    opposite.

    Returns:
        One row a part of the model, in its order, with the columns part ("layer 0", ..., or a name for what
        is in no layer), squared (of the gradient's length) and absolute (the sum of its absolute values).

    Raises:
        PrefdynError: there are no pairs.
    """
    check_tokens(pairs)
    if not pairs:
        raise PrefdynError("there is nothing to take a gradient of: the list of preferences is empty")
    named = list(lm.model.named_parameters())
    with requiring_grad([weight for _, weight in named]), without_dropout(lm.model):
        add_mean_log_ratio_gradient(lm, pairs, TOKENS_PER_FORWARD)
        sizes = [
            (
                _part(name),
                full_tensor(weight.grad.square().sum()).item(),
                full_tensor(weight.grad.abs().sum()).item(),
            )
            for name, weight in named
            if weight.grad is not None
        ]
    table = pd.DataFrame(sizes, columns=["part", "squared", "absolute"])
    return table.groupby("part", sort=False).sum().reset_index()


def add_mean_log_ratio_gradient(
    lm: LanguageModel, pairs: Sequence[TokenPair], tokens_per_forward: int, factor: float = 1.0
) -> None:
    """Add to the weights' gradients that of the mean of log pi(y_w|x) / pi(y_l|x) over the pairs, times a
    factor.

    Args:
        tokens_per_forward: run at once, forward and back.
    """
    for part in by_length([pair.length for pair in pairs], tokens_per_forward * lm.processes):
        own = part[lm.process :: lm.processes]
        # A process without a share runs what another has, so that all keep step, and does not count it.
        ratios = lm.run(log_probs, [pairs[i] for i in (own if len(own) else part[:1])]).log_ratio
        (factor * ratios[: len(own)].sum() / len(pairs)).backward()


def _part(name: str) -> str:
    layer = re.search(r"\.(\d+)\.", name)
    if layer:
        return f"layer {layer[1]}"
    return name.removeprefix("model.").removesuffix(".weight")
