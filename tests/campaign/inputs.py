"""Bad data, bad models and bad parameters: one sentence each; odd names are no markup."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

from attacks import Attack
from house import SMOKE, Fault, House

NUMBER = "9" * 5000
CHAPTER = "distinguishability"


def data_of(house: House) -> Path:
    """The embedded sample as a folder of the user's own."""
    folder = house.folder / "data"
    shutil.copytree(house.base.checkout / "lib" / "prefdyn" / "data" / "samples", folder)
    return folder


def a_persona(folder: Path) -> Path:
    return min((folder / "anthropic-evals" / "persona").glob("*.jsonl"))


def surrogates(folder: Path) -> None:
    row = '{"statement": "I am \\ud800 alone.", "answer_matching_behavior": " Yes"}\n'
    for path in (folder / "anthropic-evals" / "persona").glob("*.jsonl"):
        path.write_text(row + path.read_text())


def long_number(folder: Path) -> None:
    for path in (folder / "anthropic-evals" / "persona").glob("*.jsonl"):
        path.write_text(f'{{"statement": {NUMBER}, "answer_matching_behavior": " Yes"}}\n' + path.read_text())


def a_folder_for_a_file(folder: Path) -> None:
    (folder / "anthropic-evals" / "persona" / "a-folder.jsonl").mkdir()


def no_votes(folder: Path) -> None:
    _each_pair(folder, lambda row: row | {"votes_chosen": 0, "votes_rejected": 0})


def long_votes(folder: Path) -> None:
    _each_pair(folder, lambda row: row | {"votes_chosen": int("9" * 4000), "votes_rejected": 1})


def a_long_statement(folder: Path) -> None:
    row = {"statement": "I walk. " * 125_000, "answer_matching_behavior": " Yes"}
    for path in (folder / "anthropic-evals" / "persona").glob("*.jsonl"):
        path.write_text(json.dumps(row) + "\n" + path.read_text())


def not_utf8(folder: Path) -> None:
    a_persona(folder).write_bytes(b"\xff\xfe" + a_persona(folder).read_bytes())


def _each_pair(folder: Path, change: Callable[[dict], dict]) -> None:  # type: ignore[type-arg]
    for path in (folder / "hh-rlhf").rglob("*.jsonl"):
        rows = [change(json.loads(line)) for line in path.read_text().splitlines()]
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def bad_data(house: House, rng: random.Random, spoil: Callable[[Path], None], chapter: str) -> None:
    folder = data_of(house)
    spoil(folder)
    arguments = ("run", chapter, *SMOKE, "--data", folder, "--output", house.output)
    house.refused(*arguments)


def odd_names(house: House, rng: random.Random) -> None:
    """Personas whose names are markup and formulas: the chapter runs, and the names are text on the page."""
    folder = data_of(house)
    names = ["<img src=x onerror=alert(1)>", "$x^{$", "`{math}` [a](b)", "a,b\"c'", "-p", "ünï"]
    paths = sorted((folder / "anthropic-evals" / "persona").glob("*.jsonl"))
    for path, name in zip(paths[: len(names)], names, strict=True):
        path.rename(path.with_name(f"{name}.jsonl"))
    for path in paths[len(names) :]:
        path.unlink()
    arguments = ("run", CHAPTER, *SMOKE, "--data", folder, "-p", "personas", 6, "--output", house.output)
    house.well(*arguments)
    page = (house.output / CHAPTER / f"{CHAPTER}.ipynb").read_text(encoding="utf-8")
    if "<img src=x" in page.replace("\\u003c", "<"):
        raise Fault("a persona's name is markup on the page")
    if str(folder) in page:
        raise Fault("the page tells the folder of the data")


def bad_model(house: House, rng: random.Random, kind: str) -> None:
    folder = house.folder / "model"
    house.script("bad_model", kind, folder)
    house.refused("run", CHAPTER, *SMOKE, "--model", folder, "--output", house.output)


def no_network(house: House, rng: random.Random) -> None:
    house.env |= {"HF_ENDPOINT": "http://127.0.0.1:9", "PIP_INDEX_URL": "http://127.0.0.1:9"}
    house.refused("run", CHAPTER, *SMOKE, "--model", "gpt2", "--output", house.output, naming="gpt2")


def bad_parameters(house: House, rng: random.Random) -> None:
    """Values that no chapter can run with are told before anything runs."""
    for chapter, name, value in (
        (CHAPTER, "other_learning_rates", "[1.0e-4, 2.0e-4, 3.0e-4]"),
        (CHAPTER, "steps", "9" * 400),
        ("generalization", "cluster_counts", "[5000]"),
        ("ranking", "followed", "1000"),
        ("ranking", "judge", "nobody"),
        ("noise", "text_rates", "[0, 0]"),
        ("noise", "trials", "-5"),
    ):
        arguments = ("run", chapter, *SMOKE, "-p", name, value, "--output", house.output)
        said = house.refused(*arguments, naming=name)
        if "stopped in its cell" in said.err:
            raise Fault(f"{name} {value} was noticed only in the middle of {chapter}: {said.err.strip()}")


BAD_DATA: dict[str, tuple[Callable[[Path], None], str]] = {
    "lone surrogates": (surrogates, CHAPTER),
    "a number of 5,000 digits": (long_number, CHAPTER),
    "a folder named X.jsonl": (a_folder_for_a_file, CHAPTER),
    "votes 0 to 0": (no_votes, "ranking"),
    "votes of 4,000 digits": (long_votes, "ranking"),
    "a statement of a million characters": (a_long_statement, CHAPTER),
    "not UTF-8": (not_utf8, CHAPTER),
}
MODELS = ("no tokenizer", "T5", "NaN weights", "an empty configuration", "a cut configuration")
ATTACKS = [
    *(
        Attack(f"data: {name}", partial(bad_data, spoil=spoil, chapter=chapter), 120, alone=True, once=True)
        for name, (spoil, chapter) in BAD_DATA.items()
    ),
    Attack("data: markup and formulas in names", odd_names, alone=True, once=True),
    *(
        Attack(f"a model: {kind}", partial(bad_model, kind=kind), 120, alone=True, once=True)
        for kind in MODELS
    ),
    Attack("a model of the hub, no network", no_network, 120, alone=True, once=True),
    Attack("parameters that cannot be", bad_parameters, 240, alone=True, once=True),
]
