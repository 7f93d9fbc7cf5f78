"""What is learned where the judge is known: how near training comes to the theorem's optimum, and whether
answers get better while rankings do. The world is that of `known_world`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd
import torch
from scipy.special import expit

from prefdyn.engine import losses
from prefdyn.engine.objectives import SFT
from prefdyn.engine.training import Settings
from prefdyn.experiments.bench import Bench
from prefdyn.experiments.known_world import Course, World, make_world, refresh_in, train_in
from prefdyn.experiments.ranking import LOOKS, Design, known_prompts
from prefdyn.experiments.tasks import Task
from prefdyn.measures import flips
from prefdyn.theory import ranking as theory

OWN = 0.1
"""The strength β of all objectives but DPO's own strengths."""
SIMPO_TARGET = 1.0
"""SimPO's target margin."""
SIMPO_BETA = 2.5
"""SimPO's β, of the mean over tokens; its authors' (Meng et al. 2024)."""
SPLITS = ("trained", "unseen")


def _world(bench: Bench, design: Design, run: int) -> World:
    count = design.world_prompts
    shortest = known_prompts(bench.source)[: design.world_runs * count]
    order = np.random.default_rng(bench.seed).permutation(len(shortest))[run * count : (run + 1) * count]
    prompts, seed = [shortest[i] for i in order], _seed(bench, run)
    arguments = (prompts, design.world_tokens, design.world_pairs, design.world_pairs // 2, seed)
    key = {"arguments": [list(part) if isinstance(part, list) else part for part in arguments]}
    return bench.measure("world", {**key, "precision": bench.precision}, make_world, *arguments)


def _seed(bench: Bench, run: int) -> int:
    return bench.seed + 1000 * run


def _looks(design: Design) -> list[int]:
    return [design.world_steps * i // LOOKS for i in range(LOOKS + 1)]


def _task(bench: Bench, design: Design, world: World, run: int, settings: Settings) -> Task:
    tokens, looks, seed = design.world_tokens, _looks(design), _seed(bench, run)
    key = {**_key(bench, world, settings), "looks": looks, "tokens": tokens, "seed": seed}
    arguments = (world, settings, looks, tokens, seed)
    return Task("training with a known judge", "course", key, train_in, arguments, of_model=True)


def _key(bench: Bench, world: World, settings: Settings) -> dict[str, Any]:
    pairs = [[p.prompt, p.chosen, p.rejected] for part in (world.train, world.unseen) for p in part.pairs]
    return {"pairs": pairs, "settings": settings.describe(), "precision": bench.precision}


def _settings(bench: Bench, design: Design, run: int, **changes: Any) -> Settings:
    how: dict[str, Any] = {
        "beta": OWN,
        "optimizer": "rmsprop",
        "seed": _seed(bench, run),
        "track_distance": True,
    }
    return Settings(
        design.world_learning_rate, design.world_steps, design.world_batch_size, **{**how, **changes}
    )


def known_judge(bench: Bench, design: Design) -> dict[str, pd.DataFrame]:
    """DPO in a world whose judge is known, at several strengths, and once more on the policy's own samples.

    Tables:
        world_pairs: one row a followed pair and look at a training:

            - run: the draw of the world; prompts, responses and votes are its own.
            - objective: DPO; or what it went on with from its end, the same or fresh pairs.
            - β: strength of the pull to the reference.
            - step: updates.
            - split: trained, or unseen.
            - prompt, pair: their numbers.
            - difference: the preferred response's reward less the other's; the logistic function of it is the
              share of raters who prefer it.
            - c: log pi_ref(rejected)/pi_ref(chosen) (nats).
            - gain: what the policy's log-ratio gained on the reference's (nats); the pair is ranked right
              where it is at least c.
            - loss: of the objective.
        world_answers: one row a prompt and look, over its answers:

            - run, objective, β, step, prompt.
            - reward: mean.
            - win rate: how often raters prefer an answer to one of the reference's, by the known rewards.
            - KL: mean of log pi/pi_ref over the answers (nats).
        world_courses: `run`, `objective`, `β`, `step`, and `distance`, of the weights from where the
            training began, for a refresh in the middle.
        identities: of all of these trainings; one row a `statement`, by its number in the paper: `points`,
            pairs at looks at which it says something; `violations`, those that violate it.
    """
    asked = [(run, beta) for run in range(design.world_runs) for beta in design.world_betas]
    worlds = {run: _world(bench, design, run) for run in range(design.world_runs)}
    settings = {at: _settings(bench, design, at[0], beta=at[1]) for at in asked}
    courses = bench.keep_all([_task(bench, design, worlds[at[0]], at[0], settings[at]) for at in asked])
    tables = _Tables()
    for (run, beta), course in zip(asked, courses, strict=True):
        tables.add(worlds[run], course, {"run": run, "objective": "DPO", "β": beta})
    again, first = _settings(bench, design, 0), courses[0].record
    key = {**_key(bench, worlds[0], again), "tokens": design.world_tokens, "fresh": design.world_pairs}
    arguments = (worlds[0], again, design.world_tokens, design.world_pairs, _seed(bench, 0))
    more = bench.measure("refreshed", {**key, "seed": _seed(bench, 0)}, refresh_in, *arguments)
    for name, course in more.items():
        about = {"run": 0, "objective": name, "β": OWN}
        tables.add(worlds[0], course, about, first=first, after=design.world_steps)
    return {
        "world_pairs": tables.pairs,
        "world_answers": tables.answers,
        "world_courses": tables.courses,
        "identities": _identities(tables.whole),
    }


def objectives(bench: Bench, design: Design) -> dict[str, pd.DataFrame]:
    """Other objectives in the first draw of the world: DPO with the reference's log-ratio times γ, IPO, SLiC,
    SimPO and SFT on the preferred responses.

    Responses are of one length, so SimPO is the logistic loss of a margin without reference, β over the
    length times the log-ratio, less its target.

    Tables:
        objective_pairs, objective_answers, objective_courses: as `known_judge` has them.
    """
    world = _world(bench, design, 0)
    changes = {name: _OBJECTIVES[name](design.world_tokens) for name in design.objectives}
    settings = {name: _settings(bench, design, 0, **change) for name, change in changes.items()}
    courses = bench.keep_all([_task(bench, design, world, 0, one) for one in settings.values()])
    tables = _Tables()
    for name, course in zip(settings, courses, strict=True):
        tables.add(world, course, {"run": 0, "objective": name, "β": settings[name].beta})
    return {
        "objective_pairs": tables.pairs,
        "objective_answers": tables.answers,
        "objective_courses": tables.courses,
    }


def _simpo(tokens: int) -> dict[str, Any]:
    loss = losses.Loss.of("simpo", lambda r: torch.nn.functional.softplus(SIMPO_TARGET - r))
    return {"loss": loss, "gamma": 0.0, "beta": SIMPO_BETA / tokens}


_OBJECTIVES: dict[str, Callable[[int], dict[str, Any]]] = {
    "γ 0": lambda tokens: {"gamma": 0.0},
    "γ 2": lambda tokens: {"gamma": 2.0},
    "IPO": lambda tokens: {"loss": "ipo"},
    "SLiC": lambda tokens: {"loss": "slic"},
    "SimPO": _simpo,
    "SFT": lambda tokens: {"loss": SFT, "beta": 0.0},
}


class _Tables:
    """The rows of courses."""

    def __init__(self) -> None:
        self._pairs: list[pd.DataFrame] = []
        self._answers: list[pd.DataFrame] = []
        self._courses: list[pd.DataFrame] = []

    def add(
        self,
        world: World,
        course: Course,
        about: Mapping[str, Any],
        first: pd.DataFrame | None = None,
        after: int = 0,
    ) -> None:
        """Add a course.

        Args:
            first: a record that begins with the reference, where the course's own does not.
            after: updates before the course.
        """
        for split, part in (("trained", world.followed), ("unseen", world.unseen)):
            found = flips.follow(course.record, split, first)
            number = found["pair"].to_numpy()
            table = found.assign(
                **about,
                step=found["step"] + after,
                split=split,
                prompt=np.array([int(pair.group) for pair in part.pairs])[number],
                difference=np.array(part.difference)[number],
                gain=found["log_ratio"] + found["c"],
            )
            self._pairs.append(table)
        distance = table.groupby("step", as_index=False)["distance"].first()
        self._courses.append(distance.assign(**about)[["run", "objective", "β", "step", "distance"]])
        for step, rewards in course.rewards.items():
            own, theirs = np.array(rewards), np.array(world.rewards)
            wins = expit(own[:, :, None] - theirs[:, None, :]).mean(axis=(1, 2))
            rows = {**about, "step": step + after, "prompt": range(len(own)), "reward": own.mean(axis=1)}
            divergence = np.array(course.gained[step]).mean(axis=1)
            self._answers.append(pd.DataFrame({**rows, "win rate": wins, "KL": divergence}).round(4))

    @property
    def whole(self) -> pd.DataFrame:
        return pd.concat(self._pairs, ignore_index=True)

    @property
    def pairs(self) -> pd.DataFrame:
        columns = ["run", "objective", "β", "step", "split", "prompt", "pair", "difference", "c", "gain"]
        loss = self.whole["loss"].map(lambda value: float(f"{value:.5g}"))
        return self.whole[columns].round({"c": 4, "gain": 4}).assign(loss=loss)

    @property
    def answers(self) -> pd.DataFrame:
        return pd.concat(self._answers, ignore_index=True)

    @property
    def courses(self) -> pd.DataFrame:
        return pd.concat(self._courses, ignore_index=True)


def _identities(pairs: pd.DataFrame) -> pd.DataFrame:
    """What must hold of every pair at every look of DPO (tau = beta / 2 in Proposition A.7)."""
    points = {"Theorem 4.1": len(pairs), "Proposition 2.6": 0, "Proposition A.7": len(pairs)}
    broken = dict.fromkeys(points, 0)
    for beta in pairs["β"].unique().tolist():
        part = pairs[pairs["β"] == beta]
        loss, c, ratio = (part[column].to_numpy() for column in ("loss", "c", "log_ratio"))
        right = ratio >= 0
        broken["Theorem 4.1"] += int(theory.violations(right, loss, c, ratio, beta).sum())
        broken["Proposition 2.6"] += int(theory.sanity_violations(right, loss, c).sum())
        broken["Proposition A.7"] += int(theory.ipo_violations(ratio, c, beta / 2).sum())
        points["Proposition 2.6"] += int(((c <= 0) & (loss <= theory.SANITY_LOSS)).sum())
    return pd.DataFrame(
        {"statement": list(points), "points": list(points.values()), "violations": list(broken.values())}
    )
