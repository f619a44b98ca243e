"""The check behind the messages of the newer data modules."""

from stpatch_jax.errors import InputError


def require(holds: bool, message: str) -> None:
    """Raises `InputError(message)` unless the condition holds."""
    if not holds:
        raise InputError(message)
