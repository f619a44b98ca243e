"""How well the next token is predicted."""

from __future__ import annotations

import dataclasses
import math

import jax

from stpatch_jax.errors import InputError
from stpatch_jax.metrics.sums import Array, Sums, divide, host_or_device


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class TokenEntropy(Sums):
    """Cross-entropy of predicted tokens, summed over the real ones of all batches.

    Attributes:
        nats: Sum of `-log p[token]`, a scalar.
        count: Number of real tokens, an integer scalar.
    """

    nats: Array
    count: Array

    @classmethod
    def of(cls, logits: Array, token: Array, *, mask: Array | None = None) -> TokenEntropy:
        """Sums the entropy of one batch, as `Sums` says.

        Args:
            logits: [*batch, vocabulary], any floating dtype.
            token: [*batch] the tokens that came, integers from 0 to vocabulary - 1; a real one
                outside of that makes the sum NaN.
            mask: Bool [*batch], True where the token is real; None means everywhere.

        Raises:
            InputError: If the shapes do not fit.

        >>> import numpy as np
        >>> entropy = TokenEntropy.of(np.zeros((3, 8)), np.array([0, 5, 7]))
        >>> round(float(entropy.bits_per_token()), 6), round(float(entropy.perplexity()), 6)
        (3.0, 8.0)
        """
        shape = tuple(token.shape)
        if logits.shape[:-1] != shape or (mask is not None and mask.shape != shape):
            raise InputError(
                "TokenEntropy must get logits (*batch, vocabulary), tokens and mask (*batch), got "
                f"{logits.shape}, {shape} and {None if mask is None else mask.shape}; "
                "reshape them to belong together"
            )
        xp, dtype = host_or_device(logits, token, mask)
        real = xp.ones(shape, bool) if mask is None else xp.asarray(mask)
        logits = xp.where(real[..., None], xp.asarray(logits, dtype), 0)
        known = (token >= 0) & (token < logits.shape[-1])
        index = xp.where(known, token, 0)[..., None]
        # Shifted by the largest one, so that no exponential overflows.
        logits = logits - logits.max(axis=-1, keepdims=True)
        partition = xp.log(xp.sum(xp.exp(logits), axis=-1))
        nats = partition - xp.take_along_axis(logits, index, axis=-1)[..., 0]
        nats = xp.where(real, xp.where(known, nats, xp.nan), 0)
        return cls(xp.sum(nats), xp.sum(real))

    def nats_per_token(self) -> Array:
        """Mean cross-entropy in nats, a scalar; NaN if no token is real."""
        return divide(self.nats, self.count)

    def bits_per_token(self) -> Array:
        """Mean cross-entropy in bits, a scalar; NaN if no token is real."""
        return bits_per_token(self.nats_per_token())

    def perplexity(self) -> Array:
        """Number of equally likely tokens of the same entropy, `exp(nats_per_token)`, a scalar."""
        return math.e ** self.nats_per_token()


def bits_per_token(nats: Array) -> Array:
    """Turns a mean cross-entropy from nats per token into bits per token, `nats / log(2)`.

    Of any shape, float.

    >>> import numpy as np
    >>> float(bits_per_token(np.log(8.0)))
    3.0
    """
    return nats / math.log(2)
