"""Check of the exercise ex-ra-code.

`each` and `share` against the cross-entropy that torch computes itself.
"""

import numpy as np
import torch
from otter.test_files import test_case

OK_FORMAT = False
name = "ex-ra-code"
points = 4


def torch_sum(logits, whole_ids, before, first=None):
    """The log-likelihood of the response, or of its first tokens alone, and how many tokens it has."""
    foretold = torch.tensor(np.asarray(logits))[:-1]
    labels = torch.tensor(whole_ids)[1:].clone()
    labels[: before - 1] = -100
    if first:
        labels[before - 1 + first :] = -100
    counted = int((labels != -100).sum())
    return -torch.nn.functional.cross_entropy(foretold, labels).item() * counted, counted


@test_case(
    failure_message=(
        "`each` needs one log-probability, which is never positive, for each token of the "
        "response and for none of the prompt."
    )
)
def test_tokens(each, logits, whole_ids, before):
    _, tokens = torch_sum(logits, whole_ids, before)
    assert len(each) == tokens and max(float(value) for value in each) <= 0


@test_case(
    failure_message=(
        "The sum of `each` is not the log-likelihood of the response: a token is predicted by the "
        "position before it."
    )
)
def test_sum(each, logits, whole_ids, before):
    expected, _ = torch_sum(logits, whole_ids, before)
    np.testing.assert_allclose(float(sum(each)), expected, rtol=1e-3)


@test_case(
    failure_message="The last entry of `each` is not the probability of the last token, given all others."
)
def test_order(each, logits, whole_ids, before):
    whole, tokens = torch_sum(logits, whole_ids, before)
    without, _ = torch_sum(logits, whole_ids, before, tokens - 1)
    np.testing.assert_allclose(float(each[-1]), whole - without, rtol=1e-2, atol=1e-2)


@test_case(failure_message="`share` is not what the first five tokens are of the log-likelihood.")
def test_share(share, logits, whole_ids, before):
    whole, _ = torch_sum(logits, whole_ids, before)
    five, _ = torch_sum(logits, whole_ids, before, 5)
    np.testing.assert_allclose(float(share), five / whole, rtol=1e-3)
