"""The plan: sizes of real models, arithmetic as torch counts it, and a word before what cannot fit."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import (
    Gemma3Config,
    Gemma3ForConditionalGeneration,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    T5Config,
)

from prefbook.project import chapters
from prefbook.running import parameters
from prefdyn import data
from prefdyn.data import Pair, Ranking, datasets
from prefdyn.engine.likelihood import tokenize_responses
from prefdyn.errors import PrefdynError
from prefdyn.experiments import CHAPTERS, distinguishability, generalization, noise, plan, ranking
from prefdyn.experiments.plan import Lengths, Size, Work
from prefdyn.models import LanguageModel, loading

ROOT = Path(__file__).parents[3]
CPU = torch.device("cpu")
SMOLLM2 = {
    "vocab_size": 49152,
    "hidden_size": 576,
    "intermediate_size": 1536,
    "num_hidden_layers": 30,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "tie_word_embeddings": True,
}
KINDS = {
    "forward": Work("reading", "forward", 2, 1000.0),
    "train": Work("training", "train", 3, 1000.0, steps=10, forward_tokens=500.0, batch_tokens=100.0),
    "adapt": Work("adapting", "adapt", 1, 1000.0, steps=10, batch_tokens=100.0),
}


def counted(model: PreTrainedModel) -> Size:
    """Of a model that is there: every distinct weight once."""
    weights = {id(weight): weight.numel() for weight in model.parameters()}
    tables = {
        id(layer.weight): layer.weight.numel()
        for layer in (model.get_input_embeddings(), model.get_output_embeddings())
    }
    total = sum(weights.values())
    shape = model.config
    return Size(
        total - sum(tables.values()), total, shape.hidden_size, shape.num_hidden_layers, shape.vocab_size
    )


def on_meta(**shape: Any) -> PreTrainedModel:
    with torch.device("meta"):
        return LlamaForCausalLM(LlamaConfig(**shape))


def values(profile: str, **changes: Any) -> dict[str, Any]:
    """The parameters of chapter 1 under a profile."""
    declared = parameters.declared(ROOT / "book" / "distinguishability.md")
    return parameters.values_of(
        declared, parameters.load_profile(ROOT / "book" / "profiles", profile, "distinguishability"), changes
    )


# Sizes --------------------------------------------------------------------------------------------


def test_size_of_the_smoke_model_is_its_count(smoke: LanguageModel) -> None:
    assert plan.model_size("smoke") == counted(smoke.model)


@pytest.mark.parametrize("name", loading.KNOWN)
def test_size_of_a_known_model_is_that_of_the_loaded_one(name: str) -> None:
    if not loading.is_cached(name):
        pytest.skip(f"the model {name} is not in the cache: `prefdyn run --model {name}` fetches it")
    known = loading.KNOWN[name]
    size = counted(loading.load(name, device="cpu").model)
    assert plan.model_size(name) == size
    assert (size.body, size.parameters) == (known.body, known.parameters)
    assert (size.width, size.layers) == (known.width, known.layers)


def test_size_of_the_default_model_follows_from_its_shape(cache: Path) -> None:
    size = counted(on_meta(**SMOLLM2))
    assert size.parameters == 134_515_008
    assert size == plan.model_size("smollm2-135m")


def test_size_of_a_known_model_needs_no_download(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading.wheels, "fetch", lambda wheel: pytest.fail("a model was fetched"))
    for name in loading.KNOWN:
        assert plan.model_size(name).parameters == loading.KNOWN[name].parameters


@pytest.mark.parametrize("tied", [True, False])
def test_size_of_a_folder_counts_tied_embeddings_once(tmp_path: Path, tied: bool) -> None:
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=50,
            hidden_size=16,
            intermediate_size=24,
            num_hidden_layers=1,
            num_attention_heads=2,
            tie_word_embeddings=tied,
        )
    )
    model.save_pretrained(tmp_path)
    size = plan.model_size(str(tmp_path))
    assert size == counted(model)
    assert size.parameters - size.body == 50 * 16 * (1 if tied else 2)


def test_size_of_a_model_that_takes_images_as_well(tmp_path: Path) -> None:
    """Its width and layers are those of its language model, its parameters are all that it has."""
    text = {
        "vocab_size": 50,
        "hidden_size": 16,
        "intermediate_size": 24,
        "num_hidden_layers": 3,
        "head_dim": 8,
    }
    image = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = Gemma3Config(
        text_config={**text, "num_attention_heads": 2, "num_key_value_heads": 1},
        vision_config={**image, "image_size": 28, "patch_size": 14},
        mm_tokens_per_image=4,
    )
    model = Gemma3ForConditionalGeneration(config)
    model.save_pretrained(tmp_path)
    total = sum(weight.numel() for weight in model.parameters())
    assert plan.model_size(str(tmp_path)) == Size(total - 50 * 16, total, 16, 3, 50)


@pytest.mark.parametrize("content", ["", '{"model_type": ["llama"]}', "[" * 10**5])
def test_model_that_is_no_model_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "model.safetensors").touch()
    if content:
        (tmp_path / "config.json").write_text(content)
    named = re.escape(repr(str(tmp_path)))
    with pytest.raises(PrefdynError, match=rf"{named} has no configuration .*: give a name") as error:
        plan.model_size(str(tmp_path))
    assert "\n" not in str(error.value)


# Arithmetic ---------------------------------------------------------------------------------------


def torch_counts(model: PreTrainedModel, rows: int, length: int, backward: bool) -> int:
    """What torch counts for the body of a model on a batch."""
    tokens = torch.randint(0, model.config.vocab_size, (rows, length))
    with FlopCounterMode(display=False) as counter:
        out = model.model(input_ids=tokens).last_hidden_state
        if backward:
            out.sum().backward()
    return counter.get_total_flops()


@pytest.fixture
def small() -> PreTrainedModel:
    """The smoke model's shape, with an attention that torch counts."""
    config = loading.load("smoke", device="cpu").model.config.to_dict()
    torch.manual_seed(0)
    return LlamaForCausalLM(LlamaConfig(**config, attn_implementation="eager"))


