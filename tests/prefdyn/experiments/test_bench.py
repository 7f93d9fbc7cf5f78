"""The bench: it measures what the engine measures, once, and a killed chapter goes on where it stopped."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import rounding
import torch

from prefdyn import data
from prefdyn.data import Persona
from prefdyn.engine import objectives, states
from prefdyn.engine.likelihood import LogProbs, TokenPair, tokenize_persona
from prefdyn.engine.training import Settings, fine_tune
from prefdyn.errors import PrefdynError
from prefdyn.experiments import phases as phases_module
from prefdyn.experiments.bench import Bench
from prefdyn.experiments.phases import Adapter, Phase, PhaseResult
from prefdyn.measures import geometry
from prefdyn.models import LanguageModel, loading, toy

pytestmark = pytest.mark.usefixtures("cache")

ADAPTER = Adapter(rank=2, alpha=8, dropout=0.5)


def bench(seed: int = 0, **options: Any) -> Bench:
    return Bench("smoke", seed=seed, device="cpu", precision="float32", **options)


def settings(**changes: Any) -> Settings:
    return Settings(**{"learning_rate": 1e-2, "steps": 2, "batch_size": 4, "beta": 0.1, **changes})


def phase(persona: Persona, evaluate_at: tuple[int, ...] = (0, 2), **changes: Any) -> Phase:
    train, test = data.split(persona, 0)
    return Phase([train], settings(**changes), {"test": [test]}, evaluate_at, [persona])


@pytest.fixture
def persona() -> Persona:
    return data.load_persona("prefers-tea-to-coffee").balanced(6)


@pytest.fixture
def no_model(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Call it, and from then on no model can be loaded."""

    def fail(*arguments: object, **options: object) -> None:
        raise AssertionError("a model was loaded")

    return lambda: monkeypatch.setattr(loading, "load", fail)


def same_results(a: list[PhaseResult], b: list[PhaseResult]) -> None:
    assert len(a) == len(b)
    for one, other in zip(a, b, strict=True):
        pd.testing.assert_frame_equal(one.record, other.record)
        assert one.features.keys() == other.features.keys()
        for name, g in one.features.items():
            np.testing.assert_array_equal(g, other.features[name])


# Measurements -------------------------------------------------------------------------------------


def test_features_are_those_of_the_questions(smoke: LanguageModel, persona: Persona) -> None:
    np.testing.assert_array_equal(bench().features(persona), states.hidden_states(smoke, persona.questions))


def test_features_come_from_the_cache_without_loading_the_model(
    persona: Persona, no_model: Callable[[], None]
) -> None:
    first = bench().features(persona)
    no_model()
    np.testing.assert_array_equal(bench().features(persona), first)


def test_features_of_other_statements_are_measured_anew(persona: Persona) -> None:
    lab = bench()
    part = persona.subset(np.arange(3))
    every = lab.features(persona)
    allowed = rounding.of_states(lab.lm.model, max(map(len, persona.questions))) * np.abs(every).max()
    np.testing.assert_allclose(lab.features(part), every[:3], rtol=0, atol=allowed)
    assert lab.features(part).shape == (3, 32)


def test_answer_difference_is_the_difference_of_two_rows_of_w(smoke: LanguageModel) -> None:
    yes, no = (smoke.tokenizer(f"x {answer}")["input_ids"][-1] for answer in ("Yes", "No"))
    w = smoke.model.get_input_embeddings().weight.numpy()  # the smoke model's embeddings are tied
    np.testing.assert_array_equal(bench().answer_difference, w[yes] - w[no])


def test_pca_map_keeps_the_two_largest_variances_uncorrelated() -> None:
    points = np.random.default_rng(0).normal(size=(40, 5)).astype(np.float32) * [5, 1, 3, 0.5, 0.1] + 7
    flat = bench().map_2d(points, "pca")
    variances = np.linalg.eigvalsh(np.cov(points.T))[::-1]
    np.testing.assert_allclose(np.cov(flat.T), np.diag(variances[:2]), rtol=1e-5, atol=1e-5)


def test_a_map_leaves_torch_the_threads_that_it_had() -> None:
    before = torch.get_num_threads()
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            bench().map_2d(np.random.default_rng(threads).normal(size=(40, 5)).astype(np.float32))
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)


def test_umap_of_few_points_keeps_two_far_clouds_apart() -> None:
    rng = np.random.default_rng(0)
    points = np.concatenate([rng.normal(0, 1, (6, 8)), rng.normal(50, 1, (6, 8))]).astype(np.float32)
    flat = bench().map_2d(points, "umap", neighbours=4)
    assert flat.shape == (12, 2)
    distances = np.linalg.norm(flat[:, None] - flat[None], axis=-1)
    inside, between = np.concatenate([distances[:6, :6], distances[6:, 6:]]).max(), distances[:6, 6:].min()
    assert between > inside


