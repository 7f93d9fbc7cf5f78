"""Files on disk: where the cache is, hashes, atomic writes, and room to write."""

from __future__ import annotations

import contextlib
import errno
import glob
import hashlib
import os
import shutil
import tempfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import BaseFileLock, FileLock, Timeout

from prefdyn.errors import PrefdynError


def at_home(name: str | Path) -> Path:
    """A path, with `~` and `~USER` at its beginning as the folder of that user.

    Raises:
        PrefdynError: nobody knows that folder.
    """
    try:
        return Path(name).expanduser()
    except RuntimeError as error:
        user = Path(name).parts[0]
        raise PrefdynError(f"{name}: {user} is no user's folder here, write the path in full") from error


def cache_folder() -> Path:
    """The folder for what can be made again: $PREFDYN_CACHE, else prefdyn/ in the user's cache."""
    named = os.environ.get("PREFDYN_CACHE")
    if named:
        return at_home(named)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "prefdyn"


def public_name(name: str) -> str:
    """The name of a model, a judge or a source as others may see it: of a path here the last part."""
    kind, mark, place = name.partition(":")
    if kind == "reward":
        return kind + mark + public_name(place)
    if name.startswith((".", "/", "~")) or os.path.exists(name):
        return os.path.basename(os.path.abspath(os.path.expanduser(name)))
    return name


def sha256(path: Path) -> str:
    """The hex digest of a file's content."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_writable(folder: Path) -> None:
    """Make a folder, unless it is there, and stop where it cannot be written to.

    Raises:
        OSError: what the system says.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if not os.access(folder, os.W_OK | os.X_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(folder))


@contextmanager
def in_cache() -> Iterator[None]:
    """Around what writes to the cache: one sentence where the system refuses.

    Raises:
        PrefdynError: it says what the system says.
    """
    try:
        yield
    except OSError as error:
        folder = cache_folder()
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise PrefdynError(
                f"the disk of {folder} is full: make room, or set PREFDYN_CACHE to another disk"
            ) from error
        raise PrefdynError(
            f"the cache {folder} cannot be read and written ({error.strerror or error}): "
            "set PREFDYN_CACHE to a folder that can"
        ) from error


def check_space(folder: Path, needed: int) -> None:
    """Stop before a write that the disk has no room for.

    Args:
        needed: bytes.

    Raises:
        PrefdynError: less than that is free.
    """
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise PrefdynError(
            f"{folder} has {free / 2**20:.0f} MiB free and {needed / 2**20:.0f} MiB are needed: "
            "make room, or set PREFDYN_CACHE to another disk"
        )


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """A temporary path beside `path` that takes its place when the block ends well.

    When it does not, the temporary file vanishes.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    os.close(handle)
    try:
        yield Path(name)
        os.chmod(name, 0o644)
        os.replace(name, path)
    finally:
        Path(name).unlink(missing_ok=True)


@contextmanager
def atomic_folder(folder: Path) -> Iterator[Path]:
    """A temporary folder beside `folder` that takes its place, whole, when the block ends well.

    Where the block puts nothing in, what stands there stays. Who else makes the same folder is waited for,
    and what a killed process left of it is removed.

    Raises:
        PrefdynError: the disk is full, or a file stands there.
    """
    folder = folder.resolve()
    if folder.is_file():
        raise PrefdynError(
            f"{folder} is a file, and a folder is to be made there: move it, or choose another"
        )
    with writing(folder.parent), alone(folder):
        before = folder.with_name(f".{folder.name}.old")
        _put_back(before, folder)
        made = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
        try:
            yield made
            if any(made.iterdir()):
                made.chmod(0o755)
                if folder.exists():
                    folder.rename(before)
                made.rename(folder)
        finally:
            _put_back(before, folder)
            shutil.rmtree(made, ignore_errors=True)


def keep_others(folder: Path, made: Path, ours: Collection[Path]) -> None:
    """Copy, from a folder that another is to replace, what others have put there, links as links; a pipe or a
    socket holds nothing, and is left out.

    Args:
        folder: it need not be there.
        made: what is to replace it; what it holds already stays as it is.
        ours: files in `folder` that go.
    """

    def left_out(place: str, names: list[str]) -> list[str]:
        paths = [Path(place, name) for name in names]
        return [
            path.name for path in paths if path in ours or not _fits(path, made / path.relative_to(folder))
        ]

    if folder.is_dir():
        shutil.copytree(folder, made, symlinks=True, ignore=left_out, dirs_exist_ok=True)


def _fits(path: Path, place: Path) -> bool:
    """Whether something can be copied to a place: a file or a link where nothing is, a folder into one."""
    if path.is_dir() and not path.is_symlink():
        return place.is_dir() or not os.path.lexists(place)
    return (path.is_file() or path.is_symlink()) and not os.path.lexists(place)


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Around what writes into a folder: one sentence where that cannot be.

    Raises:
        PrefdynError: its disk is full, or it is not to be written in.
    """
    try:
        yield
    except OSError as error:
        file = Path(error.filename or folder)
        place = folder if file.is_relative_to(folder) else file.parent
        if any(f"[Errno {code}]" in str(error) for code in (errno.ENOSPC, errno.EDQUOT)):  # shutil's, too
            raise PrefdynError(
                f"the disk of {place} is full: make room, or choose another folder; what was finished is kept"
            ) from error
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS) and place == folder:
            raise PrefdynError(
                f"{folder} cannot be written ({error.strerror}): change that, or choose another folder"
            ) from error
        raise


@contextmanager
def needed_for(what: str) -> Iterator[None]:
    """Around what is made of files that come with the book: one sentence where one of them is missing.

    Raises:
        PrefdynError: it names the file.
    """
    try:
        yield
    except FileNotFoundError as error:
        raise PrefdynError(f"{error.filename}: no such file, and {what} needs it") from error


@contextmanager
def alone(path: Path) -> Iterator[None]:
    """Without another process that makes the same file or folder, and what a killed one left of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = _lock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        print(f"prefdyn: another process is making {path}; waiting for it", flush=True)
        lock.acquire()
    with _held(lock, path):
        yield


def tidy(path: Path) -> None:
    """Remove what a killed process left of a file or folder, unless another one is making it now."""
    lock = _lock(path)
    if Path(lock.lock_file).exists():
        with contextlib.suppress(Timeout):
            lock.acquire(timeout=0)
            with _held(lock, path):
                pass


def _lock(path: Path) -> BaseFileLock:
    return FileLock(path.with_name(f".{path.name}.lock"))


@contextmanager
def _held(lock: BaseFileLock, path: Path) -> Iterator[None]:
    """While a lock is held, which goes in the end: without what was left of the file or folder."""
    try:
        for left in path.parent.glob(f".{glob.escape(path.name)}.????????"):
            # Its kernel may live for a second longer, and still write.
            shutil.rmtree(left, ignore_errors=True) if left.is_dir() else left.unlink(missing_ok=True)
        yield
    finally:
        # Removed while it is held: who waited for it finds that out, and makes its own.
        with contextlib.suppress(OSError):
            os.unlink(lock.lock_file)
        lock.release()


def _put_back(before: Path, folder: Path) -> None:
    """Of a folder that was put aside for a new one: it comes back where there is none, else it goes."""
    if not folder.exists() and before.exists():
        before.rename(folder)
    shutil.rmtree(before, ignore_errors=True)
