"""Check of the exercise ex-gn-rare: the rate of the rare label, and where it turns."""

import numpy as np
from otter.test_files import test_case

OK_FORMAT = False
name = "ex-gn-rare"
points = 3


@test_case(failure_message="`rare_rates` must hold four numbers, for q = 0.5, 0.4, 0.25 and 0.1.")
def test_shape(rare_rates):
    assert np.shape(rare_rates) == (4,)


@test_case(
    failure_message=(
        "The rates are not those of the No samples: their own kind pushes them up, the other down "
        "where the shared component is long."
    )
)
def test_rates(rare_rates):
    shares = np.array([0.5, 0.4, 0.25, 0.1])
    np.testing.assert_allclose(rare_rates, shares * (1 + 4) + (1 - shares) * (1 - 4), rtol=1e-6)


@test_case(failure_message="At `crossing` the rate of the No samples is not zero.")
def test_crossing(crossing):
    assert abs(crossing * (1 + 4) + (1 - crossing) * (1 - 4)) < 0.01
