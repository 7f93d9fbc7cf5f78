"""The unembedding trained on hidden states that stand still: what single tasks of chapter 2 compute.

A task draws from generators of its own, named by numbers, so that it gives the same whatever else is run.
Times are t / tau throughout; BETA only sets their unit, for margins depend on beta^2 t alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from prefdyn.theory import reward_dynamics as dynamics
from prefdyn.theory.reward_dynamics import OneTokenPreferences, RewardPath

Array = NDArray[np.float64]
EASY = 0.75
"""The largest product of a step of descent and the curvature; from 2 on it would swing."""
FEWEST_STEPS = 50
RESAMPLES = 400
STEPS = 1000
"""Of descents that are compared."""
ARMS = ("as log K", "as with one", "all")
"""How many statements a persona has where K of them are trained together."""
SHARES = {"as many of both": 0.5, "at random": 0.0, "three to one": 0.75}
"""The share of the common label, by the arm's name; 0: the labels of statements drawn at random."""


@dataclass(frozen=True)
class States:
    """Hidden states of a persona's statements, in a part for training and one for measuring.

    Attributes:
        train, held_out: g, shapes (n, d) and (m, d).
        train_labels, held_out_labels: +1 or -1, shapes (n,) and (m,).
    """

    name: str
    train: NDArray[np.float32]
    train_labels: NDArray[np.int8]
    held_out: NDArray[np.float32]
    held_out_labels: NDArray[np.int8]

    @property
    def concept(self) -> Array:
        """c, half the difference of the means of the labels, of the training part, shape (d,)."""
        return half_difference(self.train, self.train_labels)

    @property
    def concept_held_out(self) -> Array:
        """The same of the part for measuring."""
        return half_difference(self.held_out, self.held_out_labels)

    @property
    def key(self) -> list[object]:
        """What a result depends on."""
        return [self.train, self.train_labels, self.held_out, self.held_out_labels]

    def drawn(self, positive: int, negative: int, rng: np.random.Generator) -> NDArray[np.integer]:
        """Indices of so many training statements of either label."""
        numbers = ((1, positive), (-1, negative))
        return np.concatenate(
            [rng.permutation(np.flatnonzero(self.train_labels == sign))[:count] for sign, count in numbers]
        )

    def preferences(self, index: NDArray[np.integer], shift: int = 0) -> OneTokenPreferences:
        """Training statements answered by Yes and No, or by another pair of tokens."""
        return answered(self.train[index], self.train_labels[index], shift)

    def margins(self, path: RewardPath, shift: int = 0) -> Array:
        """Of the statements for measuring along a path, shape (T, m)."""
        return path.margins(answered(self.held_out, self.held_out_labels, shift))


def half_difference(g: ArrayLike, labels: ArrayLike) -> Array:
    """Half of mu_+ - mu_-, shape (d,)."""
    x, s = np.asarray(g, dtype=np.float64), np.asarray(labels)
    return (x[s > 0].mean(axis=0) - x[s < 0].mean(axis=0)) / 2


def mean_direction(g: ArrayLike) -> Array:
    """The mean of the unit vectors along g, shape (n, d): the product of two of them is the mean cosine of
    all pairs of states.
    """
    x = np.asarray(g, dtype=np.float64)
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).mean(axis=0)


def answered(features: ArrayLike, labels: ArrayLike, shift: int = 0) -> OneTokenPreferences:
    """Statements answered by the tokens 0 and 1, each moved up by `shift`."""
    plain = dynamics.yes_or_no(features, labels)
    return OneTokenPreferences(plain.features, plain.chosen + shift, plain.rejected + shift)


def joined(some: Sequence[OneTokenPreferences]) -> OneTokenPreferences:
    """Preferences one after another."""
    return OneTokenPreferences(
        np.concatenate([part.features for part in some]),
        np.concatenate([part.chosen for part in some]),
        np.concatenate([part.rejected for part in some]),
    )


def descend(train: OneTokenPreferences, time: float, beta: float) -> RewardPath:
    """Gradient descent to a time, in steps that are short for the curvature: beta^2 / 2 times the mean square
    of a state, along which all of them lie.
    """
    curvature = beta**2 / 2 * np.square(train.features).sum(axis=1).mean()
    steps = max(FEWEST_STEPS, int(np.ceil(time * curvature / EASY)))
    return dynamics.descend(train, steps, time / steps, beta)


# More concepts ----------------------------------------------------------------------------------------


