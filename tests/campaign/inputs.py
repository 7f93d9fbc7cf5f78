"""Bad data and bad models: one sentence each; odd names are no markup."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

from house import SMOKE, Attack, Fault, House

CHAPTER = "distinguishability"
STATEMENT = '{{"statement": {}, "answer_matching_behavior": " Yes"}}\n'


def data_of(house: House) -> Path:
    """The embedded sample as a folder of the user's own."""
    samples = house.base.folder / "checkout" / "lib" / "prefdyn" / "data" / "samples"
    return Path(shutil.copytree(samples, house.folder / "data"))


def personas(folder: Path) -> list[Path]:
    return sorted((folder / "anthropic-evals" / "persona").glob("*.jsonl"))


def surrogates(folder: Path) -> None:
    for path in personas(folder):
        path.write_text(STATEMENT.format('"I am \\ud800 alone."') + path.read_text())


def long_number(folder: Path) -> None:
    for path in personas(folder):
        path.write_text(STATEMENT.format("9" * 5000) + path.read_text())


def a_folder_for_a_file(folder: Path) -> None:
    (personas(folder)[0].parent / "a-folder.jsonl").mkdir()


def no_votes(folder: Path) -> None:
    for path in (folder / "hh-rlhf").rglob("*.jsonl"):
        rows = [json.loads(line) | {"votes_chosen": 0, "votes_rejected": 0} for line in path.open()]
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def bad_data(house: House, rng: random.Random, spoil: Callable[[Path], None], chapter: str) -> None:
    folder = data_of(house)
    spoil(folder)
    house.refused("run", chapter, *SMOKE, "--data", folder, "--output", house.output)


def odd_names(house: House, rng: random.Random) -> None:
    """The chapter runs, and the names are text on its page."""
    folder = data_of(house)
    names = ["<img src=x onerror=alert(1)>", "$x^{$", "`{math}` [a](b)", "a,b\"c'", "-p", "ünï"]
    for path in personas(folder)[len(names) :]:
        path.unlink()
    for path, name in zip(personas(folder), names, strict=True):
        path.rename(path.with_name(f"{name}.jsonl"))
    house.run(CHAPTER, "--data", folder, "-p", "personas", 6)
    page = (house.output / CHAPTER / f"{CHAPTER}.ipynb").read_text(encoding="utf-8")
    if "<img src=x" in page.replace("\\u003c", "<"):
        raise Fault("a persona's name is markup on the page")


def bad_model(house: House, rng: random.Random, kind: str) -> None:
    folder = house.folder / "model"
    house.well("bad_model", kind, folder, module="scripts")
    house.refused("run", CHAPTER, *SMOKE, "--model", folder, "--output", house.output)


BAD_DATA: dict[str, tuple[Callable[[Path], None], str]] = {
    "lone surrogates": (surrogates, CHAPTER),
    "a number of 5,000 digits": (long_number, CHAPTER),
    "a folder named X.jsonl": (a_folder_for_a_file, CHAPTER),
    "votes 0 to 0": (no_votes, "ranking"),
}
ATTACKS = [
    *(
        Attack(f"data: {name}", partial(bad_data, spoil=spoil, chapter=chapter), 120, alone=True, once=True)
        for name, (spoil, chapter) in BAD_DATA.items()
    ),
    Attack("data: markup and formulas in names", odd_names, 240, alone=True, once=True),
    *(
        Attack(f"a model: {kind}", partial(bad_model, kind=kind), 120, alone=True, once=True)
        for kind in ("no tokenizer", "T5", "NaN weights")
    ),
]
