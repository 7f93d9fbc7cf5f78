"""Intervals: the statistics against scipy and by hand, the coverage on data whose truth is known."""

from __future__ import annotations

from collections.abc import Callable
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm, spearmanr, t, ttest_1samp
from statsmodels.regression.linear_model import OLS

from prefdyn.errors import PrefdynError
from prefdyn.measures import estimates
from prefdyn.measures.estimates import Estimate


def covers(got: Estimate, truth: float) -> bool:
    return got.low <= truth <= got.high


# Resamples ----------------------------------------------------------------------------------------


def test_counts_are_those_of_drawing_as_many_units_with_replacement() -> None:
    """A count is binomial (n, 1/n): mean 1, variance 1 - 1/n, and covariance -1/n with another."""
    n, drawn = 5, 40_000
    counts = estimates.resample_counts(n, 3, drawn)
    assert (counts.sum(axis=1) == n).all()
    # Five standard errors: of a mean sqrt(0.8 / 40,000), of a covariance at most sqrt(3 / 40,000).
    assert counts.mean(axis=0) == pytest.approx(np.ones(n), abs=0.023)
    assert np.cov(counts.T) == pytest.approx(np.eye(n) - 1 / n, abs=0.044)


# Pairs of units -----------------------------------------------------------------------------------