def test_forward_pass_is_within_a_quarter_of_what_torch_counts(small: PreTrainedModel) -> None:
    planned = Work("reading", "forward", 1, 4 * 20).flops(plan.model_size("smoke"))
    assert planned == pytest.approx(torch_counts(small, 4, 20, backward=False), rel=0.25)


def test_training_is_within_a_quarter_of_what_torch_counts(small: PreTrainedModel) -> None:
    planned = Work("training", "train", 1, 4 * 20).flops(plan.model_size("smoke"))
    assert planned == pytest.approx(torch_counts(small, 4, 20, backward=True), rel=0.25)


def test_adapting_is_within_a_quarter_of_what_torch_counts(small: PreTrainedModel) -> None:
    small.requires_grad_(False)
    # Gradients have to come all the way down, as to LoRA's matrices.
    small.model.layers[0].self_attn.q_proj.weight.requires_grad_(True)
    planned = Work("adapting", "adapt", 1, 4 * 20).flops(plan.model_size("smoke"))
    assert planned == pytest.approx(torch_counts(small, 4, 20, backward=True), rel=0.25)


def test_runs_and_evaluations_add_up() -> None:
    size = Size(10, 15, 4, 2, 1)
    assert KINDS["forward"].flops(size) == 2 * (2 * 10 * 1000)
    assert KINDS["train"].flops(size) == 3 * (6 * 10 * 1000 + 2 * 10 * 500)


def test_tokens_are_within_a_third_of_the_default_tokenizers() -> None:
    if not loading.is_cached(loading.DEFAULT):
        pytest.skip("the default model's tokenizer is not in the cache: `prefdyn run` fetches it")
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(loading.locate(loading.DEFAULT)[0])
    personas = [data.load_persona(name) for name in data.persona_names()[:4]]
    pairs = data.load_pairs()[:40]
    for items, texts in (
        (personas, [statement for p in personas for statement in p.statements]),
        (pairs, [text for pair in pairs for text in (pair.prompt, pair.chosen, pair.rejected)]),
    ):
        real = sum(len(ids) for ids in tokenizer(texts)["input_ids"])
        assert plan.tokens_of(items) == pytest.approx(real, rel=0.33)


def test_tokens_of_a_pair_are_of_its_prompt_and_both_responses() -> None:
    pair = Pair("a" * 42, "b" * 42, "c" * 84)
    assert plan.tokens_of([pair]) == pytest.approx(168 / 4.2)


# The work of a chapter ----------------------------------------------------------------------------


def test_every_chapter_has_a_plan() -> None:
    assert sorted(CHAPTERS) == chapters(ROOT)


