"""Attack the project from outside, and print what it survived: `.venv/bin/python tests/campaign`.

Kills, races, mixed runs, damaged files, full disks, stand-in judges, bad data and models: all under the
profile `smoke`, in a temporary folder with a copy of the checkout as it stands and a cache of its own. Every
attack is tried once, and those in which chance plays a part again until the time is over.
"""

from __future__ import annotations

import argparse
import random
import re
import signal
import sys
import tempfile
import time
from pathlib import Path

from house import Base, Fault
from tries import ATTACKS, Try, campaign


def main() -> int:
    """Do what the arguments say; 1 where anything failed."""
    parser = argparse.ArgumentParser(prog="tests/campaign", description=__doc__)
    parser.add_argument("--minutes", type=float, default=20, help="at most (default: 20)")
    parser.add_argument("--seed", type=int, help="of chance (default: another one each time)")
    parser.add_argument("--only", metavar="PATTERN", default="", help="attacks with such a name, once each")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))
    end = time.monotonic() + 60 * options.minutes
    seed = random.SystemRandom().randrange(10**6) if options.seed is None else options.seed
    chosen = [which for which, attack in enumerate(ATTACKS) if re.search(options.only, attack.name)]
    tries: list[Try] = []
    with tempfile.TemporaryDirectory(prefix="prefdyn-campaign-", ignore_cleanup_errors=True) as folder:
        base = Base(Path(folder))
        base.copy()
        if not all(ATTACKS[which].alone for which in chosen):
            print("first the undisturbed run, with which all is compared", flush=True)
            try:
                base.run()
            except Fault as fault:
                print(f"there is nothing to compare with: {fault}")
                return 1
        for one in campaign(chosen, seed, end, bool(options.only), base):
            print(f"{one.ended:8} {one.name} {one.said}", flush=True)
            tries.append(one)
    print(f"\n{'attack':40} {'tried':>5} {'survived':>8}")
    for which in chosen:
        own = [one for one in tries if one.name == ATTACKS[which].name]
        survived = sum(one.ended == "survived" for one in own)
        skipped = [one.said for one in own if one.ended == "skipped"]
        tried = len(own) - len(skipped)
        print(f"{ATTACKS[which].name:40} {tried:5} {survived:8}  {''.join(skipped[:1])}")
    for one in tries:
        if one.ended == "failed":
            print(f'\nfailed, to be repeated by --only "{one.name}" --seed {one.seed}:\n  {one.said}')
    return int(any(one.ended == "failed" for one in tries) or not tries)


if __name__ == "__main__":
    sys.exit(main())
