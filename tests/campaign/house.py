"""Where an attack happens: a folder with a cache and a book of its own, and the command line called in it.

The undisturbed run that every attack is compared with is made once, in a `Base`; a try never touches it.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).parents[2]
CHAPTERS = ("distinguishability", "noise", "ranking")
"""Those that are attacked: the quickest ones under the profile `smoke`, and the one with a judge."""
SMOKE = ("--profile", "smoke", "--quiet")
GIB = 2**30
MARK = "PREFDYN_CAMPAIGN"
"""An environment variable of the processes of a try, by which a killed runner's kernel is found too."""
NOT_COPIED = (".*", "_build", "__pycache__", "*.egg-info", "tests", "benchmarks")


class Fault(Exception):
    """What the project did not survive, in words."""


class Skipped(Exception):
    """What cannot be tried on this machine, and why."""


@dataclass(frozen=True)
class Said:
    """How a command ended."""

    status: int
    out: str
    err: str
    seconds: float

    @property
    def text(self) -> str:
        return self.out + self.err


@dataclass(frozen=True)
class Running:
    """A command that was started, and what names it in a fault."""

    process: subprocess.Popen[bytes]
    words: str
    log: Path
    began: float


@dataclass(frozen=True)
class Base:
    """What all tries read: a copy of the checkout, and the cache and results of an undisturbed run."""

    folder: Path

    @property
    def checkout(self) -> Path:
        return self.folder / "checkout"

    @property
    def cache(self) -> Path:
        return self.folder / "cache"

    @property
    def runs(self) -> Path:
        return self.folder / "runs"

    @property
    def seconds(self) -> dict[str, float]:
        """How long each chapter took."""
        return json.loads((self.folder / "seconds.json").read_text())

    def copy(self) -> None:
        """Copy the checkout as it stands."""
        shutil.copytree(ROOT, self.checkout, ignore=shutil.ignore_patterns(*NOT_COPIED))
        (self.folder / "home").mkdir()

    def run(self) -> None:
        """Run the chapters in peace."""
        house = House(self, self.folder / "calm")
        house.env["PREFDYN_CACHE"], house.output = str(self.cache), self.runs
        try:
            seconds = {chapter: house.run(chapter).seconds for chapter in CHAPTERS}
        finally:
            house.close()
        (self.folder / "seconds.json").write_text(json.dumps(seconds))


