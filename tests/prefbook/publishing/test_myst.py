"""MyST as plain Markdown: references say what the site says, and numbers are the reference edition's."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from bs4 import BeautifulSoup

from prefbook.ledger.claims import load_claims
from prefbook.ledger.editions import reference
from prefbook.project import chapters
from prefbook.publishing import quoting
from prefbook.publishing.myst import Directive, References, parts
from prefdyn.errors import PrefdynError

ROOT = Path(__file__).parents[3]
CHAPTERS = chapters(ROOT)
each_chapter = pytest.mark.parametrize("chapter", CHAPTERS)


def test_directives_are_told_from_text_and_from_code_in_them() -> None:
    text = "before\n\n````{solution} ex-a\n:class: dropdown\n\n```python\nx = 1\n```\nafter\n````\n\nend"
    assert list(parts(text)) == [
        "before",
        Directive("solution", "ex-a", {"class": "dropdown"}, "```python\nx = 1\n```\nafter"),
        "end",
    ]


PAGE = """# A *chapter* of numbers

(place)=
## A place

```{dropdown} Folded
Text.

$$
a = b
$$ (eq-inner)
```

```{prf:theorem} A name
:label: thm-a

It holds, {prf:ref}`thm-a`.
```

(elsewhere)=

$$
c = d
$$ (eq-outer)
"""


OTHER = """# Signs

(a-sign)=
## A sign

$$
e = f
$$ (eq-sign)
"""


@pytest.fixture
def references(tmp_path: Path) -> References:
    """Of a book of one chapter, which is called like a term, and a page without a number."""
    (tmp_path / "book").mkdir()
    (tmp_path / "book" / "chapter.md").write_text(PAGE, encoding="utf-8")
    (tmp_path / "book" / "signs.md").write_text(OTHER, encoding="utf-8")
    (tmp_path / "book" / "references.bib").write_text(
        "@article{one, author={Ann Im and Yi Li}, year={2024}, title={T}, journal={J}}"
    )
    (tmp_path / "_toc.yml").write_text("parts: [{numbered: true, chapters: [{file: book/chapter}]}]")
    return References(tmp_path)


@pytest.mark.parametrize(
    ("myst", "plain"),
    [
        ("{prf:ref}`thm-a` and {eq}`eq-outer`", "Theorem 1.1 and (1.2)"),
        ("{ref}`place`, {ref}`here <elsewhere>`", "*A place*, here"),
        ("{doc}`chapter` and {doc}`../chapter`", "*A *chapter* of numbers* and *A *chapter* of numbers*"),
        ("called {term}`chapter`, {term}`two <chapter>`", "called chapter, two"),
        ("{cite:t}`one` say; it is so {cite}`one`", "Im and Li (2024) say; it is so (Im and Li, 2024)"),
        ("a sign {eq}`eq-sign`, in {ref}`a-sign`", "a sign (*Signs*), in *A sign*"),
        ("(place)=\n## A place", "## A place"),
        ("$$\nc = d\n$$ (eq-outer)", "$$\nc = d\n\\tag{1.2}\n$$"),
    ],
)
def test_roles_and_labels_are_resolved(references: References, myst: str, plain: str) -> None:
    assert references.plain(myst) == plain


def test_blocks_keep_their_titles_and_dropdowns_are_folded(references: References) -> None:
    blocks = [references.block(part) for part in parts(PAGE)]
    assert blocks[1].startswith("<details>\n<summary>Folded</summary>\n\nText.\n\n$$\na = b\n\\tag{1.1}")
    assert blocks[1].endswith("\n\n</details>")
    assert blocks[2] == "**Theorem 1.1 (A name).**\n\nIt holds, Theorem 1.1."
    assert references.block(Directive("admonition", "In short", {}, "- One.")) == "**In short.**\n\n- One."


TABLE = """```{list-table} What there is
:header-rows: 1
:name: table-one

* - Name
  - What it is,
    in words
* - {doc}`chapter`
  - $x$
* -
  - by {eq}`eq-outer`
```
"""


def test_list_table_is_a_table_of_markdown(tmp_path: Path, references: References) -> None:
    page = tmp_path / "book" / "chapter.md"
    page.write_text(f"{PAGE}\n{TABLE}", encoding="utf-8")
    (table,) = parts(TABLE)
    assert References(tmp_path).block(table) == (
        "**Table 1.1.** What there is\n\n| Name | What it is, in words |\n| --- | --- |\n"
        "| *A *chapter* of numbers* | $x$ |\n|  | by (1.2) |"
    )


@pytest.mark.parametrize("role", ["{eq}`eq-none`", "{ref}`nowhere`", "{doc}`../none`", "{numref}`fig-none`"])
def test_reference_to_nothing_is_named(references: References, role: str) -> None:
    with pytest.raises(PrefdynError, match=r"the text refers to '.*' \(\w+\), and no page has it"):
        references.plain(f"See {role}.")


def test_work_that_the_bibliography_lacks_is_named(references: References) -> None:
    with pytest.raises(PrefdynError, match="cites 'two', and the bibliography has no such work"):
        references.plain("{cite:t}`one, two` say")


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("_toc.yml", None, r"_toc\.yml: no such file"),
        ("_toc.yml", "parts: [", r"_toc\.yml: not valid YAML"),
        ("_toc.yml", "root: book/index", r"_toc\.yml: write `parts`"),
        ("_toc.yml", "parts: [{numbered: true}]", r"_toc\.yml: write `parts`"),
        ("book/references.bib", None, r"references\.bib. No such file"),
        (
            "book/references.bib",
            "@article{one, author=",
            r"references\.bib: the bibliography cannot be read \(syntax error",
        ),
    ],
)
def test_checkout_that_is_not_whole_is_one_sentence(
    references: References, name: str, content: str | None, said: str
) -> None:
    (references.root / name).unlink()
    if content is not None:
        (references.root / name).write_text(content)
    with pytest.raises(PrefdynError, match=said) as error:
        References(references.root)
    assert "\n" not in str(error.value)


def test_number_that_nothing_gives_is_named(references: References) -> None:
    references.numbers = {"known": "**1**"}
    assert references.plain("{glue}`known`") == "**1**"
    with pytest.raises(PrefdynError, match="quotes 'unknown'"):
        references.plain("{glue}`unknown`")


@pytest.fixture(scope="module")
def everywhere() -> References:
    """What the book's pages refer to and quote."""
    return References(ROOT)


