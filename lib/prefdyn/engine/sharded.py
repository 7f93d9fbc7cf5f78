"""A model that one device cannot hold, spread over several: its weights, gradients and moments by FSDP2.

Every process runs the same program on the same preferences, and takes its share of each part of a batch.
Gradients are summed and records gathered over all of them, so that they are those of one process up to the
rounding of sums. Each layer's weights are brought together while it runs, and those outside the layers while
the function runs that is given the model: a tied unembedding is used there, not in the model's own forward.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, set_model_state_dict
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor
from transformers import PreTrainedModel
from transformers.initialization import no_init_weights

from prefdyn.engine.likelihood import LogProbs
from prefdyn.errors import PrefdynError
from prefdyn.models import LanguageModel, Precision, loading
from prefdyn.models.token_trees import ATTENTION

T = TypeVar("T")


class _Runs(nn.Module):
    """What is sharded: its forward is any function of the model."""

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, function: Callable[..., Any], *arguments: Any) -> Any:
        found = function(self.model, *arguments)
        # FSDP2 warns of views, which it could not follow if somebody wrote to them.
        return type(found)(*(part.clone() for part in found)) if isinstance(found, LogProbs) else found


@dataclass(frozen=True)
class ShardedModel(LanguageModel):
    """A language model of which each process of the default group holds a part.

    Attributes:
        runs: the sharded module around the model.
    """

    runs: nn.Module

    @property
    def unembedding(self) -> Tensor:
        return self.model.get_output_embeddings().weight.full_tensor()

    def run(self, function: Callable[..., T], *arguments: Any) -> T:
        return self.runs(function, *arguments)

    @property
    def process(self) -> int:
        return dist.get_rank()

    @property
    def processes(self) -> int:
        return dist.get_world_size()

    def total(self, values: Tensor) -> Tensor:
        dist.all_reduce(values)
        return values

    def gathered(self, part: T) -> list[T]:
        parts: list[Any] = [None] * self.processes
        dist.all_gather_object(parts, part)
        return parts

    def sum_gradients(self, weights: Iterable[Tensor]) -> None:
        """Of adapters, which every process has whole; the others' are summed where they are made."""
        for weight in weights:
            if not isinstance(weight, DTensor) and weight.grad is not None:
                self.total(weight.grad)


def load(name: str, device: torch.device, precision: Precision) -> ShardedModel:
    """Load a model by name, spread over the processes of the default group.

    Its weights are read by the first process alone, into the host's memory.

    Args:
        device: this process's.

    Raises:
        PrefdynError: what `models.load` raises, in the first process; a model whose layers have no name.
    """
    about: list[Any] = [None]
    whole: dict[str, Any] = {}
    if dist.get_rank() == 0:
        lm = loading.load(name, "cpu")
        model, whole = lm.model, dict(lm.model.state_dict())
        about = [(lm.name, lm.fingerprint, type(model), model.config, lm.tokenizer)]
    dist.broadcast_object_list(about)
    full_name, fingerprint, kind, config, tokenizer = about[0]
    if dist.get_rank() > 0:
        config._attn_implementation = ATTENTION
        with no_init_weights():  # memory that nobody writes to is not taken
            model = kind(config).eval().requires_grad_(False)
        model.tie_weights()
    kinds = model._no_split_modules or ()
    layers = [module for module in model.modules() if type(module).__name__ in kinds]
    if not layers:
        raise PrefdynError(f"the model {name!r} does not say what its layers are, so it cannot be sharded")
    runs = _Runs(model)
    mesh = init_device_mesh(device.type, (dist.get_world_size(),))
    for module in (*layers, runs):
        sharded = fully_shard(module, mesh=mesh, reshard_after_forward=True)
        sharded.set_gradient_divide_factor(1.0)  # the loss is divided by the whole batch's weight already
        sharded.set_force_sum_reduction_for_comms(True)  # gloo has no other
    options = StateDictOptions(full_state_dict=True, broadcast_from_rank0=True)
    set_model_state_dict(model, whole, options=options)
    return ShardedModel(full_name, fingerprint, model, tokenizer, precision, runs)
