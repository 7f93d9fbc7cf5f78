"""Two at once: builds, runs of one chapter, a run beside a build, and one folder that many replace."""

from __future__ import annotations

import random

from attacks import Attack
from house import CHAPTERS, SMOKE, Fault, House


def two_builds(house: House, rng: random.Random) -> None:
    house.warm()
    both = [house.start("build") for _ in range(2)]
    _all_well(house, [house.finish(one, 400) for one in both])
    _check_site(house)


def two_runs(house: House, rng: random.Random) -> None:
    chapter = rng.choice(CHAPTERS)
    both = [house.start("run", chapter, *SMOKE, "--output", house.output) for _ in range(2)]
    _all_well(house, [house.finish(one) for one in both])
    house.check(chapter)


def run_beside_build(house: House, rng: random.Random) -> None:
    house.warm()
    chapter = rng.choice(CHAPTERS)
    (house.output / chapter / f"{chapter}.ipynb").unlink()
    both = [house.start("build"), house.start("run", chapter, *SMOKE, "--output", house.output)]
    _all_well(house, [house.finish(one, 400) for one in both])
    house.check(chapter)
    _check_site(house)


def folders(house: House, rng: random.Random) -> None:
    house.script("hammer", house.folder / "hammered", rng.randrange(2**32))


def _all_well(house: House, ended: list) -> None:  # type: ignore[type-arg]
    for said in ended:
        lines = said.err.strip().splitlines()
        if said.status and not (said.status == 1 and len(lines) == 1 and lines[0].startswith("prefdyn: ")):
            raise Fault(f"one of two ended with {said.status}: {said.err.strip()[-300:]}")
    if all(said.status for said in ended):
        raise Fault(f"neither of two ended well: {ended[0].err.strip()[-300:]}")


def _check_site(house: House) -> None:
    """Every page that the table of contents names is there and whole."""
    html = house.root / "_build" / "html" / "book"
    for source in (house.root / "book").glob("*.md"):
        page = html / f"{source.stem}.html"
        if not page.is_file() or not page.read_text(encoding="utf-8").rstrip().endswith("</html>"):
            raise Fault(f"the page {page.name} is missing or cut")
    hidden = [path.name for path in html.parent.parent.glob(".html.*")]
    if hidden:
        raise Fault(f"left behind: {hidden}")


ATTACKS = [
    Attack("two builds at once", two_builds, 420),
    Attack("two runs of one chapter", two_runs),
    Attack("a run beside a build", run_beside_build, 420),
    Attack("one folder replaced by many", folders, 60, alone=True),
]