@pytest.mark.parametrize("profile", ["smoke", "laptop", "reference"])
@pytest.mark.parametrize("chapter", chapters(ROOT))
def test_plan_follows_the_profile(chapter: str, profile: str) -> None:
    declared = parameters.declared(ROOT / "book" / f"{chapter}.md")
    layer = parameters.load_profile(ROOT / "book" / "profiles", profile, chapter)
    work = CHAPTERS[chapter].work(parameters.values_of(declared, layer, {"data": "sample"}))
    assert work and len({item.name for item in work}) == len(work)
    assert all(item.runs > 0 and item.tokens > 0 for item in work)


def total(profile: str, **changes: Any) -> float:
    return sum(
        item.flops(plan.model_size("smoke")) for item in distinguishability.work(values(profile, **changes))
    )


@pytest.mark.parametrize(
    "more",
    [
        {"personas": 7},
        {"statements_per_label": 20},
        {"held_out": 5},
        {"trained": 5},
        {"pairs_trained": 4},
        {"controlled": 4},
        {"rates_tried": [1e-4, 2.5e-4]},
        {"beta_behaviours": 4},
        {"graded": 3},
        {"equalised_draws": 4},
        {"steps": 3},
        {"batch_size": 8},
        {"undo_steps": 4},
        {"other_betas": [0.1, 1.0]},
        {"hh_held_out": 8},
        {"hh_steps": 4},
        {"hh_batch_size": 6},
    ],
    ids=lambda more: next(iter(more)),
)
def test_more_of_anything_is_more_work(more: dict[str, Any]) -> None:
    assert total("smoke", **more) > total("smoke")


def total_of_generalization(**changes: Any) -> float:
    declared = parameters.declared(ROOT / "book" / "generalization.md")
    smoke_values = parameters.load_profile(ROOT / "book" / "profiles", "smoke", "generalization")
    work = generalization.work(parameters.values_of(declared, smoke_values, changes))
    return sum(item.flops(plan.model_size("smoke")) for item in work)


@pytest.mark.parametrize(
    "more",
    [
        {"personas": 7},
        {"statements_per_label": 20},
        {"held_out": 6},
        {"sampled": 4},
        {"many_samples": [8, 40]},
        {"cluster_counts": [1, 2, 4]},
        {"sets": 4},
        {"examples": 3},
        {"lopsided": 4},
        {"steps": 3},
        {"batch_size": 8},
        {"pairs_decomposed": 4},
        {"moved_pairs": 5},
    ],
    ids=lambda more: next(iter(more)),
)
def test_more_of_anything_is_more_work_in_chapter_2(more: dict[str, Any]) -> None:
    assert total_of_generalization(**more) > total_of_generalization()


@pytest.mark.parametrize(
    "more",
    [
        {"text_rates": [0.0, 0.1, 0.2, 0.3]},
        {"text_runs": 4},
        {"text_pairs": 8},
        {"text_tests": 8},
    ],
    ids=lambda more: next(iter(more)),
)
def test_more_of_anything_is_more_work_in_chapter_three(more: dict[str, Any]) -> None:
    def flops(**changes: Any) -> float:
        declared = parameters.declared(ROOT / "book" / "noise.md")
        profile = parameters.load_profile(ROOT / "book" / "profiles", "smoke", "noise")
        work = noise.work(parameters.values_of(declared, profile, changes))
        return sum(item.flops(plan.model_size("smoke")) for item in work)

    assert flops(**more) > flops()


def test_zero_stands_for_all() -> None:
    assert total("smoke", personas=0) == total("smoke", personas=len(data.persona_names()))
    assert total("smoke", statements_per_label=0) == total("smoke", statements_per_label=100_000)


@pytest.mark.parametrize("chapter", chapters(ROOT))
def test_every_seed_counts_once(chapter: str) -> None:
    declared = parameters.declared(ROOT / "book" / f"{chapter}.md")
    layer = parameters.load_profile(ROOT / "book" / "profiles", "laptop", chapter)

    def runs(seeds: list[int]) -> dict[str, int]:
        given = {"data": "sample", "seeds": seeds}
        work = CHAPTERS[chapter].work(parameters.values_of(declared, layer, given))
        assert len({item.kind for item in work} & {"train"}) == (chapter != "across")
        found: dict[str, int] = {}
        for item in work:
            found[item.kind] = found.get(item.kind, 0) + item.runs
        return found

    once, twice = runs([0]), runs([0, 7, 7])
    for kind in {"train", "adapt", "answer"} & set(once):
        assert twice[kind] == 2 * once[kind]
    if chapter in ("across", "noise"):  # whose hidden states are of each seed's own statements
        assert twice["forward"] == 2 * once["forward"]


