"""The command that ranks with any model: its table against counting by hand, its cache, its errors."""

from __future__ import annotations

import functools
import json
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import mounts
import numpy as np
import pandas as pd
import pytest
import rounding
import torch
from published import lines
from transformers import (
    Gemma3Config,
    Gemma3ForConditionalGeneration,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
)

from prefbook import command_line as cli
from prefdyn.data import Ranking, examples
from prefdyn.engine import scoring
from prefdyn.engine.scoring import ResponseLogProbs
from prefdyn.errors import PrefdynError
from prefdyn.experiments import Bench, rank, rank_models
from prefdyn.experiments.rank_tables import PER_TOKEN, REWARD, WHOLE
from prefdyn.measures.estimates import proportion
from prefdyn.models import loading

LETTERS = "".join(map(chr, range(32, 127)))


def scored(*totals: float, tokens: tuple[int, ...]) -> ResponseLogProbs:
    return ResponseLogProbs(np.array(totals), np.array(tokens))


def test_table_counts_what_is_right_with_and_without_ties() -> None:
    ranks = [(0, 1), (0, 1), (1, 0), (0, 0)]
    rankings = [Ranking(f"{number}?", ("a", "b"), one) for number, one in enumerate(ranks)]
    scores = [
        scored(-4, -6, tokens=(4, 2)),  # right in both ways: -1 against -3 a token
        scored(-9, -6, tokens=(9, 2)),  # wrong whole, right per token
        scored(-4, -6, tokens=(4, 2)),  # wrong in both
        scored(-400, -600, tokens=(4, 2)),  # tied, and both likelihoods are nearly 0
    ]
    table = rank.table(rankings, scores, "m", "d").set_index(["ties", "responses"])
    assert table.loc[("left out", "whole"), "accuracy"] == pytest.approx(1 / 3)
    assert table.loc[("left out", "per token"), "accuracy"] == pytest.approx(2 / 3)
    assert table.loc[("counted", "whole"), "accuracy"] == pytest.approx(2 / 4)
    assert table.loc[("left out", "whole"), "low"] == pytest.approx(proportion([1, 0, 0]).low)
    assert table["examples"].tolist() == [3, 3, 4, 4]
    assert table.loc["left out", "chance"].tolist() == [1 / 2] * 2
    assert table.loc["counted", "chance"].isna().all()


