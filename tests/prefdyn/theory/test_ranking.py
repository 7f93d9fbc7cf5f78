"""The theorems of the ranking chapter against cases by hand, brute force, and a real training run."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from prefdyn import data
from prefdyn.engine import losses
from prefdyn.engine.likelihood import tokenize_pairs
from prefdyn.engine.training import Settings, fine_tune
from prefdyn.errors import PrefdynError
from prefdyn.measures.estimates import bootstrap, proportion
from prefdyn.models import LanguageModel
from prefdyn.theory import ranking as theory

LOG = st.floats(-800, 800).map(lambda x: round(x, 3))


# Ranking accuracy ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("likelihoods", "ranks", "right"),
    [
        ((0.5, 0.4), (0, 1), True),
        ((0.4, 0.5), (0, 1), False),
        ((0.4, 0.5), (1, 0), True),
        ((0.4, 0.4), (0, 1), True),  # Definition 2.3 has >=
        ((0.400, 0.405), (0, 0), True),  # within 0.01
        ((0.40, 0.42), (0, 0), False),
        ((0.5, 0.3, 0.1), (0, 1, 2), True),
        ((0.5, 0.1, 0.3), (0, 1, 2), False),
        ((0.5, 0.3, 0.3), (0, 1, 2), False),  # Definition A.8 has >
        ((0.5, 0.300, 0.305), (0, 1, 1), True),
        ((0.5, 0.30, 0.33), (0, 1, 1), False),
    ],
)
def test_ranked_right_by_hand(likelihoods: tuple[float, ...], ranks: tuple[int, ...], right: bool) -> None:
    assert theory.ranked_right(np.log(likelihoods), ranks) is right


def test_one_order_in_n_factorial_is_right() -> None:
    values = np.log([0.1, 0.2, 0.3, 0.4])
    assert sum(theory.ranked_right(values, ranks) for ranks in itertools.permutations(range(4))) == 1
    assert (
        theory.chance((0, 1, 2, 3)) == pytest.approx(1 / 24)
        and theory.chance((0, 1)) == 0.5
        and theory.chance((0, 0)) == 0.0
    )
    assert theory.chance(range(21)) == pytest.approx(1 / 51090942171709440000, rel=1e-12)
    assert 0 <= theory.chance(range(300)) < 1e-300


def test_long_responses_are_tied_whatever_they_are_by_the_published_rule() -> None:
    assert theory.ranked_right([-200.0, -400.0], (0, 0)) and not theory.ranked_right([-0.1, -0.4], (0, 0))


# The idealized optimum ----------------------------------------------------------------------------


@pytest.mark.parametrize("beta", [0.1, 1.0, 5.0])
@pytest.mark.parametrize("alpha", [0.55, 0.75, 0.999])
def test_idealized_ratio_minimises_the_expected_dpo_loss(alpha: float, beta: float) -> None:
    # Theorem 3.1 from its definition: the optimum of E[-log sigmoid(+-r)] over the policy's log-ratio, raters
    # split by alpha.
    reference = -1.3
    grid = np.linspace(-60, 100, 320_001)
    r = beta * (grid - reference)
    expected = alpha * np.logaddexp(0, -r) + (1 - alpha) * np.logaddexp(0, r)
    assert theory.idealized_log_ratio(reference, alpha, beta) == pytest.approx(
        grid[expected.argmin()], abs=1e-3
    )


def test_idealized_ratio_does_not_overflow() -> None:
    value = theory.idealized_log_ratio(-500.0, [1.0, 0.999, 0.0], 0.01)
    assert np.isfinite(value).all() and value[0] == value[1] == pytest.approx(-500 + math.log(999) / 0.01)
    assert value[2] == pytest.approx(-500 - math.log(999) / 0.01)
    with pytest.raises(OverflowError):
        (0.999 / 0.001) ** (1 / 0.001)  # what log space is there for


# Theorem 4.1 and its relatives --------------------------------------------------------------------


@given(
    log_ratio=LOG, c=LOG, beta=st.sampled_from([0.01, 0.1, 1.0]), gamma=st.sampled_from([0.0, 0.5, 1.0, 2.0])
)
def test_theorem_4_1_holds_everywhere(log_ratio: float, c: float, beta: float, gamma: float) -> None:
    loss = (
        losses.dpo()
        .value(losses.reward_margin(torch.tensor(log_ratio), torch.tensor(-c), beta, gamma))
        .item()
    )
    assert not theory.violations(log_ratio >= 0, loss, c, log_ratio, beta, gamma)


def test_wrong_rankings_and_wrong_losses_are_noticed() -> None:
    c, ratio, beta = np.array([3.0, 3.0, -3.0, -3.0]), np.array([1.0, -1.0, 1.0, -1.0]), 0.5
    loss = np.logaddexp(0, -beta * (ratio + c))
    assert not theory.violations(ratio >= 0, loss, c, ratio, beta).any()
    assert theory.violations(ratio < 0, loss, c, ratio, beta).all()
    assert theory.violations(
        ratio >= 0, np.logaddexp(0, -beta * (ratio + c + np.array([-2, 2, -2, 2]))), c, ratio, beta
    ).all()
    assert theory.dpo_threshold(0.0, beta) == pytest.approx(math.log(2))


def test_large_c_neither_overflows_nor_underflows_the_threshold() -> None:
    c = np.array([-5000.0, -30.0, 29.9, 30.1, 5000.0])
    assert np.isfinite(theory._log_threshold(c, 1.0)).all()
    np.testing.assert_allclose(
        theory._log_threshold(c[1:4], 1.0), np.log(np.log1p(np.exp(-c[1:4]))), rtol=1e-9
    )


def test_sanity_proposition() -> None:
    found = theory.sanity_violations(
        [True, False, False, False], [0.5, 0.5, 0.7, 0.5], [-1.0, -1.0, -1.0, 1.0]
    )
    assert found.tolist() == [False, True, False, False]


@given(log_ratio=LOG, c=LOG, tau=st.sampled_from([0.005, 0.05, 0.5]))
def test_ipo_proposition_holds_everywhere(log_ratio: float, c: float, tau: float) -> None:
    assert not theory.ipo_violations(log_ratio, c, tau)


def test_ipo_loss_is_the_librarys_rescaled() -> None:
    beta, ratio, c = 0.1, 3.0, 2.0
    ours = losses.ipo().value(losses.reward_margin(torch.tensor(ratio), torch.tensor(-c), beta)).item()
    assert theory.ipo_loss(ratio, c, beta / 2) * beta**2 == pytest.approx(ours, rel=1e-5)


def test_ipo_optimum_is_wrong_where_the_reference_is_too_wrong() -> None:
    # target = 1 / (2 tau) - c = 10 - 12: the loss vanishes at a log-ratio of -2.
    assert theory.ipo_loss(-2.0, 12.0, 0.05) == pytest.approx(0.0)


@pytest.mark.parametrize(("gamma", "optimizer"), [(1.0, "adamw"), (0.25, "rmsprop"), (2.0, "adamw")])
def test_theorem_holds_on_every_point_of_a_run(
    fresh_smoke: LanguageModel, gamma: float, optimizer: str
) -> None:
    lm = fresh_smoke
    tokens = tokenize_pairs(lm, data.load_pairs()[:10], max_length=120)
    each = [pair.__class__(pair.prompt, pair.chosen, pair.rejected, str(i)) for i, pair in enumerate(tokens)]
    settings = Settings(2e-3, 4, 5, beta=0.3, gamma=gamma, optimizer=optimizer)  # type: ignore[arg-type]
    record = fine_tune(lm, tokens, settings, {"pairs": each}, range(5)).query("split == 'pairs'")
    start = record.query("step == 0").set_index("group")
    c = (start["logp_rejected"] - start["logp_chosen"]).loc[record["group"]].to_numpy()
    ratio = (record["logp_chosen"] - record["logp_rejected"]).to_numpy()
    assert len(record) == 50 and record["n"].eq(1).all()
    assert not theory.violations(record["ranking_accuracy"] == 1, record["loss"], c, ratio, 0.3, gamma).any()
    np.testing.assert_allclose(record["margin"], 0.3 * (ratio + gamma * c), rtol=0, atol=1e-4)
    assert record.groupby("step")["loss"].mean().iloc[-1] < record.groupby("step")["loss"].mean().iloc[0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"beta": 0.1, "gamma": -0.5}, "gamma is -0.5: it must be at least 0"),
        ({"loss": "sft", "gamma": 0.5}, "takes no beta, gamma"),
    ],
)
def test_gamma_that_means_nothing_is_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(PrefdynError, match=message):
        Settings(1e-3, 1, 1, **options)  # type: ignore[arg-type]


# Intervals of this chapter ------------------------------------------------------------------------


def test_wilson_interval_is_scipys() -> None:
    from scipy.stats import binomtest

    for hits, n in ((0, 12), (5, 12), (12, 12), (40, 97)):
        expected = binomtest(hits, n).proportion_ci(method="wilson")
        found = proportion([1] * hits + [0] * (n - hits))
        assert (found.value, found.low, found.high, found.n) == pytest.approx(
            (hits / n, expected.low, expected.high, n)
        )


def test_bootstrap_of_a_mean_is_near_the_normal_interval() -> None:
    sample = np.random.default_rng(0).normal(size=400)
    found = bootstrap(lambda x, axis: x.mean(axis), sample)
    half = 1.96 * sample.std() / 20
    assert (found.low, found.high) == pytest.approx(
        (sample.mean() - half, sample.mean() + half), abs=0.1 * half
    )


# The same by the authors' code --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("first", "second", "alpha", "beta", "right"),
    [
        # Three of four raters for the first: (3)^(1/10) = 1.116 times -50/-50 is ahead by more than 5%.
        (-50.0, -50.0, 0.75, 10.0, True),
        # The first is the less likely one by 10 nats, and its ratio of logarithms is 1.2: ahead all the same.
        (-60.0, -50.0, 0.75, 10.0, True),
        # The first is likelier by 10 nats: 1.116 * 0.8 = 0.893 is behind, though the theorem has it right.
        (-40.0, -50.0, 0.75, 10.0, False),
        # 1.116 * 0.9 = 1.004 is within 5% of 1, a tie, and raters are not tied.
        (-45.0, -50.0, 0.75, 10.0, False),
        # No rater is for the first: right whatever the likelihoods and beta.
        (-10.0, -500.0, 0.0, 10.0, True),
        (-500.0, -10.0, 0.0, 10.0, True),
        # All are for it: 1000^(1/10) = 1.995.
        (-30.0, -50.0, 1.0, 10.0, True),
        (-20.0, -50.0, 1.0, 10.0, False),
    ],
)
def test_authors_code_by_hand(first: float, second: float, alpha: float, beta: float, right: bool) -> None:
    assert theory.code_idealized([first], [second], [alpha], beta, normalised=False).item() is right


def test_authors_code_per_token_is_the_theorem_but_for_its_band() -> None:
    draw = np.random.default_rng(1)
    first, second = draw.normal(-3, 0.5, (2, 2000))
    alpha = draw.choice([1 / 3, 2 / 3, 5 / 6, 1.0], 2000)
    for beta in (0.1, 1.0, 10.0):
        ratio = first - second + np.log(alpha / np.where(alpha < 1, 1 - alpha, 0.001)) / beta
        by_theorem = np.sign(ratio) == np.sign(alpha - 0.5)
        far = np.abs(ratio) > 0.06
        found = theory.code_idealized(first, second, alpha, beta, normalised=True)
        assert (found == by_theorem)[far].all() and not found[np.abs(ratio) < 0.045].any()


@pytest.mark.parametrize(
    ("first", "second", "alpha", "normalised", "right"),
    [
        (-100.0, -100.005, 0.5, False, True),  # sums that differ by half a hundredth of a nat
        (-100.0, -100.02, 0.5, False, False),  # by the printed rule a tie: both likelihoods are nearly 0
        (-100.0, -100.005, 1.0, False, False),  # tied for the model, and the raters are not
        (-100.0, -101.0, 1.0, False, True),
        (-100.0, -101.0, 0.0, False, False),
        (np.log(0.200), np.log(0.205), 0.5, True, True),
        (np.log(0.20), np.log(0.22), 0.5, True, False),
        (np.log(0.200), np.log(0.205), 0.0, True, False),
    ],
)
def test_authors_rule_for_ties_by_hand(
    first: float, second: float, alpha: float, normalised: bool, right: bool
) -> None:
    assert theory.code_ranked_right([first], [second], [alpha], normalised).item() is right


# A law of flips -----------------------------------------------------------------------------------


def test_flips_foretold_are_the_share_of_gains_that_reach_c() -> None:
    assert theory.flips_foretold([1.0, 2.0, 3.0, 4.0], [0.5, 2.0, 2.5, 9.0]).tolist() == [1.0, 0.75, 0.5, 0.0]
    draw = np.random.default_rng(0)
    gains, c = draw.normal(0, 2, 40), draw.normal(1, 2, 30)
    brute = [(gains >= one).mean() for one in c]
    np.testing.assert_allclose(theory.flips_foretold(gains, c), brute)
