"""Rankings by name: every data set of RA (Appendix C.2), from the hub or from a folder.

In a folder, each data set lies in one of its repository's name, as `datasets` would read it from there.
"""

from __future__ import annotations

import gzip
import json
import re
import zlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from prefdyn.data import rankings
from prefdyn.data.pairs import PAIRS_FOLDER, load_pairs
from prefdyn.data.rankings import Ranking
from prefdyn.data.sources import Source, from_hub
from prefdyn.errors import PrefdynError, extra, first_line
from prefdyn.files import at_home


@dataclass(frozen=True)
class DataSet:
    """Where a data set is and how a row of it is read.

    Attributes:
        hub: its repository; "" where the hub has none.
        folder: its name inside a local folder.
        files: for data whose files `datasets` has to be told: their pattern there.
        split: the default one, as RA uses it.
        read: rankings from numbered rows, and the words for where they come from.
        streamed: too large to fetch whole from the hub.
    """

    title: str
    hub: str
    folder: str
    split: str
    read: Callable[[Iterable[tuple[int, rankings.Row]], str], Iterator[Ranking]]
    files: str = ""
    streamed: bool = False


DATASETS: dict[str, DataSet] = {
    "synthetic-instruct": DataSet(
        "Synthetic-Instruct-GPT-J Pairwise",
        "Dahoas/synthetic-instruct-gptj-pairwise",
        "synthetic-instruct-gptj-pairwise",
        "train",
        rankings.chosen_rejected,
    ),
    "stack-exchange": DataSet(
        "StackExchange Preferences",
        "HuggingFaceH4/stack-exchange-preferences",
        "stack-exchange-preferences",
        "train",
        rankings.stack_exchange,
        streamed=True,
    ),
    "ultrafeedback": DataSet(
        "UltraFeedback", "openbmb/UltraFeedback", "UltraFeedback", "train", rankings.ultrafeedback
    ),
    "shp": DataSet("Stanford Human Preferences", "stanfordnlp/SHP", "SHP", "test", rankings.shp),
    "alpaca-farm": DataSet(
        "AlpacaFarm, human cross-annotations",
        "tatsu-lab/alpaca_eval",
        "alpaca_eval",
        "train",  # what `datasets` calls the only split of a file
        rankings.cross_annotations,
        "alpaca_farm_human_crossannotations.json",
    ),
}
"""The data sets that `datasets` reads; HH-RLHF and those of JSON lists have readers of their own."""

PANDALM = Path("pandalm") / "testset-v1.json"
LLMBAR = "llmbar"
LLMBAR_ON_HUB = "princeton-nlp/LLMBar"
LLMBAR_PARTS = {
    "llmbar-natural": ("Natural",),
    "llmbar-adversarial": (
        "Adversarial_Neighbor",
        "Adversarial_GPTInst",
        "Adversarial_GPTOut",
        "Adversarial_Manual",
    ),
}
"""The splits of either data set, as the hub names them; in a folder `_` is a folder inside another."""

NAMES = {
    "sample": "The embedded pairs",
    "hh-rlhf": "HH-RLHF",
    **{name: about.title for name, about in DATASETS.items()},
    "pandalm": "PandaLM, three human votes",
    "llmbar-natural": "LLMBar, natural",
    "llmbar-adversarial": "LLMBar, adversarial",
    "alpaca-eval": "AlpacaEval, each model against the baseline",
    "alpaca-eval-rankings": "AlpacaEval, all models of an instruction",
}
"""Every data set that `load` knows, with its title."""
WHOLE = ("sample", "pandalm", "alpaca-eval", "alpaca-eval-rankings")
"""Those that have no splits."""
SPLIT = re.compile(r"[\w-]+(\[[\w:%-]+\])?")
"""A split, or a slice of one, as `datasets` has them."""


# Loading ------------------------------------------------------------------------------------------