def test_all_statements_of_a_halved_persona_are_as_many_as_there_are() -> None:
    count = int((data.load_persona(data.persona_names()[0]).labels == 1).sum())
    assert total("smoke", intervened_statements=0) == total("smoke", intervened_statements=count)


def test_every_seed_draws_statements_of_its_own() -> None:
    once, twice = (distinguishability.work(values("laptop", seeds=seeds)) for seeds in ([0], [0, 1]))
    assert [2 * one.runs for one in once] == [two.runs for two in twice]


class OneSecond:
    """A pace under which every run takes a second."""

    def seconds(self, work: Work, shard: int = 1) -> float:
        return float(work.runs)


def test_whole_of_the_table_is_the_sum_of_its_rows() -> None:
    size = Size(10**9, 2 * 10**9, 64, 2, 50_000)
    table = plan.table(list(KINDS.values()), size, CPU, OneSecond(), 1e12).set_index("work")
    assert list(table.index) == ["reading", "training", "adapting", "all"]
    for column in ("runs", "TFLOP", "minutes"):
        assert table.loc["all", column] == pytest.approx(table[column].iloc[:-1].sum())
    assert table.loc["all", "GiB"] == table["GiB"].iloc[:-1].max()
    assert table.loc["all", "steps"] == 3 * 10 + 1 * 10
    assert table.loc["training", "minutes"] == pytest.approx(3 / 60)


def test_workers_share_trainings_and_nothing_else() -> None:
    size = Size(10**9, 2 * 10**9, 64, 2, 50_000)
    table = plan.table(list(KINDS.values()), size, CPU, OneSecond(), 1e12, workers=2).set_index("work")
    expected = {"reading": 2, "training": 2, "adapting": 1}  # three runs of two workers take two turns
    assert {name: 60 * table.loc[name, "minutes"] for name in expected} == pytest.approx(expected)


# Lengths ------------------------------------------------------------------------------------------


def test_lengths_are_those_of_prompts_with_all_their_responses() -> None:
    """In tokens of 4.2 characters: prompts of 10 and 20, responses of 5 and 15, then of 10, 20 and 30."""
    rankings = [
        Ranking("x" * 42, ("y" * 21, "y" * 63), (0, 1)),
        Ranking("x" * 84, ("y" * 42, "y" * 84, "y" * 126), (0, 1, 2)),
    ]
    found = Lengths.of(rankings)
    assert (found.each, found.share, found.responses) == pytest.approx((55, 80 / 110, 2.5))
    assert found.of_one.each == pytest.approx(15 + 16) and found.of_one.share == pytest.approx(16 / 31)
    # At most 20 with a response: 10 of it, and what is left of the prompt.
    cut = Lengths.of(rankings, max_length=20)
    assert (cut.each, cut.share) == pytest.approx(((10 + 10 + 5 + 10 + 30) / 2, 45 / 65))
    assert Lengths.of(rankings, count=5).each == pytest.approx(15 + 80)
    pair = Pair("x" * 42, "y" * 21, "y" * 63)
    assert Lengths.of([pair]).each == pytest.approx(30)


def test_lists_of_responses_count_whole(shared_data: Path) -> None:
    """As the default tokenizer counts them, to a third."""
    if not loading.is_cached(loading.DEFAULT):
        pytest.skip("the default model's tokenizer is not in the cache: `prefdyn run` fetches it")
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(loading.locate(loading.DEFAULT)[0])
    lm = SimpleNamespace(tokenizer=tokenizer)
    name = "alpaca-eval-rankings"
    given = {"data": str(shared_data), "ranked_lists": 805}
    declared = parameters.declared(ROOT / "book" / "ranking.md")
    values = parameters.values_of(declared, given)
    (work,) = [item for item in ranking.scored_work(values) if name in item.name]
    rankings = datasets.load(name, shared_data)[::40]
    length = values["max_length"]
    trees = [tokenize_responses(lm, one.prompt, one.responses, length) for one in rankings]
    real = np.mean([len(prompt) + sum(map(len, tails)) for prompt, tails in trees])
    assert work.runs == 1 and work.tokens / 805 == pytest.approx(real, rel=0.33)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_speed_is_within_a_factor_of_ten_of_a_product_timed_here(precision: Any) -> None:
    import time

    dtype = getattr(torch, precision)
    a = torch.randn(512, 512, dtype=dtype)
    times = []
    for _ in range(100):
        start = time.perf_counter()
        a @ a
        times.append(time.perf_counter() - start)
    measured = 2 * 512**3 / min(times)  # what else runs can only make it slower, and so it is below
    assert measured / 10 < max(plan.speed(CPU, precision) for _ in range(10)) < measured * 10


