"""A judge behind an endpoint, which local servers play on good days and on bad ones."""

from __future__ import annotations

import importlib.metadata
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from stand_in import ODD, Act, close, reply, says, serve

from prefdyn import cache as cache_module
from prefdyn.cache import modules_behind
from prefdyn.errors import PrefdynError
from prefdyn.measures import judges, verdicts
from prefdyn.measures.endpoint import KEY_VARIABLE, EndpointJudge

SECRET = "sk-never-shown-0123456789"


@pytest.fixture
def endpoint(cache: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.setenv(KEY_VARIABLE, SECRET)
    server = serve()
    yield server
    close(server)


@pytest.fixture
def elsewhere() -> Iterator[Any]:
    """Another host, which would answer."""
    server = serve()
    yield server
    close(server)


def judge_at(server: Any, **limits: Any) -> EndpointJudge:
    return EndpointJudge(f"http://127.0.0.1:{server.server_port}/v1", "some-model", **limits)


def ask(judge: EndpointJudge, questions: int = 1) -> list[float]:
    """Ask whether the longer answer is better; 1 is right."""
    return judge.first_is_better(
        [f"p{i}" for i in range(questions)], ["long"] * questions, ["no"] * questions
    ).tolist()


# Good days ----------------------------------------------------------------------------------------


def test_endpoint_is_asked_in_openais_protocol_with_the_key_of_the_environment(endpoint: Any) -> None:
    wins = judges.wins(judge_at(endpoint), ["p", "q", "r"], ["long one", "so", "a"], ["no", "no", "long one"])
    assert wins.tolist() == [1.0, 0.5, 0.0]
    path, headers, body, _ = endpoint.requests[0]
    assert (path, body["model"]) == ("/v1/chat/completions", "some-model")
    assert headers["Authorization"] == f"Bearer {SECRET}"
    assert len(endpoint.requests) == 6  # each pair in both orders


def test_verdicts_are_paid_for_once(endpoint: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(KEY_VARIABLE)
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)  # these are for OpenAI, not for any endpoint
    monkeypatch.setenv("OPENAI_ORG_ID", "org-of-mine")
    monkeypatch.setenv("OPENAI_PROJECT_ID", "proj-of-mine")
    for _ in range(2):
        ask(judge_at(endpoint))
    assert len(endpoint.requests) == 1
    headers = endpoint.requests[0][1]
    assert headers["Authorization"] == "Bearer none" and "of-mine" not in str(headers.items())


def test_busy_endpoint_is_asked_again(endpoint: Any) -> None:
    endpoint.script = [429, 503]
    assert ask(judge_at(endpoint)) == [1.0] and len(endpoint.requests) == 3


def test_the_wait_that_a_busy_endpoint_asks_for_is_kept(endpoint: Any) -> None:
    endpoint.script = [reply(status=429, **{"Retry-After": "1"})]
    assert ask(judge_at(endpoint)) == [1.0]
    (*_, first), (*_, second) = endpoint.requests
    assert 1.0 <= second - first < 2.0  # without it half a second or less


@pytest.mark.parametrize(("text", "verdict"), [("1", 1.0), (" 2\n", 0.0), ("0", 0.5)])
def test_one_digit_is_a_verdict(endpoint: Any, text: str, verdict: float) -> None:
    endpoint.always = reply(says(text))
    assert ask(judge_at(endpoint)) == [verdict]


@pytest.mark.parametrize(
    "text",
    [
        "10",
        "12",
        "7/10",
        "1/2",
        "1.",
        "1 2",
        "-1",
        "3",
        "Answer 1",
        "Neither 1 nor 2.",
        "**1**",
        "¹",
        "",
        None,
    ],
)
def test_anything_else_is_none_and_counts_as_a_tie(endpoint: Any, text: str | None) -> None:
    endpoint.always = reply(says(text))
    judge = judge_at(endpoint)
    for _ in range(2):
        assert np.isnan(ask(judge, 2)).all()
    assert len(endpoint.requests) == 2  # each was kept
    assert judges.wins(judge, ["p0"], ["long"], ["no"]).tolist() == [0.5]


# Bad days -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("act", "reason"), ODD.values(), ids=ODD)
def test_one_odd_answer_is_no_verdict_and_stops_nothing(endpoint: Any, act: Act, reason: str) -> None:
    endpoint.script = [200, *[act] * 2]
    start = time.monotonic()
    answers = ask(judge_at(endpoint, patience=0.8, tries=2), 4)
    assert time.monotonic() - start < 3
    # What gets another try may be over by then.
    assert answers[0] == answers[3] == 1 and 1 <= np.isnan(answers).sum() <= 2, answers
    assert endpoint.sent < 2**25  # most of it in sockets' buffers


@pytest.mark.parametrize(("act", "reason"), ODD.values(), ids=ODD)
def test_judge_that_never_answers_is_one_sentence(endpoint: Any, act: Act, reason: str) -> None:
    endpoint.always = act
    start = time.monotonic()
    with pytest.raises(PrefdynError) as caught:
        ask(judge_at(endpoint, patience=0.8, tries=2), 50)
    assert time.monotonic() - start < 5
    said = str(caught.value)
    assert "\n" not in said and reason in said and "3 in a row" in said
    assert f"127.0.0.1:{endpoint.server_port}/v1 does not answer" in said
    assert len(endpoint.requests) <= 6


def test_what_is_not_answered_is_asked_again_another_time(endpoint: Any) -> None:
    endpoint.script = [200, reply("garbage")]
    judge = judge_at(endpoint)
    assert np.isnan(ask(judge, 2)).tolist() == [False, True]
    assert ask(judge, 2) == [1.0, 1.0] and len(endpoint.requests) == 3


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_the_key_goes_to_its_host_alone(endpoint: Any, elsewhere: Any, status: int) -> None:
    there = f"http://localhost:{elsewhere.server_port}/v1/chat/completions"
    endpoint.script = [reply(status=status, Location=there)]
    answers = ask(judge_at(endpoint), 2)
    assert np.isnan(answers[0]) and answers[1] == 1  # another host's answer is none
    assert not elsewhere.requests


def test_endless_redirect_is_not_followed(endpoint: Any) -> None:
    endpoint.always = reply(status=302, Location="/v1/chat/completions")
    with pytest.raises(PrefdynError, match=r"HTTP 302; 3 in a row"):
        ask(judge_at(endpoint), 5)
    assert len(endpoint.requests) == 3


def test_endpoint_that_is_not_there_is_one_sentence(cache: Path) -> None:
    judge = EndpointJudge("http://127.0.0.1:9/v1", "some-model", tries=1)
    with pytest.raises(PrefdynError, match=r"127\.0\.0\.1:9/v1 does not answer \(.*; 1 in a row") as caught:
        ask(judge)
    assert "\n" not in str(caught.value)


# The key ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("act", "message"),
    [(401, "refuses the key"), (404, "HTTP 404"), (500, "HTTP 500"), (reply("not json"), "no chat")],
)
def test_no_error_shows_the_key(
    endpoint: Any, act: int | Act, message: str, capfd: pytest.CaptureFixture[str]
) -> None:
    endpoint.always = act if callable(act) else reply(json.dumps({"error": SECRET}), status=act)
    with pytest.raises(PrefdynError, match=message) as caught:
        ask(judge_at(endpoint, tries=1))
    shown = capfd.readouterr()
    assert all(
        SECRET not in text for text in (str(caught.value), repr(caught.value.__cause__), shown.out, shown.err)
    )


