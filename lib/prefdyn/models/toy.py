"""The smoke model: small, so that every experiment runs in seconds, and random, so that it means nothing."""

from __future__ import annotations

import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel, PreTrainedTokenizerFast

from prefdyn.models.token_trees import ATTENTION

FINGERPRINT = "smoke-1"


def make() -> tuple[PreTrainedModel, PreTrainedTokenizerFast]:
    """A two-layer Llama with random weights, and a byte tokenizer in which " Yes" and " No" are tokens."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    merges = [
        ("Y", "e"),
        ("Ye", "s"),
        ("Ġ", "Yes"),
        ("N", "o"),
        ("Ġ", "No"),
        ("Ġ", "t"),
        ("h", "e"),
        ("Ġt", "he"),
    ]
    pieces = ["<|end|>", *sorted(pre_tokenizers.ByteLevel.alphabet()), *("".join(pair) for pair in merges)]
    bytes_only = Tokenizer(
        models.BPE(vocab={piece: number for number, piece in enumerate(pieces)}, merges=merges)
    )
    bytes_only.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bytes_only.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=bytes_only, eos_token="<|end|>", pad_token="<|end|>")
    config = LlamaConfig(
        vocab_size=len(pieces),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=4096,
        tie_word_embeddings=True,
        initializer_range=0.2,
        eos_token_id=0,
        bos_token_id=None,
        pad_token_id=0,
    )
    config._attn_implementation = ATTENTION
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return LlamaForCausalLM(config), tokenizer
