"""Check of the exercise ex-ra-code: `each` and `share` against the cross-entropy that transformers computes itself."""

import numpy as np
import torch
from otter.test_files import test_case

OK_FORMAT = False
name = "ex-ra-code"
points = 4


def transformers_sum(lm, ranking, first=None):
    """The log-likelihood of a response, or of its first tokens alone, and how many tokens it has."""
    prompt = lm.tokenizer(ranking.prompt.rstrip())["input_ids"]
    ids = torch.tensor([lm.tokenizer(ranking.prompt.rstrip() + ranking.responses[0])["input_ids"]], device=lm.device)
    labels = ids.clone()
    labels[:, : len(prompt)] = -100
    if first:
        labels[:, len(prompt) + first :] = -100
    counted = int((labels != -100).sum())
    with torch.no_grad():
        return -lm.model(ids, labels=labels).loss.item() * counted, counted


@test_case(
    failure_message="`each` needs one log-probability, which is never positive, for each token of the response and for none of the prompt."
)
def test_tokens(each, lab, pair_rankings):
    _, tokens = transformers_sum(lab.lm, pair_rankings[0])
    assert len(each) == tokens and max(float(value) for value in each) <= 0


@test_case(failure_message="The sum of `each` is not the log-likelihood of the response: a token is predicted by the position before it.")
def test_sum(each, lab, pair_rankings):
    expected, _ = transformers_sum(lab.lm, pair_rankings[0])
    np.testing.assert_allclose(float(sum(each)), expected, rtol=1e-3)


@test_case(failure_message="The last entry of `each` is not the probability of the last token, given all others.")
def test_order(each, lab, pair_rankings):
    whole, tokens = transformers_sum(lab.lm, pair_rankings[0])
    without, _ = transformers_sum(lab.lm, pair_rankings[0], tokens - 1)
    np.testing.assert_allclose(float(each[-1]), whole - without, rtol=1e-2, atol=1e-2)


@test_case(failure_message="`share` is not what the first five tokens are of the log-likelihood.")
def test_share(share, lab, pair_rankings):
    whole, _ = transformers_sum(lab.lm, pair_rankings[0])
    five, _ = transformers_sum(lab.lm, pair_rankings[0], 5)
    np.testing.assert_allclose(float(share), five / whole, rtol=1e-3)
