"""Check of the exercise ex-nz-code: both accuracies against the same experiment on points drawn by SciPy."""

import numpy as np
from otter.test_files import test_case
from scipy.stats import vonmises_fisher

OK_FORMAT = False
name = "ex-nz-code"
points = 3


def experiment(cloud, rate, points):
    """Accuracies after one short step, along the mean of s g: one a repeat, of which small experiments have
    more.
    """
    rng = np.random.default_rng(11)
    half = cloud.angle / 2
    means = np.zeros((2, cloud.dimension))
    means[:, 0], means[:, 1] = np.cos(half), (np.sin(half), -np.sin(half))
    s = np.repeat([1, -1], points)
    found = []
    for _ in range(min(200, max(12, 12_000 // points))):
        train, test = (
            np.concatenate([vonmises_fisher(m, cloud.kappa).rvs(points, random_state=rng) for m in means])
            for _ in "ab"
        )
        given = np.where(rng.random(2 * points) < rate, -s, s)
        found.append((s * (test @ (given @ train)) > 0).mean())
    return np.array(found)


def agree(given, ours):
    """Whether the means of both are as close as chance allows: four standard errors, and a tenth of a percent
    for what is not chance.
    """
    error = ours.std(ddof=1) * np.sqrt(1 / len(given) + 1 / len(ours))
    return abs(np.mean(given) - ours.mean()) <= 4 * error + 0.001


@test_case(
    failure_message="Both need one accuracy, a share between 0 and 1, for each of at least `trials` repeats."
)
def test_repeats(noisy_accuracy, quarter_accuracy, trials):
    for given in (noisy_accuracy, quarter_accuracy):
        assert np.ndim(given) == 1 and len(given) >= trials
        assert np.min(given) >= 0 and np.max(given) <= 1


@test_case(
    failure_message=(
        "`noisy_accuracy` is not what a noise rate of 0.25 leaves in the setting γ = 1/4 with all "
        "of the points."
    )
)
def test_noisy(noisy_accuracy, settings, per_label):
    assert agree(noisy_accuracy, experiment(settings["60°, γ = 1/4"], 0.25, per_label))


@test_case(
    failure_message=(
        "`quarter_accuracy` is not what a quarter of the points gives in the setting γ = 1/4 without noise."
    )
)
def test_quarter(quarter_accuracy, settings, per_label):
    assert agree(quarter_accuracy, experiment(settings["60°, γ = 1/4"], 0.0, per_label // 4))
