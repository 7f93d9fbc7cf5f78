"""Losses of the GPO family: derivatives by autograd, values by hand, identities between them."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from prefdyn.engine import losses
from prefdyn.errors import PrefdynError

MARGINS = st.lists(st.floats(-40, 40), min_size=1, max_size=20)
SMOOTHINGS = st.floats(0, 0.49)


def make(name: str, smoothing: float = 0.2) -> losses.Loss:
    return losses.get(name, smoothing if name in ("cdpo", "rdpo") else None)


def double(margins: list[float]) -> torch.Tensor:
    return torch.tensor(margins, dtype=torch.float64)


@pytest.mark.parametrize("name", list(losses.LOSSES))
@given(margins=MARGINS, smoothing=SMOOTHINGS)
def test_derivative_is_that_of_autograd(name: str, margins: list[float], smoothing: float) -> None:
    loss = make(name, smoothing)
    r = double(margins).requires_grad_()
    loss.value(r).sum().backward()
    torch.testing.assert_close(loss.derivative(r.detach()), r.grad, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", list(losses.LOSSES))
def test_derivative_at_the_kink_and_at_zero_is_that_of_autograd(name: str) -> None:
    r = torch.tensor([0.0, 1.0, -1.0], requires_grad=True)
    loss = make(name)
    loss.value(r).sum().backward()
    torch.testing.assert_close(loss.derivative(r.detach()), r.grad)


@pytest.mark.parametrize(
    ("name", "by_hand"),
    [
        ("dpo", lambda r: math.log1p(math.exp(-r))),
        ("ipo", lambda r: (r - 1) * (r - 1)),
        ("slic", lambda r: 1 - r if r < 1 else 0.0),
        ("cdpo", lambda r: 0.8 * math.log1p(math.exp(-r)) + 0.2 * math.log1p(math.exp(r))),
        ("rdpo", lambda r: (0.8 * math.log1p(math.exp(-r)) - 0.2 * math.log1p(math.exp(r))) / 0.6),
    ],
)
def test_value_by_hand(name: str, by_hand: object) -> None:
    margins = [-3.0, -0.5, 0.0, 0.25, 1.0, 1.5, 6.0]
    expected = double([by_hand(r) for r in margins])  # type: ignore[operator]
    torch.testing.assert_close(make(name).value(double(margins)), expected)


def test_dpo_is_finite_at_extreme_margins() -> None:
    r = torch.tensor([-1e4, 1e4])
    assert losses.dpo().value(r).tolist() == [1e4, 0.0]
    assert losses.dpo().derivative(r).tolist() == [-1.0, 0.0]


@given(MARGINS, SMOOTHINGS)
def test_rdpo_is_unbiased_under_label_noise(margins: list[float], e: float) -> None:
    r = double(margins)
    rdpo = losses.rdpo(e)
    torch.testing.assert_close(
        (1 - e) * rdpo.value(r) + e * rdpo.value(-r), losses.dpo().value(r), rtol=1e-9, atol=1e-9
    )


@given(MARGINS, SMOOTHINGS)
def test_cdpo_is_the_mean_of_dpo_over_a_label_that_is_wrong_with_probability_e(
    margins: list[float], e: float
) -> None:
    r = double(margins)
    dpo = losses.dpo().value
    torch.testing.assert_close(losses.cdpo(e).value(r), (1 - e) * dpo(r) + e * dpo(-r), rtol=1e-9, atol=1e-9)


@given(SMOOTHINGS.filter(lambda e: e > 0.01))
def test_cdpo_is_least_where_the_model_is_as_sure_as_the_labels(e: float) -> None:
    best = math.log((1 - e) / e)
    assert losses.cdpo(e).derivative(double([best])).abs().item() < 1e-12
    assert losses.cdpo(e).derivative(double([best - 0.1, best + 0.1])).sign().tolist() == [-1, 1]


@given(st.floats(-50, 50), st.floats(-50, 50), st.floats(0.001, 10))
def test_margin_at_gamma_one_is_dpos_and_at_zero_has_no_reference(
    policy: float, reference: float, beta: float
) -> None:
    p, q = double([policy]), double([reference])
    assert losses.reward_margin(p, q, beta).item() == pytest.approx(beta * (policy - reference), abs=1e-9)
    assert losses.reward_margin(p, q, beta, gamma=0.0).item() == pytest.approx(beta * policy)
    assert losses.reward_margin(p, q, beta, gamma=2.0).item() == pytest.approx(
        beta * policy - 2 * beta * reference, abs=1e-9
    )


def test_simpo_margin_by_hand() -> None:
    assert losses.simpo_margin(double([-1.25]), double([-2.0]), beta=2.0, target=0.5).item() == 1.0


@pytest.mark.parametrize("smoothing", [-0.1, 0.5, 0.9, math.nan])
@pytest.mark.parametrize("name", ["cdpo", "rdpo"])
def test_smoothing_out_of_range_is_refused(name: str, smoothing: float) -> None:
    with pytest.raises(PrefdynError, match=r"must lie in \[0, 0\.5\)"):
        losses.get(name, smoothing)


def test_unknown_loss_and_misplaced_smoothing_are_refused() -> None:
    with pytest.raises(PrefdynError, match="no loss 'kto': choose one of dpo, ipo"):
        losses.get("kto")
    with pytest.raises(PrefdynError, match="'cdpo' needs a label smoothing"):
        losses.get("cdpo")
    with pytest.raises(PrefdynError, match="'dpo' takes no label smoothing"):
        losses.get("dpo", 0.1)


@given(margins=MARGINS)
def test_a_loss_of_ones_own_has_the_derivative_of_autograd(margins: list[float]) -> None:
    own = losses.Loss.of("squared", lambda r: (r - 1) ** 2)
    r = double(margins)
    torch.testing.assert_close(own.derivative(r), losses.ipo().derivative(r))
    with torch.no_grad():
        torch.testing.assert_close(own.derivative(r), losses.ipo().derivative(r))


def test_a_loss_is_told_from_others_by_what_it_does() -> None:
    def exponential(scale: float) -> losses.Loss:
        return losses.Loss.of("exponential", lambda r: torch.exp(-scale * r / 1000))

    assert exponential(1.0).describe() == exponential(1.0).describe()
    assert exponential(1.0).describe() != exponential(1.001).describe()


def test_a_loss_itself_is_taken_as_it_is_and_without_smoothing() -> None:
    own = losses.Loss.of("squared", lambda r: r**2)
    assert losses.get(own) is own
    with pytest.raises(PrefdynError, match="'squared' takes no label smoothing"):
        losses.get(own, 0.1)
