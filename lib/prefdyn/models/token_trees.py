"""Token trees: many sequences with shared beginnings, run through a model in one row without padding.

A *tree* is a prompt and the branches that continue it: the question template and its statements, or a prompt
with its chosen and its rejected response. The linear layers of the model see each distinct token once, end to
end in one row of T tokens; only attention, which is a small part of the work, is computed otherwise. On a
CPU, where padding costs more than many small calls, the trees are taken one by one: one of few branches is
two calls, its prompt and all of its branches under a mask, another is cut into padded blocks. Elsewhere they
are taken all at once: a row of up to `ROW_TOKENS` in one call under a mask, a longer one in blocks. A branch
attends to its own prompt and to itself, with the positions it would have alone, so every hidden state equals
the one of the sequence run by itself (up to rounding).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AttentionInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

from prefdyn.errors import PrefdynError, first_line

ATTENTION = "prefdyn_tree"
"""The name under which the attention below is registered with transformers; `models.load` selects it."""

Tree = tuple[Sequence[int], Sequence[Sequence[int]]]
"""A prompt's token ids and the token ids of each of its branches."""

NOTHING = "a model is run on prompts with at least one response each, none of them empty"
"""Said of other trees."""
FEW_BRANCHES = 4
"""Up to here a mask over all branches of a tree costs less than gathering each with its prompt."""
ROW_TOKENS = 2048
"""Up to here, where trees are not taken one by one, a mask over the whole row costs less than blocks: what it
wastes grows with the square of the row, while blocks are a dozen more calls a layer.
"""


@dataclass(frozen=True, kw_only=True)
class Row:
    """Trees end to end, T tokens.

    Attributes:
        input_ids, position_ids: shape (T,).
        tree: shape (T,), the tree of each token.
        branch: shape (T,), the branch of each token, counted over all trees; -1 in a prompt.
        dense: whether attention is one call over the whole row.
    """

    input_ids: Tensor
    position_ids: Tensor
    tree: Tensor
    branch: Tensor
    dense: bool = True

    def mask(self, window: int | None, start: int = 0) -> Tensor:
        """Which of T row tokens each token from `start` on sees, shape (1, 1, T - start, T).

        They are those of its tree's prompt and of its own branch, up to itself.
        """
        distance = self.position_ids[start:, None] - self.position_ids
        seen = (self.tree[start:, None] == self.tree) & (distance >= 0)
        seen &= (self.branch == -1) | (self.branch[start:, None] == self.branch)
        if window is not None:
            seen &= distance < window
        return seen[None, None]


@dataclass(frozen=True, kw_only=True)
class PackedTrees(Row):
    """Trees in one row, and where each of their tokens lies.

    Attributes:
        prompt_slots: shape (G, P), the row index of each prompt token; short prompts are filled up with 0.
        branch_slots: shape (N, L), the same for the branches.
        prompt_lengths: shape (G,).
        branch_lengths: shape (N,).
        branch_tree: shape (N,), the tree of each branch.
        unpad: shape (T,), the place of each row token in the concatenation of the flattened padded prompts
            and branches.
        longest: tokens of the longest prompt with a branch.
        parts: the trees one by one, each with slots of its own, where attention is to take them so; else
            empty.
    """

    prompt_slots: Tensor
    branch_slots: Tensor
    prompt_lengths: Tensor
    branch_lengths: Tensor
    branch_tree: Tensor
    unpad: Tensor
    longest: int
    parts: tuple[PackedTrees, ...] = ()

    def last_of_branch(self) -> Tensor:
        """Row index of each branch's last token, shape (N,)."""
        return self.branch_slots.gather(1, (self.branch_lengths - 1)[:, None])[:, 0]

    @property
    def narrow(self) -> bool:
        """Whether this is one tree of few branches."""
        return len(self.prompt_lengths) == 1 and len(self.branch_lengths) <= FEW_BRANCHES

    def prompt_mask(self, window: int | None) -> Tensor | None:
        """Which prompt tokens see which, shape (1, 1, P, P); None where plain causal attention is meant."""
        length = self.prompt_slots.shape[1]
        if window is None or length <= window:
            return None
        position = torch.arange(length, device=self.input_ids.device)
        distance = position[:, None] - position[None, :]
        return ((distance >= 0) & (distance < window))[None, None]

    def branch_mask(self, window: int | None) -> Tensor:
        """Which of [prompt, own branch] each branch token sees, shape (N, 1, L, P + L)."""
        device = self.input_ids.device
        prompt = torch.arange(self.prompt_slots.shape[1], device=device)
        own = torch.arange(self.branch_slots.shape[1], device=device)
        lengths = self.prompt_lengths[self.branch_tree]
        queries = lengths[:, None] + own
        keys = torch.cat([prompt.expand(len(lengths), -1), queries], dim=1)
        real = torch.cat(
            [prompt[None, :] < lengths[:, None], torch.ones_like(queries, dtype=torch.bool)], dim=1
        )
        distance = queries[:, :, None] - keys[:, None, :]
        seen = (distance >= 0) & real[:, None, :]
        if window is not None:
            seen &= distance < window
        return seen[:, None]


