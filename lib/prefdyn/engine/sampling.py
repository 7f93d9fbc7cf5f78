"""Answers that a model gives when it is asked: sampled in batches, with a key-value cache."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import GenerationConfig

from prefdyn.engine.states import without_dropout
from prefdyn.errors import PrefdynError
from prefdyn.models import LanguageModel

BATCH = 32
"""Prompts answered at once."""
NEXT_TURN = "\n\nHuman:"
"""Where an answer in HH-RLHF's format is over, whatever the model goes on to write."""


@torch.no_grad()
def answers(
    lm: LanguageModel, prompts: Sequence[str], max_tokens: int, seed: int, temperature: float = 1.0
) -> list[str]:
    """An answer to each prompt, sampled from the model as it is.

    An answer ends where the model ends it, or where it begins the other speaker's next turn. The same seed,
    model, prompts and device give the same answers; the random numbers of others are left alone.

    Args:
        max_tokens: how long an answer may be, at least 1.
        temperature: above 0; 1 is the model's own distribution.

    Raises:
        PrefdynError: one of these is out of its range, a prompt is empty, a prompt with its answer is longer
            than the model has places for, or the tokenizer has no token to pad prompts with.
    """
    _check(lm, prompts, max_tokens, temperature)
    settings = GenerationConfig(
        max_new_tokens=max_tokens,
        do_sample=True,
        temperature=temperature,
        top_k=0,
        top_p=1.0,
        pad_token_id=lm.tokenizer.pad_token_id,
        eos_token_id=lm.tokenizer.eos_token_id,
        bos_token_id=lm.tokenizer.bos_token_id,
    )
    out: list[str] = []
    devices = [lm.device] if lm.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices), lm.autocast(), without_dropout(lm.model):
        torch.manual_seed(seed)
        for start in range(0, len(prompts), BATCH):
            batch = lm.tokenizer(
                list(prompts[start : start + BATCH]), return_tensors="pt", padding=True, padding_side="left"
            ).to(lm.device)
            made = lm.run(_generate, batch["input_ids"], batch["attention_mask"], settings)
            # Decoded with its prompt, for some tokenizers drop the space at the beginning of a text.
            before, texts = (
                lm.tokenizer.batch_decode(ids, skip_special_tokens=True) for ids in (batch["input_ids"], made)
            )
            told = [text[len(prompt) :] for prompt, text in zip(before, texts, strict=True)]
            out.extend(text.split(NEXT_TURN)[0].rstrip() for text in told)
    return out


def _check(lm: LanguageModel, prompts: Sequence[str], max_tokens: int, temperature: float) -> None:
    if max_tokens < 1 or not temperature > 0:
        raise PrefdynError(
            f"max_tokens is {max_tokens} and temperature {temperature}: an answer has at least 1 token, and "
            "is sampled at a temperature above 0"
        )
    if lm.tokenizer.pad_token_id is None:
        raise PrefdynError(
            f"the tokenizer of {lm.name!r} has no token to pad prompts with: set its pad_token"
        )
    lengths = [len(ids) for ids in lm.tokenizer(list(prompts))["input_ids"]] if prompts else []
    if 0 in lengths:
        raise PrefdynError(f"prompt {lengths.index(0)} is empty: nothing predicts its answer, drop it")
    places = getattr(lm.model.config.get_text_config(), "max_position_embeddings", None)
    if places and lengths and max(lengths) + max_tokens > places:
        raise PrefdynError(
            f"a prompt of {max(lengths)} tokens with an answer of {max_tokens} is longer than the {places} "
            f"that the model {lm.name!r} has places for"
        )


def _generate(model: Any, prompts: Tensor, seen: Tensor, settings: GenerationConfig) -> Tensor:
    return model.generate(input_ids=prompts, attention_mask=seen, generation_config=settings)
