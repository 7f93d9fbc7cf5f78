"""Stand-in judges on this machine: none takes the key elsewhere, nor memory, nor gives odd verdicts."""

from __future__ import annotations

import contextlib
import csv
import json
import random
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from house import SMOKE, Attack, Fault, House, files

KEY = "sk-campaign-0123456789"
Answer = Callable[["Caller"], None]


class Caller(BaseHTTPRequestHandler):
    """One request; its server notes when it came and with which key, and has the `answer`."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.server.seen.append((time.monotonic(), self.headers.get("Authorization")))
        with contextlib.suppress(OSError):  # the other side may have had enough
            self.server.answer(self)

    do_GET = do_POST  # what a redirect makes of it

    def send(self, body: bytes = b"", status: int = 200, size: int | None = None, **headers: object) -> None:
        self.send_response(status)
        length = len(body) if size is None else size
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        for name, value in ({"Content-Type": "application/json", "Content-Length": length} | named).items():
            self.send_header(name, str(value))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@contextlib.contextmanager
def serving(answer: Answer) -> Iterator[ThreadingHTTPServer]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Caller)
    server.daemon_threads = True
    server.answer, server.seen = answer, []
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()


def says(words: object) -> Answer:
    body = json.dumps({"choices": [{"message": {"role": "assistant", "content": words}}]}).encode()
    return lambda caller: caller.send(body)


def sends_without_end(caller: Caller) -> None:
    caller.send(b'{"choices": [{"message": {"content": "', size=2**40)
    for _ in range(2**12):
        caller.wfile.write(b"1" * 2**20)


def hangs(caller: Caller) -> None:
    time.sleep(600)


def drips(caller: Caller) -> None:
    caller.send(size=600)
    for _ in range(600):
        caller.wfile.write(b" ")
        caller.wfile.flush()
        time.sleep(0.3)


def ask(house: House, server: ThreadingHTTPServer, name: str = "judge") -> list[str]:
    """The chapter with a judge, which ends well or in one sentence; lines of the table of the judge."""
    house.warm()
    house.env["PREFDYN_JUDGE_KEY"] = KEY
    judge = f"http://127.0.0.1:{server.server_port}/v1#{name}"
    said = house.start("run", "ranking", *SMOKE, "-p", "judge", judge, "--output", house.output)()
    if said.status and not said.is_sentence:
        raise said.fault("is stopped by its judge")
    if not server.seen:
        raise Fault("the judge was never asked")
    for folder in (house.output, house.cache):
        if found := [name for name in files(folder) if KEY.encode() in (folder / name).read_bytes()]:
            raise Fault(f"the key is in {found}")
    return [] if said.status else (house.output / "ranking" / "judge.csv").read_text().splitlines()


def refusing(house: House, rng: random.Random, answer: Answer, most: int = 60) -> None:
    """One that gives no answer: told in one sentence, or no verdict throughout."""
    with serving(answer) as server:
        table = ask(house, server)
        _check_no_verdict(table)
        if len(server.seen) > most and not table:
            raise Fault(f"a judge that gives no answer was asked {len(server.seen)} times")


def odd(house: House, rng: random.Random) -> None:
    """Answers that hold a digit and are no verdict."""
    answers = ("10", "Neither 1 nor 2", "7/10", "12", "1 or 2", "-1", "１", "", None, ["1"], {"1": 1}, 1)
    order = iter(rng.choices(answers, k=10_000))
    with serving(lambda caller: says(next(order))(caller)) as server:
        table = ask(house, server)
        if not table:
            raise Fault("odd answers stopped the chapter")
        _check_no_verdict(table)


def _check_no_verdict(table: list[str]) -> None:
    rows = list(csv.DictReader(line for line in table if line[0] != "#"))
    if rows and any(float(row.get("no verdict") or 0) < 1 for row in rows):
        raise Fault(f"a judge without a verdict has a share of {rows[0].get('no verdict')} without one")


def busy(house: House, rng: random.Random) -> None:
    """429 with Retry-After is waited for, and the answer then counts."""
    moments = iter([429, 429])

    def answer(caller: Caller) -> None:
        status = next(moments, 200)
        says("1")(caller) if status == 200 else caller.send(status=status, Retry_After=2)

    with serving(answer) as server:
        table = ask(house, server)
        times = [moment for moment, _ in server.seen]
        if not table or times[1] - times[0] < 1.9:
            raise Fault(f"429 with Retry-After 2 was not waited for ({times[1] - times[0]:.1f} s)")


def redirecting(house: House, rng: random.Random) -> None:
    """Whoever a judge points to gets no key, and gives no verdict."""
    status = rng.choice([301, 302, 303, 307, 308])
    with serving(says("1")) as other:
        place = f"http://localhost:{other.server_port}/v1/chat/completions"
        with serving(lambda caller: caller.send(status=status, Location=place)) as server:
            table = ask(house, server)
        if any(key for _, key in other.seen):
            raise Fault(f"the key went along a {status} to another host")
        if table:
            _check_no_verdict(table)


def script_in_the_name(house: House, rng: random.Random) -> None:
    with serving(says("1")) as server:
        if not ask(house, server, "<script>alert(1)</script>"):
            raise Fault("a judge's odd name stopped the chapter")
    page = json.loads((house.output / "ranking" / "ranking.ipynb").read_text(encoding="utf-8"))
    for cell in page["cells"]:
        for output in cell.get("outputs", []):
            html = "".join(output.get("data", {}).get("text/html", ""))
            if "<script>alert(1)" in html:
                raise Fault("a script in a judge's name is markup on the page")


def slow(house: House, rng: random.Random, answer: Answer) -> None:
    """Through the library, with seconds where the command waits for minutes."""
    with serving(answer) as server:
        house.well("slow_judge", f"http://127.0.0.1:{server.server_port}/v1", module="scripts")


ATTACKS = [
    Attack("a judge: 500", partial(refusing, answer=lambda caller: caller.send(status=500)), once=True),
    Attack(
        "a judge: 429 for an hour",
        partial(refusing, answer=lambda caller: caller.send(status=429, Retry_After=3600)),
    ),
    Attack("a judge: garbage", partial(refusing, answer=lambda caller: caller.send(b"\x00<html>\xff"))),
    Attack("a judge: without end", partial(refusing, answer=sends_without_end), once=True),
    Attack("a judge: hangs", partial(slow, answer=hangs), 90, alone=True, once=True),
    Attack("a judge: drips", partial(slow, answer=drips), 90, alone=True, once=True),
    Attack("a judge: 429, then an answer", busy, once=True),
    Attack("a judge: redirects", redirecting),
    Attack("a judge: odd answers", odd),
    Attack("a judge: a script for a name", script_in_the_name, once=True),
]