def pairs_of(units: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Two quantities of every pair, each a difference of what its units have, and the pairs."""
    i, j = np.triu_indices(len(units), 1)
    x, y = units.T
    return x[i] - x[j], y[i] - y[j], np.array([i, j]).T


def test_correlation_over_pairs_covers_the_truth_where_a_bootstrap_of_pairs_does_not() -> None:
    """Differences of a normal pair of correlation 0.5 are such a pair, and Spearman's is known for it."""
    rng, truth = np.random.default_rng(3), 6 / np.pi * np.arcsin(0.25)
    covered = []
    for number in range(40):
        units = rng.multivariate_normal([0, 0], [[1, 0.5], [0.5, 1]], size=16)
        x, y, ends = pairs_of(units, rng)
        covered.append(
            (
                covers(estimates.spearman_over_pairs(x, y, ends, number), truth),
                covers(estimates.spearman(x, y, number), truth),
            )
        )
    ours, plain = np.mean(covered, axis=0)
    assert ours >= 0.85 > 0.6 > plain


@given(
    st.lists(st.tuples(st.integers(-3, 3), st.integers(-3, 3), st.integers(0, 3)), min_size=5, max_size=12)
)
@settings(max_examples=40)
def test_correlation_with_counts_is_that_of_repeated_points(points: list[tuple[int, int, int]]) -> None:
    x, y, counts = np.array(points).T
    repeated = [np.repeat(values, counts) for values in (x, y)]
    if min(len(set(values.tolist())) for values in repeated) > 1:
        got = estimates._weighted_spearman(x.astype(float), y.astype(float), counts[None])
        assert got == pytest.approx([spearmanr(*repeated).statistic])


def test_correlation_over_pairs_is_scipys_and_counts_the_units() -> None:
    x, y, ends = pairs_of(np.random.default_rng(4).normal(size=(6, 2)), np.random.default_rng(5))
    got = estimates.spearman_over_pairs(x, y, np.array(list("abcdef"))[ends])
    assert (
        got.value == pytest.approx(spearmanr(x, y).statistic)
        and got.n == 6
        and got.low <= got.value <= got.high
    )


def test_mean_over_pairs_covers_the_truth_and_has_the_width_of_theory() -> None:
    """Sums of two units' values: their mean over pairs is twice the mean, of which the variance is known."""
    rng = np.random.default_rng(6)
    first, second = np.triu_indices(40, k=1)
    found, covered = [], []
    for number in range(40):
        units = rng.normal(size=40)
        got = estimates.mean_over_pairs(units[first] + units[second], np.stack([first, second], 1), number)
        assert got.value == pytest.approx(2 * units.mean()) and got.n == 40
        found.append(got.high - got.low)
        covered.append(covers(got, 0.0))
    assert np.mean(found) == pytest.approx(2 * 1.96 * 2 / np.sqrt(40), rel=0.1)
    assert np.mean(covered) >= 0.85


def test_mean_over_pairs_takes_units_of_a_kind_for_one() -> None:
    first, second = np.triu_indices(24, k=1)
    kinds = np.repeat(range(8), 3)
    units = np.random.default_rng(7).normal(size=8)[kinds]
    values, ends = units[first] + units[second], np.stack([first, second], axis=1)
    plain, clustered = (estimates.mean_over_pairs(values, ends, 0, clusters) for clusters in (None, kinds))
    assert clustered.value == plain.value
    assert clustered.high - clustered.low > 1.5 * (plain.high - plain.low)


# Mean and median ----------------------------------------------------------------------------------


@given(st.lists(st.integers(-5, 5).map(float), min_size=3, max_size=20))
def test_mean_has_students_interval(sample: list[float]) -> None:
    got = estimates.mean(sample)
    assert got.value == pytest.approx(np.mean(sample)) and got.n == len(sample)
    if len(set(sample)) > 1:
        expected = ttest_1samp(sample, 0).confidence_interval(0.95)
        assert (got.low, got.high) == pytest.approx((expected.low, expected.high))
    else:
        assert got.low == pytest.approx(got.value) == got.high


@pytest.mark.parametrize("units", [3, 40])
def test_interval_of_a_mean_covers_the_truth_as_often_as_it_says(units: int) -> None:
    rng = np.random.default_rng(11)
    covered = [covers(estimates.mean(rng.normal(3.0, 2.0, size=units)), 3.0) for _ in range(400)]
    assert 0.92 <= np.mean(covered) <= 0.98


def test_interval_of_a_median_covers_the_truth_and_not_much_more() -> None:
    rng = np.random.default_rng(12)
    every = [estimates.median(rng.normal(3.0, 2.0, size=40), seed=i) for i in range(200)]
    assert 0.85 <= np.mean([covers(got, 3.0) for got in every]) <= 0.99
    spread = np.sqrt(np.pi / 2) * 2.0 / np.sqrt(40)  # of the median of normal data
    assert np.mean([got.high - got.low for got in every]) == pytest.approx(2 * 1.96 * spread, rel=0.2)


@given(st.lists(st.floats(-5, 5), min_size=3, max_size=20))
@settings(max_examples=15)
def test_median_is_numpys_and_lies_in_its_interval(sample: list[float]) -> None:
    got = estimates.median(sample)
    assert got.value == np.median(sample) and got.low <= got.value <= got.high


def test_same_seed_gives_the_same_interval_and_another_nearly() -> None:
    sample = np.random.default_rng(14).normal(size=31)
    first, again, other = estimates.median(sample), estimates.median(sample), estimates.median(sample, seed=1)
    assert first == again and (first.low, first.high) == pytest.approx((other.low, other.high), abs=0.2)
    x, y = np.random.default_rng(15).normal(size=(2, 31))
    assert estimates.spearman(x, y) == estimates.spearman(x, y) != estimates.spearman(x, y, seed=1)


# Rank correlation ---------------------------------------------------------------------------------


@given(st.lists(st.tuples(st.integers(-3, 3), st.integers(-3, 3)), min_size=5, max_size=25, unique=True))
@settings(max_examples=15)
def test_spearman_is_scipys_with_ties(points: list[tuple[int, int]]) -> None:
    x, y = map(list, zip(*points, strict=True))
    if len(set(x)) > 1 and len(set(y)) > 1:
        assert estimates.spearman(x, y).value == pytest.approx(spearmanr(x, y).statistic)


def test_interval_of_a_rank_correlation_covers_that_of_the_population() -> None:
    rng, rho = np.random.default_rng(13), 0.6
    truth = 6 / np.pi * np.arcsin(rho / 2)  # Spearman's for a normal pair
    covered = []
    for i in range(60):
        x, noise = rng.normal(size=(2, 40))
        covered.append(covers(estimates.spearman(x, rho * x + np.sqrt(1 - rho**2) * noise, seed=i), truth))
    assert 0.85 <= np.mean(covered) <= 1.0


def test_pairs_are_resampled_together() -> None:
    rng = np.random.default_rng(15)
    x = rng.normal(size=50)
    assert estimates.spearman(x, x + 0.01 * rng.normal(size=50)).low > 0.95


def exact_p(x: list[float], y: list[float]) -> float:
    """Share of all orders of x with a rank correlation at least as far from 0, by enumeration."""
    seen = abs(spearmanr(x, y).statistic)
    return float(np.mean([abs(spearmanr(order, y).statistic) >= seen - 1e-9 for order in permutations(x)]))


@pytest.mark.parametrize(
    "y", [[1, 2, 3], [1, 2, 3, 4], [1, 2, 3, 4, 5], [2, 1, 3, 4, 5], [5, 4, 3, 2, 1], [1, 3, 2, 5, 4]]
)
def test_few_pairs_exclude_zero_only_where_a_permutation_test_does(y: list[float]) -> None:
    x = list(range(len(y)))
    got = estimates.spearman(x, y)
    if exact_p(x, y) >= 0.05:
        assert covers(got, 0.0)
    elif len(set(zip(x, y, strict=True))) > 4 and abs(got.value) == pytest.approx(1):
        assert not covers(got, 0.0)
    assert covers(got, got.value)


def test_unrelated_pairs_seldom_exclude_zero() -> None:
    rng = np.random.default_rng(16)
    for pairs in (6, 20):
        excluded = [
            not covers(estimates.spearman(*rng.normal(size=(2, pairs)), seed=i), 0.0) for i in range(100)
        ]
        assert np.mean(excluded) <= 0.12


@pytest.mark.parametrize("pairs", [8, 9, 20])
def test_perfect_order_of_many_pairs_is_certain(pairs: int) -> None:
    x = np.arange(float(pairs))
    up, down = estimates.spearman(x, np.exp(x / 3)), estimates.spearman(x, -(x**3))
    assert (up.value, up.low, up.high, up.n) == pytest.approx((1, 1, 1, pairs))
    assert (down.low, down.high) == pytest.approx((-1, -1))


# The rest -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, 2])
def test_too_few_units_are_refused(size: int) -> None:
    sample = np.zeros(size)
    for statistic in (estimates.mean, estimates.median, lambda x: estimates.spearman(x, x)):
        with pytest.raises(PrefdynError, match=f"{size} units are too few"):
            statistic(sample)


def test_count_is_exactly_itself() -> None:
    assert estimates.count(2, 50) == Estimate(2.0, 2.0, 2.0, 50)
    assert np.isnan(estimates.count(0, 0).value), "no violation of nothing says nothing"


def test_estimate_reads_as_value_and_interval() -> None:
    assert str(Estimate(0.5, 0.25, 0.75, 9)) == "0.5 [0.25, 0.75]"


def test_simultaneous_means_hold_all_at_once() -> None:
    rng = np.random.default_rng(0)
    missed = 0
    for _ in range(400):
        sample = rng.normal(size=(12, 30))
        centre, half = estimates.simultaneous_means(sample)
        np.testing.assert_allclose(centre, sample.mean(axis=0))
        missed += bool((np.abs(centre) > half).any())
    assert (
        2 <= missed <= 36
    )  # 5% of 400 or a little less, as Bonferroni is exact for independent means to first order
    one = estimates.simultaneous_means(sample[:, :1])
    alone = estimates.mean(sample[:, 0])
    assert one[1][0] == pytest.approx(alone.high - alone.value)


@pytest.mark.parametrize(
    ("signed", "expected"),
    [((-3, -4, -1), (3, 1, 4)), ((2, 1, 4), (2, 1, 4)), ((-1, -3, 2), (1, 0, 3)), ((1, -2, 3), (1, 0, 3))],
)
def test_size_of_an_estimate_is_as_sure_as_the_estimate(
    signed: tuple[float, float, float], expected: tuple[float, float, float]
) -> None:
    assert estimates.size(Estimate(*signed, 9)) == Estimate(*expected, 9)


# Clusters and groups ------------------------------------------------------------------------------


def test_clusters_of_one_are_the_plain_bootstrap_and_copies_add_nothing() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(2, 24))
    y += x
    alone = estimates.spearman(x, y, 3, clusters=np.arange(24))
    copied = estimates.spearman(np.tile(x, 4), np.tile(y, 4), 3, clusters=np.tile(np.arange(24), 4))
    assert copied.n == 96 and alone.n == 24
    assert (copied.low, copied.high) == pytest.approx((alone.low, alone.high), abs=0.01)
    assert estimates.spearman(np.tile(x, 4), np.tile(y, 4), 3).low > copied.low  # copies taken for units
    mean = estimates.mean(np.tile(x, 4), np.tile(np.arange(24), 4))
    assert (mean.low, mean.high) == pytest.approx(
        tuple(ttest_1samp(x, 0).confidence_interval(0.95)), abs=0.1 * x.std()
    )


