"""TokenEmbedding: any backbone without space axes, on text."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import nnx

from stpatch_jax.errors import require
from stpatch_jax.nn.layers import Backbone, BackboneConfig, is_size

# Whole numbers up to here are exact in float32.
_MOST_TOKENS = 2**24
_MULTIPLIER = 2654435769  # 2^32 / golden ratio


@dataclasses.dataclass(frozen=True)
class TokenEmbeddingConfig(BackboneConfig):
    """Settings of `TokenEmbedding`, whose `dropout`, dtypes and sharding hold for all of it.

    The backbone's own such fields must be left at their defaults or equal those given here.

    Attributes:
        backbone: Config of any backbone for fields without space axes.
        vocabulary: Number of tokens.
        features: Length of the vector that each token becomes.
        longest_window: Number of tokens of the longest text window that has a vector of its own. To
            the vector of each token those of the windows of 2, 3, ... tokens that end with it are
            added; 1 for none.
        buckets: Number of vectors for the windows of each length, a power of 2; windows find
            theirs by a hash, and some share one.

    References:
        Joulin et al., "Bag of tricks for efficient text classification", EACL 2017 (hashed
        n-grams). Mikolov et al., "Strategies for training large scale neural network language
        models", ASRU 2011 (n-grams beside a recurrent network).
    """

    backbone: BackboneConfig
    vocabulary: int
    features: int = 128
    longest_window: int = 1
    buckets: int = 2**14

    def __post_init__(self) -> None:
        super().__post_init__()
        require(
            isinstance(self.backbone, BackboneConfig),
            "TokenEmbedding needs the config of the backbone that follows, got "
            f"{type(self.backbone).__name__}",
        )
        require(
            is_size(self.vocabulary) and 2 <= self.vocabulary <= _MOST_TOKENS,
            f"TokenEmbedding needs a vocabulary of 2 to 2^24 tokens, got {self.vocabulary!r}",
        )
        require(
            is_size(self.features),
            f"TokenEmbedding needs features to be a positive integer, got {self.features!r}",
        )
        require(
            is_size(self.longest_window),
            f"TokenEmbedding needs longest_window >= 1 token, got {self.longest_window!r}",
        )
        require(
            is_size(self.buckets)
            and self.buckets & (self.buckets - 1) == 0
            and self.buckets <= _MOST_TOKENS,
            f"TokenEmbedding needs buckets to be a power of 2 up to 2^24, got {self.buckets!r}",
        )
        for field in dataclasses.fields(BackboneConfig):
            inner, own = getattr(self.backbone, field.name), getattr(self, field.name)
            require(
                inner in (own, field.default),
                f"TokenEmbedding's {field.name} holds for its backbone too, but is {own!r} there "
                f"and {inner!r} in {type(self.backbone).__name__}; give {field.name}={inner!r} to "
                "TokenEmbeddingConfig",
            )

    def build(
        self, in_features: int, *, shape: Sequence[int] | None = None, rngs: nnx.Rngs
    ) -> TokenEmbedding:
        """Builds the module; `in_features` must be 1, the channel of the token ids."""
        return TokenEmbedding(self, in_features, shape=shape, rngs=rngs)


class TokenEmbedding(Backbone):
    """Turns each token id into a learned vector and runs a backbone over the sequence of these.

    Maps [batch, time, 1] token ids to what the backbone gives, [batch, nt, features], so that a
    text is a field like any other. Ids are integers from 0 to vocabulary - 1, in an integer dtype
    or in float32, which holds them exactly; any other number makes the vector NaN, and with it the
    loss, rather than something that looks right. Fill short texts up with an id of its own. With
    `longest_window` above 1 a vector depends on the tokens just before its own too, never on later
    ones.

    Args:
        config: Settings.
        in_features: Number of input channels, 1.
        shape: `(time,)` of the inputs to come; see `BackboneConfig.build`.
        rngs: Streams `params` and `dropout`.

    Raises:
        InputError: If there is more than one channel, or a space axis, or the shape does not fit
            the backbone.
    """

    def __init__(
        self,
        config: TokenEmbeddingConfig,
        in_features: int,
        *,
        shape: Sequence[int] | None = None,
        rngs: nnx.Rngs,
    ):
        require(
            in_features == 1,
            "TokenEmbedding needs fields of one channel, the token ids, "
            f"got {in_features!r} channels",
        )
        common = {f.name: getattr(config, f.name) for f in dataclasses.fields(BackboneConfig)}
        inner = dataclasses.replace(config.backbone, **common)
        body = inner.build(config.features, shape=shape, rngs=rngs)
        super().__init__(body.spec, in_features, body.out_features)
        require(
            body.spec.rank == 1,
            "TokenEmbedding needs a backbone without space axes, but "
            f"{type(body).__name__} has {body.spec.rank - 1}; text is a series",
        )
        self.config = config
        self.embed = nnx.Embed(
            config.vocabulary,
            config.features,
            embedding_metadata=config.shard.kernel(),
            rngs=rngs,
            **config.dtypes,
        )
        # Zero, so that a window counts for nothing until training met it.
        self.embed_windows = nnx.List(
            nnx.Embed(
                config.buckets,
                config.features,
                embedding_init=nnx.initializers.zeros_init(),
                embedding_metadata=config.shard.kernel(),
                rngs=rngs,
                **config.dtypes,
            )
            for _ in range(config.longest_window - 1)
        )
        self.dropout = nnx.Dropout(config.dropout, rngs=rngs)
        self.backbone = body

    def grid_shape(self, shape: Sequence[int]) -> tuple[int, ...]:
        """Returns `(nt,)` of the feature map of a text of `(time,)` tokens."""
        return self.backbone.grid_shape(shape)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps token ids [batch, time, 1] to [batch, nt, features] in `dtype`."""
        self.check_input(x)
        require(
            jnp.issubdtype(x.dtype, jnp.integer) or x.dtype in (jnp.float32, jnp.float64),
            f"TokenEmbedding needs token ids in an integer dtype or float32, got {x.dtype}, which "
            "rounds them; cast after the embedding, by its dtype",
        )
        ids = x[..., 0]
        known = (ids >= 0) & (ids < self.config.vocabulary) & (ids == jnp.floor(ids))
        ids = jnp.where(known, ids, 0).astype(jnp.int32)
        vectors = self.embed(ids)
        for embed, bucket in zip(self.embed_windows, window_buckets(ids, self.config), strict=True):
            vectors = vectors + embed(bucket)
        vectors = jnp.where(known[..., None], vectors, jnp.nan)
        return self.backbone(self.dropout(vectors))


def window_buckets(ids: jax.Array, config: TokenEmbeddingConfig) -> list[jax.Array]:
    """The buckets of the windows of 2, 3, ... tokens that end with each token of a text.

    Windows that begin before the text are windows of their own, as of one more token there.

    Args:
        ids: Token ids [batch, time], int32.
        config: Says how long windows get, and how many buckets there are.

    Returns:
        Of each length int32 [batch, time], from 0 to buckets - 1.

    References:
        Knuth, The Art of Computer Programming 3, section 6.4 (multiplicative hashing).
    """
    shift = 32 - (config.buckets.bit_length() - 1)
    # Arithmetic of uint32 wraps round, which is what the hash wants.
    last = ids.astype(jnp.uint32) + jnp.uint32(1)
    mixed, found = last, []
    for _ in range(config.longest_window - 1):
        last = jnp.pad(last, ((0, 0), (1, 0)))[:, :-1]
        mixed = mixed * jnp.uint32(_MULTIPLIER) + last
        scrambled = (mixed ^ (mixed >> 15)) * jnp.uint32(_MULTIPLIER)
        found.append(jax.lax.shift_right_logical(scrambled, jnp.uint32(shift)).astype(jnp.int32))
    return found
