"""Real architectures with random weights and a tokenizer learned from the embedded sample: no download.

How long a step takes depends on the shapes and not on the numbers, and on the lengths of texts in tokens,
which the tokenizer makes about as short as those of today do.
"""

from __future__ import annotations

import copy

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    AutoModelForCausalLM,
    GPTNeoXConfig,
    LlamaConfig,
    PreTrainedConfig,
    PreTrainedTokenizerFast,
)

from prefdyn import data
from prefdyn.data import TEMPLATE
from prefdyn.models import LanguageModel, devices
from prefdyn.models.token_trees import ATTENTION


def _neox(width: int, layers: int, heads: int) -> GPTNeoXConfig:
    return GPTNeoXConfig(
        vocab_size=50304,
        hidden_size=width,
        intermediate_size=4 * width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        max_position_embeddings=2048,
    )


def _llama(
    vocabulary: int, width: int, inner: int, layers: int, heads: int, groups: int, tied: bool
) -> LlamaConfig:
    return LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=width,
        intermediate_size=inner,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=groups,
        max_position_embeddings=8192,
        tie_word_embeddings=tied,
    )


SHAPES: dict[str, PreTrainedConfig] = {
    "smoke": _llama(4096, 32, 64, 2, 4, 2, True),
    "135m": _llama(49152, 576, 1536, 30, 9, 3, True),  # SmolLM2-135M
    "410m": _neox(1024, 24, 16),  # Pythia-410m, and so on
    "1.4b": _neox(2048, 24, 16),
    "2.8b": _neox(2560, 32, 32),
    "8b": _llama(128256, 4096, 14336, 32, 32, 8, False),  # Llama-3.1-8B
}


def load(shape: str, device: str) -> LanguageModel:
    """A model of that shape, with the same random weights every time on one kind of device."""
    target = devices.choose_device(device)
    config = copy.deepcopy(SHAPES[shape])
    config.bos_token_id, config.eos_token_id, config.pad_token_id = None, 0, 0
    torch.manual_seed(0)
    with target:
        model = AutoModelForCausalLM.from_config(config, attn_implementation=ATTENTION, dtype=torch.float32)
    model.eval().requires_grad_(False)
    return LanguageModel(f"random {shape}", "random", model, tokenizer(), devices.choose_precision(target))


def tokenizer() -> PreTrainedTokenizerFast:
    """Byte pairs of the sample's questions and dialogues, 4,000 pieces."""
    end = "<|end|>"
    texts = [
        TEMPLATE.format(statement=statement) + answer
        for name in data.persona_names()
        for statement in data.load_persona(name).statements
        for answer in (" Yes", " No")
    ]
    texts += [text for pair in data.load_pairs() for text in (pair.prompt, pair.chosen, pair.rejected)]
    learned = Tokenizer(models.BPE())
    learned.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    learned.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    learned.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=4000, special_tokens=[end], initial_alphabet=alphabet, show_progress=False
        ),
    )
    return PreTrainedTokenizerFast(tokenizer_object=learned, eos_token=end, pad_token=end)
