"""Chapter 2's experiments on longer responses and other losses, on the tiny model."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from small_chapters import GENERALIZATION as SMALL

from prefdyn import data
from prefdyn.engine import losses
from prefdyn.engine.likelihood import log_probs, tokenize_pairs
from prefdyn.experiments import flows, moved_tokens, responses, token_rates
from prefdyn.experiments.bench import Bench
from prefdyn.measures.response_tokens import response_tokens, unembedding
from prefdyn.theory import tokens as theory


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PREFDYN_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield Bench("smoke", device="cpu", precision="float32")


def stand_in(patch: pytest.MonkeyPatch, module: ModuleType, name: str, by: Callable[..., Any]) -> None:
    """Another function in the place of a module's; its results are kept as the module's."""
    by.__module__ = module.__name__
    patch.setattr(module, name, by)


def test_factors_add_up_to_the_rate_and_the_printed_ones_do_not(bench: Bench) -> None:
    tables = responses.tokens(bench, SMALL)
    tokens, factors = tables["tokens"], tables["factors"]
    np.testing.assert_allclose(tokens["rate by the factors"], tokens["rate"], rtol=1e-8)
    assert tokens["relative error"].max() < 1e-8
    assert np.linalg.norm(tokens["rate as printed"] - tokens["rate"]) > 0.01 * np.linalg.norm(tokens["rate"])
    parts = factors[["co_occurrence", "probability", "distribution"]].sum(axis=1)
    np.testing.assert_allclose(parts, factors["total"], rtol=1e-9)
    start = factors[factors["step"] == 0].set_index("response")
    for word, mine in tokens.groupby("response"):
        assert start.loc[word, "total"] == pytest.approx(mine["rate"].mean())
    assert tables["places"].iloc[0][["pairs", "tokens"]].tolist() == [2, len(tokens)]


@pytest.mark.usefixtures("cache")
def test_short_pairs_are_taken_apart(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[data.Pair] = []

    def measure(lm: object, pairs: list[data.Pair], *how: Any) -> token_rates.TokenRates:
        taken.extend(pairs)
        return token_rates.TokenRates(pd.DataFrame({"rate": [1.0]}), pd.DataFrame(), 0.5)

    stand_in(monkeypatch, token_rates, "measure", measure)
    responses.tokens(bench, replace(SMALL, pairs_decomposed=3))
    lengths = sorted(len(pair.chosen) + len(pair.rejected) for pair in bench.pairs(0))
    assert [len(pair.chosen) + len(pair.rejected) for pair in taken] == lengths[:12:4]


def test_margins_start_at_zero_but_for_simpo_and_equally_fast(bench: Bench) -> None:
    tables = responses.losses(bench, SMALL)
    ends, curves = tables["losses"].set_index("loss"), tables["loss_curves"]
    starts = curves[curves["time"] == 0].set_index("loss")
    assert (starts.loc[["DPO", "IPO", "SLiC"], ["lowest", "highest"]] == 0).all(axis=None)
    assert starts.loc["SimPO", "lowest"] < starts.loc["SimPO", "highest"]
    last = curves[curves["time"] == curves["time"].max()].set_index("loss")
    np.testing.assert_allclose(last["median"], ends["median margin"])
    assert ends["not positive"].between(0, 1).all()


def test_the_rounded_corner_is_slic_away_from_it() -> None:
    loss, r = flows.rounded_slic(), torch.tensor([-1.0, 0.0, 0.5, 1.5, 3.0], dtype=torch.float64)
    np.testing.assert_allclose(-loss.derivative(r), [1, 1, 1, 0, 0], atol=1e-4)
    np.testing.assert_allclose(loss.value(r), (1 - r).clamp(min=0), atol=1e-4)


# All weights ----------------------------------------------------------------------------------------


def test_rates_along_the_first_pull_are_those_of_autograd(bench: Bench) -> None:
    picked = responses._short(bench.pairs(0))[:3]
    places, weight = response_tokens(bench.lm, tokenize_pairs(bench.lm, picked)), unembedding(bench.lm)
    pull = theory.first_pull(places, weight, 0.1) / len(picked)
    found = theory.rates_along(places, weight, pull, 0.1)
    reference = theory.token_log_probs(places, weight)
    truth = theory.rates_by_autograd(places, weight, reference, 0.1, losses.dpo())
    # Sums of some thousand products of float64, of which a few cancel.
    torch.testing.assert_close(found, truth, rtol=1e-9, atol=1e-12)


def test_a_step_of_all_weights_lets_the_loss_fall_as_its_slope_says(bench: Bench) -> None:
    table = responses.moved(bench, SMALL)
    pairs = responses._short(bench.pairs(0))[:4]
    assert table["pair"].nunique() == 4
    places = response_tokens(bench.lm, tokenize_pairs(bench.lm, pairs))
    assert len(table) == len(places.tokens)
    # The margins' mean change over η is twice the squared gradient, and η the fall over that.
    weights = list(bench.lm.model.parameters())
    for weight in weights:
        weight.requires_grad_(True)
    ratios = log_probs(bench.lm.model, tokenize_pairs(bench.lm, pairs)).log_ratio
    gradient = torch.autograd.grad(-0.1 / 2 * ratios.mean(), weights, allow_unused=True)
    square = sum(float(part.square().sum()) for part in gradient if part is not None)
    for weight in weights:
        weight.requires_grad_(False)
    signs = np.where(table["response"] == "chosen", 1, -1)
    mean = (signs * table["moved"]).sum() / 4
    assert mean == pytest.approx(2 * square, rel=0.05)  # a step has a length


def test_the_model_has_its_weights_back(bench: Bench) -> None:
    before = [weight.detach().clone() for weight in bench.lm.model.parameters()]
    moved_tokens.measure(bench.lm, bench.pairs(0)[:3], 0.1)
    after = [weight.detach() for weight in bench.lm.model.parameters()]
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