AROUND = [(unit, (unit + 1) % 24) for unit in range(24)]
OVER_CLUSTERS: dict[str, Callable[..., Estimate]] = {
    "mean": lambda x, y, kinds: estimates.mean(x, kinds),
    "median": lambda x, y, kinds: estimates.median(x, clusters=kinds),
    "spearman": lambda x, y, kinds: estimates.spearman(x, y, clusters=kinds),
    "gain": lambda x, y, kinds: estimates.gain_in_spearman(x, y[::-1], y, clusters=kinds),
    "pairs": lambda x, y, kinds: estimates.mean_over_pairs(x, AROUND, clusters=kinds),
    "proportion": lambda x, y, kinds: estimates.proportion(x > 0, kinds),
}


@pytest.mark.parametrize("name", OVER_CLUSTERS)
def test_estimate_over_few_clusters_has_no_interval(name: str) -> None:
    """Of one kind every resample is alike, and its interval would be a point."""
    x, y = np.random.default_rng(0).normal(size=24), np.arange(24.0)
    found = {count: OVER_CLUSTERS[name](x, y, np.arange(24) % count) for count in (1, 7, 8)}
    assert found[1].value == found[7].value == found[8].value
    assert found[8].low < found[8].high
    assert np.isnan([found[1].low, found[1].high, found[7].low, found[7].high]).all()
    assert "nan" not in str(found[1]) and str(found[8]).startswith(f"{found[1]} [")