def test_numbers_are_those_of_the_reference_edition(everywhere: References) -> None:
    claims, judged = load_claims(ROOT / "book" / "claims.yml"), reference(ROOT).entries.values()
    for chapter in CHAPTERS:
        numbers = everywhere.quoting(chapter).numbers
        own = [entry for entry in judged if entry["chapter"] == chapter]
        assert own
        for entry in own:
            statistic = claims[entry["id"]].statistics[0]
            said = quoting.numbers(entry["statistics"][0], statistic.criterion)
            assert numbers[entry["id"]] == f"**{said}**"
            assert numbers[f"{entry['id']}-verdict"] == f"*{entry['verdict']}*"
        assert not any(re.search(r"<|&\w+;", number) for number in numbers.values())


def labels(chapter: str, *kinds: str) -> set[str]:
    """The labels of some kinds in a chapter's source: fig, thm, def, ex, eq."""
    source = (ROOT / "book" / f"{chapter}.md").read_text(encoding="utf-8")
    return set(re.findall(rf"^(?: *name: |:label: |\$\$ \()((?:{'|'.join(kinds)})-[\w-]+)", source, re.M))


@pytest.mark.site
@each_chapter
def test_numbers_are_those_of_the_site(everywhere: References, html: Path, chapter: str) -> None:
    page = BeautifulSoup((html / "book" / f"{chapter}.html").read_text(encoding="utf-8"), "html.parser").find(
        "article"
    )
    words = everywhere.words
    captions = (
        (box["id"], box.select_one(".caption-number"))
        for box in page.select("figure[id], div.proof[id], div.exercise[id]")
    )
    shown = {label: number.text.strip() for label, number in captions if number}
    shown |= {
        box["id"].removeprefix("equation-"): box.select_one(".eqno").text.rstrip("#")
        for box in page.select("div.math[id]")
    }
    assert set(shown) == labels(chapter, "fig", "thm", "lem", "def", "ex", "eq")
    assert {label: words[label] for label in shown} == shown
