"""Kills of the runner and of its kernel at any moment: a second run ends as if nothing had happened."""

from __future__ import annotations

import random
import signal
import time
from functools import partial

import psutil
from attacks import Attack
from house import CHAPTERS, SMOKE, Fault, House


def kill(house: House, rng: random.Random, whom: str, sent: signal.Signals) -> None:
    chapters = rng.sample(CHAPTERS, 2)
    seconds = sum(house.base.seconds[chapter] for chapter in chapters)
    running = house.start("run", *chapters, *SMOKE, "--output", house.output)
    time.sleep(rng.uniform(0.2, 0.9) * seconds)
    kernels = house.kernels()
    while whom == "kernel" and not kernels and running.process.poll() is None:
        time.sleep(0.1)
        kernels = house.kernels()
    try:
        victim = rng.choice(kernels) if whom == "kernel" and kernels else psutil.Process(running.process.pid)
        victim.send_signal(sent)
    except psutil.NoSuchProcess:
        pass  # it was quicker
    said = house.finish(running, limit=90 if whom == "runner" else 240)
    if said.status == 1 and len(said.err.strip().splitlines()) != 1:
        raise Fault(f"a killed {whom} is told in {len(said.err.splitlines())} lines: {said.err[-300:]}")
    house.wait_for_silence()
    house.run(*chapters)
    house.check(*chapters)
    house.check_cache()


ATTACKS = [
    Attack(f"{sent.name} to the {whom}", partial(kill, whom=whom, sent=sent), 400)
    for whom, signals in {
        "runner": (signal.SIGKILL, signal.SIGTERM, signal.SIGINT),
        "kernel": (signal.SIGKILL, signal.SIGTERM),
    }.items()
    for sent in signals
]