def test_correlation_within_groups_knows_no_difference_between_them() -> None:
    rng = np.random.default_rng(1)
    groups = np.repeat(["a", "b", "c"], 100)
    between = np.repeat([0.0, 50.0, 100.0], 100)
    x, noise = rng.normal(size=(2, 300))
    unrelated = estimates.spearman_within(between + x, between + noise, groups)
    related = estimates.spearman_within(between + x, -between + x, groups)
    assert estimates.spearman(between + x, between + noise).low > 0.5 > unrelated.value
    assert related.value == pytest.approx(1) and unrelated.low < 0 < unrelated.high
    few = estimates.spearman_within(x[:8], noise[:8], list("aaaabbbb"))
    assert few.n == 0 and np.isnan(few.value)


def test_gain_is_the_difference_of_two_correlations() -> None:
    rng = np.random.default_rng(2)
    y = rng.normal(size=40)
    good, bad = y + 0.2 * rng.normal(size=40), rng.normal(size=40)
    gain = estimates.gain_in_spearman(good, bad, y)
    expected = spearmanr(good, y).statistic - spearmanr(bad, y).statistic
    assert gain.value == pytest.approx(expected) and gain.low > 0 and gain.n == 40
    assert estimates.gain_in_spearman(bad, bad, y) == Estimate(0, 0, 0, 40)


