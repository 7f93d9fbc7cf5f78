"""The one exception type that a user of the library is meant to read."""

from collections.abc import Iterator
from contextlib import contextmanager


class PrefdynError(Exception):
    """Something the user can mend.

    Its message is one sentence that says what was wrong, where, and what would be right.
    """


def first_line(error: BaseException) -> str:
    """What an exception says, as a part of a sentence: its first line, or its kind where it says nothing."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


@contextmanager
def extra(name: str) -> Iterator[None]:
    """Around what needs the packages of an extra of this library: one sentence where they are not there.

    Raises:
        PrefdynError: a package is missing; the message says how to install the extra.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        package = str(error.name).partition(".")[0]
        if package in ("prefdyn", "prefbook"):
            raise
        raise PrefdynError(
            f"the package {package} is not installed: install the extra that it is in, "
            f"pip install 'prefdyn[{name}]'"
        ) from error