def pack(
    trees: Sequence[Tree], device: torch.device | str = "cpu", one_by_one: bool | None = None
) -> PackedTrees:
    """Lay trees end to end in one row: each prompt, then its branches.

    Args:
        trees: prompts (possibly empty) with at least one branch each; no branch is empty.
        one_by_one: whether attention takes each tree by itself; where it is not said, on a CPU.

    Raises:
        PrefdynError: there are no trees, or one has no branch or an empty one.
    """
    if not trees or not all(tails and all(map(len, tails)) for _, tails in trees):
        raise PrefdynError(NOTHING)
    if one_by_one is None:
        one_by_one = torch.device(device).type == "cpu"
    ids: list[int] = []
    positions: list[int] = []
    tree_of: list[int] = []
    branch_of: list[int] = []
    prompts: list[range] = []
    branches: list[range] = []
    branch_tree: list[int] = []
    for index, (prompt, tails) in enumerate(trees):
        prompts.append(range(len(ids), len(ids) + len(prompt)))
        ids.extend(prompt)
        positions.extend(range(len(prompt)))
        branch_of.extend([-1] * len(prompt))
        for tail in tails:
            branches.append(range(len(ids), len(ids) + len(tail)))
            branch_of.extend([len(branch_tree)] * len(tail))
            branch_tree.append(index)
            ids.extend(tail)
            positions.extend(range(len(prompt), len(prompt) + len(tail)))
        tree_of.extend([index] * (len(ids) - len(tree_of)))
    prompt_width = max(map(len, prompts))
    branch_width = max(map(len, branches))
    unpad = torch.empty(len(ids), dtype=torch.long)
    for block, width, start in (
        (prompts, prompt_width, 0),
        (branches, branch_width, len(prompts) * prompt_width),
    ):
        for row, span in enumerate(block):
            unpad[span.start : span.stop] = torch.arange(len(span)) + start + row * width

    def padded(spans: list[range], width: int) -> Tensor:
        return torch.tensor(
            [[*span, *[0] * (width - len(span))] for span in spans], dtype=torch.long
        ).reshape(len(spans), width)

    def move(tensor: Tensor) -> Tensor:
        return tensor.to(device, non_blocking=True)

    return PackedTrees(
        input_ids=move(torch.tensor(ids)),
        position_ids=move(torch.tensor(positions)),
        tree=move(torch.tensor(tree_of)),
        branch=move(torch.tensor(branch_of)),
        dense=not one_by_one and len(ids) <= ROW_TOKENS,
        prompt_slots=move(padded(prompts, prompt_width)),
        branch_slots=move(padded(branches, branch_width)),
        prompt_lengths=move(torch.tensor([len(span) for span in prompts])),
        branch_lengths=move(torch.tensor([len(span) for span in branches])),
        branch_tree=move(torch.tensor(branch_tree)),
        unpad=move(unpad),
        longest=max(positions) + 1,
        parts=tuple(pack([tree], device, True) for tree in trees) if one_by_one and len(trees) > 1 else (),
    )


def shared_prefix(sequences: Sequence[Sequence[int]]) -> int:
    """Length of the longest beginning that all sequences share and that leaves each a token more."""
    first, last = min(map(tuple, sequences)), max(map(tuple, sequences))
    limit = min(map(len, sequences)) - 1
    length = 0
    while length < limit and first[length] == last[length]:
        length += 1
    return length


def pack_sequences(
    sequences: Sequence[Sequence[int]], device: torch.device | str = "cpu", one_by_one: bool | None = None
) -> PackedTrees:
    """One tree of whole sequences, whose branches are in the order given.

    What all of them share is its prompt, the rest of each a branch; `one_by_one` is as in `pack`.

    Raises:
        PrefdynError: there are none.
    """
    if not sequences:
        raise PrefdynError(NOTHING)
    start = shared_prefix(sequences)
    return pack([(sequences[0][:start], [sequence[start:] for sequence in sequences])], device, one_by_one)


Masks = dict[tuple[int, int | None], tuple[Tensor | None, Tensor]]
"""Masks of prompts and branches by part and sliding window, made once for all layers."""

