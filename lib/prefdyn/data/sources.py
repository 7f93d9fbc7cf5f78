"""Where preferences come from (the sample, the hub, or a folder), and how their files are read."""

from __future__ import annotations

import gzip
import json
import re
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from prefdyn.errors import PrefdynError, first_line
from prefdyn.files import at_home

SAMPLE = Path(__file__).parent / "samples"
"""The folder of the embedded sample."""

SURROGATE = re.compile("[\ud800-\udfff]")

Source = Literal["sample", "hub"] | str | Path
"""Where data comes from: "sample", "hub", or a folder in the publishers' layout."""


def read_jsonl(path: Path, fields: Mapping[str, type]) -> Iterator[tuple[int, dict[str, Any]]]:
    """The lines of a JSON Lines file, plain or gzipped: their numbers (from 1) and objects.

    Each object has the named fields of the named types.

    Raises:
        PrefdynError: the file is missing, empty or damaged, or a line is no such object; the message names
            file, line and field.
    """
    opener = gzip.open if path.suffix == ".gz" else open
    empty = True
    number = 0
    try:
        with opener(path, "rt", encoding="utf-8") as lines:
            for number, line in enumerate(lines, start=1):
                if not line.strip():
                    continue
                empty = False
                try:
                    row = json.loads(line)
                except (ValueError, RecursionError) as error:
                    at = f" at column {error.colno}" if isinstance(error, json.JSONDecodeError) else ""
                    raise PrefdynError(
                        f"{path}, line {number}: not valid JSON ({getattr(error, 'msg', error)}{at})"
                    ) from error
                if not isinstance(row, dict):
                    raise PrefdynError(
                        f"{path}, line {number}: expected a JSON object with {', '.join(fields)}"
                    )
                for field, kind in fields.items():
                    if field not in row:
                        raise PrefdynError(f"{path}, line {number}: the field {field!r} is missing")
                    if not isinstance(row[field], kind):
                        found = type(row[field]).__name__
                        raise PrefdynError(
                            f"{path}, line {number}: the field {field!r} is a {found}, "
                            f"it must be a {kind.__name__}"
                        )
                    check_text(row[field], f"{path}, line {number}: the field {field!r}")
                yield number, row
    except FileNotFoundError as error:
        raise PrefdynError(f"{path}: no such file") from error
    except (gzip.BadGzipFile, zlib.error, EOFError, UnicodeDecodeError) as error:
        raise PrefdynError(
            f"{path}: the file is damaged after line {number} ({error}): fetch it again"
        ) from error
    except OSError as error:
        raise PrefdynError(f"{path}: the file cannot be read ({error.strerror or error})") from error
    if empty:
        raise PrefdynError(f"{path}: the file is empty")


def check_text(value: Any, what: str) -> None:
    """Stop at half a character: JSON can write one, and no tokenizer can read it.

    Raises:
        PrefdynError: the value is such a text.
    """
    if isinstance(value, str) and SURROGATE.search(value):
        raise PrefdynError(f"{what} holds half a character (a lone surrogate): remove it")


def check_length(text: str, longest: int, what: str) -> None:
    """Stop at a text that a model could not read at once.

    Raises:
        PrefdynError: it has more characters than `longest`.
    """
    if len(text) > longest:
        raise PrefdynError(f"{what} has {len(text)} characters, it may have {longest}")


@contextmanager
def from_hub(repository: str) -> Iterator[None]:
    """One sentence for whatever the hub's clients raise.

    Each has errors of its own, and its HTTP library's besides.
    """
    try:
        yield
    except Exception as error:
        raise PrefdynError(
            f"{repository} cannot be fetched from the hub ({first_line(error)}): "
            "check the network, or give --data a folder"
        ) from error


def folder_of(source: Source, inside: Path) -> Path:
    """A folder inside the sample or a local folder.

    Raises:
        PrefdynError: it is not there.
    """
    root = SAMPLE if source == "sample" else at_home(source)
    folder = root / inside
    if not folder.is_dir():
        raise PrefdynError(
            f"{root}: no folder {inside}/ there; --data takes 'sample', 'hub' or a folder that holds one"
        )
    return folder
