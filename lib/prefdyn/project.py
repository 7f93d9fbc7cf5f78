"""Where the book is: the folder that holds _config.yml and book/."""

from __future__ import annotations

from pathlib import Path

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


def chapters(root: Path) -> list[str]:
    """Names of the executable chapters in book/: the pages that are notebooks."""
    return sorted(path.stem for path in (root / "book").glob("*.md") if "kernelspec:" in path.read_text(encoding="utf-8")[:600])
