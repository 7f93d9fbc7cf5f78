"""Low-rank adapters (Hu et al. 2021), by peft."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from prefdyn.errors import PrefdynError, extra, first_line
from prefdyn.models import LanguageModel


@contextmanager
def adapted(lm: LanguageModel, rank: int, alpha: int, dropout: float, seed: int = 0) -> Iterator[None]:
    """While it lasts, some linear layers carry trainable adapters, and training moves only those.

    They are peft's own choice for the architecture: query and value projections, fused or not. The
    adapters start at zero effect (B = 0), so the model inside is at first the model outside; afterwards they
    are gone.

    Raises:
        PrefdynError: peft does not know the model's architecture.
    """
    with extra("train"):
        from peft import LoraConfig, inject_adapter_in_model
        from peft.tuners.lora import LoraLayer

    config = LoraConfig(r=rank, lora_alpha=alpha, lora_dropout=dropout)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        try:
            inject_adapter_in_model(config, lm.model)
        except ValueError as error:
            raise PrefdynError(
                f"LoRA finds no layers to adapt in the model {lm.name!r} ({first_line(error)}): "
                "choose another, or train all weights"
            ) from error
        for module in lm.model.modules():
            if isinstance(module, LoraLayer):
                module.train()
        try:
            yield
        finally:
            for name, module in list(lm.model.named_modules()):
                if isinstance(module, LoraLayer):
                    parent, _, child = name.rpartition(".")
                    setattr(lm.model.get_submodule(parent), child, module.get_base_layer())
            lm.model.eval().requires_grad_(False)
            if hasattr(lm.model, "peft_config"):
                del lm.model.peft_config
