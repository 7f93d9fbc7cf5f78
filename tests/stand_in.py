"""A server that plays a judge's endpoint, and the odd answers that it can give."""

from __future__ import annotations

import gzip
import json
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


def says(text: str | None) -> str:
    return json.dumps({"choices": [{"message": {"role": "assistant", "content": text}}]})


class StandIn(BaseHTTPRequestHandler):
    """Plays an endpoint: prefers the longer answer.

    Its server's `script` holds what it does first instead: a status, or a function of this handler; `always`
    is done at every request.
    """

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        server: Any = self.server
        server.requests.append((self.path, self.headers, body, time.monotonic()))
        act = server.always or (server.script.pop(0) if server.script else 200)
        if callable(act):
            with suppress(OSError):  # who asked has gone
                act(self)
            return
        text = body["messages"][0]["content"]
        first, second = text.split("Answer 1:\n")[1].split("\n\nReply")[0].split("\n\nAnswer 2:\n")
        digit = "1" if len(first) > len(second) else "2" if len(first) < len(second) else "0"
        reply(status=act, **{"Retry-After-Ms": "1"}, body=says(digit))(self)

    do_GET = do_POST

    def log_message(self, *_: Any) -> None:
        pass


Act = Callable[[StandIn], None]


def reply(body: str | bytes = b"", status: int = 200, **headers: str) -> Act:
    def act(handler: StandIn) -> None:
        handler.send_response(status)
        for name, value in {"Content-Type": "application/json", **headers}.items():
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(body.encode() if isinstance(body, str) else body)

    return act


def send(part: bytes, pause: float) -> Act:
    """Send the same again and again, without an end, for as long as somebody listens."""

    def act(handler: StandIn) -> None:
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n")
        while not handler.server.over.wait(pause):  # type: ignore[attr-defined]
            handler.wfile.write(part)
            handler.server.sent += len(part)  # type: ignore[attr-defined]

    return act


def drip_headers(handler: StandIn) -> None:
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nX-Long: ")
    while not handler.server.over.wait(0.05):  # type: ignore[attr-defined]
        handler.wfile.write(b"x")


def hang(handler: StandIn) -> None:
    handler.server.over.wait(30)  # type: ignore[attr-defined]


def cut_off(handler: StandIn) -> None:
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n" + says("1").encode())
    handler.connection.close()


def huge_error(handler: StandIn) -> None:
    handler.send_response(404)
    handler.end_headers()
    while not handler.server.over.is_set():  # type: ignore[attr-defined]
        handler.wfile.write(b" " * 2**16)


def serve() -> Any:
    server: Any = ThreadingHTTPServer(("127.0.0.1", 0), StandIn)
    server.daemon_threads = True
    server.requests, server.script, server.always, server.sent = [], [], None, 0
    server.over = threading.Event()
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    return server


def close(server: Any) -> None:
    server.over.set()
    server.shutdown()
    server.server_close()


ODD: dict[str, tuple[Act, str]] = {
    "garbage": (reply(bytes(range(256)) * 9), "it sends no chat completion"),
    "HTML": (reply("<html><body>1</body></html>", **{"Content-Type": "text/html"}), "no chat completion"),
    "nothing": (reply(), "no chat completion"),
    "other JSON": (reply('{"choices": []}'), "no chat completion"),
    "a bare number": (reply("1"), "no chat completion"),
    "deep JSON": (reply("[" * 200_000), "no chat completion"),
    "a long number": (reply("1" * 5000), "no chat completion"),
    "compressed": (reply(gzip.compress(says("1").encode()), **{"Content-Encoding": "gzip"}), "no chat comp"),
    "a huge body": (send(b" " * 2**16, 0), "it sends more than 1048576 bytes"),
    "a huge error": (huge_error, "HTTP 404"),
    "a slow drip": (send(b" ", 0.05), "nothing whole in 0.8 s"),
    "a drip of headers": (drip_headers, "nothing whole in 0.8 s"),
    "silence": (hang, "nothing whole in 0.8 s"),
    "cut off": (cut_off, "peer closed connection"),
    "500": (reply(status=500), "HTTP 500"),
    "a teapot": (reply(says("1"), status=418), "HTTP 418"),
    "come back next week": (reply(status=429, **{"Retry-After": "600000"}), "HTTP 429"),
    "come back soon, for ever": (reply(status=503, **{"Retry-After": "1"}), "nothing whole in 0.8 s"),
}
"""By name: what is done, and what is said of it to who waits 0.8 seconds."""
