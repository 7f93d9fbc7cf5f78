"""Planned time beside measured time, in seconds of this process, whatever else runs; and cards."""

from __future__ import annotations

import re
import time
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from prefbook.running import parameters
from prefdyn import data
from prefdyn.errors import PrefdynError
from prefdyn.experiments import (
    CHAPTERS,
    flipping,
    known_judge,
    noise_pairs,
    noise_states,
    pace,
    plan,
    ranking,
    supervised,
)
from prefdyn.experiments.bench import Bench
from prefdyn.experiments.pace import CARDS, SHARE, CardPace, Pace
from prefdyn.experiments.plan import Size, Work
from prefdyn.models import loading

ROOT = Path(__file__).parents[3]
CPU = torch.device("cpu")
MODEL_WORK = {
    "noise": (noise_states.vmf, noise_pairs.text_pairs),
    "ranking": (
        ranking.ranking_accuracy,
        supervised.supervised,
        known_judge.known_judge,
        known_judge.objectives,
        flipping.followed,
        flipping.win_rate,
    ),
}
"""The experiments of a chapter that run the model; offline judges, which read little, need an encoder."""
LARGER = {
    "noise": {"statements_per_label": 10, "personas": 6},
    "ranking": {"ranked": 24, "steps": 4, "answered": 6, "answer_tokens": 16},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a random model with a hundred times the smoke model's weights in its layers, and its tokenizer."""
    made = tmp_path_factory.mktemp("model")
    smoke = loading.load("smoke", device="cpu")
    config = LlamaConfig(
        **{
            **smoke.model.config.to_dict(),
            "hidden_size": 192,
            "intermediate_size": 512,
            "num_hidden_layers": 6,
            "num_attention_heads": 3,
            "num_key_value_heads": 3,
            "head_dim": 64,
        }
    )
    torch.manual_seed(0)
    LlamaForCausalLM(config).save_pretrained(made)
    smoke.tokenizer.save_pretrained(made)
    return made


def characters_per_token() -> float:
    """Of the smoke model's tokenizer, on what both chapters read."""
    texts = [text for pair in data.load_pairs() for text in (pair.prompt, pair.chosen, pair.rejected)]
    tokenizer = loading.load("smoke", device="cpu").tokenizer
    return sum(map(len, texts)) / sum(map(len, tokenizer(texts)["input_ids"]))


@pytest.mark.parametrize("chapter", MODEL_WORK)
@pytest.mark.parametrize("model", ["smoke", "larger"])
def test_planned_time_is_within_a_factor_of_two_of_measured(
    chapter: str,
    model: str,
    folder: Path,
    cache: Path,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> None:
    """The tokenizer is the smoke model's, which makes more tokens of a text than those of today do.

    One thread computes: of several, those that wait for another burn processor time beside other work.
    """
    threads = torch.get_num_threads()
    request.addfinalizer(lambda: torch.set_num_threads(threads))
    torch.set_num_threads(1)
    monkeypatch.setattr(pace, "clock", time.process_time)
    monkeypatch.setattr(plan, "CHARACTERS_PER_TOKEN", characters_per_token())
    experiments, name = CHAPTERS[chapter], model if model == "smoke" else str(folder)
    declared = parameters.declared(ROOT / "book" / f"{chapter}.md")
    smoke = parameters.load_profile(ROOT / "book" / "profiles", "smoke", chapter)
    values = parameters.values_of(
        declared, smoke, LARGER[chapter], {"model": name, "data": "sample", "precision": "float32"}
    )
    bench = Bench(name, device="cpu", precision="float32")
    assert bench.lm  # loading is no part of the plan
    design = experiments.Design(**{field.name: values[field.name] for field in fields(experiments.Design)})
    size = plan.model_size(name)
    table = plan.table(experiments.work(values), size, CPU, Pace(size, CPU, "float32"), 1e12)
    start = time.process_time()
    for experiment in MODEL_WORK[chapter]:
        experiment(bench, design)
    measured = time.process_time() - start
    assert measured / 2 < 60 * table["minutes"].iloc[-1] < 2 * measured


@pytest.fixture
def small() -> Pace:
    return Pace(Size(2 * 5000, 2 * 5000 + 32 * 100, 32, 2, 100), CPU, "float32")


def test_pace_leaves_random_numbers_and_threads_as_they_are(small: Pace) -> None:
    torch.manual_seed(1)
    expected, threads = torch.rand(3), torch.get_num_threads()
    torch.manual_seed(1)
    assert small.seconds(Work("", "train", 2, 200.0, steps=4)) > 0
    assert torch.equal(torch.rand(3), expected) and torch.get_num_threads() == threads


def test_time_of_all_layers_follows_from_that_of_some(monkeypatch: pytest.MonkeyPatch) -> None:
    size = Size(30 * 5000, 30 * 5000 + 32 * 100, 32, 30, 100)
    found = Pace(size, CPU, "float32")
    times = {1: 5.0, pace.MOST_LAYERS: 5.0 + 2 * (pace.MOST_LAYERS - 1)}
    monkeypatch.setattr(Pace, "_took", lambda self, lm, run: times[lm.model.config.num_hidden_layers])
    assert found._whole(("x",), 1.0, lambda lm: None) == pytest.approx(3 + 2 * 30)


@pytest.mark.parametrize(
    ("shape", "parameters"),
    [((2560, 32, 50304), 2.5e9), ((576, 30, 49152), 106e6), ((32, 2, 4096), 18e3)],
)
def test_layers_that_are_timed_have_the_models_weights(
    shape: tuple[int, int, int], parameters: float
) -> None:
    width, layers, vocabulary = shape
    size = Size(int(parameters), int(parameters) + width * vocabulary, width, layers, vocabulary)
    made = Pace(size, CPU, "float32")
    with torch.device("meta"):
        one, two = (
            sum(p.numel() for p in LlamaForCausalLM(made._shape(count)).parameters()) for count in (1, 2)
        )
    assert two - one == pytest.approx(parameters / layers * made.narrowed**2, rel=0.02)


@pytest.mark.parametrize("kind", ["forward", "train", "adapt", "answer"])
def test_twice_the_runs_take_twice_as_long(small: Pace, kind: Any) -> None:
    steps = 4 if kind in ("train", "adapt") else 0
    once = Work("", kind, 1, 200.0, steps=steps, answer_tokens=5 if kind == "answer" else 0)
    first = small.seconds(once)
    assert first > 0 and small.seconds(replace(once, runs=2)) == pytest.approx(2 * first)


def test_processes_share_trainings_and_measure_alike(small: Pace) -> None:
    """On a CPU they share its cores; on GPUs each has its own."""
    reading, training = Work("", "forward", 1, 200.0), Work("", "train", 1, 200.0, steps=4)
    here = [small.seconds(work) for work in (reading, training)]
    assert [small.seconds(work, shard=4) for work in (reading, training)] == pytest.approx(
        [4 * here[0], here[1]]
    )
    small.device = torch.device("cuda")  # what was timed is not timed again
    assert [small.seconds(work, shard=4) for work in (reading, training)] == pytest.approx(
        [here[0], here[1] / 4]
    )


# Cards ------------------------------------------------------------------------------------------------


BIG = Size(6 * 10**9, 7 * 10**9, 4096, 32, 32_000)


@pytest.mark.parametrize(
    ("work", "shard", "seconds"),
    [
        # One part of 4000 tokens in float32: 4.8e13 operations; 28 GB of weights are read once.
        (Work("", "forward", 3, 4000.0), 1, 3 * (4.8e13 / 67e12 + 28e9 / 3.35e12)),
        # Ten updates of 1000 tokens: weights are read forward and backward, and written with gradients;
        # 28 bytes a weight for AdamW.
        (
            Work("", "train", 2, 10_000.0, steps=10),
            1,
            2 * (3.6e14 / 989e12 + 30 * 28e9 / 3.35e12 + 10 * 196e9 / 3.35e12),
        ),
        # Over eight, seven eighths of the weights come from the others.
        (
            Work("", "train", 2, 10_000.0, steps=10),
            8,
            2 * (3.6e14 / 989e12 / 8 + 30 * (28e9 / 3.35e12 + 24.5e9 / 450e9) + 10 * 24.5e9 / 3.35e12),
        ),
    ],
)
def test_time_of_a_card_is_that_of_its_published_speed(work: Work, shard: int, seconds: float) -> None:
    assert CardPace(CARDS["h100"], BIG).seconds(work, shard) == pytest.approx(seconds / SHARE)


def test_table_of_a_large_model_is_the_plans(shared_data: Path, tmp_path: Path) -> None:
    text = (ROOT / "book" / "rerun.md").read_text(encoding="utf-8")
    found = re.search(r"\n(\{\"model_type.*?\})\nEND", text, re.S)
    assert found
    (tmp_path / "config.json").write_text(found[1])
    size, gpu = plan.model_size(str(tmp_path)), torch.device("cuda")
    rows = re.findall(r"^\* - \d \{doc\}`(\w+)`\n  - (.*)\n  - (.*)\n  - (.*)$", text, re.M)
    assert sorted(row[0] for row in rows) == sorted(CHAPTERS)
    for chapter, *cells in rows:
        declared = parameters.declared(ROOT / "book" / f"{chapter}.md")
        paper = parameters.load_profile(ROOT / "book" / "profiles", "paper", chapter)
        test_split = {"train_split": "test", "followed": 500, "validation": 500}
        given = {"data": str(shared_data)} | (test_split if "train_split" in declared else {})
        values = parameters.values_of(declared, paper, given)
        here = {"judge": "embedded"} if "judge" in declared else {}  # the profile's is on the hub
        parameters.design(CHAPTERS[chapter], values | here)  # what cannot be run has no plan
        work = CHAPTERS[chapter].work(values)
        for cell, (card, shard) in zip(cells, (("h200", 1), ("h100", 2), ("h100", 8)), strict=True):
            free, speed = CARDS[card].memory, CardPace(CARDS[card], size)
            whole = plan.table(work, size, gpu, speed, free, shard=shard).iloc[-1]
            fits = whole["GiB"] * 2**30 <= free
            held, minutes = f"{whole['GiB']:.1f} GiB", f"{whole['minutes']:.0f} min"
            assert cell == (f"{held}, {minutes}" if fits else f"does not fit: {held}"), chapter


def test_unknown_card_is_named() -> None:
    with pytest.raises(PrefdynError, match="the card 'a100' is unknown: choose one of h100, h200"):
        pace.card("a100")
