"""Where models run, and in which precision their matrix products are done."""

from __future__ import annotations

from typing import Literal

import torch

from prefdyn.errors import PrefdynError

Precision = Literal["float32", "bfloat16"]
"""What matrix products are done in."""


def choose_device(device: str = "auto") -> torch.device:
    """CUDA, else MPS, else the CPU, unless one is named.

    Raises:
        PrefdynError: the named device is not here.
    """
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if device == "auto":
        return torch.device(next(kind for kind, here in available.items() if here))
    kind, _, index = device.partition(":")
    count = torch.cuda.device_count() if kind == "cuda" else 1
    if not available.get(kind, False) or not (index or "0").isdecimal() or int(index or 0) >= count:
        here = ", ".join(kind for kind, present in available.items() if present)
        raise PrefdynError(
            f"the device {device!r} is not available on this machine: choose auto or one of {here}"
        )
    return torch.device(device)


def out_of_memory(error: BaseException) -> bool:
    """Whether memory was asked for that the host or the device does not have."""
    words = "can't allocate memory"  # of torch, on a CPU
    return isinstance(error, (MemoryError, torch.OutOfMemoryError)) or words in str(error)


def choose_precision(device: torch.device, precision: str = "auto") -> Precision:
    """bfloat16 autocast where the device multiplies it natively, else float32, unless one is named."""
    if precision in ("float32", "bfloat16"):
        return precision  # type: ignore[return-value]
    if precision != "auto":
        raise PrefdynError(f"the precision {precision!r} is unknown: choose auto, float32 or bfloat16")
    if device.type == "cuda":
        return "bfloat16" if torch.cuda.is_bf16_supported() else "float32"
    capable = device.type == "cpu" and any(
        torch.cpu.get_capabilities().get(key) for key in ("avx512_bf16", "amx_bf16")
    )
    return "bfloat16" if capable else "float32"
