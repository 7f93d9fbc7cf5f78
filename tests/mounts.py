"""Disks that are full or read-only, and files that may not be read, whoever runs the tests."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

TINY = 'mount -t tmpfs -o size=48k none "$0"'
READ_ONLY = 'mount --bind "$0" "$0" && mount -o remount,bind,ro "$0"'


def run_with(
    mount: str, folder: Path, command: Sequence[str | Path], **options: Any
) -> subprocess.CompletedProcess[str]:
    """Run a command for which a folder is a disk of 48 KiB (`TINY`) or cannot be written (`READ_ONLY`), in a
    mount namespace of its own.
    """
    namespace = ["unshare", "--map-root-user", "--mount"]
    if not shutil.which("unshare") or subprocess.run([*namespace, "true"], capture_output=True).returncode:
        pytest.skip("no mount namespaces: Linux has them, where they are not switched off")
    shell = ["sh", "-c", f'{mount} && exec "$@"', str(folder), *map(str, command)]
    return subprocess.run([*namespace, *shell], capture_output=True, text=True, check=False, **options)


def run_as_anybody(command: Sequence[str | Path], **options: Any) -> subprocess.CompletedProcess[str]:
    """Run a command for which a file's permissions hold, even if root runs the tests."""
    drop = ["setpriv", "--bounding-set", "-dac_override,-dac_read_search", "--"] if os.geteuid() == 0 else []
    if drop and not shutil.which("setpriv"):
        pytest.skip("root may read any file: run the tests as somebody else, or install setpriv")
    return subprocess.run([*drop, *map(str, command)], capture_output=True, text=True, check=False, **options)
