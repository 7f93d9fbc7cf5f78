"""A model that two processes hold does what it does in one."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import torch.distributed as dist
from small_chapters import GENERALIZATION

from prefdyn import data
from prefdyn.engine import losses
from prefdyn.engine.training import Settings
from prefdyn.errors import PrefdynError
from prefdyn.experiments import company, moved_tokens, sharding
from prefdyn.experiments.bench import Bench
from prefdyn.experiments.interventions import gradient_of
from prefdyn.experiments.phases import Adapter, Phase
from prefdyn.experiments.tasks import Task
from prefdyn.models import LanguageModel

pytestmark = pytest.mark.usefixtures("cache")


def bench(shard: int = 0) -> Bench:
    return Bench("smoke", device="cpu", precision="float32", shard=shard)


@pytest.fixture(scope="module")
def sharded() -> Iterator[Bench]:
    """A bench whose model two processes hold, who come up once for all tests here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        made = bench(shard=2)
        yield made
        for group in made._groups:
            group.end()


@pytest.fixture
def alone(sharded: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    """A bench of one process, which finds nothing of what the other has kept."""

    class Alone(Bench):
        def keep(self, *arguments: object) -> object:
            with monkeypatch.context() as patch:
                patch.setenv("PREFDYN_CACHE", str(tmp_path / "alone"))
                return super().keep(*arguments)

    return Alone("smoke", device="cpu", precision="float32")


def how(**changes: object) -> Settings:
    """Batches of three, of which two processes have unequal shares, in parts of which one has none."""
    return Settings(
        **{
            "learning_rate": 1e-3,
            "steps": 8,
            "batch_size": 3,
            "beta": 0.3,
            "tokens_per_forward": 100,
            **changes,
        }
    )


def of_personas() -> list[Phase]:
    one, other = (data.load_persona(name).balanced(5) for name in data.persona_names()[:2])
    return [
        Phase([one, other], how(track_distance=True), {"held out": [other]}, [0, 4, 8], embed=[one]),
        # Plain descent: AdamW does not see how large a gradient is.
        Phase(
            [one.opposite()],
            how(loss=losses.ipo(), optimizer="sgd", learning_rate=0.1),
            {"held out": [other]},
            [0, 8],
        ),
    ]


def of_pairs() -> list[Phase]:
    """As chapter 4 trains: chosen responses first, then preferences, with answers and pairs followed."""
    pairs = data.load_pairs()[:7]
    prompts = [pair.prompt for pair in pairs[:2]]
    dpo = Phase(pairs, how(), {"followed": pairs[:3]}, [0, 8], each=["followed"], max_length=96)
    answering = {"answer": prompts, "answer_tokens": 4}
    return [
        Phase(pairs, how(loss="sft", beta=0.0), max_length=96),
        Phase(**{**vars(dpo), **answering}),
    ]


@pytest.mark.parametrize("make_phases", [of_personas, of_pairs])
@pytest.mark.parametrize("adapter", [None, Adapter(2, 8, 0.0)], ids=["all weights", "adapter"])
def test_training_over_two_processes_leaves_the_record_of_one(
    sharded: Bench, alone: Bench, make_phases: object, adapter: Adapter | None
) -> None:
    phases = make_phases()  # type: ignore[operator]
    for found, expected in zip(sharded.train(phases, adapter), alone.train(phases, adapter), strict=True):
        counts = ["step", "split", "group", "n"]
        pd.testing.assert_frame_equal(found.record[counts], expected.record[counts])
        # Shares of a sum; at step 0 margins are rounding, and so is whether they are above 0.
        columns = found.record.columns.difference([*counts, "accuracy"])
        pd.testing.assert_frame_equal(found.record[columns], expected.record[columns], rtol=1e-5, atol=1e-4)
        assert found.answers == expected.answers
        for name, g in expected.features.items():
            np.testing.assert_allclose(found.features[name], g, rtol=0, atol=1e-4)
        assert found.record["loss"].std() > 1e-2  # the weights have moved


def look_elsewhere(lm: LanguageModel, folder: str) -> str:
    """What the second process finds kept, from now on, and the first does not."""
    if dist.get_rank() == 1:
        os.environ["PREFDYN_CACHE"] = folder
    return os.environ["PREFDYN_CACHE"]


def test_the_first_process_says_for_all_what_is_known_of_the_reference(
    sharded: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They would wait for each other for ever, if one had to measure what the other found kept."""
    monkeypatch.setattr(sharded, "_groups", [])
    elsewhere = Task("", "", {}, look_elsewhere, (str(tmp_path / "another"),), of_model=True)

    folder = tmp_path

    def train() -> pd.DataFrame:
        """By new processes, who remember nothing, and do not wait for ever."""
        nonlocal folder
        folder = Path(sharded.do(elsewhere))
        (group,) = sharded._groups
        late = threading.Timer(30, group.end)
        late.start()
        record = sharded.train(of_personas())[0].record
        late.cancel()
        sharded._groups.pop().end()
        return record

    first = train()
    kept = list(folder.glob("results/reference/*"))
    assert len(kept) == 1
    for path in [*folder.glob("results/training/*"), *tmp_path.glob("another/results/*/*")]:
        path.unlink()
    pd.testing.assert_frame_equal(first, train())
    assert list(folder.glob("results/reference/*")) == kept
    assert not list(tmp_path.glob("another/results/reference/*"))


def test_measurements_are_those_of_one_process(sharded: Bench, alone: Bench) -> None:
    persona = data.load_persona(data.persona_names()[0]).balanced(4)
    rankings = sharded.rankings("sample", 3)
    np.testing.assert_allclose(sharded.features(persona), alone.features(persona), rtol=0, atol=1e-5)
    np.testing.assert_array_equal(sharded.answer_difference, alone.answer_difference)
    for found, expected in zip(sharded.scores(rankings), alone.scores(rankings), strict=True):
        np.testing.assert_allclose(found.total, expected.total, rtol=1e-5)
    assert not sharded._loaded  # the process that asks holds no model


@pytest.mark.parametrize("count", [1, 3])
def test_first_gradients_and_a_step_of_all_weights_are_those_of_one_process(
    sharded: Bench, alone: Bench, count: int
) -> None:
    """Of one preference, of which a process has no share, and of three, of which one has more."""
    persona = data.load_persona(data.persona_names()[0])
    pairs = data.load_pairs()[:count]
    gradient = ("gradients", {"n": count}, gradient_of, persona.subset(np.arange(count)))
    step = ("moved tokens", {"n": count}, moved_tokens.measure, pairs, 0.3)
    for measurement in (gradient, step):
        found, expected = (of.measure(*measurement) for of in (sharded, alone))
        # Shares of a sum, and what one step moves is a small difference of two log-probabilities.
        largest = expected.iloc[:, -1].abs().max()
        pd.testing.assert_frame_equal(found, expected, rtol=1e-4, atol=1e-4 * largest)


def held(lm: LanguageModel) -> int:
    return sum(weight.to_local().numel() for weight in lm.model.parameters())


def test_each_process_holds_its_share_of_the_weights(sharded: Bench, smoke: LanguageModel) -> None:
    whole = sum(weight.numel() for weight in smoke.model.parameters())
    assert sharded.do(Task("", "", {}, held, (), of_model=True)) == pytest.approx(whole / 2, rel=0.01)


def test_table_of_a_chapter_is_that_of_one_process(sharded: Bench, alone: Bench) -> None:
    found, expected = (company.nested_sets(of, GENERALIZATION) for of in (sharded, alone))
    pd.testing.assert_frame_equal(found, expected, rtol=1e-5, atol=1e-4)
    assert found["margin"].abs().min() > 1e-4  # none of them is rounding


def precision_of(lm: LanguageModel) -> str:
    return lm.precision


def test_the_same_processes_train_in_the_other_precision(sharded: Bench) -> None:
    asked = Task("", "", {}, precision_of, (), of_model=True)
    assert [sharded.rounded(name).do(asked) for name in ("bfloat16", "float32")] == ["bfloat16", "float32"]
    assert len(sharded._groups) == 1  # a second one would hold the model once more


def test_killed_process_is_named_and_the_next_task_has_a_new_group(sharded: Bench) -> None:
    persona = data.load_persona(data.persona_names()[0]).balanced(4)
    sharded.features(persona)
    (group,) = sharded._groups
    threading.Timer(0.5, group.processes[1].kill).start()
    with pytest.raises(PrefdynError) as error:
        sharded.train([Phase([persona], how(steps=10**5))])
    assert str(error.value) == (
        f"dpo on {persona.name} lost a process, most often for lack of memory: shard the model over more "
        "devices than 2"
    )
    assert not any(process.is_alive() for process in group.processes)
    assert len(sharded.train([Phase([persona], how())])[0].record) == 8


@pytest.mark.parametrize(
    ("count", "device", "says"),
    [(1, "cpu", "1 devices: give at least 2"), (2, "mps", "devices of the kind mps: choose cuda or cpu")],
)
def test_devices_that_cannot_be_are_refused(count: int, device: str, says: str) -> None:
    with pytest.raises(PrefdynError, match=f"a model cannot be sharded over .*{says}"):
        sharding.check(count, torch.device(device))


def test_a_ray_and_shards_are_one_too_many() -> None:
    with pytest.raises(PrefdynError, match="choose one"):
        Bench("smoke", device="cpu", on="ray", shard=2)
