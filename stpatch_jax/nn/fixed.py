"""What a network holds that no optimiser moves."""

from flax import nnx


class Fixed(nnx.Variable):
    """Drawn at random, or fitted to examples at once: checkpoints keep it, steps leave it."""