class House:
    """One try's folder.

    Attributes:
        root: a book to work in; the library is the base's.
        cache, output: empty at first.
        env: the environment of its commands.
    """

    def __init__(self, base: Base, folder: Path) -> None:
        self.base, self.folder = base, folder
        self.root, self.cache, self.output = folder / "book", folder / "cache", folder / "runs"
        self.temporary = folder / "tmp"
        for made in (self.cache, self.output, self.temporary):
            made.mkdir(parents=True)
        shutil.copytree(base.checkout, self.root, ignore=shutil.ignore_patterns("lib"))
        self.env = {name: value for name, value in os.environ.items() if not name.startswith("PREFDYN_")} | {
            MARK: str(folder),
            "HOME": str(base.folder / "home"),
            "PREFDYN_CACHE": str(self.cache),
            "PYTHONPATH": str(base.checkout / "lib"),
            "TMPDIR": str(self.temporary),
            "JUPYTER_RUNTIME_DIR": str(folder / "jupyter"),
            "OMP_NUM_THREADS": "1",
        }

    def warm(self) -> None:
        """Give it the base's cache, and the base's runs as this machine's edition."""
        shutil.copytree(self.base.cache, self.cache, dirs_exist_ok=True)
        self.output = self.root / "_build" / "runs"
        shutil.copytree(self.base.runs, self.output)

    def close(self) -> None:
        """Kill whatever still runs here."""
        for process in self.processes():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()

    # Commands -------------------------------------------------------------------------------------

    def start(self, *arguments: object, module: str = "prefbook.command_line") -> Running:
        """Begin `prefdyn ARGUMENTS`, or another module's command."""
        words = [str(argument) for argument in arguments]
        log = self.folder / f"said-{time.monotonic_ns()}"
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
        return Running(process, " ".join(words).replace(str(self.folder), "…"), log, time.monotonic())

    def finish(self, running: Running, limit: float = 240, memory: float = 4 * GIB) -> Said:
        """Wait for a command, which may take so many seconds and bytes, and may not end in a traceback."""
        while not _ended(running.process, 0.5):
            if (used := self.memory()) > memory:
                raise Fault(f"`{running.words}` took {used / GIB:.1f} GiB of memory")
            if time.monotonic() > running.began + limit:
                raise Fault(f"`{running.words}` had not ended after {limit:.0f} s")
        out, err = (Path(f"{running.log}.{end}").read_text(errors="replace") for end in ("out", "err"))
        if "Traceback (most recent call last)" in out + err:
            last = [line for line in (out + err).splitlines() if line.strip()][-1]
            raise Fault(f"`{running.words}` ended in a traceback: {last}")
        return Said(running.process.returncode, out, err, time.monotonic() - running.began)

    def prefdyn(self, *arguments: object, limit: float = 240) -> Said:
        return self.finish(self.start(*arguments), limit)

    def well(self, *arguments: object, limit: float = 240) -> Said:
        """A command that must succeed."""
        said = self.prefdyn(*arguments, limit=limit)
        if said.status:
            words = " ".join(map(str, arguments)).replace(str(self.folder), "…")
            raise Fault(f"`{words}` ended with {said.status}: {said.err.strip()[-300:]}")
        return said

    def refused(self, *arguments: object, naming: str = "", limit: float = 240) -> Said:
        """A command that must end with status 1 and one sentence, which names something."""
        running = self.start(*arguments)
        said = self.finish(running, limit)
        lines = said.err.strip().splitlines()
        if said.status != 1 or len(lines) != 1 or not lines[0].startswith("prefdyn: "):
            raise Fault(f"`{running.words}` ended with {said.status} and {len(lines)} lines: {lines[-1:]}")
        if naming not in lines[0]:
            raise Fault(f"`{running.words}` does not name {naming}: {lines[0]}")
        return said

    def run(self, *chapters: str, limit: float = 240) -> Said:
        """Chapters of the profile `smoke`, into this house's output."""
        return self.well("run", *chapters, *SMOKE, "--output", self.output, limit=limit)

    def script(self, name: str, *arguments: object, limit: float = 120) -> Said:
        """One of this package's `scripts`, in a process of its own with the library."""
        self.env["PYTHONPATH"] = os.pathsep.join([self.env["PYTHONPATH"], str(Path(__file__).parent)])
        running = self.start(name, *arguments, module="scripts")
        said = self.finish(running, limit)
        if said.status:
            raise Fault(said.text.strip()[-300:])
        return said

    # Processes ------------------------------------------------------------------------------------

    def processes(self) -> list[psutil.Process]:
        """Everything that was started here and still runs, kernels of killed runners included."""
        found = psutil.process_iter(["environ", "status", "cmdline", "memory_info"])
        return [one for one in found if self._is_own(one.info)]

    def _is_own(self, info: dict[str, Any]) -> bool:
        own = (info["environ"] or {}).get(MARK) == str(self.folder)
        return own and info["status"] != psutil.STATUS_ZOMBIE

    def kernels(self) -> list[psutil.Process]:
        return [one for one in self.processes() if "ipykernel_launcher" in (one.info["cmdline"] or [])]

    def memory(self) -> int:
        """Bytes of all of them together."""
        return sum(one.info["memory_info"].rss for one in self.processes() if one.info["memory_info"])

    def wait_for_silence(self, seconds: float = 30) -> None:
        """Nothing may go on running after its command."""
        end = time.monotonic() + seconds
        while found := self.processes():
            if time.monotonic() > end:
                raise Fault(f"{len(found)} processes outlived their command by {seconds:.0f} s")
            time.sleep(0.2)

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
    how = rng.choice(["a flipped bit", "cut", "trailing bytes", "emptied"]) if content else "trailing bytes"
    if how == "a flipped bit":
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    elif how == "cut":
        del content[rng.randrange(len(content)) :]
    elif how == "trailing bytes":
        content += rng.randbytes(rng.choice([1, 7, 4096]))
    else:
        content.clear()
    path.write_bytes(content)
    return how


def _ended(process: subprocess.Popen[bytes], seconds: float) -> bool:
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(seconds)
    return process.returncode is not None
