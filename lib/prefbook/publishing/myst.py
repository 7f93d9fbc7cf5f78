"""MyST Markdown as plain Markdown: a chapter's text where no MyST is rendered, with the references that the
site has and the numbers of the reference edition.
"""

from __future__ import annotations

import copy
import html
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jupytext
from nbformat import NotebookNode

from prefbook.ledger.claims import load_claims
from prefbook.ledger.editions import REFERENCE, others, reference
from prefbook.ledger.judging import judge_all
from prefbook.ledger.quoted import OF_OTHER_MODELS, QUOTED
from prefbook.project import chapters, read_sections
from prefbook.publishing.quoting import of_claims, of_others, quotes, quotes_of_others
from prefdyn.errors import PrefdynError, first_line

DIRECTIVE = re.compile(
    r"^(?P<fence>`{3,}|:{3,})\{(?P<kind>[\w:-]+)\}(?P<title>[^\n]*)\n(?P<options>(?::[\w-]+:[^\n]*\n)*)"
    r"(?P<body>.*?)^(?P=fence)[ ]*$\n?",
    re.M | re.S,
)
ROLE = re.compile(r"\{(?P<kind>[\w:-]+)\}`(?:(?P<text>[^`<]*?) *<)?(?P<target>[^`>]+)>?`")
EQUATION = re.compile(r"^\$\$ \((?P<label>[\w-]+)\) *$", re.M)
TARGET = re.compile(r"^\((?P<label>[\w-]+)\)=(?:\n+|\Z)(?=#+ (?P<title>.+)$)?", re.M)
"""A name for what follows it, such as a heading."""


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


def pieces(page: Path) -> Iterator[str | Directive | NotebookNode]:
    """A page in pieces, in its order: text, directives and code cells."""
    for cell in jupytext.read(page).cells:
        if cell.cell_type == "code":
            yield cell
        else:
            yield from parts(cell.source)


def _with_inner(some: Iterable[str | Directive]) -> Iterator[Directive]:
    """Directives, and those inside them."""
    for part in some:
        if isinstance(part, Directive):
            yield part
            yield from _with_inner(parts(part.body))


class References:
    """What the cross-references and citations of the book's chapters say: "Theorem 1.2", "(3.1)", "Im and
    Li".

    What stands on a page without a number is named by its title, and an equation by that of its page.

    Attributes:
        words: by label.
        numbers: what a chapter's text quotes, by its name; see `quoting`.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.words: dict[str, str] = {}
        self.numbers: dict[str, str] = {}
        self.titles: dict[str, str] = {}
        self._told: dict[str, dict[str, str]] = {}
        for path in (root / "book").rglob("*.md"):
            text = path.read_text(encoding="utf-8")
            if found := re.search(r"^# (.+)$", text, re.M):
                self.titles[path.stem] = f"*{found[1]}*"
                self.words |= {label: f"({self.titles[path.stem]})" for label in EQUATION.findall(text)}
            self.words |= {label: f"*{title}*" for label, title in TARGET.findall(text) if title}
        for number, page in enumerate(_numbered_pages(root), start=1):
            self._enter(jupytext.read(root / f"{page}.md"), number)
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
                for part in _with_inner(parts(cell.source)):
                    if part.kind == "list-table":
                        number("table", part.options["name"])
                    elif "label" in part.options:
                        number(part.kind.removeprefix("prf:"), part.options["label"])
                for label in EQUATION.findall(cell.source):
                    number("equation", label)

    def quoting(self, chapter: str) -> References:
        """The same with the numbers that a chapter's text quotes, as the reference edition has them.

        Raises:
            PrefdynError: a table of the reference edition is missing.
        """
        quoted = QUOTED.get(chapter, {})
        told = self._claims(chapter) | quotes(quoted, reference(self.root).tables(chapter), None)
        of_others = {key: quoted[key] for key in OF_OTHER_MODELS.get(chapter, ())}
        told |= quotes_of_others(
            of_others, {one.title: one.tables(chapter) for one in others(self.root) if one.has(chapter)}
        )
        if "chapter.quote_book()" in (self.root / "book" / f"{chapter}.md").read_text(encoding="utf-8"):
            for name in chapters(self.root):
                told |= self._claims(name)
        other = copy.copy(self)
        other.numbers = {key: _plain(value) for key, value in told.items()}
        return other

    def _claims(self, chapter: str) -> dict[str, str]:
        """What a text quotes of a chapter's claims; they are judged once, for that takes a while."""
        if chapter not in self._told:
            claims = load_claims(self.root / "book" / "claims.yml")
            own = {id_: claim for id_, claim in claims.items() if claim.chapter == chapter}
            judged = {
                edition.title: judge_all(own.values(), edition.tables(chapter), edition.title)
                for edition in (reference(self.root), *others(self.root))
                if edition.has(chapter)
            }
            told = of_claims(own, judged.get(REFERENCE, {}), None)
            self._told[chapter] = told | of_others(own, judged)
        return self._told[chapter]

    def plain(self, text: str) -> str:
        """Text without directives: its roles and labels resolved.

        Raises:
            PrefdynError: a number is quoted that the chapter does not have, a work cited that the
                bibliography does not have, or a label referred to that no page has.
        """
        text = EQUATION.sub(lambda found: rf"\tag{{{self.words[found['label']].strip('()')}}}" + "\n$$", text)
        return ROLE.sub(self._say, TARGET.sub("", text))

    def _say(self, role: re.Match[str]) -> str:
        kind, target = role["kind"], role["target"]
        if kind.startswith("cite"):
            keys = [key.strip() for key in target.split(",")]
            if missing := [key for key in keys if key not in self.citations]:
                raise PrefdynError(f"the text cites {missing[0]!r}, and the bibliography has no such work")
            cited = [self.citations[key] for key in keys]
            if kind == "cite:t":
                return "; ".join(f"{authors} ({year})" for authors, year in cited)
            return "(" + "; ".join(f"{authors}, {year}" for authors, year in cited) + ")"
        if kind == "glue":
            if target not in self.numbers:
                raise PrefdynError(f"the text quotes {target!r}, and no number of the chapter has that name")
            return self.numbers[target]
        if role["text"] or kind == "term":
            return role["text"] or target
        known = self.titles if kind == "doc" else self.words
        label = target.rpartition("/")[2]
        if label not in known:
            raise PrefdynError(f"the text refers to {target!r} ({kind}), and no page has it")
        return known[label]

    def block(self, part: str | Directive) -> str:
        """A piece of text as plain Markdown: a directive as its number and title in bold, then its body; a
        dropdown folded.
        """
        if isinstance(part, str):
            return self.plain(part)
        title, body = self.plain(part.title), "\n\n".join(map(self.block, parts(part.body)))
        if part.kind == "list-table":
            return f"**{self.words[part.options['name']]}.** {title}\n\n{_table(body)}"
        if part.kind == "dropdown":
            return f"<details>\n<summary>{title}</summary>\n\n{body}\n\n</details>"
        if part.kind == "admonition":
            return f"**{title}.**\n\n{body}"
        name = self.words.get(part.options.get("label", ""), part.kind.removeprefix("prf:").capitalize())
        return f"**{name}{f' ({title})' if title else ''}.**\n\n{body}"


