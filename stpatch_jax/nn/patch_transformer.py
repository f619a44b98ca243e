"""PatchTransformer: self-attention over the patches of a field, jointly or axis by axis."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal, Self, get_args

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import ArrayLike

from stpatch_jax.errors import check_choice, check_range, require
from stpatch_jax.nn.attention import TransformerEncoder, TransformerOptions
from stpatch_jax.nn.blocks import unrolled
from stpatch_jax.nn.layers import Backbone, BackboneConfig, Fields, Shape, TubeletEmbedding
from stpatch_jax.patches.windows import OPEN, WindowSpec

_VIDEO = {"spec": WindowSpec((2, 16, 16)), "scan": True}

AttentionKind = Literal["joint", "factorised", "factorised_encoder", "time"]


class PatchTransformer(Backbone):
    """Embeds each window as a token and lets the tokens look at each other.

    Pre-norm blocks, with sinusoidal positions in the patch grid, which fit any grid: those of time
    and space for "joint" and "factorised"; of space, then time, for "factorised_encoder"; of time
    alone for "time".

    Maps [batch, time, *space, channel] to [batch, nt, *ns, features] in `dtype`, where
    `(nt, *ns) = spec.grid_shape((time, *space))`. With attention "factorised_encoder" space is
    pooled: the map is [batch, nt, 1, .., 1, features], and the windows of `spec` are the whole of
    each space axis. With `causal` and windows that end at their own step (CAUSAL padding in time),
    the output at a step never sees a later one.

    References:
        Arnab et al. (2021), "ViViT: a video vision transformer": joint is its model 1,
        factorised_encoder model 2, factorised model 3. Nie et al. (2023), "A time series is worth
        64 words", for "time". Dehghani et al. (2023), "Patch n' Pack", for packed rows.
    """

    def __init__(
        self, config: PatchTransformerConfig, in_features: int, *, shape: Shape, rngs: nnx.Rngs
    ):
        # `grid_shape`, which the constructor below calls, reads it.
        self.config = config
        pooled = config.attention == "factorised_encoder"
        spec = _whole_space(config.spec) if pooled else config.spec
        super().__init__(spec, in_features, config.features, shape=shape)
        self.embedding = TubeletEmbedding(
            config.spec, in_features, config.features, shape=shape, options=config, rngs=rngs
        )
        # Tokens are [batch, tokens, features] for "joint", [batch, time, cell, features] otherwise.
        axes = {"joint": (1,), "factorised": (2, 1), "factorised_encoder": (2,), "time": (1,)}
        width = {name: getattr(config, name) for name in ("features", "heads", "hidden", "causal")}
        options = TransformerOptions(axes=axes[config.attention], **width, **config.common)
        self.encoder = TransformerEncoder(config.depth, options, scan=config.scan, rngs=rngs)
        in_time, depth = dataclasses.replace(options, axes=(1,)), config.temporal_depth
        self.temporal_encoder = (
            TransformerEncoder(depth, in_time, scan=config.scan, rngs=rngs) if pooled else None
        )

    def grid_shape(self, shape: Sequence[int]) -> tuple[int, ...]:
        """Returns `(time', *space')` of the feature map, see `Backbone.grid_shape`."""
        # `spec` says nothing of the windows in space where that is pooled.
        self.config.spec.grid_shape(tuple(shape))
        return super().grid_shape(shape)

    def __call__(self, x: jax.Array, *, mask: ArrayLike | None = None) -> jax.Array:
        """Maps a field to its feature map.

        Args:
            x: [batch, time, *space, channel].
            mask: Bool [batch, nt, *ns], True for tokens that are real; the others (padding of
                fields of different size) are seen by none and come out as 0. None: all are.

        Returns:
            [batch, nt, *ns, features], or [batch, nt, 1, .., 1, features] where space is pooled: 0
            at a time without a real token.

        Raises:
            InputError: If the input or the mask does not fit.
        """
        self.check_input(x)
        if mask is None:
            tokens = self.embedding(x)
            batch, *grid = tokens.shape[:-1]
        else:
            values = self.embedding.patches(x)
            batch, *grid = values.shape[:-1]
            mask = jnp.asarray(mask)
            require(
                mask.shape == values.shape[:-1] and mask.dtype == jnp.bool_,
                f"mask must be boolean of shape {values.shape[:-1]}, one entry per token, got "
                f"{mask.dtype} {mask.shape}; give one for the patch grid, not for the cells",
            )
            # Before the first product: what fills the padding may be NaN.
            values = jnp.where(mask[..., None], values, jnp.zeros((), values.dtype))
            mask = mask.reshape(batch, grid[0], -1)
            tokens = self.embedding.project(values)
        tokens = tokens.reshape(batch, grid[0], -1, self.out_features)
        y = self._encode_grid(tokens, mask, tuple(grid))
        return y.reshape(batch, *self.grid_shape(x.shape[1:-1]), self.out_features)

    @property
    def token_spec(self) -> WindowSpec:
        """The windows whose patches are the tokens; `spec` says where outputs lie."""
        return self.config.spec

    def attention(self, x: jax.Array) -> list[tuple[str, jax.Array]]:
        """The weights of every attention in turn, for `explain.attention_rollout`.

        Args:
            x: One field [1, time, *space, channel].

        Returns:
            What each goes along ("joint", "space", "time" or "pooled"), and its weights [rows,
            heads, tokens, tokens], query before key.
        """
        model = nnx.clone(nnx.view(self, deterministic=True, raise_if_not_found=False))
        encoders = {name: getattr(model, name) for name in ("encoder", "temporal_encoder")}
        for encoder in filter(None, encoders.values()):
            encoder.blocks = unrolled(encoder.blocks)
        graphdef, state = nnx.split(model)

        @jax.jit
        def forward(state: nnx.State, x: jax.Array) -> nnx.State:
            look = nnx.capture(lambda model, x: model(x), nnx.Intermediate)
            return look(nnx.merge(graphdef, state), x)[1]

        sown = forward(state, x)
        along = {1: "joint" if self.config.attention == "joint" else "time", 2: "space"}
        weights = []
        for name, encoder in encoders.items():
            for at, block in enumerate(encoder.blocks if encoder else ()):
                for number, axis in enumerate(block.options.axes):
                    own = sown[name]["blocks"][at]["attentions"][number]["weights"].get_value()[0]
                    weights.append(("pooled" if name == "temporal_encoder" else along[axis], own))
        return weights

    def _encode_grid(
        self, tokens: jax.Array, mask: jax.Array | None, grid: tuple[int, ...]
    ) -> jax.Array:
        """Runs the encoders on [batch, nt, cells, features] with a mask [batch, nt, cells]."""
        batch, times, _, features = tokens.shape
        segment_ids = None if mask is None else mask.astype(jnp.int32)
        places = np.moveaxis(np.indices(grid, dtype=np.int32), 0, -1)
        places = places.reshape(1, times, -1, len(grid))
        kind = self.config.attention
        if kind in ("factorised", "time"):
            seen = places if kind == "factorised" else places[:, :, :1, :1]
            return self.encoder(tokens, jnp.asarray(seen), segment_ids=segment_ids)
        if kind == "factorised_encoder":
            space = jnp.asarray(places[:, :1, :, 1:])
            tokens = self.encoder(tokens, space, segment_ids=segment_ids)
            pooled, segment_ids = _mean_over_space(tokens, mask)
            assert self.temporal_encoder is not None
            time = jnp.asarray(places[:, :, 0, :1])
            return self.temporal_encoder(pooled, time, segment_ids=segment_ids)
        if segment_ids is not None:
            segment_ids = segment_ids.reshape(batch, -1)
        in_a_row = jnp.asarray(places.reshape(1, -1, len(grid)))
        return self._encode_rows(tokens.reshape(batch, -1, features), in_a_row, segment_ids)

    def _encode_rows(
        self, tokens: jax.Array, positions: jax.Array, segment_ids: jax.Array | None
    ) -> jax.Array:
        """Runs joint attention on tokens in rows, [batch, tokens, features]."""
        times = positions[..., 0] if self.config.causal else None
        return self.encoder(tokens, positions, segment_ids=segment_ids, times=times)

    def encode(self, tokens: ArrayLike, positions: ArrayLike, segment_ids: ArrayLike) -> jax.Array:
        """Encodes packed rows of patches, such as `pack_clips` makes; joint attention only.

        A token looks at those of its own segment in its own row, so every clip comes out as it
        would alone. With `causal`, at those of no later time among them.

        Args:
            tokens: [rows, length, prod(window) * channels], the contents of patches.
            positions: [rows, length, axes] integers, coordinates (t, *space) in the clip's grid.
            segment_ids: [rows, length] integers, 0 for padding.

        Returns:
            [rows, length, features] in `dtype`, 0 at padding.

        Raises:
            InputError: If an argument's shape does not fit or the attention is not "joint".
        """
        require(
            self.config.attention == "joint",
            'attention must be "joint" for packed rows, got '
            f'"{self.config.attention}"; build it with "joint" or give one field a call',
        )
        tokens, positions = jnp.asarray(tokens), jnp.asarray(positions)
        segment_ids = jnp.asarray(segment_ids)
        values, axes, rows = self.embedding.values, self.config.spec.rank, tokens.shape[:2]
        require(
            tokens.ndim == 3 and tokens.shape[2] == values,
            f"tokens must be (rows, length, {values}) for windows of {self.embedding.window} with "
            f"{self.in_features} channels, got shape {tokens.shape}; pack patches of these windows",
        )
        require(
            positions.shape == (*rows, axes) and segment_ids.shape == rows,
            f"positions and segment_ids must be {(*rows, axes)} and {rows} for tokens "
            f"{tokens.shape}, got {positions.shape} and {segment_ids.shape}; pack all three at "
            "once",
        )
        real = segment_ids[..., None] != 0
        tokens = jnp.where(real, tokens, jnp.zeros((), tokens.dtype))
        return self._encode_rows(self.embedding.project(tokens), positions, segment_ids)


@dataclasses.dataclass(frozen=True)
class PatchTransformerConfig(BackboneConfig[PatchTransformer]):
    """Settings of `PatchTransformer`.

    Attributes:
        spec: The windows that are cut, one token each; a bare tuple means non-overlapping windows.
        features: Width of a token; even, a multiple of `heads`, at least 2 per window axis.
        depth: Number of transformer blocks.
        heads: Number of attention heads.
        mlp_ratio: Width of a block's hidden layer, as a multiple of `features`.
        attention: What a token looks at. "joint": all tokens. "factorised": in each block those of
            its time, then those of its place. "factorised_encoder": `depth` blocks look at the
            tokens of their time, the mean over space is taken, `temporal_depth` blocks look over
            time. "time": those of its place only, so every grid cell is a series of its own, and
            cells share their weights and do not know where they are.
        temporal_depth: Number of blocks of the second stage of "factorised_encoder"; not used
            otherwise.
        causal: Whether a token looks at none of a later time.
        scan: Whether the blocks are one, run in a loop over stacked weights: a program does not
            grow with `depth`. Unrolled, as few blocks run faster, each has arrays of its own;
            checkpoints of these load here.
    """

    tiny_fields: ClassVar[Fields] = {"features": 16, "depth": 2, "heads": 2, "mlp_ratio": 2.0}
    # ViT-B.
    large_fields: ClassVar[Fields] = {"features": 768, "depth": 12, "heads": 12}
    # Those of video are of V-JEPA 2 (Assran et al., 2025, table 4) and VideoMAE V2 (Wang et al.,
    # 2023), g with heads of 64 as in the former; `weather` is a decoder's of 1.3 billion weights
    # (Brown et al., 2020, GPT-3 XL) on maps of two times.
    published: ClassVar[Mapping[str, Fields]] = {
        "vit_l": {**_VIDEO, "features": 1024, "depth": 24, "heads": 16},
        "vit_h": {**_VIDEO, "features": 1280, "depth": 32, "heads": 16},
        "vit_g": {**_VIDEO, "features": 1408, "depth": 40, "heads": 22, "mlp_ratio": 48 / 11},
        "weather": {
            **{"spec": WindowSpec((2, 8, 8), padding=("VALID", "SAME", "SAME")), "scan": True},
            **{"features": 2048, "depth": 25, "heads": 16},
        },
    }
    looks_along_time: ClassVar[bool] = True
    spec: WindowSpec = OPEN
    features: int = 256
    depth: int = 6
    heads: int = 8
    mlp_ratio: float = 4.0
    attention: AttentionKind = "joint"
    temporal_depth: int = 4
    causal: bool = False
    scan: bool = dataclasses.field(default=False, metadata={"added": True})

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check(sizes=("features", "depth", "heads", "temporal_depth"))
        least = 2 * self.spec.rank
        require(
            self.features % self.heads == 0 and self.features % 2 == 0 and self.features >= least,
            f"features must be even, a multiple of heads and at least {least} for {self.spec.rank} "
            f"window axes, got features={self.features} and heads={self.heads}; use for example "
            f"features={2 * self.heads * self.spec.rank}",
        )
        lowest = 1 / (2 * self.features)
        check_range(self.name_of("mlp_ratio"), self.mlp_ratio, lowest, 2**10, bounds="(]")
        check_choice(self.name_of("attention"), self.attention, get_args(AttentionKind))
        require(
            self.spec.rank != 1 or self.attention in ("joint", "time"),
            f'the window must have a space axis for attention "{self.attention}", got '
            f'{self.spec.window}; use "joint"',
        )

    @property
    def hidden(self) -> int:
        """Width of the hidden layer of each MLP, `mlp_ratio * features` rounded."""
        return round(self.mlp_ratio * self.features)

    @classmethod
    def vivit_factorised_encoder(cls) -> Self:
        """ViViT-B/16x2 with factorised encoder: 12 blocks over space, 4 over time, width 768.

        Windows of 2 x 16 x 16 on video. Frames are pooled by the mean over space in place of a
        class token, and positions are sinusoidal in place of learnt.

        References:
            Arnab et al. (2021), "ViViT: a video vision transformer", model 2.
        """
        width: dict[str, Any] = {"features": 768, "depth": 12, "heads": 12, "temporal_depth": 4}
        return cls(WindowSpec((2, 16, 16)), attention="factorised_encoder", **width)

    @classmethod
    def patch_tst(cls) -> Self:
        """PatchTST: windows of 16 time steps every 8, 3 blocks of width 128, each series alone.

        For fields [batch, time, variable, 1]; the end is padded by 8 repeats of the last value, so
        that a context of 512 gives the 64 tokens of PatchTST/64. Layer normalisation in front of
        each part stands in place of batch normalisation behind it. The instance normalisation of
        the paper is an option of the forecast task, not of the network.

        References:
            Nie et al. (2023), "A time series is worth 64 words", appendix A.1.
        """
        spec = WindowSpec(
            (16, 1), stride=(8, 1), padding=((0, 8), (0, 0)), padding_mode=("edge", "constant")
        )
        width = {"features": 128, "depth": 3, "heads": 16, "mlp_ratio": 2.0}
        return cls(spec, attention="time", dropout=0.2, **width)


def _whole_space(spec: WindowSpec) -> WindowSpec:
    """Returns the spec with the whole of every space axis as one window."""
    rest = spec.rank - 1
    return WindowSpec(
        (spec.window[0], *[None] * rest),
        stride=(spec.stride[0], *[None] * rest),
        dilation=(spec.dilation[0], *[1] * rest),
        padding=(spec.padding[0], *["VALID"] * rest),
        padding_mode=(spec.padding_mode[0], *["constant"] * rest),
        fill_value=spec.fill_value,
    )


def _mean_over_space(
    tokens: jax.Array, mask: jax.Array | None
) -> tuple[jax.Array, jax.Array | None]:
    """Averages the real tokens of each time in float32, and marks the times that hold any by 1."""
    wide = tokens.astype(jnp.float32)
    if mask is None:
        return wide.mean(2), None
    count = mask.sum(2, dtype=jnp.int32)
    mean = wide.sum(2) / jnp.maximum(count, 1)[..., None].astype(jnp.float32)
    return mean, (count > 0).astype(jnp.int32)