def test_interval_is_over_prompts() -> None:
    rankings = [Ranking(f"{number // 2}?", ("a", "b"), (0, 1)) for number in range(20)]
    scores = [scored(-1, -2 if number < 12 else 0, tokens=(1, 1)) for number in range(20)]
    row = rank.table(rankings, scores, "m", "d").iloc[0]
    found = proportion([number < 12 for number in range(20)], [number // 2 for number in range(20)])
    assert (row["accuracy"], row["low"], row["high"]) == (found.value, found.low, found.high)


def test_table_without_ties_has_two_rows() -> None:
    rankings = [Ranking("p", ("a", "b", "c"), (2, 0, 1))] * 3
    table = rank.table(rankings, [scored(-3, -1, -2, tokens=(1, 1, 1))] * 3, "m", "d")
    assert table["ties"].tolist() == ["none", "none"] and table["accuracy"].tolist() == [1.0, 1.0]
    assert table["chance"].iloc[0] == pytest.approx(1 / 6)


# Models -------------------------------------------------------------------------------------------


def saved(folder: Path, model: Any, template: str | None = None) -> str:
    lm = loading.load("smoke", device="cpu")
    lm.tokenizer.chat_template = template
    model.save_pretrained(folder)
    lm.tokenizer.save_pretrained(folder)
    return str(folder)


def llama(**other: Any) -> LlamaForCausalLM:
    lm = loading.load("smoke", device="cpu")
    return LlamaForCausalLM(LlamaConfig(**{**lm.model.config.to_dict(), **other}))


def broken_model(folder: Path, letters: str) -> str:
    """A model whose embeddings of some letters are no numbers."""
    model = llama(tie_word_embeddings=False)
    with torch.no_grad():
        ids = loading.load("smoke", device="cpu").tokenizer(letters)["input_ids"]
        model.get_input_embeddings().weight[ids] = torch.nan
    return saved(folder, model)


@pytest.fixture
def trained(tmp_path: Path) -> str:
    """The smoke model with other weights, in the folder `trained`."""
    torch.manual_seed(3)
    return saved(tmp_path / "trained", llama())


CHATML = (
    "{% for m in messages %}<{{ m['role'] }}>{{ m['content'] }}</>{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)


def last(runs: Iterator[rank_models.Ranked]) -> rank_models.Ranked:
    return list(runs)[-1]


def ranked(models: list[str], names: list[str], **about: Any) -> rank_models.Ranked:
    settings: dict[str, Any] = {"limit": 12, "device": "cpu", "progress": False, **about}
    return last(rank_models.rank(models, names, **settings))


def rows_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


# What is written ----------------------------------------------------------------------------------


def test_progress_counts_every_example_of_every_data_set_beside_the_tables(
    cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["rank", "smoke", "--data", "sample", "--limit", "12"]
    assert cli.main(words) == 0
    loud = capsys.readouterr()
    assert re.search(r"\[1/1\] smoke on sample: 100%.* 12/12", loud.err)
    assert cli.main([*words, "--quiet"]) == 0
    quiet = capsys.readouterr()
    assert "12/12" not in quiet.err and quiet.out == loud.out


def test_command_prints_its_tables_and_writes_them_in_every_form(
    cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], trained: str
) -> None:
    files = [tmp_path / f"ranks.{ending}" for ending in ("csv", "json", "md")]
    words = ["--data", "sample", "--limit", "12", "--reference", "smoke", "--beta", "0.5", "--quiet"]
    words += ["--output", *map(str, files), "--examples", str(tmp_path / "examples.jsonl")]
    assert cli.main(["rank", "smoke", trained, *words]) == 0
    said = capsys.readouterr().out
    table, whole, page = pd.read_csv(files[0]), json.loads(files[1].read_text()), files[2].read_text()

    assert set(table["model"]) == {"baseline", "smoke", "trained"} and set(table["examples"]) == {12}
    scores = table.groupby("model")["score"].agg(list).to_dict()
    assert scores["trained"] == [PER_TOKEN, WHOLE, REWARD] and scores["smoke"] == [PER_TOKEN, WHOLE]
    assert scores["baseline"] == ["chance", "shorter wins", "longer wins"]

    assert [row["score"] for row in whole["accuracy"]] == table["score"].tolist()
    assert [row["accuracy"] for row in whole["accuracy"]] == pytest.approx(table["accuracy"], abs=1e-5)
    assert [(row["first"], row["second"]) for row in whole["comparisons"]] == [("smoke", "trained")] * 2
    assert whole["settings"]["reference"] == "smoke" and whole["settings"]["beta"] == 0.5
    assert "reference smoke, beta 0.5" in page and whole["models"]["trained"] in page
    assert set(whole["models"]) == {"smoke", "trained"} and whole["failed"] == {}

    assert page.count("| trained |") == 3 + 2 and "prompts are dialogues as published" in page
    width = {line.count("|") for line in page.splitlines() if line.startswith("| sample |")}
    assert len(width) == 2  # one of each table
    for words_ in ("shorter wins", "implicit reward", "McNemar p", "prompts are dialogues as published"):
        assert words_ in said

    rows = rows_of(tmp_path / "examples.jsonl")
    assert len(rows) == 2 * 12 and {row["model"] for row in rows} == {"smoke", "trained"}
    of_trained = [row for row in rows if row["model"] == "trained"]
    right = np.mean([row["right"][REWARD] for row in of_trained])
    (share,) = table.loc[(table["model"] == "trained") & (table["score"] == REWARD), "accuracy"]
    assert right == pytest.approx(share, abs=1e-5)


def test_paths_of_this_machine_are_in_no_file(cache: Path, tmp_path: Path, trained: str) -> None:
    rows = {"prompt": "Tea?", "chosen": "Yes", "rejected": "No"}
    (tmp_path / "mine.jsonl").write_text(lines(rows, rows, rows))
    files = [tmp_path / f"out.{ending}" for ending in ("csv", "json", "md")]
    words = ["--data", str(tmp_path / "mine.jsonl"), "--source", str(tmp_path), "--reference", trained]
    words += ["--output", *map(str, files), "--examples", str(tmp_path / "out.jsonl"), "--quiet"]
    assert cli.main(["rank", "smoke", *words]) == 0
    for path in (*files, tmp_path / "out.jsonl"):
        text = path.read_text()
        assert "mine.jsonl" in text and str(tmp_path) not in text, path
    assert '"reference": "trained"' in files[1].read_text()


def test_what_was_left_out_of_a_data_set_is_told(cache: Path, tmp_path: Path) -> None:
    votes = {f"annotator{which}": 1 for which in (1, 2, 3)}
    row = {"instruction": "Tea?", "input": "", "response1": "Yes.", "response2": "No", **votes}
    (tmp_path / "pandalm").mkdir()
    (tmp_path / "pandalm" / "testset-v1.json").write_text(
        json.dumps([row] * 3 + [{**row, "response1": True}])
    )
    found = ranked(["smoke"], ["pandalm"], source=tmp_path)
    assert "pandalm: 1 rows with a response that is no text, skipped" in found.about


def test_two_examples_have_a_table(cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It was "Empty DataFrame"."""
    assert cli.main(["rank", "smoke", "--data", "sample", "--limit", "2", "--quiet"]) == 0
    said = capsys.readouterr().out
    assert "Empty" not in said and "–" in said and "log-likelihood per token" in said
    (row,) = [line for line in said.splitlines() if "log-likelihood per token" in line]
    assert row.split()[-4] == "2" and row.split()[-3] in ("0.000", "0.500", "1.000")


# How prompts are put ------------------------------------------------------------------------------


def test_own_questions_are_told_the_form_that_they_are_given(
    cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [{"prompt": f"Tea {i}?", "chosen": "Yes.", "rejected": "No, no, no."} for i in range(4)]
    (tmp_path / "mine.jsonl").write_text(lines(*rows))
    words = ["rank", "smoke", "--data", str(tmp_path / "mine.jsonl"), "--quiet"]
    for template, prompt, told in (
        ("dialogue", "\n\nHuman: Tea 0?\n\nAssistant:", r'put as "\n\nHuman: QUESTION\n\nAssistant:"'),
        ("none", "Tea 0?", "prompts are the bare questions"),
    ):
        out = tmp_path / f"{template}.jsonl"
        assert cli.main([*words, "--template", template, "--examples", str(out)]) == 0
        assert told in capsys.readouterr().out
        assert rows_of(out)[0]["prompt"] == prompt


def test_chat_templates_are_each_models_own_and_their_reference_reads_the_same(
    cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = saved(tmp_path / "first", llama(), CHATML)
    second = saved(tmp_path / "second", llama(), CHATML.replace("user", "u"))
    out = tmp_path / "examples.jsonl"
    words = ["--data", "sample", "--limit", "3", "--template", "chat", "--examples", str(out), "--quiet"]
    assert cli.main(["rank", first, "smoke", second, "--reference", "smoke", *words]) == 1
    said = capsys.readouterr()
    said_last = said.err.splitlines()[-1]
    assert said_last.startswith("prefdyn: smoke failed: ") and "its tokenizer has no chat" in said_last
    rows = rows_of(out)
    assert [row["model"] for row in rows] == ["first"] * 3 + ["second"] * 3
    assert rows[0]["prompt"].startswith("<user>") and rows[0]["prompt"].endswith("</><assistant>")
    assert all(text.endswith("</>") for text in rows[0]["responses"])
    lm = loading.load("smoke", device="cpu")
    alone = scoring.score(lm, [rows[0]["prompt"]], [rows[0]["responses"]], 2048)[0]
    reward = 0.1 * (np.array(rows[0][WHOLE]) - alone.total)
    np.testing.assert_allclose(rows[0][REWARD], reward, atol=1e-4)


# The reference ------------------------------------------------------------------------------------


def log_likelihood(model: Any, prompt: list[int], response: list[int]) -> float:
    """From the logits of the whole text, in float64."""
    logits = model(torch.tensor([prompt + response])).logits[0].double()
    predicted = logits[len(prompt) - 1 : -1].log_softmax(-1)
    return float(predicted[range(len(response)), response].sum())


@torch.no_grad()
def test_implicit_reward_is_the_log_ratio_to_the_named_reference(
    cache: Path, tmp_path: Path, trained: str
) -> None:
    found = ranked([trained], ["sample"], reference="smoke", beta=0.3, limit=6)
    lm, own = loading.load("smoke", device="cpu"), LlamaForCausalLM.from_pretrained(trained)
    plain = llama()
    plain.load_state_dict(lm.model.state_dict())
    (one,) = found.scored
    for ranking, rewards in zip(one.rankings, one.values[REWARD], strict=True):
        prompt = lm.tokenizer(ranking.prompt)["input_ids"]
        for text, reward in zip(ranking.responses, rewards, strict=True):
            response = lm.tokenizer(ranking.prompt + text)["input_ids"][len(prompt) :]
            ratio = log_likelihood(own, prompt, response) - log_likelihood(plain, prompt, response)
            allowed = rounding.of_log_probs(lm.model, len(response), len(prompt) + len(response))
            assert reward == pytest.approx(0.3 * ratio, abs=2 * 0.3 * allowed)


def test_reference_itself_is_said_to_have_no_implicit_reward(cache: Path) -> None:
    found = ranked(["smoke"], ["sample"], reference="smoke", limit=3)
    assert "smoke is the reference, and has no implicit reward" in found.about
    assert REWARD not in found.scored[0].values


def test_reference_with_other_tokens_is_refused_and_the_model_is_ranked_without_it(
    cache: Path, tmp_path: Path
) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers

    folder = saved(tmp_path / "other", llama())
    letters = Tokenizer(
        models.BPE(vocab={c: i for i, c in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}, merges=[])
    )
    letters.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    letters.save(str(tmp_path / "other" / "tokenizer.json"))
    found = ranked(["smoke"], ["sample"], reference=folder)
    assert set(found.accuracy["score"]) >= {PER_TOKEN, WHOLE} and REWARD not in set(found.accuracy["score"])
    (said,) = found.failed.values()
    assert "'smoke' and its reference 'other' have other tokens" in said


def test_reference_that_fails_loses_nothing_of_the_model(cache: Path, tmp_path: Path) -> None:
    broken = broken_model(tmp_path / "broken", LETTERS)
    found = ranked(["smoke"], ["sample"], reference=broken)
    assert (found.accuracy["model"] == "smoke").sum() == 2
    assert list(found.failed) == ["smoke beside broken"]


# Numbers that depend on nothing else --------------------------------------------------------------


def test_results_do_not_depend_on_what_else_is_asked(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each example alone, and all of them in parts of several sizes and in another order."""
    some = [one.put("dialogue") for one in examples.load("sample", limit=24)]
    lm = loading.load("smoke", device="cpu")
    alone = [scoring.score(lm, [one.prompt], [one.responses], 2048)[0] for one in some]
    bench = Bench("smoke", device="cpu", precision="float32")
    for size in (1, 5, 24):
        monkeypatch.setenv("PREFDYN_CACHE", str(cache / str(size)))
        together = bench.scores(some[::-1], 2048, part=size)[::-1]
        for one, other in zip(alone, together, strict=True):
            allowed = rounding.of_log_probs(lm.model, int(one.tokens.max()), 512)
            np.testing.assert_allclose(other.total, one.total, rtol=0, atol=allowed)
        for normalised in (True, False):
            hits = rank.hits(some, together, normalised)
            np.testing.assert_array_equal(hits, rank.hits(some, alone, normalised))


def test_exact_scores_have_the_same_digits_whatever_else_is_asked(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trained: str
) -> None:
    """Three responses to a prompt, and each of them beside another one; by likelihood and by reward."""
    texts = ["Yes, it is the Yes.", "No", "It rains, and it does not."]
    row = {"prompt": "\n\nHuman: Does it rain?\n\nAssistant:", "responses": texts, "ranks": [0, 1, 2]}
    pairs = [{"prompt": row["prompt"], "chosen": text, "rejected": "Who knows?"} for text in texts]
    (tmp_path / "together.jsonl").write_text(lines(row))
    (tmp_path / "apart.jsonl").write_text(lines(*pairs))
    real, exactly = scoring.score, []

    @functools.wraps(real)
    def noted(*arguments: Any) -> list[ResponseLogProbs]:
        exactly.append(arguments[4:] == ("float32", scoring.TOKENS_PER_FORWARD, True))
        return real(*arguments)

    monkeypatch.setattr(scoring, "score", noted)
    words = ["rank", trained, "--reference", "smoke", "--device", "cpu", "--quiet", "--data"]
    found = {}
    for name in ("together", "apart"):
        data, out = str(tmp_path / f"{name}.jsonl"), tmp_path / f"{name}.out.jsonl"
        assert cli.main([*words, data]) == 0  # what is kept of this is not taken for the exact ones
        assert cli.main([*words, data, "--exact", "--examples", str(out)]) == 0
        rows = rows_of(out)
        found[name] = (
            [rows[0][score] for score in (WHOLE, REWARD)]
            if name == "together"
            else [[one[score][0] for one in rows] for score in (WHOLE, REWARD)]
        )
    assert found["together"] == found["apart"]
    assert exactly.count(True) == exactly.count(False) == 4  # of each file the model and its reference
    before = len(exactly)
    assert cli.main([*words, str(tmp_path / "apart.jsonl"), "--exact"]) == 0 and len(exactly) == before


# Length -------------------------------------------------------------------------------------------


def test_responses_that_are_cut_are_told(cache: Path) -> None:
    found = ranked(["smoke"], ["sample"], max_length=120)
    counts = np.concatenate([one.tokens for one in found.scored[0].scores])
    assert (counts == 60).sum() > 0
    assert (
        f"smoke on sample: {(counts == 60).sum()} of 24 responses reach 60 tokens, and are cut" in found.about
    )
    whole = ranked(["smoke"], ["sample"], max_length=4096)
    assert not any("are cut" in line for line in whole.about)


def with_few_places() -> GPT2LMHeadModel:
    """GPT-2 has no state for a position that it lacks."""
    config = GPT2Config(vocab_size=266, n_embd=32, n_layer=1, n_head=2, n_positions=96, eos_token_id=0)
    return GPT2LMHeadModel(config)


def with_images_as_well() -> Gemma3ForConditionalGeneration:
    """Its configuration has one for texts inside."""
    text = {
        "vocab_size": 266,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 1,
        "head_dim": 8,
    }
    image = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = Gemma3Config(
        text_config={
            **text,
            "num_attention_heads": 2,
            "num_key_value_heads": 1,
            "max_position_embeddings": 96,
        },
        vision_config={**image, "image_size": 28, "patch_size": 14},
        mm_tokens_per_image=4,
    )
    return Gemma3ForConditionalGeneration(config)


@pytest.mark.parametrize("made", [with_few_places, with_images_as_well])
def test_a_model_with_few_places_is_asked_within_them(
    cache: Path, tmp_path: Path, made: Callable[[], PreTrainedModel]
) -> None:
    folder = saved(tmp_path / "small", made())
    found = ranked([folder], ["sample"])
    assert found.failed == {} and max(one.tokens.max() for one in found.scored[0].scores) == 48
    assert any("are cut (there are places for 96, with a prompt)" in line for line in found.about)


def test_weights_of_a_folder_are_not_read_again_for_another_data_set(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trained: str
) -> None:
    hashed, real = [], loading.sha256

    def noted(path: Path) -> str:
        hashed.append(path.name)
        return real(path)

    monkeypatch.setattr(loading, "sha256", noted)
    names = ["sample", *(str(tmp_path / f"{letter}.jsonl") for letter in "abc")]
    for name in names[1:]:
        Path(name).write_text(lines({"prompt": "Why?", "chosen": "So", "rejected": name}))
    assert len(ranked([trained], names).scored) == 4
    assert hashed.count("model.safetensors") == 2  # for the fingerprint, and when it is loaded


# What was finished --------------------------------------------------------------------------------


def test_killed_run_goes_on_where_it_was(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    real = scoring.score

    @functools.wraps(real)  # the key covers the code of the module that it names
    def counted(*arguments: object) -> list[ResponseLogProbs]:
        calls.append(len(arguments[1]))  # type: ignore[arg-type]
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(scoring, "score", counted)
    with pytest.raises(KeyboardInterrupt):
        ranked(["smoke"], ["sample"], limit=70, max_length=60)
    found = ranked(["smoke"], ["sample"], limit=70, max_length=60)
    assert calls == [32, 32, 32, 6] and set(found.accuracy["examples"]) == {70}  # the first part was kept
    ranked(["smoke"], ["sample"], limit=70, max_length=60)
    assert len(calls) == 4


@pytest.mark.parametrize(
    ("letters", "message"),
    [("e", "computes what is no number (NaN or infinite)"), (LETTERS, "its logits are NaN or infinite")],
    ids=["one letter", "all letters"],
)
def test_a_model_that_fails_costs_neither_those_before_it_nor_those_after(
    cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], letters: str, message: str, trained: str
) -> None:
    broken = broken_model(tmp_path / "broken", letters)
    capsys.readouterr()
    files = [tmp_path / f"t.{ending}" for ending in ("csv", "json")]
    words = ["--data", "sample", "--limit", "8", "--quiet", "--output", *map(str, files)]
    assert cli.main(["rank", "smoke", broken, trained, *words]) == 1
    said = capsys.readouterr()
    table = pd.read_csv(files[0])
    assert set(table["model"]) == {"baseline", "smoke", "trained"} and set(table["examples"]) == {8}
    rows = [line.split()[1] for line in said.out.splitlines() if line.split()[:1] == ["sample"]]
    assert rows.count("smoke") == 2 + 2 and rows.count("trained") == 2  # two are of the comparison
    error = said.err.splitlines()[-1]
    assert error.startswith("prefdyn: broken failed: ") and message in error and "Traceback" not in said.err
    kept = json.loads(files[1].read_text())["failed"]["broken"]
    assert message in kept and str(tmp_path) not in kept


def too_large_for_torch() -> object:
    return torch.empty(2**60, dtype=torch.uint8)


def too_large_for_numpy() -> object:
    return np.empty(2**60, dtype=np.uint8)


def too_large_for_a_gpu() -> object:
    raise torch.OutOfMemoryError("CUDA out of memory")


@pytest.mark.parametrize("ask", [too_large_for_torch, too_large_for_numpy, too_large_for_a_gpu])
def test_a_model_that_needs_too_much_memory_costs_no_other(
    cache: Path, monkeypatch: pytest.MonkeyPatch, trained: str, ask: Callable[[], object]
) -> None:
    real = scoring.score

    @functools.wraps(real)
    def short(*arguments: Any) -> list[ResponseLogProbs]:
        if arguments[0].name == "smoke":
            ask()
        return real(*arguments)

    monkeypatch.setattr(scoring, "score", short)
    found = ranked(["smoke", trained], ["sample"])
    assert found.failed == {"smoke": "the model 'smoke' needs more memory than cpu has"}
    assert [one.model for one in found.scored] == ["trained"]


def test_stopped_run_has_written_what_was_finished(
    cache: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    trained: str,
) -> None:
    real, calls = scoring.score, []

    @functools.wraps(real)
    def stopped(*arguments: object) -> list[ResponseLogProbs]:
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(scoring, "score", stopped)
    out = tmp_path / "t.csv"
    words = ["--data", "sample", "--limit", "8", "--quiet", "--output", str(out)]
    assert cli.main(["rank", "smoke", trained, *words]) == cli.INTERRUPTED
    assert set(pd.read_csv(out)["model"]) == {"baseline", "smoke"} and "smoke" in capsys.readouterr().out


# What is refused before anything is scored --------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--data", "nosuch"], "there is no data set 'nosuch': choose from sample, hh-rlhf"),
        (["--data", "sample:train"], "sample has no splits, so there is no 'train': name sample alone"),
        (["--data", "alpaca-eval:foo", "--source", "{}"], "alpaca-eval has no splits, so there is no 'foo'"),
        (["--data", "sample", "nosuch.jsonl"], "nosuch.jsonl: no such file"),
        (["--data", "sample", "--limit", "-1"], "--limit is -1: it must be at least 0"),
        (["--data", "sample", "--beta", "1"], "--beta is of the implicit reward: give its --reference"),
        (["--data", "sample", "--reference", "smoke", "--beta", "0"], "--beta is 0.0: it must be above 0"),
        (["--data", "sample", "--reference", "smoke", "--beta", "inf"], "it must be above 0 and finite"),
        (["--data", "sample", "--reference", "{}/nowhere"], "nowhere: no such folder"),
        (
            ["--data", "sample", "--output", "{}/no/t.csv"],
            "{}/no/t.csv cannot be written: there is no folder",
        ),
        (["--data", "sample", "--output", "{}/file/t.csv"], "there is no folder {}/file"),
        (["--data", "sample", "--output", "{}/d.csv"], "{}/d.csv cannot be written: it is a folder"),
        (
            ["--data", "sample", "--output", "{}/link.csv", "--examples", "{}/no/e.jsonl"],
            "there is no folder {}/no",
        ),
        (["--data", "sample", "--output", "{}/t.xls"], "t.xls: its name must end in .csv, .json, .md"),
        (["--data", "sample", "--examples", "{}/no/e.jsonl"], "there is no folder {}/no"),
        (["--data", "sample", "--examples", "{}/e.csv"], "e.csv: its name must end in .jsonl"),
        (
            ["--data", "{}/e.jsonl", "--examples", "{}/e.jsonl"],
            "given as --data as well and would be written",
        ),
        (["--data", "sample", "--output", "{}/t.csv", "{}/./t.csv"], "is to be written twice"),
        (
            ["--data", "shp", "--source", "/no/such/folder"],
            "must hold the files of the hub's stanfordnlp/SHP",
        ),
    ],
)
def test_what_cannot_be_done_is_refused_before_anything_is_scored(
    cache: Path,
    tmp_path: Path,
    words: list[str],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(scoring, "score", lambda *_: pytest.fail("scored"))
    (tmp_path / "file").touch()
    (tmp_path / "d.csv").mkdir()
    (tmp_path / "link.csv").symlink_to("nothing")
    before = sorted(tmp_path.iterdir())
    here = [word.replace("{}", str(tmp_path)) for word in words]
    assert cli.main(["rank", "smoke", *here, "--quiet"]) == 1
    said = capsys.readouterr()
    assert said.out == "" and message.replace("{}", str(tmp_path)) in said.err
    assert said.err.startswith("prefdyn: ") and said.err.count("\n") == 1, said.err
    assert [path for path in sorted(tmp_path.iterdir()) if path != cache] == before


def test_ones_own_file_is_not_written_over_by_another_name_of_it(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    own = tmp_path / "mine.jsonl"
    own.write_text('{"prompt": "Tea?", "chosen": "Yes", "rejected": "No"}\n')
    for read, written in (("~/mine.jsonl", str(own)), (str(own), "~/mine.jsonl")):
        assert cli.main(["rank", "smoke", "--data", read, "--examples", written, "--quiet"]) == 1
        assert "given as --data as well" in capsys.readouterr().err
    assert own.read_text().startswith('{"prompt": "Tea?"')
    assert cli.main(["rank", "smoke", "--data", "~/mine.jsonl", "--output=~/t.csv", "--quiet"]) == 0
    assert (tmp_path / "t.csv").is_file()


def test_file_in_a_folder_that_may_not_be_written_in_is_refused(cache: Path, tmp_path: Path) -> None:
    (tmp_path / "shut").mkdir()
    (tmp_path / "shut" / "t.csv").touch()
    (tmp_path / "shut").chmod(0o555)
    words = ["rank", "no-model", "--data", "sample", "--output", tmp_path / "shut" / "t.csv"]
    said = mounts.run_as_anybody([sys.executable, "-m", "prefbook.command_line", *words]).stderr
    told = f"prefdyn: {tmp_path}/shut/t.csv cannot be written: {tmp_path}/shut may not be written in, "
    assert said == f"{told}name another file\n"


@pytest.mark.parametrize("name", ["shp", "hh-rlhf", "reward-bench-2"])
def test_a_hub_out_of_reach_is_told_with_an_option_that_exists(
    cache: Path, name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It said `--data` where a folder is given by `--source`."""
    import datasets

    def unreachable(*_: object, **__: object) -> None:
        raise ConnectionError("no route to host")

    monkeypatch.setattr(datasets, "load_dataset", unreachable)
    assert cli.main(["rank", "smoke", "--data", name, "--quiet"]) == 1
    said = capsys.readouterr().err
    assert "no route to host" in said and "give --source a folder" in said and "--data" not in said


def test_a_folder_without_the_data_is_told_with_an_option_that_exists(
    cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["rank", "smoke", "--data", "hh-rlhf", "--source", str(tmp_path), "--quiet"]) == 1
    said = capsys.readouterr().err
    assert "no folder hh-rlhf/ there; --source takes" in said and "--data" not in said


def test_no_data_set_is_an_error() -> None:
    with pytest.raises(PrefdynError, match="no data set is named"):
        next(rank_models.rank(["smoke"], []))


def test_names_are_short_where_they_stay_apart(cache: Path, tmp_path: Path) -> None:
    torch.manual_seed(3)
    folders = [saved(tmp_path / name / "final", llama()) for name in ("a", "b")]
    assert [one.model for one in ranked(folders[:1], ["sample"], limit=3).scored] == ["final"]
    assert [one.model for one in ranked(folders, ["sample"], limit=3).scored] == folders
