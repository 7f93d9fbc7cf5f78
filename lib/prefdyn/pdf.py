"""The book as one PDF file: Jupyter Book's single page of the same executed chapters, printed by Chromium."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

from prefdyn import publish, site
from prefdyn.errors import PrefdynError
from prefdyn.files import atomic_file

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
PATIENCE = 900
"""Seconds that the printing may take."""


def build(root: Path, executed: Mapping[str, Path], output: Path | None = None) -> Path:
    """Print the book; the arguments are those of `site.build`.

    Returns:
        The path of the PDF file, output/book.pdf.

    Raises:
        PrefdynError: there is no Chromium, a file of the book is missing, or the build fails.
    """
    browser = find_browser()
    output = (output or root / "_build").resolve()
    stage, made = output / "pdf", output / "book.pdf"
    site.lay_out(root, executed, stage)
    site.jupyter_book(stage, "singlehtml")
    pages = stage / "_build" / "singlehtml"
    publish.trim(pages)
    with atomic_file(made) as file:
        _print(browser, pages / "book" / "index.html", file)
    return made


def find_browser() -> str:
    """The program that the environment variable CHROMIUM names, else a Chromium of this machine.

    Raises:
        PrefdynError: there is none.
    """
    found = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, BROWSERS)), None)
    if not found:
        raise PrefdynError("no Chromium on this machine to print with: install it, or name it in the environment variable CHROMIUM")
    return found


def _print(browser: str, page: Path, file: Path) -> None:
    """Print a page with an outline of its headings, after its formulas are set."""
    with tempfile.TemporaryDirectory() as profile:
        command = [browser, "--headless", "--disable-gpu", f"--user-data-dir={profile}", "--no-pdf-header-footer"]
        command += ["--generate-pdf-document-outline", "--virtual-time-budget=120000", f"--print-to-pdf={file}", page.as_uri()]
        if hasattr(os, "geteuid") and os.geteuid() == 0:
            command.insert(1, "--no-sandbox")  # Chromium refuses to start for root otherwise
        try:
            done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False, timeout=PATIENCE)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise PrefdynError(f"{browser} could not print {page}: {error}") from error
    if done.returncode or not file.stat().st_size:
        raise PrefdynError(f"{browser} could not print {page}: {done.stderr.strip()[-500:]}")
