"""Passes that do not wait for launches: padded to a few sizes and, on a GPU, replayed from CUDA graphs.

A small model's step is thousands of kernels that take a GPU less time than Python takes to launch them. A
graph launches them all at once, but only for tensors of the shapes and at the places that it was captured
with: so a pass reads its tokens from fixed places, and is padded to one of at most `SIZES` sizes. What fills
it up is a tree of its own, which no other token sees, and pairs whose loss does not count.

Of each size one part runs as ever and a second one is captured, which takes about as long; all others are
replayed. So a job of few parts is not captured, nor one whose parts keep a GPU busy for longer than their
launches take (`worth`).
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import PreTrainedModel

from prefdyn.engine.likelihood import TokenPair, answer_log_ratios, response_rows, summed_log_probs
from prefdyn.engine.states import by_length, without_dropout
from prefdyn.models import LanguageModel, Precision
from prefdyn.models.token_trees import (
    ROW_TOKENS,
    Row,
    Tree,
    last_hidden_states,
    pack_sequences,
    shared_prefix,
)

DEVICES: frozenset[str] = frozenset()
"""Kinds of devices whose launches are saved: none before the tests marked `gpu`, which add "cuda", passed
on one.
"""
FROM_PARTS = 24
"""Jobs of fewer parts run as ever, and each size is that of at least so many."""
SIZES = 4
"""To so many sizes are the parts of a job padded at most; each costs about two parts more."""
MOST_FLOPS = 1.5e13
"""Forward and backward of a part of more keeps a GPU busy for longer than its launches take."""


# What a pass reads --------------------------------------------------------------------------------


class Size(NamedTuple):
    """Of a part: tokens of its row, states that are read, and values that come out."""

    tokens: int
    rows: int
    values: int


@dataclass(frozen=True)
class Responses:
    """Prompts with their responses, of which log pi of each response is asked, prompt after prompt."""

    trees: Sequence[Tree]

    def lengths(self) -> list[int]:
        return [len(prompt) + sum(map(len, tails)) for prompt, tails in self.trees]

    def take(self, part: Sequence[int] | NDArray[np.integer]) -> Responses:
        return Responses([self.trees[i] for i in part])

    def size(self) -> Size:
        rows = sum(len(tail) for _, tails in self.trees for tail in tails)
        return Size(sum(self.lengths()), rows, sum(len(tails) for _, tails in self.trees))

    def lay_out(self, size: Size) -> tuple[Tensor, Tensor]:
        """On the host and padded: of each token its id, position, tree and branch, shape (4, T); of each
        response token the row that predicts it, its id and its response, shape (3, R).
        """
        row, before, targets, response = response_rows(self.trees, torch.device("cpu"), one_by_one=False)
        rows = torch.stack([before, targets, response])
        return _tokens(row, size), filled(rows, size.rows, (0, 0, size.values))

    @staticmethod
    def read(model: PreTrainedModel, hidden: Tensor, rows: Tensor, values: int) -> Tensor:
        """log pi of each response, shape (values,), of the states that `lay_out`'s rows name."""
        return summed_log_probs(model, hidden, rows[1], rows[2], values + 1)[:-1]


@dataclass(frozen=True)
class Answers:
    """Pairs of one-token answers, of which the log-ratio of each is asked."""

    pairs: Sequence[TokenPair]

    def lengths(self) -> list[int]:
        return [len(pair.prompt) for pair in self.pairs]

    def take(self, part: Sequence[int] | NDArray[np.integer]) -> Answers:
        return Answers([self.pairs[i] for i in part])

    def size(self) -> Size:
        start = shared_prefix([pair.prompt for pair in self.pairs])
        return Size(sum(self.lengths()) - start * (len(self.pairs) - 1), len(self.pairs), len(self.pairs))

    def lay_out(self, size: Size) -> tuple[Tensor, Tensor]:
        """As `Responses.lay_out`; of each prompt its last row, and the chosen and the rejected id."""
        row = pack_sequences([pair.prompt for pair in self.pairs], one_by_one=False)
        answers = torch.tensor([(pair.chosen[0], pair.rejected[0]) for pair in self.pairs]).T
        rows = torch.cat([row.last_of_branch()[None], answers])
        return _tokens(row, size), filled(rows, size.rows, rows[:, 0].tolist())

    @staticmethod
    def read(model: PreTrainedModel, hidden: Tensor, rows: Tensor, values: int) -> Tensor:
        """log pi(y_w|x) / pi(y_l|x), shape (values,)."""
        return answer_log_ratios(model, hidden, rows[1], rows[2])


Asked = Responses | Answers


def _tokens(row: Row, size: Size) -> Tensor:
    tokens = torch.stack([row.input_ids, row.position_ids, row.tree, row.branch])
    return filled(tokens, size.tokens, (0, 0, -1, -1))


def filled(rows: Tensor, width: int, filling: Sequence[float]) -> Tensor:
    """Of shape (k, m), with the k numbers to its right up to the width."""
    more = torch.tensor(filling, dtype=rows.dtype)[:, None].expand(-1, width - rows.shape[1])
    return torch.cat([rows, more], dim=1)


