"""A judge behind an endpoint, which a local server plays."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from prefdyn.cache import modules_behind
from prefdyn.errors import PrefdynError
from prefdyn.measures import judges
from prefdyn.measures.endpoint import KEY_VARIABLE, EndpointJudge

SECRET = "sk-never-shown-0123456789"


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
        self.send_header("Content-Type", "application/json")
        self.send_header("Retry-After-Ms", "1")
        self.end_headers()
        self.wfile.write(reply.encode())

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def endpoint(cache: Path) -> Iterator[Any]:
    server: Any = HTTPServer(("127.0.0.1", 0), StandIn)
    server.requests, server.script, server.reply = [], [], None
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()


def judge_at(server: Any) -> EndpointJudge:
    return EndpointJudge(f"http://127.0.0.1:{server.server_port}/v1", "some-model")


def test_endpoint_is_asked_in_openais_protocol_with_the_key_of_the_environment(
    endpoint: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(KEY_VARIABLE, SECRET)
    wins = judges.wins(judge_at(endpoint), ["p", "q", "r"], ["long one", "so", "a"], ["no", "no", "long one"])
    assert wins.tolist() == [1.0, 0.5, 0.0]
    path, authorization, body = endpoint.requests[0]
    assert (path, authorization, body["model"]) == ("/v1/chat/completions", f"Bearer {SECRET}", "some-model")
    assert len(endpoint.requests) == 6  # each pair in both orders


def test_verdicts_are_paid_for_once(endpoint: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(KEY_VARIABLE, raising=False)
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)  # is for OpenAI, not for any endpoint
    for _ in range(2):
        judge_at(endpoint).first_is_better(["p"], ["long"], ["no"])
    assert len(endpoint.requests) == 1 and endpoint.requests[0][1] == "Bearer none"


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
        ([], "not json", "no chat completion"),
        ([], "{}", "no chat completion"),
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
    monkeypatch.setenv(KEY_VARIABLE, SECRET)
    endpoint.script, endpoint.reply = script, reply
    with pytest.raises(PrefdynError, match=message) as caught:
        judge_at(endpoint).first_is_better(["p"], ["long"], ["no"])
    shown = capfd.readouterr()
    assert all(
        SECRET not in text for text in (str(caught.value), repr(caught.value.__cause__), shown.out, shown.err)
    )


def test_key_is_not_in_the_cache(endpoint: Any, monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    monkeypatch.setenv(KEY_VARIABLE, SECRET)
    judge_at(endpoint).first_is_better(["p"], ["long"], ["no"])
    files = [path for path in cache.rglob("*") if path.is_file()]
    assert files and all(SECRET.encode() not in path.read_bytes() for path in files)


def says(text: str | None) -> str:
    return json.dumps({"choices": [{"message": {"role": "assistant", "content": text}}]})


@pytest.mark.parametrize(("text", "verdict"), [("1", 1.0), (" 2\n", 0.0), ("0", 0.5)])
def test_one_digit_is_a_verdict(endpoint: Any, text: str, verdict: float) -> None:
    endpoint.reply = says(text)
    judge, case = judge_at(endpoint), (["p"], ["long"], ["no"])
    assert judge.first_is_better(*case).tolist() == [verdict] and judge.without_verdict(*case) == 0


@pytest.mark.parametrize("text", ["Answer 1", "1.", "12", "3", "Neither 0 nor 1.", "", None])
def test_anything_else_is_none_and_counts_as_a_tie(endpoint: Any, text: str | None) -> None:
    endpoint.reply = says(text)
    judge, case = judge_at(endpoint), (["p", "q"], ["long", "x"], ["no", "y"])
    assert judge.first_is_better(*case).tolist() == [0.5, 0.5]
    assert judge.without_verdict(*case) == 1 and len(endpoint.requests) == 2  # each was kept


def test_share_without_a_verdict_is_counted(endpoint: Any) -> None:
    judge = judge_at(endpoint)
    judge.first_is_better(["p"] * 3, ["a long one", "no", "same"], ["short", "longer", "same"])
    endpoint.reply = says("I cannot tell.")
    judge.first_is_better(["p"], ["another"], ["one"])
    case = (["p"] * 4, ["a long one", "no", "same", "another"], ["short", "longer", "same", "one"])
    assert judge.first_is_better(*case).tolist() == [1.0, 0.0, 0.5, 0.5]
    assert judge.without_verdict(*case) == 0.25


def test_endpoint_that_is_not_there_is_one_sentence(cache: Path) -> None:
    judge = EndpointJudge("http://127.0.0.1:9/v1", "some-model", tries=1)
    with pytest.raises(PrefdynError, match=r"127\.0\.0\.1:9/v1 did not answer in 1 tries \(") as caught:
        judge.first_is_better(["p"], ["a"], ["b"])
    assert "\n" not in str(caught.value)


def test_verdicts_outlast_changes_of_what_trains_and_measures() -> None:
    behind = modules_behind("prefdyn.measures.endpoint")
    assert not any(name.startswith(("prefdyn.engine", "prefdyn.models", "prefdyn.data")) for name in behind)