def load(name: str, source: Source = "hub", limit: int = 0, seed: int = 0) -> list[Ranking]:
    """A data set's rankings, or `limit` of them drawn by the seed (0: all, in their order).

    Rankings with an empty prompt or response, or with fewer than two responses, are left out.

    Args:
        name: one of `NAMES`, with a split after a colon where it is not the default one: "shp:train".
        source: "hub", or a folder in the publishers' layout. The embedded pairs need neither.
        limit: how many; of a data set too large to fetch whole, no more than these are read.

    Raises:
        PrefdynError: an unknown name, data that is not there, or a row that is not of its schema.
    """
    name, mark, split = name.partition(":")
    if name not in NAMES:
        raise PrefdynError(f"there is no data set {name!r}: choose from {', '.join(NAMES)}")
    if mark and name in WHOLE:
        raise PrefdynError(f"{name} has no splits, so there is no {split!r}: name {name} alone")
    if mark and not SPLIT.fullmatch(split):
        raise PrefdynError(f"{split!r} is no name of a split of {name}: write one as in {name}:train")
    if name == "sample":
        found: Iterable[Ranking] = map(rankings.from_pair, load_pairs("sample"))
    elif name == "hh-rlhf":
        found = map(rankings.from_pair, load_pairs(source, split or "test"))
    elif name == "pandalm":
        found = _pandalm(source)
    elif name in LLMBAR_PARTS:
        found = _llmbar(name, source, split)
    elif name.startswith("alpaca-eval"):
        found = _alpaca_eval(source, joined=name.endswith("rankings"))
    else:
        found = _by_datasets(DATASETS[name], source, split, limit, seed)
    whole = [
        ranking
        for ranking in found
        if ranking.prompt.strip() and len(ranking.responses) > 1 and all(map(str.strip, ranking.responses))
    ]
    if not whole:
        raise PrefdynError(f"{name} in {source}: no ranking with a prompt and two responses there")
    if 0 < limit < len(whole):
        return [whole[i] for i in np.random.default_rng(seed).permutation(len(whole))[:limit]]
    return whole


def available(source: Source) -> list[str]:
    """Names of the data sets that a source holds, in the order of `NAMES`."""
    if source == "sample":
        return ["sample"]
    if source == "hub":
        return ["hh-rlhf", *DATASETS, *LLMBAR_PARTS]
    root = at_home(source)
    here = {name: (root / about.folder / about.files).exists() for name, about in DATASETS.items()}
    here["hh-rlhf"] = (root / PAIRS_FOLDER).is_dir()
    here["pandalm"] = (root / PANDALM).exists()
    for name, parts in LLMBAR_PARTS.items():
        here[name] = any(_llmbar_file(root, part).exists() for part in parts)
    here["alpaca-eval"] = here["alpaca-eval-rankings"] = any((root / "alpaca_eval").glob("*.json.gz"))
    return [name for name in NAMES if here.get(name)]


def pairs_of(source: Source) -> str:
    """The name of the data set that a source's training pairs come from."""
    return "sample" if source == "sample" else "hh-rlhf"


def _by_datasets(about: DataSet, source: Source, split: str, limit: int, seed: int) -> Iterator[Ranking]:
    with extra("hub"):
        import datasets

    split = split or about.split
    if source == "sample":
        raise PrefdynError(f"the embedded sample holds no {about.title}: give --source hub or a folder")
    if source == "hub":
        where = f"{about.hub}, {split}"
        with from_hub(about.hub):
            if about.files:
                rows = datasets.load_dataset(
                    "json", data_files=f"hf://datasets/{about.hub}/{about.files}", split=split
                )
            elif about.streamed:
                stream = datasets.load_dataset(about.hub, split=split, streaming=True).shuffle(
                    seed=seed, buffer_size=10_000
                )
                rows = list(stream.take(limit) if limit else stream)
            else:
                rows = datasets.load_dataset(about.hub, split=split)
        yield from about.read(enumerate(rows, start=1), where)
        return
    folder = at_home(source) / about.folder
    if not (folder / about.files).exists():
        raise PrefdynError(
            f"{folder / about.files}: not there; it must hold the files of the hub's {about.hub}"
        )
    try:
        if about.files:
            rows = datasets.load_dataset("json", data_files=str(folder / about.files), split=split)
        else:
            rows = datasets.load_dataset(str(folder), split=split)
    except Exception as error:  # each builder raises errors of its own
        raise PrefdynError(
            f"{folder}: `datasets` cannot read the split {split!r} there ({first_line(error)})"
        ) from error
    yield from about.read(enumerate(rows, start=1), f"{folder}, {split}")


