"""The suite's own last word: what it left out, and what brings it in."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest


def test_what_was_left_out_is_one_line_with_what_brings_it_in(request: pytest.FixtureRequest) -> None:
    own = str(Path(__file__).with_name("conftest.py"))
    plugins = request.config.pluginmanager.get_plugins()
    (conftest,) = [plugin for plugin in plugins if getattr(plugin, "__file__", None) == own]
    skipped = [("file", 1, "Skipped: no Chromium: `fetch it`")] * 2 + [
        ("file", 9, "Skipped: no GPU: `buy one`")
    ]
    lines: list[str] = []
    reporter = SimpleNamespace(
        stats={"skipped": [SimpleNamespace(longrepr=reason) for reason in skipped]}, write_line=lines.append
    )
    assert list(conftest.pytest_terminal_summary(reporter)) == [None]
    assert lines == ["left out: 2 (no Chromium: `fetch it`); 1 (no GPU: `buy one`)"]
    reporter.stats = {}
    assert list(conftest.pytest_terminal_summary(reporter)) == [None] and len(lines) == 1
