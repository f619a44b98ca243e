"""TokenEmbedding: any backbone without space axes, on text."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, Self

import jax
import jax.numpy as jnp
from flax import nnx

from stpatch_jax.errors import check_range, check_size, require
from stpatch_jax.nn.layers import Backbone, BackboneConfig, Dropout, Shape, Windows
from stpatch_jax.nn.patch_cnn import PatchCNNConfig

# Whole numbers up to here are exact in float32.
_MOST_TOKENS = 2**24
_MULTIPLIER = 2654435769  # 2^32 / golden ratio


class TokenEmbedding(Backbone):
    """Turns each token id into a learned vector and runs a backbone over the sequence of these.

    Maps [batch, time, 1] token ids to what the backbone gives, [batch, nt, features], so that a
    text is a field like any other. Ids are integers from 0 to vocabulary - 1, in an integer dtype
    or in float32, which holds them exactly; any other number makes the vector NaN, and with it the
    loss, rather than something that looks right. Fill short texts up with an id of its own. With
    `longest_window` above 1 a vector depends on the tokens just before its own too, never on later
    ones.

    Raises:
        InputError: If there is more than one channel, or a space axis, or the shape does not fit
            the backbone.
    """

    def __init__(
        self, config: TokenEmbeddingConfig, in_features: int, *, shape: Shape, rngs: nnx.Rngs
    ):
        require(
            in_features == 1,
            f"a field of token ids must have one channel, got in_features={in_features!r}; give "
            "the ids as they are",
        )
        inner = dataclasses.replace(config.backbone, **config.common)
        body = inner.build(config.features, shape=shape, rngs=rngs)
        super().__init__(body.spec, in_features, body.out_features)
        require(
            body.spec.rank == 1,
            f"the backbone of text must be without space axes, got {type(inner).__name__} with "
            f"{body.spec.rank - 1}; text is a series",
        )
        self.config = config
        self.embed = self._table(config.vocabulary, rngs)
        # Zero, so that a window counts for nothing until training met it.
        zeros = nnx.initializers.zeros_init()
        self.embed_windows = nnx.List(
            self._table(config.buckets, rngs, embedding_init=zeros)
            for _ in range(config.longest_window - 1)
        )
        self.dropout = Dropout(config.dropout, rngs=rngs)
        self.backbone = body

    def _table(self, rows: int, rngs: nnx.Rngs, **options: Any) -> nnx.Embed:
        metadata = self.config.shard.kernel()
        options |= {"embedding_metadata": metadata, **self.config.dtypes}
        return nnx.Embed(rows, self.config.features, rngs=rngs, **options)

    def grid_shape(self, shape: Sequence[int]) -> tuple[int, ...]:
        """Returns `(nt,)` of the feature map of a text of `(time,)` tokens."""
        return self.backbone.grid_shape(shape)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps token ids [batch, time, 1] to [batch, nt, features] in `dtype`."""
        self.check_input(x)
        require(
            jnp.issubdtype(x.dtype, jnp.integer) or x.dtype in (jnp.float32, jnp.float64),
            f"token ids must be integers or float32, got {x.dtype}, which rounds them; cast after "
            "the embedding, by its dtype",
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

    Windows that begin before the text are windows of their own, as of one more token there. Of ids
    [batch, time] int32, each length has int32 [batch, time] from 0 to buckets - 1.

    References:
        Knuth, The Art of Computer Programming 3, section 6.4 (multiplicative hashing).
    """
    shift = 32 - (config.buckets.bit_length() - 1)
    # Arithmetic of uint32 wraps round, which is what the hash wants.
    last = ids.astype(jnp.uint32) + jnp.uint32(1)
    mixed, buckets = last, []
    for _ in range(config.longest_window - 1):
        last = jnp.pad(last, ((0, 0), (1, 0)))[:, :-1]
        mixed = mixed * jnp.uint32(_MULTIPLIER) + last
        scrambled = (mixed ^ (mixed >> 15)) * jnp.uint32(_MULTIPLIER)
        bucket = jax.lax.shift_right_logical(scrambled, jnp.uint32(shift))
        buckets.append(bucket.astype(jnp.int32))
    return buckets


@dataclasses.dataclass(frozen=True)
class TokenEmbeddingConfig(BackboneConfig[TokenEmbedding]):
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
            f"backbone must be the config of the backbone that follows, got {self.backbone!r}; "
            "give for example PatchCNNConfig((1,))",
        )
        self.check(sizes=("features", "longest_window", "buckets"))
        check_size(self.name_of("vocabulary"), self.vocabulary, least=2)
        for field in ("vocabulary", "buckets"):
            check_range(self.name_of(field), getattr(self, field), 1, _MOST_TOKENS)
        require(
            self.buckets & (self.buckets - 1) == 0,
            f"buckets must be a power of 2, got {self.buckets}; use for example 2**14",
        )
        for field in dataclasses.fields(BackboneConfig):
            inner, own = getattr(self.backbone, field.name), getattr(self, field.name)
            require(
                inner in (own, field.default),
                f"{field.name} of a token embedding must be that of its backbone too, got {own!r} "
                f"there and {inner!r} in {type(self.backbone).__name__}; give "
                f"{field.name}={inner!r} to TokenEmbeddingConfig",
            )

    @classmethod
    def tiny(cls, spec: Windows) -> Self:
        """A tiny `PatchCNN` on vectors of 8 of 256 tokens, the bytes."""
        return cls(PatchCNNConfig.tiny(spec), vocabulary=256, features=8)

    @classmethod
    def base(cls, spec: Windows) -> Self:
        """A `PatchCNN` of common size on vectors of 128 of 256 tokens, the bytes."""
        return cls(PatchCNNConfig.base(spec), vocabulary=256)