# Memory -------------------------------------------------------------------------------------------


@pytest.fixture
def big() -> Size:
    return Size(2_500_000_000, 2_800_000_000, 2560, 32, 50_304)


def test_model_that_is_not_causal_is_one_sentence(tmp_path: Path) -> None:
    T5Config(d_model=32, num_layers=1).save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").touch()
    with pytest.raises(PrefdynError, match=r"^the model '.*' is no causal language model \(.*T5Config.*$"):
        plan.model_size(str(tmp_path))


def with_memory(monkeypatch: pytest.MonkeyPatch, gibibytes: float) -> None:
    monkeypatch.setattr(plan, "free_memory", lambda device: gibibytes * 2**30)


def test_training_needs_weights_gradients_moments_and_a_copy(big: Size) -> None:
    forward, train, adapt = (replace(work, batch_tokens=100.0).memory(big) for work in KINDS.values())
    assert train > 5 * 4 * big.parameters
    assert 4 * big.parameters < forward < adapt < train


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="no /proc: only Linux tells the peak")
@pytest.mark.parametrize(
    ("kind", "size", "texts"),
    [
        ("adapt", (8192, 256, 704, 6), (8, 40, 60)),
        ("train", (8192, 512, 1408, 6), (4, 40, 40)),
    ],
)
def test_memory_is_within_a_factor_of_two_of_what_a_process_holds(
    kind: Any, size: tuple[int, ...], texts: tuple[int, ...]
) -> None:
    """Beyond its libraries, and the plan beyond what it adds for those; training holds mostly copies of the
    weights here, adapting mostly activations.
    """
    script = [sys.executable, str(ROOT / "tests" / "peak_memory.py"), kind, *map(str, (*size, *texts))]
    done = subprocess.run(script, capture_output=True, text=True, check=True, cwd=ROOT)
    held = json.loads(done.stdout)
    vocabulary, width, inner, layers = size
    described = {"hidden_size": width, "intermediate_size": inner, "num_hidden_layers": layers}
    model = on_meta(
        **described, vocab_size=vocabulary, num_attention_heads=width // 64, tie_word_embeddings=True
    )
    count, prompt, response = texts
    tokens = count * (prompt + 2 * response)
    work = Work(kind, kind, 1, 2.0 * tokens, steps=2, batch_tokens=tokens)
    planned = work.memory(counted(model)) - plan.FIXED_BYTES
    assert planned / 2 < held["work"] < 2 * planned
    assert held["libraries"] < plan.FIXED_BYTES


def test_work_that_fits_passes(monkeypatch: pytest.MonkeyPatch, big: Size) -> None:
    with_memory(monkeypatch, 100)
    plan.check_memory(list(KINDS.values()), "big", big, CPU)


def test_work_that_cannot_fit_is_one_sentence_that_names_what_would(
    monkeypatch: pytest.MonkeyPatch, big: Size
) -> None:
    with_memory(monkeypatch, 10)
    with pytest.raises(PrefdynError) as error:
        plan.check_memory(list(KINDS.values()), "some-model", big, CPU)
    message = str(error.value)
    assert "\n" not in message
    for part in ("training with some-model (2800M parameters)", "cpu has 10.0 GiB free", "would fit"):
        assert part in message
    needed = float(re.search(r"needs ([\d.]+) GiB", message).group(1))
    assert needed == pytest.approx(KINDS["train"].memory(big) / 2**30, abs=0.06)


def test_devices_that_share_a_model_have_room_together(monkeypatch: pytest.MonkeyPatch, big: Size) -> None:
    with_memory(monkeypatch, 20)
    work = list(KINDS.values())
    gpu = torch.device("cuda")
    with pytest.raises(PrefdynError, match=r"20\.0 GiB free"):
        plan.check_memory(work, "big", big, gpu)
    plan.check_memory(work, "big", big, gpu, shard=8)
    with pytest.raises(PrefdynError, match=r"20\.0 GiB free"):
        plan.check_memory(work, "big", big, CPU, shard=8)


