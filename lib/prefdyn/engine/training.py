"""Preference training on one device, and the record that every run leaves.

What makes it fast is the maths: token trees instead of padding and repeats (`models.token_trees`), two rows
of W for one-token answers (`likelihood`), the reference computed once, and an embedding table cut to the
tokens that occur, since a row that never gets a gradient never moves under an optimizer without weight
decay. Weights stay float32 (at a learning rate of 1e-5 an update vanishes in bfloat16 weights) and autocast
does the matrix products in bfloat16.
"""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from prefdyn.engine import losses
from prefdyn.engine.captured import Passes
from prefdyn.engine.likelihood import TokenPair, check_tokens
from prefdyn.engine.memory import recomputing, short, takes
from prefdyn.engine.objectives import SFT, Margins, Measured, Reference, Supervised, reference_log_probs
from prefdyn.engine.states import TOKENS_PER_FORWARD, by_length
from prefdyn.engine.steps import ReplayedSteps, worth_replaying
from prefdyn.engine.weights import distance, requiring_grad, vocabulary_of
from prefdyn.errors import PrefdynError
from prefdyn.models import LanguageModel

RECORD = [
    "step",
    "split",
    "group",
    "n",
    "loss",
    "margin",
    "accuracy",
    "ranking_accuracy",
    "logp_chosen",
    "logp_rejected",
    "distance",
]
"""Columns of a record: one row a step, split and group. A row at step t is measured before update t.

loss: mean f(r); for sft mean negative log-probability a token, in nats. margin: mean r. accuracy: share with
r > 0 (one minus the population risk). ranking_accuracy: share with pi(y_w|x) >= pi(y_l|x). logp_*: mean
log-probabilities in nats, NaN for one-token answers. distance: ||theta_t - theta_0||, where it was asked for.
n: preferences behind the means. At step 0 the model is its own reference, so with gamma 1 every margin is 0,
and none above 0. What a run does not compute is NaN: margins and accuracy under sft, which has
no reference, and what needs the rejected responses on its training batches.
"""


@dataclass(frozen=True)
class Settings:
    """How to train.

    Attributes:
        loss, smoothing: as in `losses.get`: a name or a `Loss`; or "sft" for supervised fine-tuning on the
            chosen responses.
        beta: the strength of the pull to the reference; sft has none and takes none.
        gamma: what the reference's log-ratio is multiplied by (RA Eq. 4); 1 is DPO.
        learning_rate: constant over the run.
        steps: number of updates.
        batch_size: preferences an update.
        optimizer: AdamW without weight decay, RMSProp (alpha 0.99) or plain SGD.
        seed: of the order of the data (and of LoRA's matrices and dropout).
        balanced: whether each answer of each group has its share in every batch, as near as that can be;
            else batches are what a shuffle makes them.
        track_distance: record ||theta_t - theta_0|| where the run is evaluated; costs one copy of the
            weights.
        tokens_per_forward: a batch with more tokens is run in parts whose gradients add up.
    """

    learning_rate: float
    steps: int
    batch_size: int
    beta: float = 0.0
    gamma: float = 1.0
    loss: str | losses.Loss = "dpo"
    smoothing: float | None = None
    optimizer: Literal["adamw", "rmsprop", "sgd"] = "adamw"
    seed: int = 0
    balanced: bool = False
    track_distance: bool = False
    tokens_per_forward: int = TOKENS_PER_FORWARD

    def __post_init__(self) -> None:
        positive = ["learning_rate", "steps", "batch_size", "tokens_per_forward"]
        if self.loss == SFT:
            if self.beta or self.smoothing is not None or self.gamma != 1:
                raise PrefdynError(
                    "supervised fine-tuning takes no beta, gamma or label smoothing: "
                    "it has no reference and no margin"
                )
        else:
            losses.get(self.loss, self.smoothing)
            positive.append("beta")
        if not self.gamma >= 0:
            raise PrefdynError(f"gamma is {self.gamma}: it must be at least 0")
        for name in positive:
            if not getattr(self, name) > 0:
                raise PrefdynError(f"{name} is {getattr(self, name)}: it must be above 0")
        if self.optimizer not in ("adamw", "rmsprop", "sgd"):
            raise PrefdynError(f"the optimizer {self.optimizer!r} is unknown: choose adamw, rmsprop or sgd")

    def describe(self) -> dict[str, Any]:
        """All that decides what a training does, as plain values."""
        own = {} if isinstance(self.loss, str) else {"loss": self.loss.describe()}
        return asdict(self) | own