_current: ContextVar[tuple[tuple[Row, ...], Masks] | None] = ContextVar("trees", default=None)


@contextmanager
def _attending(to: tuple[tuple[Row, ...], Masks] | None) -> Iterator[None]:
    token = _current.set(to)
    try:
        yield
    finally:
        _current.reset(token)


def attending_again() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    """What `torch.utils.checkpoint` asks for: a layer that is run again attends to its trees again."""
    return nullcontext(), _attending(_current.get())


def last_hidden_states(model: PreTrainedModel, trees: Row) -> Tensor:
    """Hidden states after the final norm, shape (T, d): what the model's unembedding multiplies.

    Raises:
        PrefdynError: the model was not loaded with this module's attention, cannot read a token, or has too
            few places for the longest text.
    """
    if model.config._attn_implementation != ATTENTION:
        raise PrefdynError(
            f"the model runs {model.config._attn_implementation!r} attention: "
            "load it with prefdyn.models.load"
        )
    places = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    if places and isinstance(trees, PackedTrees) and trees.longest > places:
        raise PrefdynError(
            f"a text of {trees.longest} tokens is longer than the {places} that the model has places for"
        )
    # transformers leaves a mask of four dimensions alone; without one it would look for packed sequences, and
    # a GPU would wait for what it finds. The attention below makes its own.
    unused = trees.input_ids.new_ones(1, 1, 1, 1, dtype=torch.bool)
    parts = trees.parts if isinstance(trees, PackedTrees) else ()
    try:
        with _attending((parts or (trees,), {})):
            output = model.base_model(
                input_ids=trees.input_ids[None],
                position_ids=trees.position_ids[None],
                attention_mask=unused,
                use_cache=False,
            )
    except IndexError as error:  # on a CPU; elsewhere the device stops
        raise PrefdynError(
            "the model has no row for a token or for its place: a text is longer than it can read, "
            "or its tokenizer is another model's"
        ) from error
    return output.last_hidden_state[0]


@torch.no_grad()
def check_exact(model: PreTrainedModel, name: str) -> None:
    """Stop where trees or W.g are not this model's own run.

    Such a model has recurrent layers, ALiBi or sinks in attention, or a bias or scale on logits.

    Raises:
        PrefdynError: the model's architecture is such a one.
    """
    # Shared beginnings, so that the second branch would show a state that leaks from the first.
    prompt, tails = [3, 4, 5, 6], ([7, 8, 9], [8, 6])
    trees = pack([(prompt, tails)], model.device)
    try:
        weight = model.get_output_embeddings().weight
        hidden = last_hidden_states(model, trees)
        for slots, tail in zip(trees.branch_slots, tails, strict=True):
            own = (
                model(input_ids=torch.tensor([[*prompt, *tail]], device=model.device), use_cache=False)
                .logits[0, -len(tail) :]
                .float()
            )
            if not own.isfinite().all():
                raise PrefdynError("its logits are NaN or infinite, as damaged weights make them")
            ours = (hidden[slots[: len(tail)]] @ weight.T).float()
            if not (ours - own).abs().max() <= 1e-3 * own.abs().max():
                raise PrefdynError(f"{type(model).__name__} gives other logits when it runs as a token tree")
    except Exception as error:  # what it is depends on the architecture
        raise PrefdynError(
            f"the model {name!r} cannot be run exactly in token trees ({first_line(error)}): "
            "choose another model"
        ) from error


def _tree_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    **kwargs: Any,
) -> tuple[Tensor, Tensor | None]:
    """Attention over the current trees, or transformers' own where none are set.

    query has shape (1, H, T, D), key and value (1, H_kv, T, D); the result has shape (1, T, H, D).
    """
    if kwargs.get("softcap") is not None or kwargs.get("s_aux") is not None:
        raise PrefdynError(
            f"{type(module).__name__} caps its attention scores or has attention sinks, "
            "which token trees do not support"
        )
    current = _current.get()
    if current is None:
        return sdpa_attention_forward(
            module,
            query,
            key,
            value,
            attention_mask,
            dropout=dropout,
            scaling=scaling,
            sliding_window=sliding_window,
            **kwargs,
        )
    parts, masks = current
    rows = [tensor[0].transpose(0, 1) for tensor in (query, key, value)]  # (T, heads, D)
    if query.device.type == "cpu":
        rows = [
            row.float() for row in rows
        ]  # its attention is slower in bfloat16 than in float32, backward most of all
    lengths = [len(part.input_ids) for part in parts]
    out = []
    for number, (part, own) in enumerate(
        zip(parts, zip(*[row.split(lengths) for row in rows], strict=True), strict=True)
    ):
        if (number, sliding_window) not in masks:
            masks[number, sliding_window] = _masks(part, sliding_window, own[0].dtype)
        out.append(_attend_part(part, own, masks[number, sliding_window], scaling, dropout))
    return torch.cat(out)[None], None


