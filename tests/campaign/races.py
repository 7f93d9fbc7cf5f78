"""Two at once: builds, runs of one chapter, a run beside a build, and one folder that many replace."""

from __future__ import annotations

import random

from house import CHAPTERS, SMOKE, Attack, Fault, House, Said


def two_builds(house: House, rng: random.Random) -> None:
    house.warm()
    check_ends(*[finish() for finish in (house.start("build"), house.start("build"))])
    check_site(house)


def two_runs(house: House, rng: random.Random) -> None:
    chapter = rng.choice(CHAPTERS)
    command = ("run", chapter, *SMOKE, "--output", house.output)
    check_ends(*[finish() for finish in (house.start(*command), house.start(*command))])
    house.check(chapter)


def run_beside_build(house: House, rng: random.Random) -> None:
    house.warm()
    chapter = rng.choice(CHAPTERS)
    (house.output / chapter / f"{chapter}.ipynb").unlink()
    both = house.start("build"), house.start("run", chapter, *SMOKE, "--output", house.output)
    check_ends(*[finish() for finish in both])
    house.check(chapter)
    check_site(house)


def folders(house: House, rng: random.Random) -> None:
    house.well("hammer", house.folder / "hammered", module="scripts")


def check_ends(*both: Said) -> None:
    """One at least ends well, the other well or in one sentence."""
    for said in both:
        if said.status and (not said.is_sentence or all(one.status for one in both)):
            raise said.fault("failed beside another")


def check_site(house: House) -> None:
    """Every page is there and whole, and nothing lies beside the site."""
    html = house.root / "_build" / "html"
    for source in (house.root / "book").glob("*.md"):
        page = html / "book" / f"{source.stem}.html"
        if not page.is_file() or not page.read_text(encoding="utf-8").rstrip().endswith("</html>"):
            raise Fault(f"the page {page.name} is missing or cut")
    if left := [path.name for path in html.parent.glob(".html.*")]:
        raise Fault(f"left behind: {left}")


ATTACKS = [
    Attack("two builds at once", two_builds, 360, once=True),
    Attack("two runs of one chapter", two_runs),
    Attack("a run beside a build", run_beside_build, 360),
    Attack("one folder replaced by many", folders, 60, alone=True),
]
