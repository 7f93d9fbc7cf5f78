"""Which device there is, and how much memory it has left."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest
import torch

from prefdyn.errors import PrefdynError
from prefdyn.models import devices

CPU = torch.device("cpu")


def test_free_memory_is_no_more_than_there_is() -> None:
    assert 0 < devices.free_memory(CPU) <= psutil.virtual_memory().total


GIB = 2**30
V2 = {
    "proc/self/cgroup": "0::/user.slice/session.scope\n",
    "sys/fs/cgroup/user.slice/memory.max": f"{4 * GIB}\n",
    "sys/fs/cgroup/user.slice/memory.current": f"{3 * GIB}\n",
    "sys/fs/cgroup/user.slice/memory.stat": f"anon 5\ninactive_file {GIB}\nactive_file {GIB // 2}\n",
    "sys/fs/cgroup/user.slice/session.scope/memory.max": "max\n",
    "sys/fs/cgroup/user.slice/session.scope/memory.current": f"{GIB}\n",
    "sys/fs/cgroup/user.slice/session.scope/memory.stat": "anon 5\n",
}
V1 = {
    "proc/self/cgroup": "5:cpu,cpuacct:/\n4:memory:/docker/abc\n0::/\n",
    "sys/fs/cgroup/memory/memory.limit_in_bytes": f"{2 * GIB}\n",
    "sys/fs/cgroup/memory/memory.usage_in_bytes": f"{GIB}\n",
    "sys/fs/cgroup/memory/memory.stat": f"inactive_file 1\ntotal_inactive_file {GIB // 4}\n",
}
"""As the kernel's documents have these files; in the second, those of the container lie at the root."""


@pytest.mark.parametrize(
    ("files", "left"),
    [
        (V2, [2.5 * GIB]),
        (V2 | {"sys/fs/cgroup/user.slice/session.scope/memory.max": f"{2 * GIB}\n"}, [GIB, 2.5 * GIB]),
        (V2 | {"sys/fs/cgroup/user.slice/memory.max": "max\n"}, []),
        (V1, [1.25 * GIB]),
        ({"proc/self/cgroup": "0::/../../elsewhere\n"}, []),
        ({}, []),
    ],
    ids=["above", "own and above", "no limit", "version 1", "not mounted", "not Linux"],
)
def test_limits_of_control_groups_count(tmp_path: Path, files: dict[str, str], left: list[float]) -> None:
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content)
    assert list(devices._left_by_control_groups(tmp_path)) == left


def test_free_memory_is_what_the_control_group_leaves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "_left_by_control_groups", lambda root: iter([3 * GIB, 1000]))
    assert devices.free_memory(CPU) == 1000


@pytest.mark.parametrize("device", ["cpu:", "cpu:00", "cpu:1", "cpu:-0", "gpu", "", "cuda:9999"])
def test_device_that_is_none_is_one_sentence(device: str) -> None:
    with pytest.raises(PrefdynError, match="is not available on this machine: choose auto or one of"):
        devices.choose_device(device)


@pytest.mark.gpu
def test_free_memory_of_a_gpu_is_its_own(cuda: torch.device) -> None:
    free = devices.free_memory(torch.device("cuda:0"))
    assert 0 < free <= torch.cuda.get_device_properties(0).total_memory