def batch_order(
    examples: int, settings: Settings, strata: Sequence[Hashable] | None = None
) -> list[NDArray[np.integer]]:
    """The examples of every step, in batches that are all full.

    Epochs are shuffled by the seed, put one after another, and cut. A batch is never larger than the data.

    Args:
        strata: what each example counts as; where settings ask for balanced batches, those of a kind are
            spread evenly over an epoch, so that a batch holds of each kind what the data do.
    """
    rng = np.random.default_rng(settings.seed)
    size = min(settings.batch_size, examples)
    epochs = -(-settings.steps * size // examples)
    kinds: dict[Hashable, list[int]] = {}
    if settings.balanced and strata is not None:
        for index, kind in enumerate(strata):
            kinds.setdefault(kind, []).append(index)
    members = [np.array(of_a_kind) for of_a_kind in kinds.values()] or [np.arange(examples)]
    stream = np.concatenate([_spread_evenly(members, rng) for _ in range(epochs)])
    return [stream[start : start + size] for start in range(0, settings.steps * size, size)]


def _spread_evenly(members: Sequence[NDArray[np.integer]], rng: np.random.Generator) -> NDArray[np.integer]:
    """All members of all kinds, each kind in an order of its own and spaced as evenly as it can be."""
    shuffled = np.concatenate([rng.permutation(of_a_kind) for of_a_kind in members])
    if len(members) == 1:
        return shuffled
    places = np.concatenate([(np.arange(len(kind)) + 0.5) / len(kind) for kind in members])
    return shuffled[np.lexsort((rng.random(len(places)), places))]


def fine_tune(
    lm: LanguageModel,
    train: Sequence[TokenPair],
    settings: Settings,
    evaluate: Mapping[str, Sequence[TokenPair]] | None = None,
    evaluate_at: Sequence[int] = (),
    reference: Reference | None = None,
    visit: Callable[[int], None] | None = None,
) -> pd.DataFrame:
    """Train on the preferences: all weights, or the adapters that `lora` put in.

    The model is changed in place. The model as it comes in is the reference; supervised fine-tuning ("sft")
    has none.

    Args:
        train: preferences as tokens; their groups are kept apart in the record.
        evaluate: further preferences by the name of their split, measured at the steps of `evaluate_at` (0 is
            before training, `settings.steps` after it).
        reference: what is known of the model as it comes in; what is missing is added.
        visit: called with the step at each of the steps of `evaluate_at`, the model as it is then.

    Returns:
        The record; its columns are `RECORD`. The split "train" is measured on each step's own batch.

    Raises:
        PrefdynError: there is nothing to train on, a split is empty or called "train", a step of
            `evaluate_at` is none of the run's, something else stands for pairs of tokens, or the model as it
            comes in computes what is no number. A training that diverges goes on, and leaves NaN in the
            record.
    """
    if not train:
        raise PrefdynError("there is nothing to train on: the list of preferences is empty")
    splits = {name: list(pairs) for name, pairs in (evaluate or {}).items()}
    if "train" in splits:
        raise PrefdynError(
            "the split 'train' is that of each step's own batch: call what is evaluated otherwise"
        )
    for name, pairs in splits.items():
        if not pairs:
            raise PrefdynError(f"there is nothing to evaluate in the split {name!r}: leave it out")
    for step in evaluate_at:
        if not 0 <= step <= settings.steps:
            raise PrefdynError(
                f"evaluate_at has the step {step}, and the run goes from 0 to {settings.steps}: leave it out"
            )
    check_tokens([pair for pairs in (train, *splits.values()) for pair in pairs])
    _keep_freed_memory()
    strata = [(pair.group, pair.chosen) for pair in train]
    batches = [[train[i] for i in batch] for batch in batch_order(len(train), settings, strata)]
    needed = [pair for pairs in (*batches, *splits.values()) for pair in pairs]
    objective = _objective(lm, needed, settings, {} if reference is None else reference)
    adapters = [weight for name, weight in lm.model.named_parameters() if "lora_" in name]
    cancels = settings.loss != SFT and all(pair.one_token for pair in needed)
    alone = not adapters and visit is None and lm.processes == 1
    with vocabulary_of(lm.model, needed, active=cancels and alone) as renamed:
        trainable = adapters or list(lm.model.parameters())
        numbers = {"adamw": 3, "rmsprop": 2, "sgd": 1}[settings.optimizer]
        again = short(lm, takes(lm, trainable, numbers, _tokens_at_once(batches, settings)))
        with requiring_grad(trainable), recomputing(lm.model, again):
            return _run(lm, objective, batches, settings, splits, set(evaluate_at), renamed, trainable, visit)


def _tokens_at_once(batches: Sequence[Sequence[TokenPair]], settings: Settings) -> int:
    """Tokens of the largest part that a batch is cut into."""
    longest = max(pair.length for batch in batches for pair in batch)
    most = max(sum(pair.length for pair in batch) for batch in batches)
    return max(longest, min(most, settings.tokens_per_forward))


def _objective(
    lm: LanguageModel, needed: Sequence[TokenPair], settings: Settings, reference: Reference
) -> Supervised | Margins:
    if settings.loss == SFT:
        return Supervised(lm, settings.tokens_per_forward)
    loss = losses.get(settings.loss, settings.smoothing)
    return Margins(lm, needed, loss, settings.beta, settings.gamma, reference, settings.tokens_per_forward)


def _run(
    lm: LanguageModel,
    objective: Supervised | Margins,
    batches: list[list[TokenPair]],
    settings: Settings,
    splits: Mapping[str, list[TokenPair]],
    evaluate_at: set[int],
    renamed: Callable[[TokenPair], TokenPair],
    trainable: list[nn.Parameter],
    visit: Callable[[int], None] | None,
) -> pd.DataFrame:
    start = [weight.detach().clone() for weight in trainable] if settings.track_distance else None
    replayed = worth_replaying(lm, objective, batches, settings.tokens_per_forward)
    optimizer = _optimizer(trainable, settings, replayed)
    how = (lm, objective, optimizer, renamed, settings.tokens_per_forward, trainable, batches)
    steps = ReplayedSteps(*how) if replayed else None
    passes = Passes(lm, times=len(evaluate_at))
    recorder = _Recorder(lm)

    def measure(step: int) -> None:
        if step not in evaluate_at:
            return
        if start is not None:
            recorder.distance[step] = distance(trainable, start)
        for name, pairs in splits.items():
            if step == 0:
                now = objective.initial(pairs)
            else:
                written = [renamed(pair) for pair in pairs]
                now = reference_log_probs(
                    lm, written, settings.tokens_per_forward, objective.normalised, passes
                )
            if lm.process == 0:
                recorder.add(step, name, pairs, objective.measure(pairs, now))
        if visit is not None:
            visit(step)

    for step, batch in enumerate(batches):
        measure(step)
        if steps is not None:
            for pairs, measured in steps.take(batch):
                seen = measured if step else objective.before_training(pairs, measured)
                recorder.add(step, "train", pairs, seen)
            continue
        whole = objective.weights(batch).sum()
        for part in by_length([pair.length for pair in batch], settings.tokens_per_forward * lm.processes):
            own = part[lm.process :: lm.processes]
            # A process without a share runs what another has, so that all keep step, and does not count it.
            pairs = [batch[i] for i in (own if len(own) else part[:1])]
            with lm.autocast():
                now = objective.forward([renamed(pair) for pair in pairs])
            measured = objective.measure(pairs, now)
            (measured.loss[: len(own)].sum() / whole).backward()
            seen = measured if step else objective.before_training(pairs, measured)
            recorder.add(step, "train", pairs[: len(own)], seen)
        lm.sum_gradients(trainable)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    measure(settings.steps)
    return recorder.frame()


def _keep_freed_memory() -> None:
    """Have glibc keep what a step frees for the next step.

    Handed back, every gradient would be mapped and zeroed again. A sixth of a step's time on a CPU. Elsewhere
    there is no such call, and nothing happens.
    """
    with contextlib.suppress(OSError, AttributeError):
        libc = ctypes.CDLL("libc.so.6")
        trim_threshold, mmap_threshold = -1, -3
        libc.mallopt(trim_threshold, 2**31 - 1)
        libc.mallopt(mmap_threshold, 2**25)


class _Recorder:
    """Keeps what a run measures on its device until the end, so that no step waits for a copy to the host."""

    def __init__(self, lm: LanguageModel) -> None:
        self.lm = lm
        self.labels: list[tuple[int, str, str]] = []
        self.values: list[Tensor] = []
        self.distance: dict[int, Tensor] = {}

    def add(self, step: int, split: str, pairs: Sequence[TokenPair], measured: Measured) -> None:
        self.labels.extend((step, split, pair.group) for pair in pairs)
        loss, weight, margin, now = measured
        right, ranked = _share(margin > 0, margin), _share(now.log_ratio >= 0, now.log_ratio)
        columns = [loss, margin, right, ranked, now.chosen, now.rejected, weight]
        self.values.append(torch.stack([column.detach() for column in columns], dim=1)[: len(pairs)])

    def frame(self) -> pd.DataFrame:
        frame = pd.DataFrame(self.labels, columns=RECORD[:3])
        frame[[*RECORD[4:10], "weight"]] = torch.cat(self.values).double().cpu().numpy()
        frame = pd.concat(self.lm.gathered(frame))
        grouped = frame.groupby(RECORD[:3], sort=True)
        record = grouped.mean(skipna=False).join(grouped.size().rename("n")).reset_index()
        record["loss"] /= record["weight"]
        record["distance"] = (
            record["step"].map({step: float(value) for step, value in self.distance.items()}).astype(float)
        )
        return record[RECORD]


def _share(holds: Tensor, of: Tensor) -> Tensor:
    """1 where a condition on a quantity holds, 0 where it does not, NaN where the quantity is."""
    return holds.float().where(~of.isnan(), torch.nan)


def _optimizer(weights: list[nn.Parameter], settings: Settings, replayed: bool) -> torch.optim.Optimizer:
    kind = weights[0].device.type
    capturable = replayed and kind == "cuda"
    if settings.optimizer == "adamw":
        fused = kind in ("cuda", "cpu")
        return torch.optim.AdamW(
            weights, lr=settings.learning_rate, weight_decay=0.0, fused=fused, capturable=capturable
        )
    if settings.optimizer == "rmsprop":
        return torch.optim.RMSprop(weights, lr=settings.learning_rate, alpha=0.99, capturable=capturable)
    return torch.optim.SGD(weights, lr=settings.learning_rate)
