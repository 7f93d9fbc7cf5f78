"""The site: the book with its executed chapters, built by Jupyter Book."""

from __future__ import annotations

import fnmatch
import hashlib
import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import nbformat

from prefbook.ledger.tables import is_measured
from prefbook.project import read_sections
from prefbook.publishing import course, repository, search, slides
from prefbook.publishing import notebooks as publish
from prefbook.publishing.myst import References
from prefdyn.cache import LIBRARY
from prefdyn.errors import PrefdynError
from prefdyn.files import atomic_folder, needed_for, sha256

STAMP = ".inputs"
"""Beside the pages: a digest of what they were built from, so that a second build of the same book has
nothing to do.
"""


SETTINGS = ("_config.yml", "_toc.yml")
LEFT_OUT = (".*", "__pycache__", "*.ipynb")
"""Files of the book that are not laid out."""


def build(root: Path, executed: Mapping[str, Path], output: Path | None = None) -> Path:
    """Build the site; warnings of Jupyter Book are errors.

    The book is first laid out in output/site, each executed notebook in the place of its source, so that
    nothing is run a second time. The site takes its place in output/html when it is whole. A second build
    waits for the first.

    Args:
        root: the folder that holds _config.yml, _toc.yml and book/.
        executed: path of the executed notebook by name of the chapter.
        output: the folder to build in; root/_build if None.

    Returns:
        The path of the site's index.html.

    Raises:
        PrefdynError: a file of the book is missing, the disk is full, or the build fails; the message ends
            with what Jupyter Book said.
    """
    output = (output or root / "_build").resolve()
    stage, html = output / "site", output / "html"
    index = html / "index.html"
    with needed_for("the site"):
        digest = _digest(root, executed)
        if _is_built(html, digest):
            return index
        with atomic_folder(html) as made:
            if not _is_built(html, digest):  # by another process, that was waited for
                _lay_out(root, executed, stage)
                _jupyter_book(stage)
                (stage / "_build" / "html").replace(made)
                publish.trim(made)
                search.leave_texts(made)
                _add_slides(stage, executed, made)
                publish.open_with(made, read_sections(root / "_toc.yml")["root"])
                _leave_for_colab(root, executed, made)
                (made / STAMP).write_text(digest)
    return index


def _is_built(html: Path, digest: str) -> bool:
    """Whether the site that is there was built from what has the digest."""
    stamp = html / STAMP
    return (html / "index.html").is_file() and stamp.is_file() and stamp.read_text() == digest


def _lay_out(root: Path, executed: Mapping[str, Path], stage: Path) -> None:
    """Copy the book to `stage`, where an executed notebook replaces its source; and the tables that the
    scoreboard reads.
    """
    shutil.rmtree(stage, ignore_errors=True)
    for name in ("book", "results"):
        if (root / name).is_dir():
            shutil.copytree(root / name, stage / name, ignore=shutil.ignore_patterns(*LEFT_OUT))
    for name in SETTINGS:
        shutil.copy2(root / name, stage / name)
    for chapter, notebook in executed.items():
        (stage / "book" / f"{chapter}.md").unlink(missing_ok=True)
        publish.notebook(notebook, stage / "book" / f"{chapter}.ipynb")
        own = stage / "_build" / "runs" / chapter
        for table in _tables(notebook):
            own.mkdir(parents=True, exist_ok=True)
            shutil.copy2(table, own / table.name)


def _tables(notebook: Path) -> list[Path]:
    """Those of an executed chapter; none where it shows the reference edition alone."""
    return list(filter(is_measured, notebook.parent.glob("*.csv")))


def _add_slides(stage: Path, executed: Mapping[str, Path], html: Path) -> None:
    """A deck for each chapter of the site."""
    pages = {chapter: html / "book" / f"{chapter}.html" for chapter in executed}
    listed = {chapter: page for chapter, page in pages.items() if page.is_file()}
    slides.write_slides(listed, stage / "book" / "slides.html", html / "slides")


def _leave_for_colab(root: Path, executed: Mapping[str, Path], html: Path) -> None:
    """The chapters as notebooks for a class, which Colab opens from the repository of a published site."""
    if (published := repository.of(root)) is None:
        return
    references = References(root)
    (html / "colab").mkdir()
    for chapter in executed:
        notebook = course.notebook(root, chapter, "student", references.quoting(chapter))
        nbformat.write(repository.for_colab(notebook, published), html / "colab" / f"{chapter}.ipynb")


def _digest(root: Path, executed: Mapping[str, Path]) -> str:
    """Of every file that is laid out, of the package that draws the scoreboard, of the library whose
    docstrings are on its pages, and of the versions of what builds the site.
    """
    versions = ("jupyter-book", "sphinx", "sphinx-book-theme", "myst-nb", "sphinxext-opengraph")
    lines = [f"{name} {importlib.metadata.version(name)}" for name in versions]
    package = Path(__file__).parents[1]
    code = [*package.glob("**/*.py"), *package.glob("publishing/templates/*"), *LIBRARY.glob("**/*.py*")]
    files = {path: path for path in code if "__pycache__" not in path.parts}
    files |= {root / name: Path(name) for name in SETTINGS}
    for name in ("book", "results"):
        found = [path for path in (root / name).rglob("*") if path.is_file()]
        files |= {path: path.relative_to(root) for path in found if not _is_left_out(path.relative_to(root))}
    for chapter, notebook in executed.items():
        files |= {path: Path(chapter, path.name) for path in [notebook, *_tables(notebook)]}
    lines += [f"{shown.as_posix()} {sha256(path)}" for path, shown in sorted(files.items())]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _is_left_out(path: Path) -> bool:
    return any(fnmatch.fnmatch(part, pattern) for part in path.parts for pattern in LEFT_OUT)


def _jupyter_book(stage: Path) -> None:
    """Run Jupyter Book on `stage`, into stage/_build/html, in a process of its own."""
    start = "import sys; from jupyter_book.cli.main import main; sys.exit(main(prog_name='jupyter-book'))"
    command = [sys.executable, "-c", start, "build", str(stage), "--all", "-W", "--keep-going"]
    done = subprocess.run(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
        errors="replace",
        check=False,
        env=_environment(),
    )
    if done.returncode:
        raise PrefdynError(f"Jupyter Book could not build the site in {stage}:\n{_relevant(done.stdout)}")


def _environment() -> dict[str, str]:
    return os.environ | {"PYTHONIOENCODING": "utf-8", "NO_COLOR": "1", "PYDEVD_DISABLE_FILE_VALIDATION": "1"}


def _relevant(log: str, limit: int = 20) -> str:
    """The lines of a build's log that say what was wrong, else its last ones."""
    lines = [line.rstrip() for line in re.sub(r"\x1b\[[0-9;]*m", "", log).splitlines() if line.strip()]
    telling = [
        line
        for line in lines
        if re.search(r"\b(WARNING|ERROR|CRITICAL)\b|^[\w.]*(Error|Exception|Warning)\b", line)
    ]
    return "\n".join((telling or lines)[-limit:])
