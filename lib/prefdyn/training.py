"""Preference training on one device, and the record that every run leaves.

What makes it fast is the maths: token trees instead of padding and repeats (`packing`), two rows of W for one-token answers
(`likelihood`), the reference computed once, and an embedding table cut to the tokens that occur, since a row that never gets a
gradient never moves under an optimizer without weight decay. Weights stay float32 (at a learning rate of 1e-5 an update vanishes
in bfloat16 weights) and autocast does the matrix products in bfloat16.
"""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import PreTrainedModel

from prefdyn import losses
from prefdyn.errors import PrefdynError
from prefdyn.features import by_length, without_dropout
from prefdyn.likelihood import LogProbs, TokenPair, log_probs
from prefdyn.models import LanguageModel

RECORD = ["step", "split", "group", "n", "loss", "margin", "accuracy", "ranking_accuracy", "logp_chosen", "logp_rejected", "distance"]
"""Columns of a record: one row a step, split and group. A row at step t is measured before update t.

loss: mean f(r). margin: mean r. accuracy: share with r > 0 (one minus the population risk). ranking_accuracy: share with
pi(y_w|x) >= pi(y_l|x). logp_*: mean log-probabilities in nats, NaN for one-token answers. distance: ||theta_t - theta_0||, where
it was asked for. n: preferences behind the means.
"""


@dataclass(frozen=True)
class Settings:
    """How to train.

    Attributes:
        loss, smoothing: as in `losses.get`.
        beta: the strength of the pull to the reference.
        learning_rate: constant over the run.
        steps: number of updates.
        batch_size: preferences an update.
        optimizer: AdamW without weight decay, RMSProp (alpha 0.99) or plain SGD.
        seed: of the order of the data (and of LoRA's matrices and dropout).
        track_distance: record ||theta_t - theta_0|| where the run is evaluated; costs one copy of the weights.
        tokens_per_forward: a batch with more tokens is run in parts whose gradients add up.
    """

    learning_rate: float
    steps: int
    batch_size: int
    beta: float
    loss: str = "dpo"
    smoothing: float | None = None
    optimizer: Literal["adamw", "rmsprop", "sgd"] = "adamw"
    seed: int = 0
    track_distance: bool = False
    tokens_per_forward: int = 4096

    def __post_init__(self) -> None:
        for name in ("learning_rate", "beta", "steps", "batch_size", "tokens_per_forward"):
            if not getattr(self, name) > 0:
                raise PrefdynError(f"{name} is {getattr(self, name)}: it must be above 0")
        if self.optimizer not in ("adamw", "rmsprop", "sgd"):
            raise PrefdynError(f"the optimizer {self.optimizer!r} is unknown: choose adamw, rmsprop or sgd")
        losses.get(self.loss, self.smoothing)

    def describe(self) -> dict[str, Any]:
        return asdict(self)


