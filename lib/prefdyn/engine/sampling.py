"""Answers that a model gives when it is asked: sampled in batches, with a key-value cache."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import GenerationConfig

from prefdyn.engine.states import without_dropout
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
        max_tokens: how long an answer may be.
        temperature: 1 is the model's own distribution.
    """
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
            texts = lm.tokenizer.batch_decode(
                made[:, batch["input_ids"].shape[1] :], skip_special_tokens=True
            )
            out.extend(text.split(NEXT_TURN)[0].rstrip() for text in texts)
    return out


def _generate(model: Any, prompts: Tensor, seen: Tensor, settings: GenerationConfig) -> Tensor:
    return model.generate(input_ids=prompts, attention_mask=seen, generation_config=settings)
