"""Where an attack happens: a folder with a cache and a book of its own, and the command line called in it.

The undisturbed run that every attack is compared with is made once, in a `Base`; a try never touches it.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import psutil

ROOT = Path(__file__).parents[2]
NOT_COPIED = (".*", "_build", "__pycache__", "*.egg-info", "tests", "benchmarks")
CHAPTERS = ("distinguishability", "noise", "ranking")
"""Those that are attacked: the quickest under the profile `smoke`, and the one with a judge."""
FREE = 90
"""Seconds that they take one after the other on two cores that have nothing else to do."""
SMOKE = ("--profile", "smoke", "--quiet")
MARK = "PREFDYN_CAMPAIGN"
"""An environment variable of the processes of a try, by which a killed runner's kernel is found too."""
MEMORY = 4 * 2**30
"""Bytes that no command under `smoke` may take."""


class Fault(Exception):
    """What the project did not survive, in words."""


class Skipped(Exception):
    """What cannot be tried on this machine, and why."""


@dataclass(frozen=True)
class Attack:
    """One way to harm the project.

    Attributes:
        name: for the table.
        act: does it in a house, with chance from the generator; raises Fault or Skipped.
        limit: seconds that one try may take on two free cores.
        alone: it needs no undisturbed run.
        once: chance plays no part, so that it is not repeated.
    """

    name: str
    act: Callable[[House, random.Random], None]
    limit: int = 300
    alone: bool = False
    once: bool = False


@dataclass(frozen=True)
class Said:
    """How a command ended."""

    command: str
    status: int
    out: str
    err: str
    seconds: float

    @property
    def is_sentence(self) -> bool:
        """Whether it was refused as a user should be told."""
        return self.status == 1 and self.err.startswith("prefdyn: ") and self.err.count("\n") == 1

    def fault(self, what: str) -> Fault:
        lines = self.err.splitlines()
        end = " ".join(" ".join(lines).split())[-300:]
        return Fault(f"`{self.command}` {what} (status {self.status}, {len(lines)} lines: {end})")


@dataclass(frozen=True)
class Base:
    """What all tries read: a copy of the checkout as it stands, and what an undisturbed run leaves.

    Attributes:
        seconds: that each chapter took.
    """

    folder: Path
    seconds: dict[str, float] = field(default_factory=dict)

    def copy(self) -> None:
        shutil.copytree(ROOT, self.folder / "checkout", ignore=shutil.ignore_patterns(*NOT_COPIED))
        (self.folder / "home").mkdir()

    def run(self) -> None:
        """Run the chapters in peace."""
        house = House(self, self.folder / "calm")
        for chapter in CHAPTERS:
            self.seconds[chapter] = house.run(chapter).seconds

    @property
    def slowness(self) -> float:
        """How many times as long as on two free cores everything takes here; at least 1."""
        return max(1.0, sum(self.seconds.values()) / FREE)

    @property
    def cache(self) -> Path:
        return self.folder / "calm" / "cache"

    @property
    def runs(self) -> Path:
        return self.folder / "calm" / "runs"


