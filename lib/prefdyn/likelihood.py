"""Log-likelihoods of chosen and rejected responses, exactly and without waste.

Where both answers are one token the softmax normaliser cancels: log pi(y_w|x)/pi(y_l|x) = (W[y_w] - W[y_l]) . g(x), so one hidden
state and two rows of W are all that is computed. Longer responses share their prompt, and logits are taken only where a response
token is predicted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import PreTrainedModel

from prefdyn.data import Pair, Persona
from prefdyn.errors import PrefdynError
from prefdyn.models import LanguageModel, answer_tokens
from prefdyn.packing import Tree, last_hidden_states, pack, pack_sequences

LOGIT_ROWS = 512
"""Positions whose V-wide logits are held at once."""


@dataclass(frozen=True)
class TokenPair:
    """A preference as token ids.

    Attributes:
        group: a name that records are kept by, such as the persona's.
    """

    prompt: tuple[int, ...]
    chosen: tuple[int, ...]
    rejected: tuple[int, ...]
    group: str

    @property
    def one_token(self) -> bool:
        return len(self.chosen) == len(self.rejected) == 1

    @property
    def length(self) -> int:
        """Tokens that a model sees of this pair."""
        return len(self.prompt) + (0 if self.one_token else len(self.chosen) + len(self.rejected))

    def remapped(self, index: dict[int, int]) -> TokenPair:
        """The same pair with every token id looked up in `index`."""
        prompt, chosen, rejected = (tuple(index[i] for i in ids) for ids in (self.prompt, self.chosen, self.rejected))
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
    """The persona task: chosen is Yes for statements the persona would say and No for the others (LD Section 3).

    Raises:
        PrefdynError: the tokenizer splits Yes or No.
    """
    yes, no = answer_tokens(lm.tokenizer)
    prompts = lm.tokenizer(persona.questions)["input_ids"]
    return [
        TokenPair(tuple(prompt), (yes if label > 0 else no,), (no if label > 0 else yes,), persona.name)
        for prompt, label in zip(prompts, persona.labels, strict=True)
    ]


def tokenize_pairs(lm: LanguageModel, pairs: Sequence[Pair], max_length: int = 512, group: str = "pairs") -> list[TokenPair]:
    """Pairs with text responses.

    The seam is lm-evaluation-harness's: trailing spaces of the prompt go to the response, and a response is what the prompt and it
    have together beyond the prompt alone. Prompts lose their beginning, then responses their end, to fit `max_length` tokens.

    Raises:
        PrefdynError: a prompt or a response is empty.
    """
    out = []
    for pair in pairs:
        bare = pair.prompt.rstrip()
        spaces = pair.prompt[len(bare) :]
        prompt = lm.tokenizer(bare)["input_ids"]
        if not prompt:
            raise PrefdynError(
                f"the prompt of the response {pair.chosen[:40]!r} is empty: nothing predicts its first token, drop that pair"
            )
        whole = lm.tokenizer([bare + spaces + pair.chosen, bare + spaces + pair.rejected])["input_ids"]
        responses = [ids[len(prompt) :][: max_length // 2] for ids in whole]
        if not all(responses):
            raise PrefdynError(f"a response to the prompt {pair.prompt[-40:]!r} is empty: drop that pair")
        room = max_length - max(map(len, responses))
        out.append(TokenPair(tuple(prompt[-room:]), tuple(responses[0]), tuple(responses[1]), group))
    return out


def log_probs(model: PreTrainedModel, pairs: Sequence[TokenPair], normalised: bool = False) -> LogProbs:
    """Log-probabilities of the pairs under the model, differentiable; run under the caller's autocast.

    Args:
        normalised: take the softmax over the whole vocabulary for one-token answers too, so that `chosen` and `rejected` are known.
    """
    if not normalised and all(pair.one_token for pair in pairs):
        return _answers(model, pairs)
    totals = _branch_log_probs(model, [(pair.prompt, (pair.chosen, pair.rejected)) for pair in pairs]).view(-1, 2)
    return LogProbs(totals[:, 0] - totals[:, 1], totals[:, 0], totals[:, 1])


def chosen_log_probs(model: PreTrainedModel, pairs: Sequence[TokenPair]) -> Tensor:
    """log pi(y_w|x) of each pair, shape (n,), float32, in nats; the rejected responses are not run. Differentiable."""
    return _branch_log_probs(model, [(pair.prompt, (pair.chosen,)) for pair in pairs])


def _answers(model: PreTrainedModel, pairs: Sequence[TokenPair]) -> LogProbs:
    trees = pack_sequences([pair.prompt for pair in pairs], model.device)
    hidden = last_hidden_states(model, trees)[trees.last_of_branch()].float()
    answers = torch.tensor([(pair.chosen[0], pair.rejected[0]) for pair in pairs], device=model.device)
    weight = model.get_output_embeddings().weight
    difference = weight[answers[:, 0]] - weight[answers[:, 1]]
    log_ratio = (difference.float() * hidden).sum(1)
    unknown = torch.full_like(log_ratio, torch.nan).detach()
    return LogProbs(log_ratio, unknown, unknown)


def _branch_log_probs(model: PreTrainedModel, branching: Sequence[Tree]) -> Tensor:
    """Log-probability of every branch given its prompt, in the order of the branches, shape (N,)."""
    # The last prompt token predicts the first response token, so it is the tree's last shared token.
    trees = pack(branching, model.device)
    hidden = last_hidden_states(model, trees)
    lengths = trees.branch_lengths
    response_tokens = sum(len(tail) for _, tails in branching for tail in tails)
    branch = torch.repeat_interleave(torch.arange(len(lengths), device=model.device), lengths, output_size=response_tokens)
    starts = torch.cumsum(lengths, 0) - lengths
    within = torch.arange(response_tokens, device=model.device) - starts[branch]
    tree = trees.branch_tree[branch]
    last_of_prompt = trees.prompt_slots[tree, trees.prompt_lengths[tree] - 1]
    before = torch.where(within > 0, trees.branch_slots[branch, (within - 1).clamp(min=0)], last_of_prompt)
    targets = trees.input_ids[trees.branch_slots[branch, within]]
    unembed = model.get_output_embeddings()
    tokens = torch.cat(
        [
            -F.cross_entropy(unembed(hidden[rows]).float(), target, reduction="none")
            for rows, target in zip(before.split(LOGIT_ROWS), targets.split(LOGIT_ROWS), strict=True)
        ]
    )
    return torch.zeros(len(lengths), device=model.device).index_add(0, branch, tokens)
