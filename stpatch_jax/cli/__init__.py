"""The command line."""

from stpatch_jax.cli.commands import main

__all__ = ["main"]
