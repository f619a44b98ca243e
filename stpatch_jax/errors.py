"""The one exception of the public edge, and the check that raises it."""


class InputError(ValueError):
    """Something the user gave does not fit; the message is one sentence that says what to do.

    It names what must hold, what came, and what to do about it. The command line prints exactly
    this sentence on stderr and exits with code 2, so every message stands on its own.
    """


def require(condition: bool, message: str) -> None:
    """Raises `InputError(message)` unless the condition holds.

    >>> require(2 > 1, "two must be more than one")
    """
    if not condition:
        raise InputError(message)
