"""A process of its own that does one kind of work, and prints what it held at most.

Its arguments are the kind ("adapt", "train") and a shape: vocabulary, width, inner width, layers,
pairs, and tokens of a prompt and of a response.
"""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from prefdyn.engine.likelihood import TokenPair
from prefdyn.engine.lora import adapted
from prefdyn.engine.training import Settings, fine_tune
from prefdyn.engine.weights import restoring
from prefdyn.models import loading
from prefdyn.models.token_trees import ATTENTION


def peak() -> int:
    """Bytes that this process has held at most; Linux alone counts them from its own start."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    (line,) = [line for line in status.splitlines() if line.startswith("VmHWM:")]
    return 1024 * int(line.split()[1])


def main(kind: str, vocabulary: int, width: int, inner: int, layers: int, count: int, *tokens: int) -> None:
    torch.set_num_threads(1)
    lm = loading.load("smoke", device="cpu", precision="float32")  # with all libraries
    before = peak()
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=width,
        intermediate_size=inner,
        num_hidden_layers=layers,
        num_attention_heads=width // 64,
        tie_word_embeddings=True,
        attn_implementation=ATTENTION,
    )
    lm = replace(lm, model=LlamaForCausalLM(config).eval().requires_grad_(False))
    rng = np.random.default_rng(0)
    prompt, response = tokens
    pairs = [
        TokenPair(
            *(tuple(rng.integers(vocabulary, size=n).tolist()) for n in (prompt, response, response)), ""
        )
        for _ in range(count)
    ]
    settings = Settings(learning_rate=1e-4, steps=2, batch_size=count, beta=0.1)
    with adapted(lm, rank=8, alpha=16, dropout=0.0) if kind == "adapt" else restoring(lm):
        fine_tune(lm, pairs, settings)
    print(json.dumps({"libraries": before, "work": peak() - before}))


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