def _masks(part: Row, window: int | None, dtype: torch.dtype) -> tuple[Tensor | None, Tensor]:
    """Of a part's prompts, and of its branches or, in a dense row, of all tokens."""
    if part.dense:
        # Added to the scores, as a GPU's kernel takes it: else every layer would make this of the mask.
        unseen = ~part.mask(window)
        return None, torch.zeros_like(unseen, dtype=dtype).masked_fill_(unseen, -torch.inf)
    assert isinstance(part, PackedTrees)
    if part.narrow:
        return part.prompt_mask(window), part.mask(window, part.prompt_slots.shape[1])
    return part.prompt_mask(window), part.branch_mask(window)


def _attend_part(
    part: Row,
    rows: Sequence[Tensor],
    masks: tuple[Tensor | None, Tensor],
    scaling: float | None,
    dropout: float,
) -> Tensor:
    """Attention over a part of the row, shape (T, H, D).

    Rows are queries, keys and values, each of shape (T, heads, D).
    """
    if part.dense:
        query, key, value = (row.transpose(0, 1)[None] for row in rows)
        return _attend(query, key, value, masks[1], scaling, dropout)
    assert isinstance(part, PackedTrees)
    attend = _attend_narrow if part.narrow else _attend_blocks
    return attend(part, rows, masks, scaling, dropout)


def _attend(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scaling: float | None, dropout: float
) -> Tensor:
    """Attention in blocks, causal where no mask is given.

    From (blocks, heads, length, D) to (blocks * length, H, D).
    """
    kind = query.device.type
    repeats = query.shape[1] // key.shape[1]
    if (
        kind != "cpu" and repeats > 1
    ):  # a CPU's kernel shares keys between heads; of the others', not every one does
        key, value = key.repeat_interleave(repeats, dim=1), value.repeat_interleave(repeats, dim=1)
    with torch.autocast("cpu", enabled=False):
        out = F.scaled_dot_product_attention(
            query,
            key,
            value,
            attn_mask=mask,
            is_causal=mask is None,
            scale=scaling,
            dropout_p=dropout,
            enable_gqa=kind == "cpu",
        )
    return out.transpose(1, 2).flatten(0, 1)


def _attend_narrow(
    tree: PackedTrees,
    rows: Sequence[Tensor],
    masks: tuple[Tensor | None, Tensor],
    scaling: float | None,
    dropout: float,
) -> Tensor:
    """Attention over a narrow tree; rows and result as in `_attend_part`."""
    prompt_mask, branch_mask = masks
    query, key, value = (row.transpose(0, 1)[None] for row in rows)
    start = tree.prompt_slots.shape[1]
    branches = _attend(query[:, :, start:], key, value, branch_mask, scaling, dropout)
    if start == 0:
        return branches
    prompt = _attend(
        query[:, :, :start], key[:, :, :start], value[:, :, :start], prompt_mask, scaling, dropout
    )
    return torch.cat([prompt, branches])


def _attend_blocks(
    trees: PackedTrees,
    rows: Sequence[Tensor],
    masks: tuple[Tensor | None, Tensor],
    scaling: float | None,
    dropout: float,
) -> Tensor:
    """Attention over trees in padded blocks; rows and result as in `_attend_part`."""
    prompt_mask, branch_mask = masks

    def blocks(slots: Tensor) -> list[Tensor]:  # (blocks, heads, length, D) each
        return [
            row.index_select(0, slots.flatten()).unflatten(0, slots.shape).transpose(1, 2) for row in rows
        ]

    branch_q, branch_k, branch_v = blocks(trees.branch_slots)
    if trees.prompt_slots.shape[1]:
        prompt_q, prompt_k, prompt_v = blocks(trees.prompt_slots)
        branch_k = torch.cat([prompt_k.index_select(0, trees.branch_tree), branch_k], dim=2)
        branch_v = torch.cat([prompt_v.index_select(0, trees.branch_tree), branch_v], dim=2)
        prompts = _attend(prompt_q, prompt_k, prompt_v, prompt_mask, scaling, dropout)
        out = torch.cat([prompts, _attend(branch_q, branch_k, branch_v, branch_mask, scaling, dropout)])
    else:
        out = _attend(branch_q, branch_k, branch_v, branch_mask, scaling, dropout)
    return out.index_select(0, trees.unpad)


AttentionInterface.register(ATTENTION, _tree_attention)
AttentionMaskInterface.register(ATTENTION, sdpa_mask)
