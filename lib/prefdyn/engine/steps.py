"""Steps of a training without launches: forward and backward of each part, then the update, from graphs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor, nn

from prefdyn.engine.captured import Replayed, Size, few, filled, values_of, waits, worth
from prefdyn.engine.likelihood import LogProbs, TokenPair
from prefdyn.engine.objectives import Margins, Measured, Supervised
from prefdyn.engine.states import by_length
from prefdyn.models import LanguageModel
from prefdyn.models.token_trees import ROW_TOKENS


def _parts(batch: Sequence[TokenPair], tokens: int) -> list[list[TokenPair]]:
    lengths = [pair.length for pair in batch]
    return [[batch[i] for i in part] for part in by_length(lengths, min(tokens, ROW_TOKENS))]


def _sizes(
    objective: Margins | Supervised, batches: Sequence[Sequence[TokenPair]], tokens: int
) -> list[Size]:
    return [objective.asked(part).size() for batch in batches for part in _parts(batch, tokens)]


def worth_replaying(
    lm: LanguageModel,
    objective: Margins | Supervised,
    batches: Sequence[Sequence[TokenPair]],
    tokens_per_forward: int,
) -> bool:
    """Whether these batches had better be taken by `ReplayedSteps`."""
    return waits(lm) and worth(lm, _sizes(objective, batches, tokens_per_forward))


class ReplayedSteps:
    """Steps of a training, of which forward and backward of each part and the update are replayed.

    Args:
        optimizer: of the weights.
        renamed: how a pair is written for the model.
        weights: those that train; their gradients have fixed places from now on.
        batches: all that will be taken, in their order.
    """

    def __init__(
        self,
        lm: LanguageModel,
        objective: Margins | Supervised,
        optimizer: torch.optim.Optimizer,
        renamed: Callable[[TokenPair], TokenPair],
        tokens_per_forward: int,
        weights: Sequence[nn.Parameter],
        batches: Sequence[Sequence[TokenPair]],
    ) -> None:
        self.lm, self.objective, self.optimizer, self.renamed = lm, objective, optimizer, renamed
        self.tokens = tokens_per_forward
        self.sizes = iter(few(_sizes(objective, batches, tokens_per_forward)))
        for weight in weights:
            weight.grad = torch.zeros_like(weight)
        self.part, self.update = Replayed(self._part, lm.device), Replayed(self._update, lm.device)

    def take(self, batch: Sequence[TokenPair]) -> Iterator[tuple[list[TokenPair], Measured]]:
        """Of each part its pairs and what was measured before the update, which comes after the last one."""
        whole = float(self.objective.known(batch)[1].sum())
        for pairs in _parts(batch, self.tokens):
            size = next(self.sizes)
            reference, weight = self.objective.known(pairs)
            known = torch.stack([reference, weight, torch.full_like(weight, 1 / whole)])
            # What fills it up is like the first pair, so that no loss makes NaN of it, and does not count.
            known = filled(known, size.values // self.objective.values, (float(reference[0]), 1.0, 0.0))
            asked = self.objective.asked([self.renamed(pair) for pair in pairs])
            loss, margin, *now = self.part(*asked.lay_out(size), known)[:, : len(pairs)]
            yield pairs, Measured(loss, weight.to(self.lm.device), margin, LogProbs(*now))
        self.update()

    def _part(self, tokens: Tensor, rows: Tensor, known: Tensor) -> Tensor:
        """Adds to the gradients.

        Args:
            known: the reference's log-ratio, the pair's weight, and its share of the batch's loss, shape
                (3, n).

        Returns:
            Losses, margins and log-probabilities, shape (5, n).
        """
        reference, weight, share = known
        with self.lm.autocast():
            values = self.objective.values * len(share)
            now = self.objective.read(values_of(self.lm.model, self.objective.asking, tokens, rows, values))
        measured = self.objective.value(now, reference, weight)
        (measured.loss.where(share > 0, 0.0) * share).sum().backward()
        return torch.stack([measured.loss, measured.margin, *now]).detach()

    def _update(self) -> Tensor:
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=False)
        return torch.empty(0)
