"""What `prefdyn rank` does: any models on any data sets, one after another, kept as it goes."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from prefdyn.data import Source, examples
from prefdyn.data.examples import Example
from prefdyn.data.prompts import Template
from prefdyn.engine.scoring import ResponseLogProbs
from prefdyn.errors import PrefdynError
from prefdyn.experiments import rank_tables
from prefdyn.experiments.bench import Bench
from prefdyn.experiments.plan import model_size
from prefdyn.experiments.rank_tables import Scored
from prefdyn.files import public_name
from prefdyn.models import devices, loading


@dataclass(frozen=True)
class Ranked:
    """What was scored so far.

    Attributes:
        data: the examples of each data set, by its name.
        scored: each data set as each model scored it, in the order in which that was done.
        about: what a reader of the tables has to know, a sentence each.
        failed: why a model stopped, by its name; what it had finished before is in `scored`.
        fingerprints: of the models, by name.
    """

    data: dict[str, list[Example]]
    scored: list[Scored]
    about: list[str]
    failed: dict[str, str]
    fingerprints: dict[str, str]

    @property
    def accuracy(self) -> pd.DataFrame:
        """See `rank_tables.accuracy`."""
        return rank_tables.accuracy(self.data, self.scored)

    @property
    def comparisons(self) -> pd.DataFrame:
        """See `rank_tables.comparisons`."""
        return rank_tables.comparisons(self.data, self.scored)

    def example_rows(self) -> Iterator[dict[str, Any]]:
        """See `rank_tables.example_rows`."""
        for one in self.scored:
            yield from rank_tables.example_rows(self.data[one.data], one)


def rank(
    models: Sequence[str],
    names: Sequence[str],
    source: Source = "hub",
    limit: int = 1000,
    seed: int = 0,
    device: str = "auto",
    max_length: int = 2048,
    template: Template = "dialogue",
    reference: str = "",
    beta: float = 0.1,
    exact: bool = False,
    progress: bool = True,
) -> Iterator[Ranked]:
    """Score every model on every data set; after each, and at last, what was scored so far.

    What was scored before, or by a run that was killed, is not scored again. Where a model fails, the next
    one's turn comes.

    Args:
        names: as `examples.load` takes them; "sample" is the embedded pairs whatever the source.
        limit: examples of each data set, drawn by the seed; 0 is all.
        max_length: tokens of a prompt with a response, fewer where a model has fewer places; of a response
            the first half as many are kept, of a prompt the end.
        template: how prompts are put, see `prompts.put`.
        reference: the model pi_ref of the implicit reward beta log pi/pi_ref; "" for none. It is given the
            very texts that the model is given, and must have the model's tokens.
        beta: of the implicit reward; it scales rewards and turns no order.
        exact: run each response by itself, as `scoring.score` has it.

    Raises:
        PrefdynError: no such model or data set, or data that is not of its schema, before anything is
            scored.
    """
    if not names:
        raise PrefdynError("no data set is named: give --data NAME")
    devices.choose_device(device)
    called = _short([loading.full_name(model) for model in models], public_name)
    sets = _short(names, lambda name: Path(name).name if examples.is_file(name) else name)
    ref = reference and loading.full_name(reference)
    for model in [*called, *filter(None, [ref])]:
        model_size(model)
    out = Ranked({}, [], [], {}, {})
    for name, short in sets.items():
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always", UserWarning)
            out.data[short] = examples.load(name, source, limit, seed)
        drawn = f", {limit} at most, drawn with seed {seed}" if limit else ""
        form = examples.form(out.data[short], template)
        out.about.append(f"{short}: {len(out.data[short])} examples{drawn}; {form}")
        left_out = [str(one.message).rpartition(": ")[2] for one in said if one.category is UserWarning]
        out.about.extend(f"{short}: {line}" for line in left_out)
    beside = Bench(ref, seed=seed, device=device, precision="float32") if ref else None
    for number, (model, short) in enumerate(called.items(), start=1):
        bench = Bench(model, seed=seed, device=device, precision="float32")
        other = None if model == ref else beside
        if ref and other is None:
            out.about.append(f"{short} is the reference, and has no implicit reward")
        asked = _Asked(bench, other, short, max_length, template, beta, exact, out)
        try:
            for name in out.data:
                asked.score(name, f"[{number}/{len(called)}] {short} on {name}", progress)
                yield out
        except PrefdynError as error:
            out.failed[short] = str(error).replace(model, short)
        except (RuntimeError, MemoryError) as error:
            if not devices.out_of_memory(error):
                raise
            out.failed[short] = f"the model {short!r} needs more memory than {bench.device} has"
    yield out


@dataclass(frozen=True)
class _Asked:
    """A model whose turn it is, and where its scores go."""

    bench: Bench
    beside: Bench | None
    short: str
    max_length: int
    template: Template
    beta: float
    exact: bool
    out: Ranked

    @cached_property
    def longest(self) -> int:
        """Tokens of a prompt with a response: as many as are asked for and each model has places for."""
        benches = [self.bench, *filter(None, [self.beside])]
        return min(self.max_length, *(_places(one.model_name) for one in benches))

    def score(self, name: str, title: str, progress: bool) -> None:
        """Score a data set, and keep what came of it."""
        from tqdm import tqdm

        tokenizer = self.bench.lm.tokenizer if self.template == "chat" else None
        try:
            put = [one.put(self.template, tokenizer) for one in self.out.data[name]]
        except PrefdynError as error:
            raise PrefdynError(f"the model {self.short!r} cannot be asked: {error}") from error
        self.out.fingerprints[self.short] = self.bench.fingerprint

        def scores(bench: Bench, title: str) -> list[ResponseLogProbs]:
            with tqdm(total=len(put), desc=title, unit="example", disable=not progress) as bar:
                return bench.scores(put, self.longest, done=bar.update, exact=self.exact)

        own, reference = scores(self.bench, title), None
        called = public_name(self.beside.model_name) if self.beside else ""
        both = f"{self.short} beside {called}"
        if self.beside is not None and both not in self.out.failed:
            try:
                _same_tokens(self.short, own[:8], called, self.beside.scores(put[:8], self.longest))
                reference = scores(self.beside, f"{title}, reference")
                self.out.fingerprints[called] = self.beside.fingerprint
                _same_tokens(self.short, own, called, reference)
            except PrefdynError as error:  # what the model has without it is not lost
                self.out.failed[both] = str(error).replace(self.beside.model_name, called)
                reference = None
        self.out.about.extend(_cut(f"{self.short} on {name}", own, self.longest, self.max_length))
        self.out.scored.append(Scored(self.short, name, put, own, reference, self.beta))


def _same_tokens(
    model: str, own: Sequence[ResponseLogProbs], reference: str, other: Sequence[ResponseLogProbs]
) -> None:
    """Stop at a ratio of likelihoods of different tokens.

    Raises:
        PrefdynError: a response has more tokens for one of the two.
    """
    if any((one.tokens != beside.tokens).any() for one, beside in zip(own, other, strict=True)):
        raise PrefdynError(
            f"the model {model!r} and its reference {reference!r} have other tokens, so there is no ratio of "
            "their likelihoods: name the model that training began from"
        )


def _cut(what: str, scores: Sequence[ResponseLogProbs], longest: int, asked: int) -> Iterator[str]:
    """What is to be said where responses or prompts may not be whole."""
    counts = np.concatenate([one.tokens for one in scores])
    places = "" if longest == asked else f" (there are places for {longest}, with a prompt)"
    if cut := int((counts == longest // 2).sum()):
        yield f"{what}: {cut} of {len(counts)} responses reach {longest // 2} tokens, and are cut{places}"
    if cut := sum(one.cut > 0 for one in scores):
        lost = f"{cut} of {len(scores)} prompts lose their beginning"
        yield f"{what}: {lost}, for {longest} tokens hold no more with a response{places}"


def _places(model: str) -> int:
    """How many tokens a model has places for."""
    text = loading.configuration(model).get_text_config()
    return int(getattr(text, "max_position_embeddings", None) or sys.maxsize)


def _short(names: Sequence[str], shorten: Callable[[str], str]) -> dict[str, str]:
    """Different names, each with how it is shown: a short name where no two have the same."""
    whole = list(dict.fromkeys(names))
    short = [shorten(name) for name in whole]
    return dict(zip(whole, short if len(set(short)) == len(short) else whole, strict=True))
