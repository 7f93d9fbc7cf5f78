"""A book of small chapters, which need no model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import make_dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from prefdyn.experiments import plan
from prefdyn.experiments.plan import Work

HEAD = """---
jupytext:
  text_representation:
    extension: .md
    format_name: myst
kernelspec:
  display_name: Python 3
  language: python
  name: python3
---

# {title}

```{{code-cell}} ipython3
:tags: [parameters]

model: str = "smoke"  # a name
data: str = "sample"  # a source
profile: str = ""  # its name
output: str = ""  # a folder
device: str = "cpu"  # where
precision: str = "float32"  # one of auto, float32, bfloat16
seeds: list[int] = [0]  # in [0, 100]: of everything
measure: bool = True  # or show alone
steps: int = 1  # in [1, 100]: how many
judge: str = "embedded"  # who judges
```

```{{code-cell}} ipython3
{code}
```
"""


@pytest.fixture
def write_chapter() -> Callable[[Path, str, str], None]:
    """Writes a page of two cells, its parameters and some code, into a book."""

    def write(root: Path, name: str, code: str) -> None:
        page = HEAD.format(title=name, code=code.strip())
        (root / "book" / f"{name}.md").write_text(page, encoding="utf-8")

    return write


@pytest.fixture
def stand_in() -> Callable[[list[Work]], Any]:
    """Makes a stand-in for a chapter's module of experiments."""
    return lambda work: SimpleNamespace(
        __name__=plan.__name__,
        Design=make_dataclass("Design", []),
        check_design=lambda design, source: None,
        work=lambda values: work,
    )
