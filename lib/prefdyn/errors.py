"""The one exception type that a user of the library is meant to read."""


class PrefdynError(Exception):
    """Something the user can mend: its message is one sentence that says what was wrong, where, and what
    would be right.
    """
