"""Judges: the embedded one against scipy-free truth, a hub reward model from a folder, and an endpoint played
by a local server.
"""

from __future__ import annotations

import functools
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import expit
from transformers import LlamaConfig, LlamaForSequenceClassification

from prefdyn import data
from prefdyn.errors import PrefdynError
from prefdyn.measures import judges
from prefdyn.measures.judges import BradleyTerryJudge, EndpointJudge, RewardModelJudge
from prefdyn.models import LanguageModel

SECRET = "sk-never-shown-0123456789"


class Longer:
    """Prefers the longer answer, and the first of two equally long ones."""

    name = "longer"

    def first_is_better(self, prompts: list[str], first: list[str], second: list[str]) -> np.ndarray:
        return np.array([float(len(a) >= len(b)) for a, b in zip(first, second, strict=True)])


# Win rate -----------------------------------------------------------------------------------------


def test_wins_are_counted_in_both_orders() -> None:
    wins = judges.wins(Longer(), ["p"] * 3, ["long", "as", "a"], ["no", "no", "long"])
    assert wins.tolist() == [1.0, 0.5, 0.0]  # a judge that favours the first place gains nothing by it


def test_win_rate_has_an_interval_around_its_mean() -> None:
    rate = judges.win_rate(Longer(), ["p"] * 4, ["aaa", "aaa", "a", "aa"], ["b", "b", "bb", "bb"])
    assert (
        rate.value == pytest.approx((1 + 1 + 0 + 0.5) / 4)
        and rate.low < rate.value < rate.high
        and rate.n == 4
    )


def states(lm: LanguageModel, tokens: int) -> judges.States:
    return functools.partial(judges.answer_states, lm, tokens=tokens)


# On features --------------------------------------------------------------------------------------


def test_bradley_terry_weights_are_at_the_minimum() -> None:
    x = np.random.default_rng(0).normal(size=(40, 5)) + 0.3
    w = judges.bradley_terry(x, decay=0.2)
    gradient = -(expit(-(x @ w)) @ x) + 0.2 * 5 * w
    assert np.abs(gradient).max() < 1e-3


def test_bradley_terry_finds_the_direction_that_raters_used() -> None:
    rng = np.random.default_rng(1)
    truth = np.array([2.0, -1.0, 0.0, 0.0])
    x = rng.normal(size=(4000, 4))
    x[rng.random(4000) > expit(x @ truth)] *= -1
    np.testing.assert_allclose(judges.bradley_terry(x, decay=1e-6), truth, atol=0.2)


def test_embedded_judge_learns_a_plain_difference_and_says_how_well(smoke: LanguageModel) -> None:
    pairs = [
        data.Pair(f"\n\nHuman: Question {i}?\n\nAssistant:", f" I know {i} Yes", f" I know {i} No")
        for i in range(40)
    ]
    judge = BradleyTerryJudge.fit(states(smoke, 20), pairs, decay=1e-3)
    assert judge.accuracy.n == 40 and judge.accuracy.value > 0.9
    first = judge.first_is_better([pairs[0].prompt], [" 77 Yes"], [" 77 No"])
    assert first[0] > 0.5 and judge.first_is_better([pairs[0].prompt], [" 77 No"], [" 77 Yes"])[
        0
    ] == pytest.approx(1 - first[0])


def test_accuracy_of_an_embedded_judge_is_that_of_chance_on_random_labels(smoke: LanguageModel) -> None:
    rng = np.random.default_rng(0)
    pairs = [pair if rng.random() < 0.5 else pair.swapped() for pair in data.load_pairs()]
    judge = BradleyTerryJudge.fit(states(smoke, 12), pairs)
    assert judge.accuracy.low < 0.5 < judge.accuracy.high  # held-out accuracy, not that of the fit


def test_answers_are_judged_by_their_first_tokens_alone(smoke: LanguageModel) -> None:
    judge = BradleyTerryJudge.fit(states(smoke, 6), data.load_pairs()[:12])
    prompt = ["\n\nHuman: Why?\n\nAssistant:"]
    assert judge.rewards(prompt, ["abcdef, and much more"]) == pytest.approx(
        judge.rewards(prompt, ["abcdef"])
    )


def test_too_few_pairs_for_a_judge(smoke: LanguageModel) -> None:
    with pytest.raises(PrefdynError, match="7 pairs are too few"):
        BradleyTerryJudge.fit(states(smoke, 6), data.load_pairs()[:7])


# From the hub -------------------------------------------------------------------------------------


def reward_model(folder: Path, lm: LanguageModel, outputs: int = 1) -> str:
    torch.manual_seed(0)
    config = LlamaConfig(
        **{**lm.model.config.to_dict(), "num_labels": outputs, "architectures": None},
        attn_implementation="sdpa",
    )
    LlamaForSequenceClassification(config).save_pretrained(folder)
    lm.tokenizer.save_pretrained(folder)
    return str(folder)


