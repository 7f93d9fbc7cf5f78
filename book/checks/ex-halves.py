"""Check of the exercise ex-halves: `agreement` against scipy on the page's table."""

import numpy as np
from otter.test_files import test_case
from scipy.stats import spearmanr

OK_FORMAT = False
name = "ex-halves"
points = 3


def differences(halves, column):
    """Of a column, the half of large projections less that of small ones, a behaviour each."""
    means = halves.groupby(["behaviour", "arm"])[column].mean().unstack()
    return (means["large projections"] - means["small projections"]).to_numpy()


@test_case(failure_message="`agreement` must be a number between -1 and 1.")
def test_range(agreement):
    assert -1 <= float(agreement) <= 1


@test_case(
    failure_message="`agreement` is not the rank correlation of the two differences: take large less small "
    "projections for each behaviour, rank both differences, and correlate the ranks."
)
def test_value(agreement, halves):
    expected = spearmanr(differences(halves, "projected δ"), differences(halves, "fall")).statistic
    np.testing.assert_allclose(float(agreement), expected, atol=1e-9)