def test_each_of_several_devices_holds_some_of_the_model_whole(big: Size) -> None:
    """Five float32 copies of 2.8B weights over eight; 300M outside the layers and two layers of 78M, with
    their gradients; activations are its own.
    """
    work = replace(KINDS["train"], batch_tokens=100.0)
    rest = work.memory(replace(big, body=0, parameters=0))
    whole = 4 * 2 * (0.3e9 + 2 * 2.5e9 / 32)
    assert work.memory(big, shard=8) - rest == pytest.approx(4 * 5 * 2.8e9 / 8 + whole)
    assert work.memory(big) - rest == pytest.approx(4 * 5 * 2.8e9)
    forward = replace(KINDS["forward"], batch_tokens=100.0)
    assert forward.memory(big, shard=8) < forward.memory(big)


def test_gpu_does_with_less_where_it_must(monkeypatch: pytest.MonkeyPatch, big: Size) -> None:
    """One copy of the weights less, and of 32 layers' activations little but what each reads."""
    work, gpu = replace(KINDS["train"], batch_tokens=4096.0), torch.device("cuda")
    least = work.memory(big, short=True)
    saved = 4 * 2.8e9 + 4096 * 2560 * (100 * 32 - 100 - 4 * 32)
    assert work.memory(big) - least == pytest.approx(saved)
    assert work.fitting(big, gpu, 1e12) == work.memory(big) and work.fitting(big, gpu, 80e9) == least
    with_memory(monkeypatch, least / 2**30 + 0.01)
    plan.check_memory([work], "big", big, gpu)
    with pytest.raises(PrefdynError, match="training with big"):
        plan.check_memory([work], "big", big, CPU)


def test_weights_to_go_on_from_are_a_copy_more_unless_they_are_on_the_host(big: Size) -> None:
    once, resumed = KINDS["train"], replace(KINDS["train"], resumed=True)
    assert resumed.memory(big) - once.memory(big) == pytest.approx(4 * 2.8e9)
    assert resumed.memory(big, short=True) == once.memory(big, short=True)


def test_folder_with_a_configuration_alone_has_a_size(tmp_path: Path) -> None:
    LlamaConfig(**SMOLLM2).save_pretrained(tmp_path)
    assert plan.model_size(str(tmp_path)).parameters == 134_515_008


@pytest.mark.parametrize("gibibytes", [2.5, 3, 10, 40])
def test_model_that_is_said_to_fit_does(monkeypatch: pytest.MonkeyPatch, big: Size, gibibytes: float) -> None:
    with_memory(monkeypatch, gibibytes)
    work = list(KINDS.values())
    with pytest.raises(PrefdynError) as error:
        plan.check_memory(work, "big", big, CPU)
    said = float(re.search(r"up to about (\d+)M", str(error.value)).group(1)) * 1e6
    share = said / big.parameters
    assert 0 < share < 1
    smaller = replace(big, parameters=int(said), width=int(big.width * share))
    with_memory(monkeypatch, gibibytes * 1.02)
    plan.check_memory(work, "smaller", smaller, CPU)
    with_memory(monkeypatch, gibibytes * 0.9)
    with pytest.raises(PrefdynError):
        plan.check_memory(work, "smaller", smaller, CPU)


def test_where_no_model_fits_none_is_named(monkeypatch: pytest.MonkeyPatch, big: Size) -> None:
    with_memory(monkeypatch, 0.1)
    with pytest.raises(PrefdynError, match="free some memory") as error:
        plan.check_memory(list(KINDS.values()), "big", big, CPU)
    assert "would fit" not in str(error.value)


def test_full_fine_tuning_of_the_default_model_needs_what_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    """5 float32 copies of 134.5M weights are 2.5 GiB: a machine of 2 GiB is refused, one of 16 GiB is not."""
    work = distinguishability.work(values("laptop"))
    with_memory(monkeypatch, 2)
    with pytest.raises(PrefdynError, match="smollm2-135m"):
        plan.check_memory(work, "smollm2-135m", plan.model_size("smollm2-135m"), CPU)
    with_memory(monkeypatch, 16)
    plan.check_memory(work, "smollm2-135m", plan.model_size("smollm2-135m"), CPU)
