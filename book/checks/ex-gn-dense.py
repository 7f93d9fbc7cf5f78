"""Check of the exercise ex-gn-dense: `C` by its definition, `dense` by the equation that it must satisfy."""

import numpy as np
from otter.test_files import test_case
from scipy.integrate import cumulative_simpson

OK_FORMAT = False
name = "ex-gn-dense"
points = 4


@test_case(
    failure_message=(
        "`C` is not the matrix of the equation: the product of the answers' one-hot differences "
        "times that of the features."
    )
)
def test_matrix(C, samples):
    pick = np.random.default_rng(3).choice(len(samples), 40)
    answers = np.eye(samples.chosen.max() + samples.rejected.max() + 1)
    for i, j in zip(pick[:20], pick[20:], strict=True):
        ours, theirs = (answers[samples.chosen[k]] - answers[samples.rejected[k]] for k in (i, j))
        np.testing.assert_allclose(
            C[i, j], ours @ theirs * (samples.features[i] @ samples.features[j]), rtol=1e-6, atol=1e-9
        )


@test_case(
    failure_message=(
        "`dense` needs a row for each time of `solution.times`, a column for each sample, and "
        "margins of zero at the start."
    )
)
def test_start(dense, samples, solution):
    assert dense.shape == (len(solution.times), len(samples))
    np.testing.assert_allclose(dense[0], 0, atol=1e-12)


@test_case(
    failure_message=(
        "The margins do not grow at the rates of the equation: look at its constants, and at the "
        "sign in the sigmoid."
    )
)
def test_equation(dense, C, samples, solution, strength):
    rates = strength**2 / len(samples) * (1 / (1 + np.exp(dense))) @ np.asarray(C).T
    grown = cumulative_simpson(rates, x=solution.times, axis=0, initial=0)
    np.testing.assert_allclose(dense, grown, rtol=1e-5, atol=1e-7)


@test_case(
    failure_message=(
        "The equation holds, and yet the margins are not those of the library: is the solver's "
        "tolerance tight enough?"
    )
)
def test_library(dense, samples, solution):
    np.testing.assert_allclose(dense, solution.margins(samples), rtol=1e-5, atol=1e-7)
