"""The command line."""

from stpatch_jax.cli.main import main

__all__ = ["main"]