def test_reward_model_scores_each_answer_by_its_own_run(smoke: LanguageModel, tmp_path: Path) -> None:
    judge = RewardModelJudge(reward_model(tmp_path, smoke))
    prompts, answers = ["Why?", "How is it made, and by whom?"], [" So.", " With care, by many."]
    together = judge.rewards(prompts, answers)
    model, tokenizer = judge._loaded
    for prompt, answer, reward in zip(prompts, answers, together, strict=True):
        alone = model(**tokenizer(prompt, answer, return_tensors="pt")).logits.item()
        assert reward == pytest.approx(alone, abs=1e-4)
    assert judge.first_is_better(prompts, answers, answers[::-1]).shape == (2,)


def test_classifier_of_several_classes_is_no_reward_model(smoke: LanguageModel, tmp_path: Path) -> None:
    with pytest.raises(PrefdynError, match="has 3 outputs"):
        RewardModelJudge(reward_model(tmp_path, smoke, outputs=3)).rewards(["p"], ["a"])


# An endpoint --------------------------------------------------------------------------------------


class StandIn(BaseHTTPRequestHandler):
    """Plays an endpoint: prefers the longer answer; its server's `script` holds statuses to send first."""

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        server: Any = self.server
        server.requests.append((self.path, self.headers.get("Authorization"), body))
        status = server.script.pop(0) if server.script else 200
        reply = server.reply
        if reply is None:
            text = body["messages"][0]["content"]
            first, second = text.split("Answer 1:\n")[1].split("\n\nReply")[0].split("\n\nAnswer 2:\n")
            digit = "1" if len(first) > len(second) else "2" if len(first) < len(second) else "0"
            reply = json.dumps({"choices": [{"message": {"role": "assistant", "content": digit}}]})
        self.send_response(status)
        self.end_headers()
        self.wfile.write(reply.encode())

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def endpoint(cache: Path) -> Iterator[Any]:
    server: Any = HTTPServer(("127.0.0.1", 0), StandIn)
    server.requests, server.script, server.reply = [], [], None
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()


def judge_at(server: Any) -> EndpointJudge:
    return EndpointJudge(f"http://127.0.0.1:{server.server_port}/v1", "some-model", pause=0.0)


def test_endpoint_is_asked_in_openais_protocol_with_the_key_of_the_environment(
    endpoint: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(judges.KEY_VARIABLE, SECRET)
    wins = judges.wins(judge_at(endpoint), ["p", "q", "r"], ["long one", "so", "a"], ["no", "no", "long one"])
    assert wins.tolist() == [1.0, 0.5, 0.0]
    path, authorization, body = endpoint.requests[0]
    assert (path, authorization, body["model"]) == ("/v1/chat/completions", f"Bearer {SECRET}", "some-model")
    assert len(endpoint.requests) == 6  # each pair in both orders


def test_verdicts_are_paid_for_once(endpoint: Any) -> None:
    for _ in range(2):
        judge_at(endpoint).first_is_better(["p"], ["long"], ["no"])
    assert len(endpoint.requests) == 1 and endpoint.requests[0][1] is None


def test_busy_endpoint_is_asked_again(endpoint: Any) -> None:
    endpoint.script = [429, 503]
    assert judge_at(endpoint).first_is_better(["p"], ["long"], ["no"]).tolist() == [1.0]
    assert len(endpoint.requests) == 3


@pytest.mark.parametrize(
    ("script", "reply", "message"),
    [
        ([401], None, "refuses the key"),
        ([404], None, r"HTTP 404"),
        ([500] * 4, None, r"did not answer in 4 tries \(HTTP 500\)"),
        ([], "not json", "did not answer in 4 tries"),
        ([], "{}", "no chat completion"),
        ([], json.dumps({"choices": [{"message": {"content": "Neither."}}]}), "answered 'Neither.'"),
    ],
)
def test_no_error_shows_the_key(
    endpoint: Any,
    script: list[int],
    reply: str | None,
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv(judges.KEY_VARIABLE, SECRET)
    endpoint.script, endpoint.reply = script, reply
    with pytest.raises(PrefdynError, match=message) as caught:
        judge_at(endpoint).first_is_better(["p"], ["long"], ["no"])
    shown = capfd.readouterr()
    assert all(
        SECRET not in text for text in (str(caught.value), repr(caught.value.__cause__), shown.out, shown.err)
    )


def test_key_is_not_in_the_cache(endpoint: Any, monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    monkeypatch.setenv(judges.KEY_VARIABLE, SECRET)
    judge_at(endpoint).first_is_better(["p"], ["long"], ["no"])
    files = [path for path in cache.rglob("*") if path.is_file()]
    assert files and all(SECRET.encode() not in path.read_bytes() for path in files)


def test_judges_by_name() -> None:
    assert judges.named("reward:org/model") == RewardModelJudge("org/model")
    assert judges.named("https://host/v1#gpt") == EndpointJudge("https://host/v1", "gpt")
    with pytest.raises(PrefdynError, match="write embedded, reward:HUB_ID"):
        judges.named("gpt-4")