def _pandalm(source: Source) -> Iterator[Ranking]:
    """The test set, a file of PandaLM's GitHub repository."""
    if source in ("hub", "sample"):
        raise PrefdynError(
            f"PandaLM's test set is a file of its GitHub repository: give a folder that holds {PANDALM}"
        )
    path = at_home(source) / PANDALM
    yield from rankings.pandalm(enumerate(_json_rows(path), start=1), str(path))


def _llmbar_file(root: Path, part: str) -> Path:
    return root.joinpath(LLMBAR, *part.split("_"), "dataset.json")


def _llmbar(name: str, source: Source, split: str) -> Iterator[Ranking]:
    """The splits of a data set of LLMBar that the source holds, one after another, or the one named."""
    known = LLMBAR_PARTS[name]
    if split and split not in known:
        raise PrefdynError(f"{name} has no split {split!r}: choose from {', '.join(known)}")
    wanted = (split,) if split else known
    if source == "sample":
        raise PrefdynError("the embedded sample holds no LLMBar: give the hub or a folder")
    if source == "hub":
        with extra("hub"):
            import datasets
        for part in wanted:
            with from_hub(LLMBAR_ON_HUB):
                rows = datasets.load_dataset(LLMBAR_ON_HUB, "LLMBar", split=part)
            yield from rankings.llmbar(enumerate(rows, start=1), f"{LLMBAR_ON_HUB}, {part}")
        return
    root = at_home(source)
    here = [path for part in wanted if (path := _llmbar_file(root, part)).exists()]
    if not here:
        raise PrefdynError(f"{_llmbar_file(root, wanted[0])}: no such file")
    for path in here:
        yield from rankings.llmbar(enumerate(_json_rows(path), start=1), str(path))


def _alpaca_eval(source: Source, joined: bool) -> Iterator[Ranking]:
    """AlpacaEval's annotation files: every model's output against the same baseline's.

    The field `preference` is 1 + P(the model's is better). Joined on the instruction they rank the baseline
    and all models: the baseline has probability 1/2 against itself.
    """
    if source in ("hub", "sample"):
        raise PrefdynError(
            "AlpacaEval's annotations are files of its GitHub repository: "
            "give a folder that holds alpaca_eval/*.json.gz"
        )
    folder = at_home(source) / "alpaca_eval"
    paths = sorted(folder.glob("*.json.gz"))
    if not paths:
        raise PrefdynError(f"{folder}: no file *.json.gz there")
    joint: dict[tuple[str, str], list[tuple[str, float]]] = defaultdict(list)
    for path in paths:
        for number, row in enumerate(_json_rows(path), start=1):
            instruction, baseline, output = (
                rankings.field(row, name, str, str(path), number)
                for name in ("instruction", "output_1", "output_2")
            )
            better = rankings.field(row, "preference", rankings.NUMBER, str(path), number) - 1
            if not 0 <= better <= 1:
                raise PrefdynError(
                    f"{path}, row {number}: the field 'preference' is {better + 1}, it must lie in [1, 2]"
                )
            if joined:
                joint[instruction, baseline].append((output, better))
            else:
                yield rankings.from_alpha(
                    rankings.DIALOGUE.format(prompt=instruction),
                    (rankings.spaced(baseline), rankings.spaced(output)),
                    1 - better,
                )
    for (instruction, baseline), others in joint.items():
        outputs, shares = zip((baseline, 0.5), *others, strict=True)
        yield rankings.from_scores(
            rankings.DIALOGUE.format(prompt=instruction),
            [rankings.spaced(output) for output in outputs],
            shares,
        )


def _json_rows(path: Path) -> list[rankings.Row]:
    """The objects of a file that is one JSON list, plain or gzipped."""
    opener = gzip.open if path.suffix == ".gz" else open
    try:
        with opener(path, "rt", encoding="utf-8") as file:
            rows = json.load(file)
    except FileNotFoundError as error:
        raise PrefdynError(f"{path}: no such file") from error
    except (OSError, EOFError, zlib.error, ValueError, RecursionError) as error:
        raise PrefdynError(f"{path}: the file is damaged ({error}): fetch it again") from error
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise PrefdynError(f"{path}: expected a list of objects")
    return rows