def batch_order(examples: int, settings: Settings) -> list[NDArray[np.integer]]:
    """The examples of every step: epochs shuffled by the seed, one after another, cut into batches that are all full.

    A batch is never larger than the data.
    """
    rng = np.random.default_rng(settings.seed)
    size = min(settings.batch_size, examples)
    epochs = -(-settings.steps * size // examples)
    stream = np.concatenate([rng.permutation(examples) for _ in range(epochs)])
    return [stream[start : start + size] for start in range(0, settings.steps * size, size)]


Reference = dict[TokenPair, tuple[float, float, float]]
"""The `LogProbs` of pairs under a reference. Whoever trains several times from one model passes one, and each pair is run once."""


@torch.no_grad()
def reference_log_probs(lm: LanguageModel, pairs: Sequence[TokenPair], tokens_per_forward: int = 4096) -> LogProbs:
    """Log-probabilities of the pairs under the model as it is, in the order given: what the reference contributes to a margin."""
    out = torch.empty(3, len(pairs), device=lm.device)
    for part in by_length([pair.length for pair in pairs], tokens_per_forward):
        with lm.autocast(), without_dropout(lm.model):
            out[:, torch.from_numpy(part).to(lm.device)] = torch.stack(log_probs(lm.model, [pairs[i] for i in part]))
    return LogProbs(*out)


def fine_tune(
    lm: LanguageModel,
    train: Sequence[TokenPair],
    settings: Settings,
    evaluate: Mapping[str, Sequence[TokenPair]] | None = None,
    evaluate_at: Sequence[int] = (),
    reference: Reference | None = None,
) -> pd.DataFrame:
    """Train all weights (or the adapters that `lora` put in) on the preferences; the model is changed in place.

    The model as it comes in is the reference.

    Args:
        evaluate: further preferences by the name of their split, measured at the steps of `evaluate_at` (0 is before training,
            `settings.steps` after it).
        reference: what is known of the model as it comes in; what is missing is added.

    Returns:
        The record; its columns are `RECORD`. The split "train" is measured on each step's own batch.
    """
    if not train:
        raise PrefdynError("there is nothing to train on: the list of preferences is empty")
    _keep_freed_memory()
    splits = {name: list(pairs) for name, pairs in (evaluate or {}).items()}
    batches = [[train[i] for i in batch] for batch in batch_order(len(train), settings)]
    needed = [pair for pairs in (*batches, *splits.values()) for pair in pairs]
    reference = {} if reference is None else reference
    _add_missing(reference, lm, needed, settings.tokens_per_forward)
    adapters = [weight for name, weight in lm.model.named_parameters() if "lora_" in name]
    with _vocabulary_of(lm.model, needed, active=not adapters) as renamed:
        trainable = adapters or list(lm.model.parameters())
        with _requiring_grad(trainable):
            return _run(lm, batches, settings, splits, set(evaluate_at), reference, renamed, trainable)


def _run(
    lm: LanguageModel,
    batches: list[list[TokenPair]],
    settings: Settings,
    splits: Mapping[str, list[TokenPair]],
    evaluate_at: set[int],
    reference: Reference,
    renamed: Callable[[TokenPair], TokenPair],
    trainable: list[nn.Parameter],
) -> pd.DataFrame:
    loss = losses.get(settings.loss, settings.smoothing)
    start = [weight.detach().clone() for weight in trainable] if settings.track_distance else None
    optimizer = _optimizer(trainable, settings)
    recorder = _Recorder(loss)

    def margin(now: LogProbs, pairs: list[TokenPair]) -> Tensor:
        return losses.reward_margin(now.log_ratio, _known(reference, pairs, lm.device).log_ratio, settings.beta)

    def measure(step: int) -> None:
        if step not in evaluate_at:
            return
        if start is not None:
            recorder.distance[step] = _distance(trainable, start)
        for name, pairs in splits.items():
            if step == 0:
                now = _known(reference, pairs, lm.device)
            else:
                now = reference_log_probs(lm, [renamed(pair) for pair in pairs], settings.tokens_per_forward)
            recorder.add(step, name, pairs, margin(now, pairs), now)

    for step, batch in enumerate(batches):
        measure(step)
        for part in by_length([pair.length for pair in batch], settings.tokens_per_forward):
            pairs = [batch[i] for i in part]
            with lm.autocast():
                now = log_probs(lm.model, [renamed(pair) for pair in pairs])
            margins = margin(now, pairs)
            (loss.value(margins).sum() / len(batch)).backward()
            recorder.add(step, "train", pairs, margins, now)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    measure(settings.steps)
    return recorder.frame()


def _add_missing(reference: Reference, lm: LanguageModel, pairs: Sequence[TokenPair], tokens_per_forward: int) -> None:
    """Measure the pairs that a reference lacks; what is known of a pair tells of its flipped one too."""
    missing = [pair for pair in dict.fromkeys(pairs) if pair not in reference]
    if not missing:
        return
    for pair, (ratio, chosen, rejected) in zip(
        missing, torch.stack(reference_log_probs(lm, missing, tokens_per_forward), dim=1).tolist(), strict=True
    ):
        reference[pair] = (ratio, chosen, rejected)
        reference[pair.flipped()] = (-ratio, rejected, chosen)


def _known(reference: Reference, pairs: Sequence[TokenPair], device: torch.device) -> LogProbs:
    return LogProbs(*torch.tensor([reference[pair] for pair in pairs]).T.to(device, non_blocking=True))


def _keep_freed_memory() -> None:
    """Have glibc keep what a step frees for the next step: handed back, every gradient would be mapped and zeroed again.

    A sixth of a step's time on a CPU. Elsewhere there is no such call, and nothing happens.
    """
    with contextlib.suppress(OSError, AttributeError):
        libc = ctypes.CDLL("libc.so.6")
        trim_threshold, mmap_threshold = -1, -3
        libc.mallopt(trim_threshold, 2**31 - 1)
        libc.mallopt(mmap_threshold, 2**25)


class _Recorder:
    """Keeps what a run measures on its device until the end, so that no step waits for a copy to the host."""

    def __init__(self, loss: losses.Loss) -> None:
        self.loss = loss
        self.labels: list[tuple[int, str, str]] = []
        self.values: list[Tensor] = []
        self.distance: dict[int, Tensor] = {}

    def add(self, step: int, split: str, pairs: Sequence[TokenPair], margins: Tensor, now: LogProbs) -> None:
        self.labels.extend((step, split, pair.group) for pair in pairs)
        r = margins.detach()
        ratio, chosen, rejected = (part.detach() for part in now)
        self.values.append(torch.stack([self.loss.value(r), r, (r > 0).float(), (ratio >= 0).float(), chosen, rejected], dim=1))

    def frame(self) -> pd.DataFrame:
        frame = pd.DataFrame(self.labels, columns=RECORD[:3])
        frame[RECORD[4:10]] = torch.cat(self.values).double().cpu().numpy()
        grouped = frame.groupby(RECORD[:3], sort=True)
        record = grouped.mean().join(grouped.size().rename("n")).reset_index()
        record["distance"] = record["step"].map({step: float(value) for step, value in self.distance.items()}).astype(float)
        return record[RECORD]


def _optimizer(weights: list[nn.Parameter], settings: Settings) -> torch.optim.Optimizer:
    if settings.optimizer == "adamw":
        fused = weights[0].device.type in ("cuda", "cpu")
        return torch.optim.AdamW(weights, lr=settings.learning_rate, weight_decay=0.0, fused=fused)
    if settings.optimizer == "rmsprop":
        return torch.optim.RMSprop(weights, lr=settings.learning_rate, alpha=0.99)
    return torch.optim.SGD(weights, lr=settings.learning_rate)


def _distance(weights: Sequence[Tensor], start: Sequence[Tensor]) -> Tensor:
    with torch.no_grad():
        return torch.stack([(now - then).float().square().sum() for now, then in zip(weights, start, strict=True)]).sum().sqrt()


@contextmanager
def _requiring_grad(weights: Sequence[nn.Parameter]) -> Iterator[None]:
    for weight in weights:
        weight.requires_grad_(True)
    try:
        yield
    finally:
        for weight in weights:
            weight.requires_grad_(False)
            weight.grad = None


@contextmanager
def _vocabulary_of(model: PreTrainedModel, pairs: Sequence[TokenPair], active: bool) -> Iterator[Callable[[TokenPair], TokenPair]]:
    """While it lasts, the embedding and unembedding hold only the rows of tokens that occur; yields how pairs are then written.

    Exact where every answer is one token: no other row gets a gradient. Changes nothing for longer responses, whose softmax needs
    every row of W.
    """
    if not active or not all(pair.one_token for pair in pairs):
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
    """Whatever training happens inside, the model has its old weights afterwards."""
    before = [(weight, weight.detach().clone()) for weight in lm.model.parameters()]
    try:
        yield
    finally:
        with torch.no_grad():
            for weight, value in before:
                weight.copy_(value)
