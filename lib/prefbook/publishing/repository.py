"""A Sphinx extension: what a page tells search engines and those who share it, and what a site has that is
published from a repository.

Every page has its `description`, which stands in its front matter. All else follows from one setting,
`repository: url` in _config.yml: buttons to the source, to Binder and to Colab, canonical addresses, a
sitemap, Open Graph tags. A site without that address has none of it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.sax.saxutils import escape, quoteattr

from prefbook.project import read_sections
from prefdyn.errors import PrefdynError

if TYPE_CHECKING:
    from nbformat import NotebookNode
    from sphinx.application import Sphinx
    from sphinx.config import Config

BRANCH, SITE_BRANCH = "main", "gh-pages"
"""Of the sources, and of the built site, which .ci/publish pushes."""
PICTURE = "_static/result.png"
"""What is shown with a link to any page, relative to the site's root."""
NOTEBOOKS = "_build/course/student"
"""Where `make course` leaves the notebooks that Binder and Colab open."""
INSTALL = """\
# Here is nothing of the book yet: fetch it, and install what it and its checks need (some minutes, once).
!git clone --quiet --depth 1 {url}
%pip install --quiet "./{name}[book]" -r {name}/requirements-course.txt
!cd {name} && prefdyn course
%cd {name}/{notebooks}"""


@dataclass(frozen=True)
class Repository:
    """A repository on GitHub.

    Attributes:
        owner, name: as in https://github.com/OWNER/NAME.
    """

    owner: str
    name: str

    @property
    def url(self) -> str:
        return f"https://github.com/{self.owner}/{self.name}"

    @property
    def site(self) -> str:
        """Where GitHub Pages shows the site."""
        host = f"https://{self.owner.lower()}.github.io/"
        return host if self.name.lower() == f"{self.owner.lower()}.github.io" else f"{host}{self.name}/"

    def edit(self, page: str) -> str:
        return f"{self.url}/edit/{BRANCH}/{page}.md"

    def binder(self, chapter: str) -> str:
        place = f"https://mybinder.org/v2/gh/{self.owner}/{self.name}/{BRANCH}"
        return f"{place}?urlpath=lab/tree/{NOTEBOOKS}/{chapter}.ipynb"

    def colab(self, chapter: str) -> str:
        place = f"https://colab.research.google.com/github/{self.owner}/{self.name}"
        return f"{place}/blob/{SITE_BRANCH}/colab/{chapter}.ipynb"


def of(root: Path) -> Repository | None:
    """The repository that _config.yml names; None where it names none.

    Raises:
        PrefdynError: what it names is no repository on GitHub.
    """
    path = root / "_config.yml"
    named = read_sections(path).get("repository") or {}
    if not isinstance(named, dict):
        raise PrefdynError(f"{path}: the repository is {named!r}: write its address under `repository: url`")
    url = named.get("url") or ""
    if not url:
        return None
    found = re.fullmatch(r"https://github\.com/([\w-]+)/([\w.-]+?)(\.git)?/?", str(url))
    if not found:
        raise PrefdynError(
            f"{path}: the repository's url is {url!r}: write https://github.com/OWNER/NAME, or leave it empty"
        )
    return Repository(found[1], found[2])


def for_colab(notebook: NotebookNode, repository: Repository) -> NotebookNode:
    """A notebook for a class with a first cell that brings the book to a machine which has nothing of it."""
    from nbformat.v4 import new_code_cell

    words = INSTALL.format(url=repository.url, name=repository.name, notebooks=NOTEBOOKS)
    notebook.cells.insert(0, new_code_cell(words, id="install"))
    return notebook


# The extension ------------------------------------------------------------------------------------


def setup(app: Sphinx) -> dict[str, Any]:
    repository = of(Path(app.srcdir))
    app.connect("html-page-context", _describe, priority=400)
    if repository is not None:
        app.setup_extension("sphinx.ext.githubpages")  # or GitHub leaves out folders like _static
        app.setup_extension("sphinxext.opengraph")
        app.connect("config-inited", partial(_settle, repository=repository))
        app.connect("html-page-context", partial(_own_address, repository=repository), priority=400)
        app.connect("html-page-context", partial(_add_buttons, repository=repository), priority=502)
        app.connect("build-finished", partial(_write_sitemap, repository=repository))
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def _settle(app: Sphinx, config: Config, repository: Repository) -> None:
    config.html_baseurl = config.ogp_site_url = repository.site
    config.ogp_site_name = config.html_title
    config.ogp_image = PICTURE
    config.ogp_image_alt = (
        "Behaviours by how far apart the model sees them, against what training does to them"
    )
    config.ogp_custom_meta_tags = ('<meta name="twitter:card" content="summary_large_image" />',)


def _describe(app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: Any) -> None:
    """What the page's front matter says of it, for search engines and for Open Graph; and a first page that
    is called as the book is has its name once in the title of the window.
    """
    if context.get("title") == app.config.html_title:
        context["docstitle"] = ""
    about = context.get("meta") or {}
    if words := about.get("description"):
        context["metatags"] += f'<meta name="description" content={quoteattr(words)} />\n'
        about["og:description"] = words


def _own_address(
    app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: Any, repository: Repository
) -> None:
    """The first page is the site's own address."""
    if page == app.config.root_doc:
        context["pageurl"] = repository.site
        context["meta"]["og:url"] = repository.site


def _add_buttons(
    app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: Any, repository: Repository
) -> None:
    """Those of the theme would lead to executed notebooks, which the repository does not have."""
    if doctree is None:
        return
    source = [
        _link("Repository", "fab fa-github", repository.url),
        _link("Suggest an edit", "fas fa-pencil-alt", repository.edit(page)),
        _link("Report a mistake", "fas fa-lightbulb", f"{repository.url}/issues/new?title={page}"),
    ]
    context["header_buttons"].append(_group("The source of this page", "fab fa-github", "source", source))
    folder, _, chapter = page.rpartition("/")
    if folder == "book" and app.env.doc2path(page).endswith(".ipynb"):
        launch = [
            _link("Binder", "_static/images/logo_binder.svg", repository.binder(chapter)),
            _link("Colab", "_static/images/logo_colab.png", repository.colab(chapter)),
        ]
        context["header_buttons"].append(
            _group("Open as a notebook for a class", "fas fa-rocket", "launch", launch)
        )


def _link(text: str, icon: str, url: str) -> dict[str, str]:
    return {"type": "link", "text": text, "tooltip": text, "icon": icon, "url": url}


def _group(tooltip: str, icon: str, label: str, buttons: list[dict[str, str]]) -> dict[str, Any]:
    return {
        "type": "group",
        "tooltip": tooltip,
        "icon": icon,
        "label": f"{label}-buttons",
        "buttons": buttons,
    }


def _write_sitemap(app: Sphinx, error: Exception | None, repository: Repository) -> None:
    lines = (f"<url><loc>{escape(address)}</loc></url>" for address in _addresses(app, repository))
    whole = "\n".join(lines)
    text = (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        f'<urlset xmlns="http://www.sitemaps.org/schemas/sitemap/0.9">\n{whole}\n</urlset>\n'
    )
    (Path(app.outdir) / "sitemap.xml").write_text(text, encoding="utf-8")


def _addresses(app: Sphinx, repository: Repository) -> Iterator[str]:
    """Of all pages, the first one's first."""
    yield repository.site
    for page in sorted(app.env.found_docs - {app.config.root_doc}):
        yield f"{repository.site}{app.builder.get_target_uri(page)}"