class House:
    """One try's folder.

    Attributes:
        root: a book to work in; the library is the base's.
        cache, output: empty at first.
        env: the environment of its commands.
    """

    def __init__(self, base: Base, folder: Path) -> None:
        self.base, self.folder = base, folder
        self.root, self.cache, self.output, self.temporary = (
            folder / name for name in ("book", "cache", "runs", "tmp")
        )
        for made in (self.cache, self.output, self.temporary):
            made.mkdir(parents=True)
        shutil.copytree(base.folder / "checkout", self.root, ignore=shutil.ignore_patterns("lib"))
        self.env = {name: value for name, value in os.environ.items() if not name.startswith("PREFDYN_")} | {
            MARK: str(folder),
            "HOME": str(base.folder / "home"),
            "PREFDYN_CACHE": str(self.cache),
            "PYTHONPATH": f"{base.folder / 'checkout' / 'lib'}{os.pathsep}{Path(__file__).parent}",
            "TMPDIR": str(self.temporary),
            "JUPYTER_RUNTIME_DIR": str(folder / "jupyter"),
            "OMP_NUM_THREADS": "1",
        }

    def warm(self) -> None:
        """Give it the base's cache, and the base's runs as this machine's edition."""
        shutil.copytree(self.base.cache, self.cache, dirs_exist_ok=True)
        self.output = self.root / "_build" / "runs"
        shutil.copytree(self.base.runs, self.output)

    # Commands -------------------------------------------------------------------------------------

    def start(self, *arguments: object, module: str = "prefbook.command_line") -> Callable[[], Said]:
        """Begin `prefdyn ARGUMENTS`, or another module's command; returns what waits for its end."""
        words = [str(argument) for argument in arguments]
        began, log = time.monotonic(), self.folder / f"said-{time.monotonic_ns()}"
        with open(f"{log}.out", "wb") as out, open(f"{log}.err", "wb") as err:
            process = subprocess.Popen(
                [sys.executable, "-m", module, *words],
                cwd=self.root,
                env=self.env,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                start_new_session=True,
            )

        def finish() -> Said:
            while process.returncode is None:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(0.5)
                if (used := sum(one.info["memory_info"].rss for one in self.processes())) > MEMORY:
                    raise Fault(f"`{words[0]}` took {used / 2**30:.1f} GiB of memory")
            text = [Path(f"{log}.{end}").read_text(errors="replace") for end in ("out", "err")]
            command = " ".join(words).replace(str(self.folder), "…")
            said = Said(command, process.returncode, *text, time.monotonic() - began)
            if "Traceback (most recent call last)" in "".join(text):
                raise said.fault("ended in a traceback")
            return said

        return finish

    def well(self, *arguments: object, module: str = "prefbook.command_line") -> Said:
        """A command that must succeed."""
        said = self.start(*arguments, module=module)()
        if said.status:
            raise said.fault("failed")
        return said

    def run(self, *arguments: object) -> Said:
        """Chapters under `smoke`, into this house's output."""
        return self.well("run", *arguments, *SMOKE, "--output", self.output)

    def refused(self, *arguments: object, naming: str = "") -> None:
        """A command that must end in one sentence, which names something."""
        said = self.start(*arguments)()
        if not said.is_sentence or naming not in said.err:
            raise said.fault(f"is not refused in one sentence {naming and f'that names {naming}'}")

    def processes(self) -> list[psutil.Process]:
        """Everything that was started here and still runs, kernels of killed runners included."""
        found = psutil.process_iter(["environ", "status", "cmdline", "memory_info"])
        own = [one for one in found if (one.info["environ"] or {}).get(MARK) == str(self.folder)]
        return [one for one in own if one.info["status"] != psutil.STATUS_ZOMBIE and one.info["memory_info"]]

    def close(self) -> None:
        """Kill whatever still runs here."""
        for process in self.processes():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()

    # What was left --------------------------------------------------------------------------------

    def check(self, *chapters: str) -> None:
        """The tables are those of the undisturbed run, byte for byte, and no other file is left."""
        for chapter in chapters:
            own, undisturbed = tables(self.output / chapter), tables(self.base.runs / chapter)
            if different := [name for name in undisturbed if own.get(name) != undisturbed[name]]:
                raise Fault(f"{chapter}: {', '.join(different)} missing or not those of an undisturbed run")
        left = files(self.output) - files(self.base.runs)
        left |= {str(path) for path in self.temporary.rglob("*.ipynb")}
        if left:
            raise Fault(f"{len(left)} files left behind, such as {min(left)}")

    def check_cache(self) -> None:
        """Nothing is in the cache that an undisturbed run has not left there."""
        if left := files(self.cache) - files(self.base.cache):
            raise Fault(f"{len(left)} files left behind in the cache, such as {min(left)}")


def tables(folder: Path) -> dict[str, str]:
    """The tables in a folder, without the lines that say when they were made."""
    return {
        path.name: "".join(line for line in path.read_text().splitlines(True) if line[0] != "#")
        for path in folder.glob("*.csv")
    }


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def hurt(path: Path, rng: random.Random) -> str:
    """Damage a file as disks, transfers and editors do; returns how."""
    content = bytearray(path.read_bytes())
    how = rng.choice(["a flipped bit", "cut", "emptied", "trailing bytes"] if content else ["trailing bytes"])
    if how == "a flipped bit":
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    elif how == "trailing bytes":
        content += rng.randbytes(rng.choice([1, 7, 4096]))
    else:
        del content[rng.randrange(len(content)) if how == "cut" else 0 :]
    path.write_bytes(content)
    return how