def test_single_statement_of_a_label_is_too_few_for_moments(persona: Persona) -> None:
    part = persona.balanced(1)
    with pytest.raises(
        PrefdynError, match=r"1 statements of the label \+1 are too few for a covariance: give at least 2"
    ):
        geometry.moments(bench().features(part), part.labels)


# The choice of data -------------------------------------------------------------------------------


def test_all_personas_by_default() -> None:
    assert [p.name for p in bench().personas()] == data.persona_names("sample")


@pytest.mark.parametrize("limit", [1, 2, 5, 19, 20, 21, 1000])
def test_limited_personas_are_spread_over_the_alphabet(limit: int) -> None:
    names = data.persona_names("sample")
    places = [names.index(p.name) for p in bench().personas(limit)]
    assert len(places) == min(limit, len(names))
    assert places[0] == 0 and (limit == 1 or places[-1] == len(names) - 1)
    gaps = np.diff(places)
    assert limit == 1 or (gaps.min() >= 1 and gaps.max() - gaps.min() <= 1)


def test_statements_are_drawn_per_label_by_the_seed() -> None:
    whole, few = bench(seed=2).personas(3), bench(seed=2).personas(3, per_label=4)
    for everything, part in zip(whole, few, strict=True):
        assert part.statements == everything.drawn(4, 2).statements
        assert (part.labels == 1).sum() == (part.labels == -1).sum() == 4
    assert few[0].statements != bench(seed=3).personas(3, per_label=4)[0].statements


def test_pairs_are_repeatable_by_seed() -> None:
    everything = data.load_pairs("sample")
    first = bench(seed=3).pairs(20)
    assert first == bench(seed=3).pairs(20) != bench(seed=4).pairs(20)
    assert len(set(first)) == 20 and set(first) <= set(everything)


@pytest.mark.parametrize("limit", [0, 10**6])
def test_all_pairs_come_in_their_order(limit: int) -> None:
    assert bench().pairs(limit) == data.load_pairs("sample")


# Training the unembedding -------------------------------------------------------------------------


def test_unembedding_is_trained_and_tested_on_the_split_of_each_persona() -> None:
    lab = bench(seed=5)
    personas = lab.personas(2, per_label=10)
    how = settings(steps=20, batch_size=10**9, optimizer="sgd", learning_rate=3.0)
    run = lab.train_unembedding(personas, how, [0.1, 0.1])
    assert set(run.record["group"]) == {personas[0].name, personas[1].name, "all"}
    g = np.concatenate([lab.features(p)[data.split_indices(p, 5)[1]] for p in personas])
    s = np.concatenate([p.labels[data.split_indices(p, 5)[1]] for p in personas])
    held_out = np.logaddexp(0, -2 * 0.1 * s * (g.astype(float) @ run.path[-1])).mean()
    last = run.record[run.record["step"] == 20].set_index(["split", "group"])
    assert last.loc[("test", "all"), "n"] == 4
    assert last.loc[("test", "all"), "loss"] == pytest.approx(held_out, rel=1e-12)
    for p in personas:
        index = data.split_indices(p, 5)[0]
        margins = 2 * 0.1 * p.labels[index] * (lab.features(p)[index].astype(float) @ run.path[-1])
        assert last.loc[("train", p.name), "n"] == 18
        assert last.loc[("train", p.name), "margin"] == pytest.approx(margins.mean(), rel=1e-12)


def test_first_step_of_the_unembedding_is_along_the_difference_of_the_means() -> None:
    lab = bench()
    (persona,) = lab.personas(1, per_label=10)
    how = settings(steps=1, batch_size=10**9, learning_rate=3.0)
    path = lab.train_unembedding([persona], how, [0.1]).path
    index = data.split_indices(persona, 0)[0]
    g, s = lab.features(persona)[index].astype(float), persona.labels[index]
    np.testing.assert_allclose(
        path[1], 3.0 * 0.1 / 4 * (g[s == 1].mean(0) - g[s == -1].mean(0)), rtol=1e-9, atol=1e-12
    )


# Training the model -------------------------------------------------------------------------------


@pytest.mark.parametrize("adapter", [None, ADAPTER], ids=["all weights", "adapter"])
def test_model_has_its_weights_back_after_training(persona: Persona, adapter: Adapter | None) -> None:
    lab = bench()
    before = copy.deepcopy(lab.lm.model.state_dict())
    moved = lab.train([phase(persona)], adapter)[0].features[persona.name]
    after = lab.lm.model.state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], weight) for name, weight in before.items())
    assert np.abs(moved - lab.features(persona)).max() > 1e-4