def _table(rows: str) -> str:
    """The body of a list-table as Markdown's table; its first row is the header."""
    cells = [re.split(r"^  - ?", row, flags=re.M) for row in re.split(r"^\* - ?", rows, flags=re.M)[1:]]
    lines = [f"| {' | '.join(' '.join(cell.split()) for cell in row)} |" for row in cells]
    return "\n".join([lines[0], "|" + " --- |" * len(cells[0]), *lines[1:]])


def _plain(markup: str) -> str:
    """What the site shows of a number or a verdict, in Markdown."""
    marked = re.sub(r'<span class="verdict[^>]*>(.*?)</span>', r"*\1*", markup)
    return html.unescape(re.sub(r"<[^>]+>", "", re.sub(r"</?strong>", "**", marked)))


def _numbered_pages(root: Path) -> list[str]:
    path = root / "_toc.yml"
    parts: Any = read_sections(path).get("parts")
    try:
        return [page["file"] for part in parts if part.get("numbered") for page in part["chapters"]]
    except (AttributeError, KeyError, TypeError) as error:
        raise PrefdynError(
            f"{path}: write `parts`, each with `chapters` and the `file` of each, as Jupyter Book has them"
        ) from error


def _citations(path: Path) -> Iterator[tuple[str, tuple[str, str]]]:
    """For each key: authors as a text names them, and the year."""
    from pybtex.backends.plaintext import Backend
    from pybtex.database import parse_file
    from pybtex.exceptions import PybtexError
    from pybtex.richtext import Text

    try:
        entries = parse_file(str(path)).entries
    except PybtexError as error:
        raise PrefdynError(f"{path}: the bibliography cannot be read ({first_line(error)})") from error
    plain = Backend()  # `render_as` would look for one among all installed packages, each time
    for key, entry in entries.items():
        names = [
            Text.from_latex(" ".join([*person.prelast_names, *person.last_names])).render(plain)
            for person in entry.persons["author"]
        ]
        authors = " and ".join(names) if len(names) < 3 else f"{names[0]} et al."
        yield key, (authors.replace("{", "").replace("}", ""), entry.fields["year"])


def figure_caption(cell: NotebookNode, references: Mapping[str, str]) -> str:
    """The caption of a cell's figure with its number, or "" where the cell has none."""
    figure = cell.metadata.get("mystnb", {}).get("figure")
    return f"**{references[figure['name']]}.** {figure['caption'].strip()}" if figure else ""
