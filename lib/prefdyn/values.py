"""Values in files that run no code when they are read: arrays as npz, all else as JSON.

A value is a tree of plain values, lists, tuples, dicts, arrays, tables and this library's dataclasses, and
comes back as it was, to the bit. A file begins with a line that says what the value is called, its checksum
and its length; all three are compared before anything is parsed.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

Arrays = dict[str, NDArray[Any]]
PLAIN = (type(None), bool, int, float, str)
TREE = "tree"
"""The array that holds the JSON."""
LONGEST_HEAD = 400


def save(value: Any, path: Path, name: str) -> None:
    """Write a value.

    Raises:
        TypeError: something in it is not of the kinds above.
    """
    arrays: Arrays = {}
    tree = json.dumps(_flat(value, arrays))
    arrays[TREE] = np.frombuffer(tree.encode(), dtype=np.uint8)
    with open(path, "w+b") as file:
        start = file.write(_head(name, "0" * 64, 0))
        np.savez(file, **arrays)  # type: ignore[arg-type]
        file.seek(start)
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        length = file.tell() - start
        file.seek(0)
        file.write(_head(name, digest, length))


def load(path: Path, name: str) -> Any:
    """Read the value that was saved under this name.

    Raises:
        ValueError: the file is not as it was written, or holds another value.
    """
    with open(path, "rb") as file:
        head = file.readline(LONGEST_HEAD)
        length = os.fstat(file.fileno()).st_size - len(head)
        if not head.startswith(_head(name)):
            raise ValueError("it is another's, or none")
        if not head.endswith(f" {length:016d}\n".encode()):
            raise ValueError("its length is not the one noted")
        if head != _head(name, hashlib.file_digest(file, "sha256").hexdigest(), length):
            raise ValueError("its checksum is not the one noted")
        file.seek(len(head))
        with np.load(file, allow_pickle=False) as held:
            arrays = {part: held[part] for part in held}
    return _whole(json.loads(arrays.pop(TREE).tobytes()), arrays)


def fingerprint(value: Any) -> str:
    """The hash of a value: 32 hexadecimal digits of SHA-256."""
    arrays: Arrays = {}
    digest = hashlib.sha256(json.dumps(_flat(value, arrays)).encode())
    for array in arrays.values():
        digest.update(f"{array.dtype.str}{array.shape}".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()[:32]


def _head(name: str, digest: str = "", length: int = 0) -> bytes:
    """The first line; without a checksum its beginning."""
    return f"prefdyn {name} ".encode() + (f"{digest} {length:016d}\n".encode() if digest else b"")


# Trees ----------------------------------------------------------------------------------------------


def _flat(value: Any, arrays: Arrays) -> Any:
    """A value as JSON has it, its arrays put aside; what JSON has not is an object of one word."""

    def flat(part: Any) -> Any:
        return _flat(part, arrays)

    kind = type(value)
    if kind in PLAIN:
        return value
    if kind is list:
        return [flat(part) for part in value]
    if kind is tuple:
        return {"tuple": [flat(part) for part in value]}
    if kind is dict:
        return {"dict": [[flat(word), flat(part)] for word, part in value.items()]}
    if isinstance(value, np.ndarray | np.generic) and not value.dtype.hasobject:
        arrays[name := str(len(arrays))] = np.asarray(value)
        return {"array" if kind is np.ndarray else "scalar": name}
    if kind is pd.DataFrame:
        columns = [_flat_column(value.iloc[:, i], arrays) for i in range(value.shape[1])]
        return {"frame": [_flat_index(value.columns, arrays), _flat_index(value.index, arrays), columns]}
    name = f"{kind.__module__}:{kind.__qualname__}"
    if dataclasses.is_dataclass(kind) and _own(name) is kind:
        fields = {field.name: getattr(value, field.name) for field in dataclasses.fields(kind)}
        return {"own": [name, flat(fields)]}
    raise TypeError(f"a {name} cannot be kept")


def _flat_column(column: pd.Series | pd.Index, arrays: Arrays) -> Any:
    if isinstance(column.dtype, np.dtype) and column.dtype.kind in "biuf":
        return _flat(column.to_numpy(), arrays)
    if str(column.dtype) not in ("object", "str"):
        raise TypeError(f"a column of {column.dtype} cannot be kept")
    return {"column": [str(column.dtype), [_flat(part, arrays) for part in column.tolist()]]}


def _flat_index(index: pd.Index, arrays: Arrays) -> Any:
    if type(index) is pd.RangeIndex:
        return {"range": [index.start, index.stop, index.step, _flat(index.name, arrays)]}
    if isinstance(index, pd.MultiIndex):
        raise TypeError("a table with several indices cannot be kept")
    return {"index": [_flat_column(index, arrays), _flat(index.name, arrays)]}


def _whole(tree: Any, arrays: Mapping[str, NDArray[Any]]) -> Any:
    """The value that `_flat` put down."""

    def whole(part: Any) -> Any:
        return _whole(part, arrays)

    if isinstance(tree, list):
        return [whole(part) for part in tree]
    if not isinstance(tree, dict):
        return tree
    ((kind, held),) = tree.items()
    match kind:
        case "tuple":
            return tuple(whole(held))
        case "dict":
            return {whole(word): whole(part) for word, part in held}
        case "array":
            return arrays[held]
        case "scalar":
            return arrays[held][()]
        case "frame":
            columns, index, parts = whole(held)
            frame = pd.DataFrame(dict(enumerate(parts)), index=index)
            frame.columns = columns
            return frame
        case "column":
            return pd.array(whole(held[1]), dtype=held[0])
        case "range":
            start, stop, step, name = whole(held)
            return pd.RangeIndex(start, stop, step, name=name)
        case "index":
            return pd.Index(whole(held[0]), name=whole(held[1]))
        case "own":
            return _own(held[0])(**whole(held[1]))
    raise ValueError(f"it holds a {kind!r}, which is none of this library's")


def _own(name: str) -> type:
    """A dataclass of this library by its module and name.

    Raises:
        ValueError: it is none.
    """
    module, _, inside = name.partition(":")
    if module.partition(".")[0] == __package__:
        found = getattr(importlib.import_module(module), inside, None)
        if isinstance(found, type) and dataclasses.is_dataclass(found) and found.__module__ == module:
            return found
    raise ValueError(f"{name} is no dataclass of this library")