@pytest.mark.parametrize("key", [f"{SECRET}\nX-Injected: yes", f"{SECRET}é"])
def test_a_broken_key_is_named_and_neither_sent_nor_shown(
    endpoint: Any, monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    monkeypatch.setenv(KEY_VARIABLE, key)
    with pytest.raises(PrefdynError, match=f"{KEY_VARIABLE} holds characters") as caught:
        ask(judge_at(endpoint))
    assert SECRET not in str(caught.value) and not endpoint.requests


def test_key_is_not_in_the_cache(endpoint: Any, cache: Path) -> None:
    ask(judge_at(endpoint))
    files = [path for path in cache.rglob("*") if path.is_file()]
    assert files and all(SECRET.encode() not in path.read_bytes() for path in files)


def test_verdicts_outlast_changes_of_all_but_how_they_are_asked_for() -> None:
    assert modules_behind(verdicts.ask.__module__) == {verdicts.__name__}


def test_verdicts_outlast_new_packages(endpoint: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache_module, "science_version", cache_module.science_version.__wrapped__)
    ask(judge_at(endpoint))
    real = importlib.metadata.version
    monkeypatch.setattr("importlib.metadata.version", lambda name: f"{real(name)}.1")
    ask(judge_at(endpoint))
    assert len(endpoint.requests) == 1
