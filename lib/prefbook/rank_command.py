"""The command `prefdyn rank`: its options, and what is seen to before anything is scored."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from prefdyn.errors import PrefdynError
from prefdyn.files import at_home, public_name

ABOUT = "how often models rank responses right, on preference data sets or your own"
A_MODEL = "a name of `prefdyn models`, a hub id, a folder or a .gguf file"


def add_options(add: Callable[..., Any]) -> None:
    """Add the command's options to its parser, by what adds one."""
    add("models", nargs="+", metavar="MODEL", help=A_MODEL)
    unknown = "data sets, or files of examples that end in .jsonl; an unknown name lists the data sets"
    add("--data", nargs="+", required=True, metavar="NAME[:SPLIT]|FILE", help=unknown)
    add("--source", default="hub", metavar="hub|PATH", help="the hub, or a folder in the publishers' layout")
    a_reference = "also rank by the implicit reward, the log-ratio to this model, from which training began"
    add("--reference", default="", metavar="MODEL", help=a_reference)
    add("--beta", type=float, help="of the implicit reward, which it scales (default: 0.1)")
    a_template = "how prompts are put: as dialogues (default), in each model's chat template, as they stand"
    add("--template", default="dialogue", choices=("dialogue", "chat", "none"), help=a_template)
    an_alone = "run each response by itself, so that its numbers depend on nothing else that is asked"
    add("--exact", action="store_true", help=an_alone)
    add("--limit", type=int, default=1000, help="examples of each data set; 0 is all (default: 1000)")
    add("--max-length", type=int, default=2048, help="tokens of a prompt with a response (default: 2048)")
    add("--device", default="auto", help="auto, cpu, cuda, mps")
    add("--seed", type=int, default=0, help="of the examples drawn (default: 0)")
    a_table = "also write the tables: .csv (accuracies), .json (everything), .md (for a model card)"
    add("--output", type=Path, nargs="+", default=[], metavar="FILE", help=a_table)
    add("--examples", type=Path, metavar="FILE.jsonl", help="write what each model did with each example")
    add("--quiet", action="store_true", help="no progress bars")


def rank(options: argparse.Namespace) -> None:
    """Rank, print the tables, and write them anew after each model and data set.

    Raises:
        PrefdynError: options that do not go together or files that cannot be written, before anything is
            scored; models that failed, after the others.
    """
    from transformers.utils import logging

    from prefdyn.experiments import rank_models, rank_report

    if options.quiet:
        logging.disable_progress_bar()  # of loading a model
    _check_ranking(options, rank_report.FORMATS)
    asked = ("limit", "seed", "device", "max_length", "template", "reference", "beta", "exact")
    settings: dict[str, Any] = {name: getattr(options, name) for name in asked}
    told = {**settings, "reference": public_name(options.reference)}
    if not options.reference:
        del told["reference"], told["beta"]
    ranked = None
    try:
        with _source_for_data():
            for ranked in rank_models.rank(
                options.models, options.data, options.source, progress=not options.quiet, **settings
            ):
                for path in options.output:
                    rank_report.write(path, ranked, told)
                if options.examples:
                    rank_report.write_examples(options.examples, ranked)
    finally:  # what was finished is shown whatever stops the rest
        if ranked is not None and ranked.scored:
            print(rank_report.text(ranked), flush=True)
    if ranked is not None and ranked.failed:
        raise PrefdynError("; ".join(f"{name} failed: {why}" for name, why in ranked.failed.items()))


def _check_ranking(options: argparse.Namespace, formats: Sequence[str]) -> None:
    """See, before the work, that what is asked can be done and its results be written."""
    for name, smallest in (("limit", 0), ("max_length", 8), ("seed", 0)):
        given = getattr(options, name)
        if given < smallest:
            raise PrefdynError(f"--{name.replace('_', '-')} is {given}: it must be at least {smallest}")
    if options.beta is not None and not options.reference:
        raise PrefdynError("--beta is of the implicit reward: give its --reference as well")
    options.beta = 0.1 if options.beta is None else options.beta
    if not 0 < options.beta < float("inf"):
        raise PrefdynError(f"--beta is {options.beta}: it must be above 0 and finite")
    options.output = [at_home(path) for path in options.output]
    options.examples = options.examples and at_home(options.examples)
    for path in options.output:
        if path.suffix not in formats:
            raise PrefdynError(f"--output is {path}: its name must end in {', '.join(formats)}")
    if options.examples and options.examples.suffix != ".jsonl":
        raise PrefdynError(f"--examples is {options.examples}: its name must end in .jsonl")
    written = [path for path in (*options.output, options.examples) if path]
    places = [path.resolve() for path in written]
    read = {at_home(name).resolve() for name in options.data}
    for path, place in zip(written, places, strict=True):
        _check_writable(path)
        if place in read:
            raise PrefdynError(f"{path} is given as --data as well and would be written over: name another")
        if places.count(place) > 1:
            raise PrefdynError(f"{path} is to be written twice: give each a name of its own")


@contextmanager
def _source_for_data() -> Iterator[None]:
    """Loaders advise --data, which is where `prefdyn run` takes a folder; here --source takes it.

    Raises:
        PrefdynError: theirs, with the option that there is.
    """
    try:
        yield
    except PrefdynError as error:
        said = str(error)
        for advice in ("give --data a folder", "--data takes"):
            said = said.replace(advice, advice.replace("--data", "--source"))
        raise PrefdynError(said) from error


def _check_writable(path: Path) -> None:
    """See that a file can be put in its place, where it may replace another."""
    folder = path.parent
    if not folder.is_dir():
        raise PrefdynError(f"{path} cannot be written: there is no folder {folder}, make it first")
    if path.is_dir():
        raise PrefdynError(f"{path} cannot be written: it is a folder, name a file")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise PrefdynError(f"{path} cannot be written: {folder} may not be written in, name another file")