def test_failed_training_gives_the_weights_back(persona: Persona, monkeypatch: pytest.MonkeyPatch) -> None:
    lab = bench()
    before = copy.deepcopy(lab.lm.model.state_dict())

    def train_and_fail(*arguments: Any) -> None:
        fine_tune(*arguments)
        raise RuntimeError("killed")

    monkeypatch.setattr(phases_module, "fine_tune", train_and_fail)
    with pytest.raises(RuntimeError, match="killed"):
        lab.train([phase(persona)])
    assert all(torch.equal(lab.lm.model.state_dict()[name], weight) for name, weight in before.items())


def test_two_phases_are_two_goes_by_hand(persona: Persona, fresh_smoke: LanguageModel) -> None:
    phases = [phase(persona), phase(persona.opposite(), learning_rate=3e-3)]
    results = bench().train(phases)
    for made, one in zip(results, phases, strict=True):
        train, test = (
            tokenize_persona(fresh_smoke, part) for part in (one.train[0], one.evaluate["test"][0])
        )
        by_hand = fine_tune(fresh_smoke, train, one.settings, {"test": test}, one.evaluate_at)
        pd.testing.assert_frame_equal(made.record, by_hand)
        np.testing.assert_array_equal(
            made.features[persona.name], states.hidden_states(fresh_smoke, persona.questions)
        )


@pytest.mark.parametrize("adapter", [None, Adapter(rank=2, alpha=8, dropout=0.0)], ids=["all", "adapter"])
@pytest.mark.parametrize("responses", [False, True], ids=["answers", "responses"])
def test_another_training_on_the_same_preferences_knows_the_reference_of_an_earlier_run(
    persona: Persona, monkeypatch: pytest.MonkeyPatch, adapter: Adapter | None, responses: bool
) -> None:
    """Its record is, to the last digit, that of a training that measures its reference itself."""

    def asked(rate: float, steps: int = 2, **changes: Any) -> Phase:
        changes, ends = {"learning_rate": rate, "steps": steps, **changes}, (0, steps)
        if not responses:
            return phase(persona, ends, **changes)
        pairs = [data.Pair(f"Is rain {i} wet?", " Yes" * (1 + i % 3), "No" + "!" * i) for i in range(10)]
        return Phase(pairs[:8], settings(**changes), {"test": pairs[8:]}, ends)

    other = asked(3e-3, loss="ipo")
    alone = phases_module.run_phases(bench().lm, [other], 0, adapter, {})
    measured: list[int] = []
    real = objectives.reference_log_probs

    def counted(lm: LanguageModel, pairs: list[TokenPair], *how: Any) -> LogProbs:
        measured.append(len(pairs))
        return real(lm, pairs, *how)

    monkeypatch.setattr(objectives, "reference_log_probs", counted)  # what evaluates a training is not this
    lab = bench()
    lab.train([asked(1e-2)], adapter)
    assert measured == [2 * 4 + 2], "two batches, and the split"
    lab.train([asked(1e-2, steps=1)], adapter)
    (known,) = bench().train([other], adapter)
    assert len(measured) == 1
    pd.testing.assert_frame_equal(known.record, alone[0].record, rtol=0, atol=0)
    bench().train([asked(1e-2, steps=1, batch_size=2)], adapter)
    assert measured[1:] == [2 + 2], "other preferences"
    bench().rounded("bfloat16").train([other], adapter)
    assert measured[2:] == [2 * 4 + 2], "another precision"


def test_second_phase_starts_at_its_own_reference(persona: Persona) -> None:
    first, second = bench().train([phase(persona), phase(persona)])
    start = second.record[second.record["step"] == 0]
    allowed = rounding.of_margins(loading.load("smoke", device="cpu").model, phase(persona).settings.beta)
    np.testing.assert_allclose(start["loss"], math.log(2), rtol=0, atol=allowed)
    assert (start["margin"].abs() < allowed).all()
    one, other = (part.record.query("step == 1")["loss"] for part in (first, second))
    assert not np.allclose(one, other, rtol=0, atol=allowed)


def test_results_come_from_the_cache_without_loading_the_model(
    persona: Persona, no_model: Callable[[], None]
) -> None:
    first = bench().train([phase(persona)])
    no_model()
    same_results(first, bench().train([phase(persona)]))


def test_phases_that_share_objects_are_the_same_work_as_equal_ones(
    persona: Persona, no_model: Callable[[], None]
) -> None:
    shared = phase(persona)
    first = bench().train([shared, shared])
    no_model()
    same_results(first, bench().train([phase(persona), phase(persona)]))


