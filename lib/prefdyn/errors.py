"""The one exception type that a user of the library is meant to read."""

from collections.abc import Iterator
from contextlib import contextmanager


class PrefdynError(Exception):
    """Something the user can mend.

    Its message is one sentence that says what was wrong, where, and what would be right.
    """


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
