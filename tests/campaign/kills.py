"""Kills of the runner and of its kernel at any moment: a second run ends as if nothing had happened."""

from __future__ import annotations

import contextlib
import random
import signal
import time
from functools import partial

import psutil
from house import CHAPTERS, SMOKE, Attack, Fault, House


def kill(house: House, rng: random.Random, whom: str, sent: signal.Signals) -> None:
    chapters = rng.sample(CHAPTERS, 2)
    finish = house.start("run", *chapters, *SMOKE, "--output", house.output)
    time.sleep(rng.uniform(0.2, 0.9) * sum(house.base.seconds[chapter] for chapter in chapters))
    program = "ipykernel_launcher" if whom == "kernel" else "prefbook.command_line"
    victims: list[psutil.Process] = []
    while not victims and house.processes():
        victims = [one for one in house.processes() if program in one.info["cmdline"]]
    with contextlib.suppress(psutil.NoSuchProcess, IndexError):  # it was quicker
        rng.choice(victims).send_signal(sent)
    said = finish()
    if said.status == 1 and not said.is_sentence:
        raise said.fault(f"does not say in one sentence that its {whom} was killed")
    end = time.monotonic() + 30
    while left := house.processes():
        if time.monotonic() > end:
            raise Fault(f"{len(left)} processes outlived the run by 30 s")
        time.sleep(0.2)
    house.run(*chapters)
    house.check(*chapters)
    house.check_cache()


VICTIMS = [("runner", signal.SIGKILL), ("runner", signal.SIGTERM), ("runner", signal.SIGINT)]
VICTIMS += [("kernel", signal.SIGKILL), ("kernel", signal.SIGTERM)]
ATTACKS = [
    Attack(f"{sent.name} to the {whom}", partial(kill, whom=whom, sent=sent), 360) for whom, sent in VICTIMS
]
