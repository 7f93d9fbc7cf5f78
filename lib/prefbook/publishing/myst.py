"""MyST Markdown as plain Markdown: a chapter's text where no MyST is rendered, with the numbers that the site
gives.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import jupytext
import yaml
from nbformat import NotebookNode

DIRECTIVE = re.compile(
    r"^(?P<fence>`{3,}|:{3,})\{(?P<kind>[\w:-]+)\}(?P<title>[^\n]*)\n(?P<options>(?::[\w-]+:[^\n]*\n)*)(?P<body>.*?)^(?P=fence)[ ]*$\n?",
    re.M | re.S,
)
ROLE = re.compile(r"\{(?P<kind>[\w:-]+)\}`(?:(?P<text>[^`<]*?) *<)?(?P<target>[^`>]+)>?`")
EQUATION = re.compile(r"^\$\$ \((?P<label>[\w-]+)\) *$", re.M)


@dataclass(frozen=True)
class Directive:
    """A fenced directive.

    Attributes:
        kind: such as "exercise" or "prf:theorem".
        title: what follows on its first line; for a solution, the label of its exercise.
    """

    kind: str
    title: str
    options: dict[str, str]
    body: str


def parts(text: str) -> Iterator[str | Directive]:
    """The text in pieces: directives, and what stands between them."""
    end = 0
    for found in DIRECTIVE.finditer(text):
        if before := text[end : found.start()].strip():
            yield before
        lines = (line[1:].partition(":") for line in found["options"].splitlines())
        yield Directive(
            found["kind"],
            found["title"].strip(),
            {key: value.strip() for key, _, value in lines},
            found["body"].strip(),
        )
        end = found.end()
    if rest := text[end:].strip():
        yield rest


class References:
    """What the cross-references and citations of the book's chapters say: "Theorem 1.2", "(3.1)", "Im and
    Li".
    """

    def __init__(self, root: Path) -> None:
        self.words: dict[str, str] = {}
        for number, page in enumerate(_numbered_pages(root), start=1):
            self._enter(jupytext.read(root / f"{page}.md"), number)
        for path in (root / "book").glob("*.md"):
            if found := re.search(r"^# (.+)$", path.read_text(encoding="utf-8"), re.M):
                self.words[path.stem] = f"*{found[1]}*"
        self.citations = dict(_citations(root / "book" / "references.bib"))

    def _enter(self, notebook: NotebookNode, chapter: int) -> None:
        """Number what a chapter labels, in its order."""
        counts: Counter[str] = Counter()

        def number(kind: str, label: str) -> None:
            counts[kind] += 1
            place = f"{chapter}.{counts[kind]}"
            self.words[label] = f"({place})" if kind == "equation" else f"{kind.capitalize()} {place}"

        for cell in notebook.cells:
            if figure := cell.metadata.get("mystnb", {}).get("figure"):
                number("figure", figure["name"])
            if cell.cell_type == "markdown":
                for part in parts(cell.source):
                    if isinstance(part, Directive) and "label" in part.options:
                        number(part.kind.removeprefix("prf:"), part.options["label"])
                for found in EQUATION.finditer(cell.source):
                    number("equation", found["label"])

    def plain(self, text: str) -> str:
        """Text without directives: its roles and labels resolved."""
        text = EQUATION.sub(lambda found: rf"\tag{{{self.words[found['label']].strip('()')}}}" + "\n$$", text)
        return ROLE.sub(self._say, text)

    def _say(self, role: re.Match[str]) -> str:
        if role["kind"].startswith("cite"):
            cited = [self.citations[key.strip()] for key in role["target"].split(",")]
            if role["kind"] == "cite:t":
                return "; ".join(f"{authors} ({year})" for authors, year in cited)
            return "(" + "; ".join(f"{authors}, {year}" for authors, year in cited) + ")"
        return role["text"] or self.words.get(role["target"], role["target"])

    def block(self, part: str | Directive) -> str:
        """A piece of text as plain Markdown; a directive as its number and title in bold, then its body."""
        if isinstance(part, str):
            return self.plain(part)
        name = self.words.get(part.options.get("label", ""), part.kind.removeprefix("prf:").capitalize())
        title = f" ({self.plain(part.title)})" if part.title else ""
        return f"**{name}{title}.**\n\n" + "\n\n".join(self.block(inner) for inner in parts(part.body))


def _numbered_pages(root: Path) -> list[str]:
    toc = yaml.safe_load((root / "_toc.yml").read_text(encoding="utf-8"))
    return [chapter["file"] for part in toc["parts"] if part.get("numbered") for chapter in part["chapters"]]


def _citations(path: Path) -> Iterator[tuple[str, tuple[str, str]]]:
    """For each key: authors as a text names them, and the year."""
    from pybtex.database import parse_file
    from pybtex.richtext import Text

    for key, entry in parse_file(str(path)).entries.items():
        names = [
            Text.from_latex(" ".join([*person.prelast_names, *person.last_names])).render_as("text")
            for person in entry.persons["author"]
        ]
        authors = " and ".join(names) if len(names) < 3 else f"{names[0]} et al."
        yield key, (authors.replace("{", "").replace("}", ""), entry.fields["year"])


def figure_caption(cell: NotebookNode, references: Mapping[str, str]) -> str:
    """The caption of a cell's figure with its number, or "" where the cell has none."""
    figure = cell.metadata.get("mystnb", {}).get("figure")
    return f"**{references[figure['name']]}.** {figure['caption'].strip()}" if figure else ""
