"""Runs that are gone or mixed: never "up to date", never another run's tables."""

from __future__ import annotations

import random
import time

from house import CHAPTERS, SMOKE, Attack, Fault, House


def gone(house: House, rng: random.Random) -> None:
    """Part of a run, or all of it, is deleted."""
    house.warm()
    for chapter in rng.sample(CHAPTERS, 2):
        found = sorted((house.output / chapter).iterdir())
        lost = rng.sample(found, rng.randint(1, len(found)))
        for path in lost:
            path.unlink()
        if "up to date" in house.run(chapter).out:
            raise Fault(f"{len(lost)} of {len(found)} files of {chapter} are gone, and it is up to date")
        house.check(chapter)


def edited(house: House, rng: random.Random) -> None:
    """A digit in a table and one on the page is another."""
    house.warm()
    chapter = rng.choice(CHAPTERS)
    for pattern in ("*.csv", "*.ipynb"):
        path = rng.choice(sorted((house.output / chapter).glob(pattern)))
        text = path.read_text(encoding="utf-8")
        at = rng.choice([i for i in range(len(text)) if text[i] in "0123456789"])
        path.write_text(text[:at] + str(9 - int(text[at])) + text[at + 1 :], encoding="utf-8")
        if "up to date" in house.run(chapter).out:
            raise Fault(f"{path.name} of {chapter} was edited, and it is up to date")
        house.check(chapter)


def other_parameters_killed(house: House, rng: random.Random) -> None:
    """A run with another seed dies midway over the default's; then the default is asked for."""
    house.warm()
    chapter = rng.choice(CHAPTERS)
    finish = house.start("run", chapter, *SMOKE, "-p", "seeds", "[1]", "--output", house.output)
    time.sleep(rng.uniform(0.3, 1.0) * house.base.seconds[chapter])
    house.close()
    finish()
    house.run(chapter)
    house.check(chapter)


def build_of_half_a_run(house: House, rng: random.Random) -> None:
    """A run that is not whole is named by the build, and not shown."""
    house.warm()
    chapter = rng.choice(CHAPTERS)
    rng.choice(sorted((house.output / chapter).glob("*.csv"))).unlink()
    said = house.well("build")
    if chapter not in said.out + said.err:
        raise Fault(f"a table of {chapter} is gone, and the build does not say so")
    if (house.root / "_build" / "site" / "_build" / "runs" / chapter).exists():
        raise Fault(f"the page of {chapter} shows a run that is not whole")


ATTACKS = [
    Attack("files of a run deleted", gone),
    Attack("a table and a page edited", edited),
    Attack("another run killed over it", other_parameters_killed),
    Attack("a build of half a run", build_of_half_a_run, 360),
]
