"""Pairs followed through training, against a run whose every pair is recomputed by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import rounding
import torch

from prefdyn import data
from prefdyn.engine import likelihood
from prefdyn.engine.training import Settings
from prefdyn.experiments.bench import Bench
from prefdyn.experiments.phases import Phase
from prefdyn.measures import flips


def record(rows: list[tuple[int, str, str, float, float, float]]) -> pd.DataFrame:
    """Rows of step, split, group, loss, chosen, rejected."""
    frame = pd.DataFrame(rows, columns=["step", "split", "group", "loss", "logp_chosen", "logp_rejected"])
    ranked = (frame["logp_chosen"] >= frame["logp_rejected"]).astype(float)
    return frame.assign(n=1, margin=0.0, accuracy=0.0, ranking_accuracy=ranked, distance=0.0)


FOUR = record(
    [
        *[
            (0, "followed", str(i), 0.7, a, b)
            for i, (a, b) in enumerate([(-5, -6), (-5, -6), (-6, -5), (-8, -5)])
        ],
        *[
            (3, "followed", str(i), loss, a, b)
            for i, (loss, a, b) in enumerate([(0.1, -4, -9), (0.9, -7, -6), (0.3, -5, -6), (0.6, -7, -6)])
        ],
        (0, "validation", "pairs", 0.69, 0, 0),
        (3, "validation", "pairs", 0.64, 0, 0),
        (6, "validation", "pairs", 0.66, 0, 0),
    ]
)


def test_each_pair_is_in_its_group() -> None:
    followed = flips.follow(FOUR, "followed")
    assert followed.query("step == 3")["group"].tolist() == list(flips.GROUPS)
    assert followed.query("step == 0")["group"].tolist() == ["right → right"] * 2 + ["wrong → wrong"] * 2
    assert followed.query("step == 3")["c"].tolist() == [-1, -1, 1, 3]


def test_a_run_that_begins_elsewhere_is_followed_from_the_reference() -> None:
    later = FOUR[FOUR["step"] > 0]
    whole = flips.follow(FOUR, "followed").query("step == 3").reset_index(drop=True)
    pd.testing.assert_frame_equal(flips.follow(later, "followed", FOUR), whole)


def test_best_step_and_flips_there() -> None:
    followed = flips.follow(FOUR, "followed")
    assert flips.best_step(FOUR) == 3
    assert flips.flipped(followed, 3).tolist() == [1.0, 0.0] and flips.flipped(followed, 0).tolist() == [
        0.0,
        0.0,
    ]


def test_share_flipped_needs_three_wrong_pairs() -> None:
    followed = flips.follow(FOUR, "followed")
    assert np.isnan(flips.share_flipped(followed, 3).value) and flips.share_flipped(followed, 3).n == 2
    twice = pd.concat([followed, followed])
    share = flips.share_flipped(twice, 3)
    assert (share.value, share.n) == (0.5, 4) and 0 < share.low < share.high < 1


def test_mean_loss_is_over_all_preferences_of_a_split() -> None:
    parts = FOUR[FOUR["split"] == "validation"]
    uneven = pd.concat([parts, parts.assign(loss=1.0, n=3)])
    assert flips.mean_loss(uneven, "validation").to_dict() == pytest.approx(
        {0: (0.69 + 3) / 4, 3: (0.64 + 3) / 4, 6: (0.66 + 3) / 4}
    )


def test_trajectory_has_both_measures_at_each_step() -> None:
    wins = {0: [0.5, 0.5, 0.5], 3: [1.0, 0.5, 1.0]}
    course = flips.trajectory(flips.follow(FOUR, "followed"), wins, pairs=3).set_index("step")
    assert course["win rate"].tolist() == pytest.approx([0.5, 2.5 / 3])
    assert course["ranking accuracy"].tolist() == pytest.approx([2 / 3, 2 / 3])  # of the first three pairs


def test_every_pair_of_a_run_is_followed_by_itself(cache: Path) -> None:
    bench = Bench("smoke", device="cpu", precision="float32")
    pairs = data.load_pairs()[:6]
    settings = Settings(3e-3, 3, 3, 0.2, optimizer="rmsprop", track_distance=True)
    phase = Phase(
        pairs[:4],
        settings,
        {"followed": pairs[:4], "validation": pairs[4:]},
        (0, 3),
        each=["followed"],
        max_length=100,
    )
    (result,) = bench.train([phase])
    followed = flips.follow(result.record, "followed")
    assert followed.groupby("step").size().to_dict() == {0: 4, 3: 4}
    tokens = likelihood.tokenize_pairs(bench.lm, pairs[:4], max_length=100)
    with torch.no_grad():
        before = likelihood.log_probs(bench.lm.model, tokens)  # the weights are back
    most = max(len(pair.chosen) + len(pair.rejected) for pair in tokens)
    allowed = rounding.of_log_probs(bench.lm.model, most, length=100)
    start = followed.query("step == 0")
    np.testing.assert_allclose(start["c"], -before.log_ratio.numpy(), rtol=0, atol=allowed)
    np.testing.assert_allclose(start["loss"], np.log(2), rtol=0, atol=2 * settings.beta * allowed)
    assert (result.record.query("split == 'validation'")["n"] == 2).all()
    assert (
        followed.query("step == 0")["distance"].eq(0).all()
        and followed.query("step == 3")["distance"].gt(0).all()
    )


def test_answers_are_those_of_the_model_at_that_step(cache: Path) -> None:
    from prefdyn.engine import sampling

    bench = Bench("smoke", device="cpu", precision="float32")
    prompts = ["\n\nHuman: Why?\n\nAssistant:", "\n\nHuman: How is it?\n\nAssistant:"]
    phase = Phase(
        data.load_pairs()[:4], Settings(5e-2, 2, 4, 0.2), {}, (0, 2), answer=prompts, answer_tokens=8
    )
    (result,) = bench.train([phase])
    assert set(result.answers) == {0, 2}
    assert result.answers[0] == sampling.answers(bench.lm, prompts, 8, seed=0) != result.answers[2]
