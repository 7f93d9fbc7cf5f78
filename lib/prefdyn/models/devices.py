"""Where models run, and in which precision their matrix products are done."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import psutil
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
    found = re.fullmatch(r"(\w+)(?::(0|[1-9][0-9]*))?", device)
    kind, index = found.groups("0") if found else ("", "0")
    count = torch.cuda.device_count() if kind == "cuda" else 1
    if not available.get(kind, False) or int(index) >= count:
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
        # From Ampere on; `torch.cuda.is_bf16_supported` counts what older GPUs emulate, slowly.
        return "bfloat16" if torch.cuda.get_device_capability(device) >= (8, 0) else "float32"
    capable = device.type == "cpu" and any(
        torch.cpu.get_capabilities().get(key) for key in ("avx512_bf16", "amx_bf16")
    )
    return "bfloat16" if capable else "float32"


def free_memory(device: torch.device) -> float:
    """Bytes that can be had on the device now."""
    if device.type == "cuda":
        # What PyTorch has reserved and does not use is there for the next tensors.
        kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return float(torch.cuda.mem_get_info(device)[0] + kept)
    return float(min(psutil.virtual_memory().available, *_left_by_control_groups(Path("/"))))


def _left_by_control_groups(root: Path) -> Iterator[int]:
    """Bytes that this process's control group, and each one above it, still allows, where they have limits.

    What caches files counts as free: the kernel takes it back before it kills.
    """
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:  # not Linux
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        top, limit, used, prefix = root / "sys/fs/cgroup", "max", "current", ""  # version 2
        if controllers:
            top, limit, used, prefix = top / "memory", "limit_in_bytes", "usage_in_bytes", "total_"
        if controllers and "memory" not in controllers.split(","):
            continue
        group = top / path.lstrip("/")
        for folder in (group, *group.parents):
            if folder.is_relative_to(top):
                # Without a limit it says "max"; and in a container, groups above its own are not there.
                with contextlib.suppress(OSError, ValueError):
                    left = int((folder / f"memory.{limit}").read_text())
                    left -= int((folder / f"memory.{used}").read_text())
                    held = dict(map(str.split, (folder / "memory.stat").read_text().splitlines()))
                    cached = ("active_file", "inactive_file")
                    yield left + sum(int(held.get(f"{prefix}{name}", 0)) for name in cached)
