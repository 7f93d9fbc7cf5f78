"""Log-likelihoods of chosen and rejected responses, exactly and without waste.

Where both answers are one token the softmax normaliser cancels: log pi(y_w|x)/pi(y_l|x) = (W[y_w] - W[y_l]) .
g(x), so one hidden state and two rows of W are all that is computed. Longer responses share their prompt, and
logits are taken only where a response token is predicted.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel

from prefdyn.data import Pair, Persona
from prefdyn.errors import PrefdynError
from prefdyn.models import LanguageModel, answer_tokens
from prefdyn.models.token_trees import PackedTrees, Tree, last_hidden_states, pack, pack_sequences

LOGIT_ROWS = 512
"""Positions whose V-wide logits are made at once."""
KEPT_LOGITS = 2**27
"""Logits that are kept for backward, half a GiB; of more each is made twice, a fiftieth of a step's time."""


@dataclass(frozen=True)
class TokenPair:
    """A preference as token ids.

    Attributes:
        prompt, chosen, rejected: token ids, one or more each.
        group: a name that records are kept by, such as the persona's.

    Raises:
        PrefdynError: the prompt or a response has no tokens.
    """

    prompt: tuple[int, ...]
    chosen: tuple[int, ...]
    rejected: tuple[int, ...]
    group: str

    def __post_init__(self) -> None:
        for name in ("prompt", "chosen", "rejected"):
            if not getattr(self, name):
                raise PrefdynError(f"a pair of the group {self.group!r} has no tokens as {name}: drop it")

    @property
    def one_token(self) -> bool:
        """Whether both responses are one token, so that the softmax normaliser cancels."""
        return len(self.chosen) == len(self.rejected) == 1

    @property
    def length(self) -> int:
        """Tokens that a model sees of this pair."""
        return len(self.prompt) + (0 if self.one_token else len(self.chosen) + len(self.rejected))

    def remapped(self, index: dict[int, int]) -> TokenPair:
        """The same pair with every token id looked up in `index`."""
        prompt, chosen, rejected = (
            tuple(index[i] for i in ids) for ids in (self.prompt, self.chosen, self.rejected)
        )
        return replace(self, prompt=prompt, chosen=chosen, rejected=rejected)


class LogProbs(NamedTuple):
    """Of n pairs, each of shape (n,), float32, in nats.

    Attributes:
        log_ratio: log pi(y_w|x) / pi(y_l|x).
        chosen, rejected: the two log-probabilities; NaN for one-token answers, which never need them.
    """

    log_ratio: Tensor
    chosen: Tensor
    rejected: Tensor


def tokenize_persona(lm: LanguageModel, persona: Persona) -> list[TokenPair]:
    """The persona task as tokens: Yes is chosen for what the persona would say, else No (LD Section 3).

    Raises:
        PrefdynError: the tokenizer splits Yes or No.
    """
    yes, no = answer_tokens(lm.tokenizer)
    prompts = lm.tokenizer(persona.questions)["input_ids"]
    return [
        TokenPair(tuple(prompt), (yes if label > 0 else no,), (no if label > 0 else yes,), persona.name)
        for prompt, label in zip(prompts, persona.labels, strict=True)
    ]


def tokenize_pairs(
    lm: LanguageModel, pairs: Sequence[Pair], max_length: int = 512, group: str = "pairs"
) -> list[TokenPair]:
    """Pairs with text responses, in the order given.

    The seam is lm-evaluation-harness's: trailing spaces of the prompt go to the response, and a response is
    what the prompt and it have together beyond the prompt's number of tokens. So, as there, the first letters
    of a response that join the prompt's last ones in a token are not scored. Responses lose their end beyond
    half of `max_length` tokens, then prompts their beginning, so that both fit.

    Args:
        max_length: tokens of a prompt with one of its responses.
        group: of the record, for all of them.

    Raises:
        PrefdynError: `max_length` holds no response, or a prompt or a response is empty.
    """
    out = []
    for pair in pairs:
        prompt, (chosen, rejected) = tokenize_responses(
            lm, pair.prompt, (pair.chosen, pair.rejected), max_length
        )
        out.append(TokenPair(prompt, chosen, rejected, group))
    return out