def test_without_a_value_in_any_resample_an_interval_has_no_ends() -> None:
    found = estimates.from_resamples(0.5, [np.nan, np.nan], 3, 3)
    assert found.value == 0.5 and np.isnan(found.low) and np.isnan(found.high)
    assert estimates.from_resamples(0.5, [np.nan, 0.4, 0.4], 3, 3).low == 0.4


def test_percentiles_of_resamples_are_students_by_hand() -> None:
    """Of ten: Student's 2.262 with nine degrees of freedom, times the root of 10/9, is a normal's 2.384, and
    that leaves 0.86% on either side; of many it is the 2.5%.
    """
    drawn = np.linspace(0, 1, 100_001)
    for kinds, tail in ((10, 0.00856), (10**7, 0.025)):
        found = estimates.from_resamples(0.5, drawn, 30, kinds)
        assert (found.low, found.high) == pytest.approx((tail, 1 - tail), abs=2e-5) and found.n == 30


@pytest.mark.parametrize("alike", [0.0, 0.3])
def test_interval_over_few_unequal_clusters_covers_the_truth(alike: float) -> None:
    """Ten clusters as those of the behaviours of chapter 1's intervention; the middle 95% of the resamples
    cover the mean in 90% and in 89%. The bounds are four standard errors of the share, 0.006, from 0.94.
    """
    clusters = np.repeat(np.arange(10), [7, 3, 2, 2, 1, 1, 1, 1, 1, 1])
    rng = np.random.default_rng(4)
    samples = np.sqrt(alike) * rng.normal(size=(1500, 10))[:, clusters]
    samples += np.sqrt(1 - alike) * rng.normal(size=samples.shape)
    covered = np.mean([covers(estimates.mean(sample, clusters), 0) for sample in samples])
    assert 0.916 < covered < 0.964


def test_correlation_over_pairs_covers_the_truth_where_units_of_a_family_are_alike() -> None:
    """As chapter 1 draws its pairs: single behaviours are resampled, though a third of them are of one family
    and share much. A pair counts as the product of two counts, which scatters more than it must, and that is
    more than the families take away.
    """
    rng = np.random.default_rng(5)
    family = np.concatenate([np.zeros(15, dtype=int), np.arange(1, 31)])
    ends = np.array([rng.permutation(45)[:2] for _ in range(60)])
    gaps = rng.normal(size=60)

    def loss_gaps() -> np.ndarray:
        each = np.sqrt(0.2) * (rng.normal(size=31)[family] + rng.normal(size=45))
        return 0.5 * gaps + each[ends[:, 0]] - each[ends[:, 1]] + np.sqrt(0.2) * rng.normal(size=60)

    truth = np.mean([spearmanr(gaps, loss_gaps()).statistic for _ in range(2000)])
    covered = [
        covers(estimates.spearman_over_pairs(gaps, loss_gaps(), ends, seed), truth) for seed in range(150)
    ]
    assert np.mean(covered) >= 0.95


def test_pseudo_values_of_a_square_are_without_its_bias() -> None:
    rng = np.random.default_rng(0)
    sample = 0.3 + rng.normal(size=(4000, 6, 1))
    pseudo = estimates.pseudo_values(lambda means: means[..., 0] ** 2, sample)
    assert pseudo.shape == (4000, 6)
    assert pseudo.mean() == pytest.approx(0.09, abs=4 * pseudo.mean(1).std() / 4000**0.5)
    # A mean's are the values themselves.
    same = estimates.pseudo_values(lambda means: means[..., 0], sample)
    np.testing.assert_allclose(same, sample[..., 0], atol=1e-12)


