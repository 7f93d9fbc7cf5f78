"""Tries of attacks, two at a time, until the time is over."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import random
import signal
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from pathlib import Path
from typing import NamedTuple

import damage
import disk
import inputs
import judges
import kills
import mixed
import races
from house import Base, Fault, House, Skipped

ATTACKS = [
    attack for family in (kills, races, mixed, damage, disk, judges, inputs) for attack in family.ATTACKS
]


class Try(NamedTuple):
    """How one try of an attack ended, "survived", "failed" or "skipped", and why."""

    name: str
    seed: int
    ended: str
    said: str


def attempt(which: int, seed: int, base: Base) -> Try:
    """One try of an attack in a house of its own, which vanishes after it."""
    attack = ATTACKS[which]
    limit = round(attack.limit * base.slowness)

    def too_long(*_: object) -> None:
        raise Fault(f"not ended after {limit} s")

    with tempfile.TemporaryDirectory(dir=base.folder, ignore_cleanup_errors=True) as folder:
        house = House(base, Path(folder))
        signal.signal(signal.SIGALRM, too_long)
        signal.alarm(limit)
        try:
            attack.act(house, random.Random(seed))
            return Try(attack.name, seed, "survived", "")
        except Skipped as reason:
            return Try(attack.name, seed, "skipped", str(reason))
        except Exception as error:
            said = str(error) if isinstance(error, Fault) else repr(error)
            return Try(attack.name, seed, "failed", said)
        finally:
            signal.alarm(0)
            house.close()


def campaign(chosen: list[int], seed: int, end: float, once: bool, base: Base) -> Iterator[Try]:
    """Tries of the chosen attacks as they end; none is begun that may not end in time.

    Args:
        end: on the monotonic clock.
        once: each attack is tried once; else those in which chance plays a part again and again.
    """

    def due() -> Iterator[tuple[int, int]]:
        for number in itertools.count():
            fitting = False
            for which in chosen:
                attack = ATTACKS[which]
                fits = time.monotonic() + attack.limit * base.slowness < end
                if fits and not (number and (once or attack.once)):
                    fitting = True
                    yield which, seed + number
            if not fitting:
                return

    lanes = min(2, os.cpu_count() or 1)
    waiting: set[Future[Try]] = set()
    with ProcessPoolExecutor(lanes, multiprocessing.get_context("spawn")) as pool:
        for which, chance in due():
            waiting.add(pool.submit(attempt, which, chance, base))
            if len(waiting) == lanes:
                done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                yield from (one.result() for one in done)
        yield from (one.result() for one in waiting)