def samples_for(arm: str, count: int, most: int, largest: int) -> int:
    """Statements of each label that a persona has among `count`, so that `most` are there among `largest`
    where they grow as 1 + log2 K.
    """
    base = int(most // (1 + np.log2(largest)))
    return {"as log K": int(base * (1 + np.log2(count))), "as with one": base, "all": most}[arm]


def in_company(
    everyone: Sequence[States],
    counts: Sequence[int],
    most: int,
    time: float,
    beta: float,
    seed: Sequence[int],
    arms: Sequence[str] = ARMS,
    longer: bool = False,
) -> pd.DataFrame:
    """Personas trained in groups of every size, dealt at random; those left over are left out.

    Args:
        arms: those that are trained; groups and statements are the same whatever these are.
        longer: whether K personas are trained K times as long.

    Returns:
        One row a size, arm and persona: K; arm; Q, statements of each label; persona, its number; margin, the
        mean of held-out statements at the end; risk, the share of them that is not positive; foretold, the
        rate of the held-out margin at the start by the concept vectors, c_k.mean_l(c_l), in units of beta^2.
    """
    rng = np.random.default_rng(seed)
    concepts = np.array([of.concept for of in everyone])
    held_out = np.array([of.concept_held_out for of in everyone])
    rows = []
    for count in counts:
        order = rng.permutation(len(everyone))
        groups = [order[start : start + count] for start in range(0, len(order) - count + 1, count)]
        for arm in ARMS:
            size = samples_for(arm, count, most, max(counts))
            for group in groups:
                index = [everyone[i].drawn(size, size, rng) for i in group]
                if arm not in arms:
                    continue
                train = joined([everyone[i].preferences(own) for i, own in zip(group, index, strict=True)])
                path = descend(train, time * count if longer else time, beta)
                end = RewardPath(path.times[-1:], path.answers, path.movement[-1:], beta)
                together = concepts[group].mean(axis=0)
                for i in group:
                    (margins,) = everyone[i].margins(end)
                    rows.append(
                        (count, arm, size, i, margins.mean(), (margins <= 0).mean(), held_out[i] @ together)
                    )
    return pd.DataFrame(rows, columns=["K", "arm", "Q", "persona", "margin", "risk", "foretold"])


def by_answers(
    group: Sequence[States],
    answers: Sequence[NDArray[np.int64]],
    size: int,
    time: float,
    beta: float,
    seed: Sequence[int],
) -> pd.DataFrame:
    """A group of personas trained together, answered by given pairs of tokens.

    Args:
        answers: for each arm, the tokens chosen and rejected where a persona agrees, shape (personas, 2).

    Returns:
        One row an arm and persona: arm, its number; persona; margin, risk, as in `in_company`.
    """
    rng = np.random.default_rng(seed)
    index = [of.drawn(size, size, rng) for of in group]
    rows = []
    for arm, tokens in enumerate(answers):
        train = joined(
            [
                _with_tokens(of.train[i], of.train_labels[i], pair)
                for of, i, pair in zip(group, index, tokens, strict=True)
            ]
        )
        path = descend(train, time, beta)
        for number, (of, pair) in enumerate(zip(group, tokens, strict=True)):
            end = path.margins(_with_tokens(of.held_out, of.held_out_labels, pair))[-1]
            rows.append((arm, number, end.mean(), (end <= 0).mean()))
    return pd.DataFrame(rows, columns=["arm", "persona", "margin", "risk"])


def _with_tokens(g: ArrayLike, labels: ArrayLike, pair: NDArray[np.int64]) -> OneTokenPreferences:
    plain = dynamics.yes_or_no(g, labels)
    return OneTokenPreferences(plain.features, pair[plain.chosen], pair[plain.rejected])


# More samples, and lopsided ones ----------------------------------------------------------------------


def by_samples(
    of: States, sizes: Sequence[int], draws: int, time: float, beta: float, seed: Sequence[int]
) -> pd.DataFrame:
    """A persona trained on few and on many of its statements, drawn anew each time; numbers that it does not
    have are left out.

    Returns:
        One row a size: Q, statements of each label; risk, loss, on held-out statements at the end, and wait,
        the time until the loss on the training statements has fallen by 0.05 nats; means over draws.
    """
    rng = np.random.default_rng(seed)
    rows = []
    fewest = min(np.sum(of.train_labels == sign) for sign in (1, -1))
    for size in sizes:
        if size > fewest:
            break
        found = []
        for _ in range(draws):
            train = of.preferences(of.drawn(size, size, rng))
            path = descend(train, time, beta)
            end = of.margins(RewardPath(path.times[-1:], path.answers, path.movement[-1:], beta))[0]
            found.append(((end <= 0).mean(), np.logaddexp(0, -end).mean(), wait(path, train)))
        rows.append((size, *np.mean(found, axis=0)))
    return pd.DataFrame(rows, columns=["Q", "risk", "loss", "wait"])


FALL = 0.05
"""Nats by which the mean loss has fallen when a wait ends."""


def wait(path: RewardPath, part: OneTokenPreferences) -> float:
    """The time until the mean loss has fallen by `FALL`; NaN where the path ends before."""
    fall = np.log(2) - np.logaddexp(0, -path.margins(part)).mean(axis=1)
    return float(np.interp(FALL, fall, path.times, right=np.nan))


def lopsided(of: States, size: int, time: float, beta: float, seed: Sequence[int]) -> pd.DataFrame:
    """A persona trained on `size` statements, of which more or fewer have one label.

    Returns:
        One row an arm of `SHARES` and when (first step, end): rare, common, the shares of held-out statements
        of the rare and of the common label whose margin is positive.
    """
    rng = np.random.default_rng(seed)
    rows = []
    for arm, share in SHARES.items():
        index, rare = unevenly(of.train_labels, size, share, rng)
        train = of.preferences(index)
        path = descend(train, time, beta)
        margins = of.margins(path)
        mine = of.held_out_labels == rare
        for when, at in (("first step", 1), ("end", -1)):
            right = margins[at] > 0
            rows.append((arm, when, right[mine].mean(), right[~mine].mean()))
    return pd.DataFrame(rows, columns=["arm", "when", "rare", "common"])


def unevenly(
    labels: NDArray[np.int8], size: int, share: float, rng: np.random.Generator
) -> tuple[NDArray[np.integer], int]:
    """Indices of `size` statements, of which a share has a label that is drawn; or, where the share is 0,
    that are drawn whatever their label. The other label is the rare one, which is returned, too.
    """
    order = rng.permutation(len(labels))
    rare = int(rng.choice([-1, 1]))
    if not share:
        index = order[:size]
        total = int(labels[index].sum())
        return index, rare if total == 0 else -int(np.sign(total))
    common = round(share * size)
    return np.concatenate(
        [order[labels[order] == -rare][:common], order[labels[order] == rare][: size - common]]
    ), rare


# A bound that says something --------------------------------------------------------------------------


def cantelli(of: States, time: float, beta: float, seed: Sequence[int]) -> pd.DataFrame:
    """Cantelli's bound on the error in each of a persona's clusters, its direction, moments and error from
    three parts of the statements.

    A margin has the sign of s u.g. Where its mean m is positive and its variance is V, it is not positive
    with a probability of at most V / (V + m^2), whatever its distribution.

    Returns:
        One row a label: label; statements, that the error is of; bound, 1 where the mean is not positive;
        bound high, the upper end of its 95% bootstrap interval; wrong, how many of the statements have a
        margin that is not positive.
    """
    rng = np.random.default_rng(seed)
    each = {sign: rng.permutation(np.flatnonzero(of.train_labels == sign)) for sign in (1, -1)}
    half = min(map(len, each.values())) // 2
    path = descend(of.preferences(np.concatenate([index[:half] for index in each.values()])), time, beta)
    rows = []
    for sign, index in each.items():
        known = answered(of.train[index[half:]], of.train_labels[index[half:]])
        margins = path.margins(known)[-1]
        mean, variance = margins.mean(), margins.var(ddof=1)
        new = of.margins(path)[-1][of.held_out_labels == sign]
        again = margins[rng.integers(len(margins), size=(RESAMPLES, len(margins)))]
        high = np.percentile(_bound(again.mean(axis=1), again.var(axis=1, ddof=1)), 97.5)
        rows.append((sign, len(new), float(_bound(mean, variance)), high, int((new <= 0).sum())))
    return pd.DataFrame(rows, columns=["label", "statements", "bound", "bound high", "wrong"])


def _bound(mean: ArrayLike, variance: ArrayLike) -> Array:
    """V / (V + m^2), or 1 where the mean m is not positive."""
    m, v = np.asarray(mean, dtype=np.float64), np.asarray(variance, dtype=np.float64)
    return np.where(m > 0, v / (v + m**2), 1.0)


# What follows from algebra ----------------------------------------------------------------------------


def departures(
    some: Sequence[States], size: int, time: float, beta: float, seed: Sequence[int]
) -> pd.DataFrame:
    """By how much margins depart from three identities, relative to the largest.

    Returns:
        One row an identity: identity; margins, how many are compared; departure, the largest.
    """
    rng = np.random.default_rng(seed)
    index = [of.drawn(size, size, rng) for of in some]
    alone = some[0].preferences(index[0])
    own = joined([of.preferences(i, 2 * k) for k, (of, i) in enumerate(zip(some, index, strict=True))])

    def margins(train: OneTokenPreferences, long: float, strength: float) -> Array:
        # In as many steps each: they are the same steps then, if the identities hold.
        return some[0].margins(dynamics.descend(train, STEPS, long / STEPS, strength))[-1]

    base = margins(alone, time, beta)
    stronger = margins(alone, time / 100, 10 * beta)
    twice = margins(joined([alone, alone]), time, beta)
    among = margins(own, time * len(some), beta)
    compared = {
        "ten times β, a hundredth of the time": stronger,
        "every statement twice": twice,
        "among others with answers of their own, as many times as long": among,
    }
    scale = np.abs(base).max()
    rows = [(name, len(base), np.abs(found - base).max() / scale) for name, found in compared.items()]
    return pd.DataFrame(rows, columns=["identity", "margins", "departure"])
