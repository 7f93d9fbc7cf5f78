"""The full disk: one sentence that names the folder, and with room the same command ends well."""

from __future__ import annotations

import os
import random
import subprocess
from functools import partial

from house import CHAPTERS, SMOKE, Attack, House, Skipped


def full(house: House, rng: random.Random, where: str) -> None:
    chapter = rng.choice(CHAPTERS)
    folder = house.cache if where == "cache" else house.output
    whole = house.base.cache if where == "cache" else house.base.runs / chapter
    taken = sum(path.stat().st_size for path in whole.rglob("*") if path.is_file())
    size = max(4096, int(taken * rng.uniform(0, 0.3)))
    if os.geteuid() != 0:
        raise Skipped("only root can mount a small disk")
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        raise Skipped("no small disk can be mounted here")
    try:
        house.refused("run", chapter, *SMOKE, "--output", house.output, naming=str(folder))
        subprocess.run(["mount", "-o", "remount,size=4G", str(folder)], check=True)
        house.run(chapter)
        house.check(chapter)
        house.check_cache()
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


ATTACKS = [Attack(f"disk full at the {where}", partial(full, where=where)) for where in ("cache", "output")]
