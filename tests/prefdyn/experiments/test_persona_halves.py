"""Measures on halves against the trainer and the moments of chapter 1, one training at a time."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from prefdyn.engine import last_layer, losses
from prefdyn.engine.last_layer import Descent, LastLayerRun, train
from prefdyn.engine.training import Settings
from prefdyn.experiments import persona_halves
from prefdyn.experiments.persona_halves import Statements
from prefdyn.measures import geometry

DPO = losses.dpo()
WEIGHTS = np.random.default_rng(9).normal(size=8)


def persona(seed: int = 0, n: int = 24, apart: float = 1.0) -> Statements:
    rng = np.random.default_rng(seed)
    s = np.tile([1.0, -1.0], n // 2)
    g = 3 + rng.normal(size=(n, 8)) + apart * np.outer(s, rng.normal(size=8))
    return Statements.of(g, s, WEIGHTS, 3, rng)


def alone(
    p: Statements, index: np.ndarray, descent: Descent, labels: np.ndarray | None = None
) -> LastLayerRun:
    settings = Settings(descent.learning_rate, descent.steps, 10**6, descent.beta, optimizer="sgd")
    return train(p.features[index], p.labels[index] if labels is None else labels, settings, WEIGHTS)


def halves_of(cast: list[Statements], seed: int) -> list[np.ndarray]:
    """Every half of everyone divided in two."""
    rng = np.random.default_rng(seed)
    return [p.divided(1, rng)[:, :, 0] for p in cast]


def test_log_ratio_is_that_of_the_preferred_answer() -> None:
    p = persona()
    np.testing.assert_allclose(p.log_ratio, p.labels * (p.features @ WEIGHTS))


def test_divisions_stay_within_their_half() -> None:
    p = persona()
    parts = p.divided(5, np.random.default_rng(0))
    assert parts.shape == (3, 2, 5, 2, 6)
    for place in np.ndindex(3, 2, 5):
        assert set(parts[place].ravel()) == set(p.halves[place[:2]])
        assert (p.labels[parts[place]] == [1, 1, 1, -1, -1, -1]).all()


def test_coefficients_are_the_path_of_the_trainer() -> None:
    p, descent = persona(), Descent(0.3, 2.0, 15)
    given = np.stack([p.labels, -p.labels, np.where(np.arange(24) < 5, -p.labels, p.labels)])
    path = last_layer.descend_coefficients(p.inner, torch.from_numpy(given), DPO, descent)
    for k, labels in enumerate(given):
        np.testing.assert_allclose(
            path[:, k].numpy() @ p.features, alone(p, np.arange(24), descent, labels).path, atol=1e-10
        )


def test_geometry_is_that_of_the_states_themselves() -> None:
    p = persona()
    found = persona_halves.before_training(p)
    for place in np.ndindex(3, 2):
        g, s = p.features[p.halves[place]], p.labels[p.halves[place]]
        m = geometry.moments(g, s)
        assert found["delta"][place] == pytest.approx(m.distinguishability)
        assert found["separation"][place] == pytest.approx(m.distinguishability / np.sqrt(m.trace))


def test_learning_is_that_of_the_trainer_on_each_half() -> None:
    p, descent = persona(apart=0.3), Descent(0.2, 1.0, 30)
    found = persona_halves.learn(p, DPO, descent)
    assert found.violations == 0
    for place in np.ndindex(3, 2):
        index = p.halves[place]
        run = alone(p, index, descent)
        assert found.right_before[place] == run.record.set_index("step").loc[0, "ranking_accuracy"]
        now = p.log_ratio[index] + 2 * p.labels[index] * (p.features[index] @ run.path[-1])
        wrong = p.log_ratio[index] < 0
        assert found.flipped[place] == pytest.approx((now[wrong] >= 0).mean())
        assert found.depth[place] == pytest.approx(np.median(-p.log_ratio[index][wrong]))


def test_theorem_would_be_found_violated() -> None:
    """With IPO's loss the threshold is not DPO's."""
    assert persona_halves.learn(persona(apart=0.3), losses.ipo(), Descent(0.2, 1.0, 30)).violations > 0


def test_share_flipped_by_hand() -> None:
    before = np.array([[-1.0, -2.0, -3.0, 4.0], [1.0, 2.0, 0.0, 4.0]])
    after = np.array([[0.0, -1.0, 5.0, -1.0], [-1.0, -1.0, 1.0, 1.0]])
    np.testing.assert_allclose(persona_halves.share_flipped(before, after), [2 / 3, np.nan])


def test_nothing_wrong_before_has_no_depth() -> None:
    p = persona()
    sure = Statements(p.features, p.labels, np.abs(p.log_ratio), p.halves)
    found = persona_halves.learn(sure, DPO, Descent(0.2, 1.0, 3))
    assert (found.depth == 0).all() and np.isnan(found.flipped).all() and (found.right_before == 1).all()


@pytest.mark.parametrize("apart", [0.2, 3.0])
def test_half_way_is_the_first_step_at_half_of_the_fall_of_the_validation_loss(apart: float) -> None:
    p, descent = persona(apart=apart), Descent(0.2, 0.5, 40)
    parts = p.divided(2, np.random.default_rng(5))
    found, before_the_end = persona_halves.flipped_half_way(p, DPO, descent, parts)
    shares, early = np.zeros((3, 2, 2)), []
    for place in np.ndindex(3, 2, 2):
        index, test = parts[place]
        path = alone(p, index, descent).path
        margins = 2 * descent.beta * p.labels[test] * (path @ p.features[test].T)
        losses = np.logaddexp(0, -margins).mean(1)
        early.append(losses.argmin() < 40)
        fallen = losses[0] - losses
        stop = next(step for step in range(41) if fallen[step] >= fallen.max() / 2)
        now = p.log_ratio[index] + 2 * p.labels[index] * (p.features[index] @ path[stop])
        shares[place] = persona_halves.share_flipped(p.log_ratio[index], now)
    np.testing.assert_allclose(found, np.nanmean(shares, axis=-1))
    assert before_the_end == pytest.approx(np.mean(early))


def test_noise_is_that_of_the_trainer_with_flipped_labels() -> None:
    p, descent, rates = persona(apart=0.4), Descent(0.3, 1.0, 10), [0.0, 0.3, 1.0]
    rng = np.random.default_rng(6)
    parts = p.divided(4, rng)
    uniforms = rng.random(parts[..., 0, :].shape)
    found = persona_halves.under_noise(p, DPO, descent, rates, parts, uniforms, scale=2.0)
    for place in np.ndindex(3, 2):
        for e, rate in enumerate(rates):
            right = []
            for trial in range(4):
                index, test = parts[(*place, trial)]
                labels = np.where(uniforms[(*place, trial)] < rate, -p.labels[index], p.labels[index])
                scaled = Statements(p.features / 2, p.labels, p.log_ratio, p.halves)
                u = alone(scaled, index, descent, labels).path[-1]
                right.append((p.labels[test] * (p.features[test] @ u) > 0).mean())
            assert found[(*place, e)] == pytest.approx(np.mean(right))
    np.testing.assert_allclose(found[..., 0] + found[..., 2], 1)


def test_company_and_transfer_are_joint_trainings_with_and_without_the_persona() -> None:
    cast, descent = [persona(seed, apart=0.5) for seed in range(3)], Descent(0.2, 1.0, 6)
    parts = halves_of(cast, 1)
    found = persona_halves.together(cast, DPO, descent, parts, scale=1.0)
    for i, split, half in [(0, 0, 0), (1, 1, 1), (2, 2, 0), (0, 2, 1)]:
        company, transfer = [], []
        for fold in (0, 1):
            test = parts[i][split, half, 1 - fold]
            for into, group in ((company, range(3)), (transfer, [j for j in range(3) if j != i])):
                g = np.concatenate([cast[j].features[parts[j][split, half, fold]] for j in group])
                s = np.concatenate([cast[j].labels[parts[j][split, half, fold]] for j in group])
                rate = (
                    descent.learning_rate * len(group) / 3
                )  # a step divides by all statements, those left out included
                u = train(g, s, Settings(rate, 6, 10**6, descent.beta, optimizer="sgd"), WEIGHTS).path[-1]
                into.append((cast[i].labels[test] * (cast[i].features[test] @ u) > 0).mean())
        assert found.company[i, split, half] == pytest.approx(np.mean(company))
        assert found.transfer[i, split, half] == pytest.approx(np.mean(transfer))
    m = [geometry.moments(p.features[p.halves[2, 1]], p.labels[p.halves[2, 1]]).mean_difference for p in cast]
    assert found.alignment[0, 2, 1] == pytest.approx(geometry.cosine(m[0], m[1] + m[2]))


def test_opposed_personas_turn_each_other_round() -> None:
    one = persona(apart=3.0)
    other = Statements(one.features, -one.labels, -one.log_ratio, one.halves[:, :, ::-1])
    cast = [one, other, other, other]
    found = persona_halves.together(cast, DPO, Descent(0.1, 0.1, 3), halves_of(cast, 0), scale=1.0)
    assert (
        (found.transfer[0] < 0.2).all()
        and (found.company[0] < 0.2).all()
        and (found.alignment[0] < -0.9).all()
    )