def few(sizes: Sequence[Size]) -> list[Size]:
    """The size to which each part is padded: the largest of the parts with about as many tokens."""
    out = list(sizes)
    order = np.argsort([size.tokens for size in sizes], kind="stable")
    for group in np.array_split(order, max(1, min(SIZES, len(sizes) // FROM_PARTS))):
        largest = Size(*np.max([sizes[i] for i in group], axis=0).tolist())
        for i in group:
            out[i] = largest._replace(tokens=-(-largest.tokens // 8) * 8)  # a GPU's kernel aligns masks so
    return out


def waits(lm: LanguageModel) -> bool:
    """Whether the model's device waits for launches, and one process runs it."""
    return lm.device.type in DEVICES and lm.processes == 1


def worth(lm: LanguageModel, sizes: Sequence[Size]) -> bool:
    """Whether parts of these sizes are replayed rather than run as ever."""
    tokens = max((size.tokens for size in sizes), default=0)
    return (
        waits(lm)
        and len(sizes) >= FROM_PARTS
        and tokens <= ROW_TOKENS
        and 6 * lm.model.num_parameters(exclude_embeddings=True) * tokens <= MOST_FLOPS
        and not any(getattr(layer, "gradient_checkpointing", False) for layer in lm.model.modules())
        and reads_nothing_back(lm.model)
    )


def reads_nothing_back(model: PreTrainedModel) -> bool:
    """Whether nothing in a pass waits for a number that the device computed: a graph cannot.

    It is tried on the device "meta", which has shapes and no numbers.
    """
    with torch.device("meta"):
        twin = type(model)(copy.deepcopy(model.config)).eval()
        tokens, rows = (torch.empty(rows, 8, dtype=torch.long) for rows in (4, 3))
    try:
        with torch.no_grad():
            values_of(twin, Responses, tokens, rows, 2)
    except RuntimeError:  # what an operation that needs a number raises there
        return False
    return True


# How it is run ------------------------------------------------------------------------------------


class Replayed:
    """A function of tensors that is called over and over with few shapes of them.

    On a GPU the first call with a shape runs as ever, the second is captured, and those after it are
    replayed; elsewhere all run as ever. What a call returns is overwritten by later ones.
    """

    def __init__(self, function: Callable[..., Tensor], device: torch.device) -> None:
        self.function, self.device = function, device
        self.places: dict[tuple[torch.Size, ...], list[Tensor]] = {}
        self.graphs: dict[tuple[torch.Size, ...], tuple[torch.cuda.CUDAGraph, Tensor]] = {}
        if device.type == "cuda":
            self.stream, self.pool = torch.cuda.Stream(device), torch.cuda.graph_pool_handle()

    def __call__(self, *given: Tensor) -> Tensor:
        shapes = tuple(tensor.shape for tensor in given)
        first = shapes not in self.places
        if first:
            self.places[shapes] = [torch.empty_like(tensor, device=self.device) for tensor in given]
        places = self.places[shapes]
        for place, tensor in zip(places, given, strict=True):
            place.copy_(tensor, non_blocking=True)
        if self.device.type != "cuda":
            return self.function(*places)
        if first:  # libraries make their workspaces in the first call on a stream, which must not be captured
            return self._beside(places)
        if shapes not in self.graphs:
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, pool=self.pool, stream=self.stream):
                out = self.function(*places)
            self.graphs[shapes] = graph, out
        graph, out = self.graphs[shapes]
        graph.replay()
        return out

    def _beside(self, places: Sequence[Tensor]) -> Tensor:
        current = torch.cuda.current_stream(self.device)
        self.stream.wait_stream(current)
        with torch.cuda.stream(self.stream):
            out = self.function(*places)
        current.wait_stream(self.stream)
        return out


def values_of(
    model: PreTrainedModel, asked: type[Responses] | type[Answers], tokens: Tensor, rows: Tensor, values: int
) -> Tensor:
    """What is asked of what its `lay_out` made, shape (values,); differentiable."""
    ids, positions, tree, branch = tokens
    row = Row(input_ids=ids, position_ids=positions, tree=tree, branch=branch)
    return asked.read(model, last_hidden_states(model, row).index_select(0, rows[0]), rows, values)


class Passes:
    """Log-probabilities of many prompts, in parts that are replayed.

    Args:
        precision: of the matrix products; the model's own where none is given.
        times: how often about as much will be asked for.
    """

    def __init__(self, lm: LanguageModel, precision: Precision | None = None, times: int = 1) -> None:
        self.lm, self.precision, self.times = lm, precision, times
        self.replayed = {
            asked: Replayed(functools.partial(self._forward, asked), lm.device)
            for asked in (Responses, Answers)
        }

    @torch.no_grad()
    def _forward(
        self, asked: type[Responses] | type[Answers], tokens: Tensor, rows: Tensor, values: Tensor
    ) -> Tensor:
        with self.lm.autocast(self.precision), without_dropout(self.lm.model):
            return values_of(self.lm.model, asked, tokens, rows, len(values))

    def of(
        self, asked: Asked, tokens_per_forward: int
    ) -> Iterator[tuple[NDArray[np.integer], Tensor]] | None:
        """Indices of some prompts with what is asked of those; None where it is better run as ever."""
        if not waits(self.lm):
            return None
        parts = list(by_length(asked.lengths(), min(tokens_per_forward, ROW_TOKENS)))
        sizes = [asked.take(part).size() for part in parts]
        if not worth(self.lm, sizes * self.times):
            return None
        return self._of(asked, parts, few(sizes))

    def _of(
        self, asked: Asked, parts: Sequence[NDArray[np.integer]], sizes: Sequence[Size]
    ) -> Iterator[tuple[NDArray[np.integer], Tensor]]:
        for part, size in zip(parts, sizes, strict=True):
            some = asked.take(part)
            values = self.replayed[type(asked)](*some.lay_out(size), torch.empty(size.values, 0))
            yield part, values[: some.size().values]
