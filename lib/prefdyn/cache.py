"""Results of expensive work, kept on disk by content: what they were made from decides where they lie.

joblib writes and hashes them; its zlib compression carries the checksum by which a damaged entry is noticed.
"""

from __future__ import annotations

import errno
import functools
import hashlib
import importlib.metadata
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import joblib

from prefdyn.errors import PrefdynError
from prefdyn.files import atomic_file, cache_folder

Result = TypeVar("Result")

MEASURING_CODE = (
    *("data", "models", "packing", "features", "likelihood", "losses", "objectives", "training", "lora", "unembedding", "workbench"),
)
"""Modules whose change makes kept results stale."""


@functools.cache
def code_version() -> str:
    """A short hash of the modules that measure, and of the packages that compute for them."""
    digest = hashlib.sha256()
    for package in ("torch", "transformers"):
        digest.update(importlib.metadata.version(package).encode())
    for name in MEASURING_CODE:
        digest.update((Path(__file__).parent / f"{name}.py").read_bytes())
    return digest.hexdigest()[:16]


def cached(kind: str, key: Mapping[str, Any], compute: Callable[[], Result]) -> Result:
    """The result of `compute`, from the cache if the same work was done before.

    Args:
        kind: a word for the folder.
        key: everything that the result depends on, but for the code, which is added here.

    Raises:
        PrefdynError: the disk is full; what was finished before stays.
    """
    name = joblib.hash({"code": code_version(), **key})
    path = cache_folder() / "results" / kind / f"{name}.joblib"
    if path.is_file():
        try:
            return joblib.load(path)
        except Exception as error:  # what a flipped byte raises depends on where it lies: zlib, struct, pickle, memory
            print(f"prefdyn: the kept result {path} is damaged ({error or type(error).__name__}); making it again", flush=True)
    result = compute()
    try:
        with atomic_file(path) as made:
            joblib.dump(result, made, compress=("zlib", 1))
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise PrefdynError(f"the disk of {path.parent} is full: make room, or set PREFDYN_CACHE to another disk") from error
        raise
    return result