# Shares of cases that may be alike ----------------------------------------------------------------


def test_share_of_cases_of_their_own_is_as_without_clusters() -> None:
    hits = [1, 0, 1, 1, 0, 1, 1, 1, 0, 1]
    assert estimates.proportion(hits, range(10)) == estimates.proportion(hits)


def test_share_of_copies_is_no_surer_than_that_of_the_originals() -> None:
    hits = np.random.default_rng(0).random(60) < 0.6
    once = estimates.proportion(hits)
    copied = estimates.proportion(np.repeat(hits, 5), np.repeat(np.arange(60), 5))
    assert copied.value == once.value and copied.n == 300
    assert 1 < (copied.high - copied.low) / (once.high - once.low) < 1.02  # 59 degrees of freedom


def test_effective_number_by_hand() -> None:
    """Two cases of each of nine kinds: alike in six of them, and one hit of two in three. Of nine hits in
    eighteen, the scatter of one case is 1/4, and that of the kinds' sums 6 of 1 and 3 of 0 about their mean.
    """
    hits = [1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 1, 0, 1, 0, 0, 1]
    alone, together = 18 / 4, 6 * 1.0
    freedom = (norm.ppf(0.975) / t.ppf(0.975, 8)) ** 2
    found = estimates.effective_number(hits, np.repeat(np.arange(9), 2))
    assert found == pytest.approx(18 * alone / together * freedom)
    # What is not alike at all is worth its number, and what does not scatter its number of kinds.
    assert estimates.effective_number([1, 0] * 9, np.repeat(np.arange(9), 2)) == pytest.approx(18 * freedom)
    assert estimates.effective_number([1] * 18, np.repeat(np.arange(9), 2)) == pytest.approx(9 * freedom)


def test_mean_of_clusters_scatters_as_that_of_their_effective_number() -> None:
    """statsmodels' variance that is robust to clusters, without its factors for small samples."""
    rng = np.random.default_rng(2)
    kinds = rng.integers(40, size=200)
    hits = (rng.random(200) < rng.beta(1, 1, size=40)[kinds]).astype(float)
    options = {"groups": kinds, "use_correction": False}
    robust = OLS(hits, np.ones(200)).fit(cov_type="cluster", cov_kwds=options).bse[0]
    freedom = (norm.ppf(0.975) / t.ppf(0.975, len(set(kinds)) - 1)) ** 2
    worth = estimates.effective_number(hits, kinds) / freedom
    assert np.sqrt(hits.var() / worth) == pytest.approx(robust)


@pytest.mark.parametrize(("prompts", "each", "share"), [(12, 5, 0.5), (30, 2, 0.9), (100, 5, 0.9)])
def test_interval_of_alike_cases_covers_their_share(prompts: int, each: int, share: float) -> None:
    """Shares of prompts are drawn with a correlation of .3 between two cases of one."""
    rng, a = np.random.default_rng(3), share * 0.7 / 0.3
    kinds, covered = np.repeat(np.arange(prompts), each), []
    for _ in range(500):
        hits = rng.random(len(kinds)) < rng.beta(a, a * (1 - share) / share, size=prompts)[kinds]
        found = estimates.proportion(hits, kinds)
        covered.append(found.low <= share <= found.high)
    assert np.mean(covered) > 0.95 - 3 * np.sqrt(0.95 * 0.05 / 500)


def test_units_that_are_clusters_of_their_own_have_students_interval() -> None:
    sample = [0.1, 0.5, 0.2, 0.9]
    assert estimates.mean(sample, ["a", "b", "c", "d"]) == estimates.mean(sample)


def test_shares_without_scatter_have_an_interval() -> None:
    found = estimates.proportion([0.0] * 8)
    assert (found.value, found.low) == (0, 0) and found.high == pytest.approx(0.3244, abs=1e-4)  # Wilson's
