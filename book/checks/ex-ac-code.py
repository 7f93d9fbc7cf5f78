"""Check of the exercise ex-ac-code.

Partial correlations from the minors of the matrix of the three measures.
"""

import numpy as np
from otter.test_files import test_case

OK_FORMAT = False
name = "ex-ac-code"
points = 3

HELD = {
    "cost of noise": "accuracy",
    "cost, centred": "accuracy, centred",
    "flipped": "depth",
    "flipped half-way": "depth",
    "in company": "accuracy",
    "left out": "alignment",
}


def drawn(rho, outcome):
    """Minus the normalised entry of the inverse matrix, of the data and of every resample; cofactors, for it
    may have no inverse.
    """
    place = [rho.names.index(one) for one in ("δ", outcome, HELD[outcome])]
    matrix = rho.drawn[:, place][:, :, place].copy()
    matrix[:, range(3), range(3)] = 1

    def minor(row, column):
        rows, columns = ([i for i in range(3) if i != left] for left in (row, column))
        return np.linalg.det(matrix[:, rows][:, :, columns])

    with np.errstate(invalid="ignore", divide="ignore"):
        return minor(0, 1) / np.sqrt(minor(0, 0) * minor(1, 1))


@test_case(
    failure_message="`partials` needs three numbers (estimate, low, high) for the outcome of each grey row."
)
def test_shape(partials):
    assert set(partials) == set(HELD) and all(len(row) == 3 for row in partials.values())


@test_case(
    failure_message=(
        "An estimate is not the partial correlation of δ and the outcome with the third measure "
        "held constant."
    )
)
def test_estimates(partials, rho):
    for outcome, row in partials.items():
        assert np.allclose(row[0], drawn(rho, outcome)[0], rtol=0, atol=1e-4, equal_nan=True)


@test_case(failure_message="An interval does not hold the middle 95% of the resamples, `rho.drawn[1:]`.")
def test_intervals(partials, rho):
    for outcome, row in partials.items():
        expected = np.nanpercentile(drawn(rho, outcome)[1:], [2.5, 97.5])
        assert np.allclose(row[1:], expected, rtol=0, atol=1e-2, equal_nan=True)
