"""Check of the exercise ex-gn-law: `left` by the solution of the equation that symmetry leaves."""

import numpy as np
from otter.test_files import test_case
from scipy.optimize import brentq

OK_FORMAT = False
name = "ex-gn-law"
points = 3


@test_case(failure_message="`left` must hold five ratios, of which the first, alone over alone, is 1.")
def test_shape(left):
    assert np.shape(left) == (5,)
    np.testing.assert_allclose(left[0], 1, rtol=1e-9)


@test_case(
    failure_message=(
        "More is left than where every concept has answers of its own, and a little more than the "
        "rates at the start say."
    )
)
def test_order(left):
    counts = np.array([2, 4, 8, 16])
    law = 1 / counts + (1 - 1 / counts) * 0.4
    assert (np.diff(left) < 0).all() and (np.asarray(left)[1:] > law).all()


@test_case(
    failure_message="The ratios are not those at t = 22 τ: are the vectors of length 1, their products 0.4?"
)
def test_values(left, strength):
    def margin(share):
        time = 2 * strength**2 * share * 22
        return brentq(lambda r: r + np.exp(r) - 1 - time, 0, 5)

    found = [margin(1 / k + (1 - 1 / k) * 0.4) for k in (1, 2, 4, 8, 16)]
    np.testing.assert_allclose(left, np.array(found) / found[0], rtol=1e-4)