def tokenize_responses(
    lm: LanguageModel, prompt: str, responses: Sequence[str], max_length: int = 512
) -> tuple[tuple[int, ...], list[tuple[int, ...]]]:
    """Token ids of a prompt and of each of its responses.

    The seam and the truncation are those of `tokenize_pairs`.

    Raises:
        PrefdynError: there are no responses, `max_length` holds none, the prompt is empty, or a response has
            no token of its own.
    """
    if not responses:
        raise PrefdynError(f"the prompt {prompt[-40:]!r} has no responses: give one or more")
    if max_length < 2:
        raise PrefdynError(
            f"max_length is {max_length}: it must be at least 2, a token of the prompt and one of a response"
        )
    bare = prompt.rstrip()
    spaces = prompt[len(bare) :]
    before = lm.tokenizer(bare)["input_ids"]
    if not before:
        raise PrefdynError(
            f"the prompt of the response {responses[0][:40]!r} is empty: "
            "nothing predicts its first token, drop that pair"
        )
    whole = lm.tokenizer([bare + spaces + response for response in responses])["input_ids"]
    after = [tuple(ids[len(before) :][: max_length // 2]) for ids in whole]
    if not all(after):
        raise PrefdynError(
            f"a response to the prompt {prompt[-40:]!r} is empty, or one token with the end of the prompt: "
            "drop that pair"
        )
    return tuple(before[-(max_length - max(map(len, after))) :]), after


def check_tokens(pairs: Iterable[object]) -> None:
    """Stop where something else stands for pairs of tokens.

    Raises:
        PrefdynError: it does.
    """
    other = next((pair for pair in pairs if not isinstance(pair, TokenPair)), None)
    if other is not None:
        raise PrefdynError(
            f"a {type(other).__name__} is no TokenPair: make those by tokenize_pairs or tokenize_persona"
        )


def as_trees(pairs: Sequence[TokenPair]) -> list[Tree]:
    """Each pair's prompt with its responses, chosen before rejected."""
    check_tokens(pairs)
    return [(pair.prompt, (pair.chosen, pair.rejected)) for pair in pairs]


def log_probs(model: PreTrainedModel, pairs: Sequence[TokenPair], normalised: bool = False) -> LogProbs:
    """Log-probabilities of the pairs under the model, differentiable; run under the caller's autocast.

    Args:
        normalised: take the softmax over the whole vocabulary for one-token answers too, so that `chosen` and
            `rejected` are known.

    Raises:
        PrefdynError: something else stands for pairs of tokens.
    """
    check_tokens(pairs)
    if not normalised and all(pair.one_token for pair in pairs):
        return _answers(model, pairs)
    return of_responses(response_log_probs(model, as_trees(pairs)))


def of_responses(totals: Tensor) -> LogProbs:
    """Log-probabilities of pairs, of those of their responses, chosen before rejected, shape (2 n,)."""
    chosen, rejected = totals.view(-1, 2).unbind(1)
    return LogProbs(chosen - rejected, chosen, rejected)


def of_answers(log_ratio: Tensor) -> LogProbs:
    """Log-probabilities of pairs of one-token answers, of their log-ratios, shape (n,)."""
    unknown = torch.full_like(log_ratio, torch.nan).detach()
    return LogProbs(log_ratio, unknown, unknown)


def chosen_log_probs(model: PreTrainedModel, pairs: Sequence[TokenPair]) -> Tensor:
    """log pi(y_w|x) of each pair, shape (n,), float32, in nats; the rejected responses are not run.

    Differentiable.
    """
    return response_log_probs(model, [(pair.prompt, (pair.chosen,)) for pair in pairs])


def response_rows(
    prompts: Sequence[Tree], device: torch.device, one_by_one: bool | None = None
) -> tuple[PackedTrees, Tensor, Tensor, Tensor]:
    """Prompts with their responses as trees, and where their response tokens are.

    Of each of the R tokens: the row that predicts it, its id, and its branch. The last three have shape (R,).
    Branches are the responses, prompt after prompt; `one_by_one` is as in `pack`.
    """
    # The last prompt token predicts the first response token, so it is the tree's last shared token.
    trees = pack(prompts, device, one_by_one)
    lengths = trees.branch_lengths
    response_tokens = sum(len(response) for _, responses in prompts for response in responses)
    branch = torch.repeat_interleave(
        torch.arange(len(lengths), device=device), lengths, output_size=response_tokens
    )
    starts = torch.cumsum(lengths, 0) - lengths
    within = torch.arange(response_tokens, device=device) - starts[branch]
    tree = trees.branch_tree[branch]
    last_of_prompt = trees.prompt_slots[tree, trees.prompt_lengths[tree] - 1]
    before = torch.where(within > 0, trees.branch_slots[branch, (within - 1).clamp(min=0)], last_of_prompt)
    return trees, before, trees.input_ids[trees.branch_slots[branch, within]], branch


def _answers(model: PreTrainedModel, pairs: Sequence[TokenPair]) -> LogProbs:
    trees = pack_sequences([pair.prompt for pair in pairs], model.device)
    hidden = last_hidden_states(model, trees).index_select(0, trees.last_of_branch())
    chosen, rejected = torch.tensor(
        [(pair.chosen[0], pair.rejected[0]) for pair in pairs], device=model.device
    ).unbind(1)
    return of_answers(answer_log_ratios(model, hidden, chosen, rejected))


def answer_log_ratios(model: PreTrainedModel, hidden: Tensor, chosen: Tensor, rejected: Tensor) -> Tensor:
    """log pi(y_w|x) / pi(y_l|x) of one-token answers, shape (n,), float32.

    Args:
        hidden: the last state of each prompt, shape (n, d).
        chosen, rejected: token ids, shape (n,).
    """
    weight = model.get_output_embeddings().weight
    difference = weight.index_select(0, chosen) - weight.index_select(0, rejected)
    return (difference.float() * hidden.float()).sum(1)


def response_log_probs(model: PreTrainedModel, prompts: Sequence[Tree]) -> Tensor:
    """log pi(y|x) of every response, summed over its tokens, in nats, float32, differentiable.

    Args:
        prompts: token ids of each prompt, none of them empty, with those of its responses; a prompt is run
            once for all of them.

    Returns:
        Shape (responses,), prompt after prompt.
    """
    trees, before, targets, branch = response_rows(prompts, model.device)
    hidden = last_hidden_states(model, trees).index_select(0, before)
    return summed_log_probs(model, hidden, targets, branch, len(trees.branch_lengths))


def summed_log_probs(
    model: PreTrainedModel, hidden: Tensor, targets: Tensor, response: Tensor, responses: int
) -> Tensor:
    """log pi of each response, the sum over its tokens, shape (responses,).

    Args:
        hidden: the states that predict the tokens, shape (R, d).
        targets, response: of each token its id and its response, shape (R,).
    """
    tokens = token_log_probs(model.get_output_embeddings(), hidden, targets)
    return torch.zeros(responses, device=tokens.device).index_add(0, response, tokens)


def token_log_probs(unembed: Any, hidden: Tensor, targets: Tensor) -> Tensor:
    """log pi of each token, shape (R,), in nats, differentiable; under the caller's autocast.

    Beyond `KEPT_LOGITS`, backward makes the logits of a part of the tokens again, so that at no time those of
    more than `LOGIT_ROWS` tokens are held.

    Args:
        unembed: what makes logits of hidden states.
        hidden: the states that predict the tokens, shape (R, d).
        targets: their ids, shape (R,).
    """

    def part(rows: Tensor, ids: Tensor) -> Tensor:
        logits = unembed(rows)
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        return -F.cross_entropy(logits, ids, reduction="none")

    run: Callable[[Tensor, Tensor], Tensor] = part
    if len(targets) * unembed.weight.shape[0] > KEPT_LOGITS:
        draws = (
            type(unembed) is not nn.Linear
        )  # an adapter with dropout; a graph's capture has no random state
        run = functools.partial(checkpoint, part, use_reentrant=False, preserve_rng_state=draws)
    parts = zip(hidden.split(LOGIT_ROWS), targets.split(LOGIT_ROWS), strict=True)
    return torch.cat([run(*rows) for rows in parts])
