"""Where the book is: the folder that holds _config.yml and book/; and how its YAML files are read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from prefdyn.errors import PrefdynError


def find_root(start: Path | None = None) -> Path:
    """The nearest folder at or above `start` (by default the working folder) that holds the book.

    Raises:
        PrefdynError: there is none.
    """
    here = (start or Path.cwd()).resolve()
    for folder in (here, *here.parents):
        if (folder / "_config.yml").is_file() and (folder / "book").is_dir():
            return folder
    raise PrefdynError(f"{here} is not inside the book: go to the folder that holds _config.yml and book/")


def home() -> Path:
    """The book worked in, else the one whose checkout this library is installed from: a notebook can be run
    from anywhere.

    Raises:
        PrefdynError: there is neither.
    """
    try:
        return find_root()
    except PrefdynError:
        return find_root(Path(__file__))


def chapters(root: Path) -> list[str]:
    """Names of the executable chapters in book/: the pages that are notebooks with parameters.

    Raises:
        PrefdynError: a page is no text.
    """
    # Unlike glob, iterdir does not pass over a folder that may not be read. An editor's own files are hidden.
    pages = [path for path in (root / "book").iterdir() if path.suffix == ".md" and path.name[0] != "."]
    try:
        texts = {path.stem: path.read_text(encoding="utf-8") for path in pages}
    except UnicodeDecodeError as error:
        raise PrefdynError(
            f"{root / 'book'}: a page is no text in UTF-8 ({error}), save it as that"
        ) from error
    return sorted(
        name for name, text in texts.items() if "kernelspec:" in text[:600] and "tags: [parameters" in text
    )


class _Once(yaml.CSafeLoader):  # ten times as fast as yaml.SafeLoader
    """Refuses a name that is there twice, of which YAML would take the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
            if (key.tag, key.value) in seen:
                raise yaml.MarkedYAMLError(
                    problem=f"{key.value!r} is there twice", problem_mark=key.start_mark
                )
            seen.add((key.tag, key.value))
        return super().construct_mapping(node, deep)


def read_sections(path: Path) -> dict[str, Any]:
    """The named sections of a YAML file; an empty file has none.

    Raises:
        PrefdynError: no such file, not YAML, a name that is there twice, or no mapping of names.
    """
    try:
        sections = yaml.load(path.read_text(encoding="utf-8"), Loader=_Once)
    except FileNotFoundError as error:
        raise PrefdynError(f"{path}: no such file") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise PrefdynError(f"{path}: not valid YAML ({' '.join(str(error).split())})") from error
    if not isinstance(sections or {}, dict):
        raise PrefdynError(
            f"{path}: expected named sections (`NAME:` and what belongs to it), found a "
            f"{type(sections).__name__}"
        )
    return sections or {}
