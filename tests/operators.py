"""What a computation launches, counted on a CPU or on the device "meta"."""

from __future__ import annotations

from collections import Counter
from typing import Any

from torch.utils._python_dispatch import TorchDispatchMode

LAUNCH_NOTHING = {
    "_unsafe_view",
    "empty",
    "empty_like",
    "_record_function_enter_new",
    "_record_function_exit",
}
"""Operators that only look at a tensor, make room for one, or mark a place in a profile."""


class Operators(TorchDispatchMode):
    """Counts what is run, but for views and whatever else launches nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.ran: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        if not func.is_view and name not in LAUNCH_NOTHING:
            self.ran[name] += 1
        return func(*args, **(kwargs or {}))


def waits_or_sorts(ran: Counter[str]) -> list[str]:
    """Names of those that a GPU would sort for, or wait for a number in."""
    unwanted = ("index_put", "sort", "nonzero", "local_scalar")
    return [name for name in ran if any(word in name for word in unwanted)]
