"""The full disk: one sentence that names the folder, and with room the same command ends well."""

from __future__ import annotations

import contextlib
import os
import random
import subprocess
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from attacks import Attack
from house import CHAPTERS, SMOKE, House, Skipped


@contextlib.contextmanager
def small_disk(folder: Path, size: int) -> Iterator[None]:
    """A disk of so many bytes at a folder."""
    if os.geteuid() != 0:
        raise Skipped("only root can mount a small disk")
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    done = subprocess.run(mount, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Skipped(f"no small disk can be mounted here: {done.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def full(house: House, rng: random.Random, where: str) -> None:
    chapter = rng.choice(CHAPTERS)
    folder, undisturbed = (
        (house.cache, house.base.cache) if where == "cache" else (house.output, house.base.runs / chapter)
    )
    taken = sum(path.stat().st_size for path in undisturbed.rglob("*") if path.is_file())
    with small_disk(folder, max(4096, int(taken * rng.uniform(0.0, 0.3)))):
        house.refused("run", chapter, *SMOKE, "--output", house.output, naming=str(folder))
        subprocess.run(["mount", "-o", "remount,size=4G", str(folder)], check=True)
        house.run(chapter)
        house.check(chapter)
        house.check_cache()


ATTACKS = [Attack(f"disk full at the {where}", partial(full, where=where)) for where in ("cache", "output")]