def other_phases(persona: Persona) -> dict[str, Phase]:
    base = phase(persona)
    return {
        "rate": phase(persona, learning_rate=2e-2),
        "seed": phase(persona, seed=1),
        "labels": Phase(
            [base.train[0].opposite()], base.settings, base.evaluate, base.evaluate_at, base.embed
        ),
        "evaluated": Phase(
            base.train, base.settings, {"held out": base.evaluate["test"]}, base.evaluate_at, base.embed
        ),
        "evaluated at": phase(persona, evaluate_at=(1,)),
        "embedded": Phase(base.train, base.settings, base.evaluate, base.evaluate_at, []),
    }


@pytest.fixture
def trainings(monkeypatch: pytest.MonkeyPatch) -> list[Settings]:
    """Instead of training, the settings of each training that would have been done."""
    done: list[Settings] = []

    def pretend(lm: LanguageModel, train: object, how: Settings, *rest: object) -> pd.DataFrame:
        done.append(how)
        return pd.DataFrame({"step": [len(done)]})

    monkeypatch.setattr(phases_module, "fine_tune", pretend)
    return done


@pytest.mark.parametrize("change", ["rate", "seed", "labels", "evaluated", "evaluated at", "embedded"])
def test_other_phase_is_other_work(persona: Persona, trainings: list[Settings], change: str) -> None:
    bench().train([phase(persona)])
    bench().train([other_phases(persona)[change]])
    assert len(trainings) == 2


def test_other_adapter_precision_number_of_phases_or_pairs_are_other_work(
    persona: Persona, trainings: list[Settings]
) -> None:
    one = phase(persona)
    pairs = bench().pairs(2)
    swapped = [Phase([pair.swapped() for pair in pairs], settings()), Phase(pairs, settings())]
    jobs = [
        ([one], None),
        ([one, one], None),
        ([one], ADAPTER),
        ([one], Adapter(2, 8, 0.0)),
        *(([part], None) for part in swapped),
    ]
    for phases, adapter in jobs:
        bench().train(phases, adapter)
    Bench("smoke", device="cpu", precision="bfloat16").train([one])
    assert len(trainings) == 8
    for phases, adapter in jobs:
        bench().train(phases, adapter)
    assert len(trainings) == 8


def test_adapter_of_another_seed_is_other_work(persona: Persona, trainings: list[Settings]) -> None:
    for seed in (0, 1, 0):
        bench(seed=seed).train([phase(persona)], ADAPTER)
    assert len(trainings) == 2


def test_features_after_a_phase_are_taken_without_dropout(persona: Persona) -> None:
    twin = Persona("twin", persona.statements, persona.labels)
    (made,) = bench().train([Phase([persona], settings(), embed=[persona, twin])], ADAPTER)
    np.testing.assert_array_equal(made.features["twin"], made.features[persona.name])


def test_killed_chapter_goes_on_from_what_was_finished(monkeypatch: pytest.MonkeyPatch) -> None:
    personas = bench().personas(5, per_label=4)
    work = [[Phase([persona], settings())] for persona in personas]
    calls: list[str] = []

    def counting(lm: LanguageModel, train: list[Any], *rest: Any) -> pd.DataFrame:
        calls.append(train[0].group)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return fine_tune(lm, train, *rest)

    monkeypatch.setattr(phases_module, "fine_tune", counting)
    names = [persona.name for persona in personas]
    with pytest.raises(KeyboardInterrupt):
        for phases in work:
            bench().train(phases)
    assert calls == names[:3]
    for phases in work:
        bench().train(phases)
    assert calls == [*names[:3], *names[2:]]


# Provenance ---------------------------------------------------------------------------------------


def test_provenance_names_model_data_and_settings(tmp_path: Path) -> None:
    lab = bench(seed=7, profile="smoke")
    used = lab.personas(2)
    rests_on = lab.provenance()
    assert (rests_on.model, rests_on.model_fingerprint) == ("smoke", toy.FINGERPRINT)
    assert (rests_on.data, rests_on.data_fingerprint) == ("sample", data.fingerprint(used))
    assert (rests_on.profile, rests_on.seeds, rests_on.precision) == ("smoke", "7", "float32")
    assert rests_on.seconds >= 0


def test_personas_taken_whole_are_in_the_provenance() -> None:
    names = data.persona_names()[:2]
    ours = bench()
    whole = ours.whole(names)
    assert [len(one.statements) for one in whole] == [len(data.load_persona(n).statements) for n in names]
    assert ours.provenance().data_fingerprint == data.fingerprint(whole)


def test_default_model_is_named_in_full() -> None:
    assert Bench(device="cpu").model_name == loading.DEFAULT
