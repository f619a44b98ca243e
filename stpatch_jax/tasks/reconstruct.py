"""Reconstruct: hidden patches of a field from those that are left, to pretrain a backbone."""

from __future__ import annotations

import dataclasses
import math
import operator
from collections.abc import Mapping, Sequence
from typing import Any, Literal, Self, get_args

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from stpatch_jax import losses
from stpatch_jax.errors import check_choice, check_range, require
from stpatch_jax.nn.embedding import TokenEmbeddingConfig
from stpatch_jax.nn.heads import DenseHead
from stpatch_jax.nn.layers import Backbone, BackboneConfig
from stpatch_jax.patches.blends import BlendName
from stpatch_jax.patches.windows import WindowSpec
from stpatch_jax.tasks.models import BackboneWithHead
from stpatch_jax.tasks.task import Batch, Metrics, Shapes, TaskBase, TaskConfig, real_entries

Masking = Literal["random", "tube"]


@dataclasses.dataclass(frozen=True)
class ReconstructConfig(TaskConfig):
    """Settings of `Reconstruct`.

    Attributes:
        window: Extent `(time, *space)` in cells of the patches that are hidden or shown as a whole,
            side by side; None takes the whole axis. It need not be the backbone's window. Without
            an entry it is the data's: the longest part that divides an axis, of time at most a
            quarter, of each axis of a map or volume at most an eighth, of a panel one series.
        mask_ratio: Share of the patches that are hidden, rounded to a whole number of them.
        masking: "random" hides patches anywhere; "tube" hides the same part of space at all times,
            so that what hardly moves cannot be copied from another time.
        blend: Taper with which the head's windows are averaged, see `DenseHead`.
        data_range: Largest minus smallest possible value of the field, against which the metric
            `psnr` is measured; None leaves that metric out.

    References:
        Tong et al., "VideoMAE", NeurIPS 2022 (tubes, and ratios of 0.9 for video); Xie et al.,
        "SimMIM", CVPR 2022 (a learned value in place of what is hidden).
    """

    window: tuple[int | None, ...] = ()
    mask_ratio: float = 0.75
    masking: Masking = "random"
    blend: BlendName = "uniform"
    data_range: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        require(
            not isinstance(self.window, WindowSpec),
            f"window must be a bare (time, *space), got {self.window}; give its window, because "
            "the patches that are hidden lie side by side",
        )
        object.__setattr__(self, "window", WindowSpec(self.window).window)
        check_range("mask_ratio", self.mask_ratio, 0, 1, bounds="()")
        check_choice("masking", self.masking, get_args(Masking))
        require(
            self.masking == "random" or len(self.window) != 1,
            f"window must have a space axis for tubes, got {self.window}; use masking random",
        )
        if self.data_range is not None:
            check_range("data_range", self.data_range, 0, math.inf, bounds="()")

    def create(self, *, facts: Mapping[str, Any] | None = None) -> Reconstruct:
        """The task of these settings, as in `TaskConfig.create`."""
        return Reconstruct(self, **(facts or {}))


class MaskedModel(BackboneWithHead):
    """What `Reconstruct` trains: a backbone, a head, a learned value per channel for hidden cells.

    In training each call of `mask_key` is another key; in `nnx.view(model, deterministic=True)` it
    is always the same one.
    """

    def __init__(self, backbone: Backbone, head: DenseHead, *, channels: int, rngs: nnx.Rngs):
        super().__init__(backbone, head)
        # Not 0, where ReLU has no slope and the value would not be learnt.
        init = nnx.initializers.normal(0.02)
        dtype = head.dense.kernel[...].dtype
        self.hidden_value = nnx.Param(init(rngs.params(), (channels,), dtype))
        self.masks = rngs["mask"].fork()
        self.deterministic = False

    def set_view(self, *, deterministic: bool | None = None) -> None:
        """Chooses, for `nnx.view`, between masks that are drawn anew and the same one always."""
        if deterministic is not None:
            self.deterministic = deterministic

    def mask_key(self) -> jax.Array:
        """Returns the key to draw the next mask with."""
        return _evaluation_key() if self.deterministic else self.masks()

    def __call__(self, x: jax.Array, *, mask: jax.Array | None = None) -> jax.Array:
        """Reconstructs a field of which a part is hidden, [batch, time, *space, channel] float32.

        The mask is bool [batch, time, *space], True where a cell is hidden, whose value does not
        count; None hides nothing.
        """
        if mask is None:
            return super().__call__(x)
        value = self.hidden_value[...].astype(x.dtype).reshape((1,) * (x.ndim - 1) + (-1,))
        return super().__call__(jnp.where(mask[..., None], value, x))


class Reconstruct(TaskBase):
    """Reconstructs hidden patches of a field from those that are left: pretraining for any task.

    A batch holds `field` [batch, time, *space, channel], NaN-free and best scaled to mean 0 and
    variance 1, and optionally bool `field_mask` of its shape, True where a value is real, and bool
    `example_mask` [batch]. Afterwards `transfer_backbone` copies the backbone into another
    task's model.

    Args:
        config: Settings.
        window: That of the data, where the config leaves it to them; none until `fitted`.
    """

    config: ReconstructConfig

    def __init__(self, config: ReconstructConfig, *, window: Sequence[int] = ()):
        super().__init__(config, window=tuple(window))

    def fitted(self, data: Any) -> Self:
        """The task with the window that suits the data, where the config leaves it to them."""
        if self.config.window:
            return self
        shape = data.source("train")[0]["field"].shape[:-1]
        return type(self)(self.config, window=_dividing(shape))

    @property
    def window(self) -> tuple[int | None, ...]:
        """Extent of the patches that are hidden or shown as a whole.

        Raises:
            InputError: It is the data's, and the task was not `fitted`.
        """
        return self.config.window or self.fact("window")

    def check_shapes(self, backbone: BackboneConfig, shapes: Shapes) -> None:
        """Refuses token ids, and windows that do not divide the field or hide none or all of it.

        Raises:
            InputError: Saying which of these.
        """
        self._hidden(tuple(shapes["field"][1:-1]))
        require(
            not isinstance(backbone, TokenEmbeddingConfig),
            "field must be of numbers, got token ids for a TokenEmbeddingConfig; pretrain text "
            "with NextToken",
        )

    def network(
        self, body: Backbone, backbone: BackboneConfig, shapes: Shapes, *, rngs: nnx.Rngs
    ) -> MaskedModel:
        """Puts a `DenseHead`, zero before training, on a backbone whose windows cover the field.

        `rngs` has the streams `params` and `mask`.
        """
        field = tuple(shapes["field"])
        head = DenseHead(
            body.spec,
            body.out_features,
            shape=field[1:-1],
            channels=field[-1],
            blend=self.config.blend,
            rngs=rngs,
            options=backbone.for_head,
        )
        return MaskedModel(body, head, channels=field[-1], rngs=rngs)

    def check_batch(self, batch: Batch) -> None:
        """Refuses fields that hold NaN or infinity, as in `Task.check_batch`."""
        require(
            bool(np.isfinite(batch["field"]).all()),
            "field must be finite, got NaN or infinity; fill what is missing and say so in "
            "field_mask",
        )

    def _hidden(self, shape: tuple[int, ...]) -> tuple[tuple[int, ...], tuple[int, ...], int]:
        """Returns patch grid, window and number of hidden patches (of one time, for tubes)."""
        own = self.window
        window = tuple(cells or n for cells, n in zip(own, shape, strict=False))
        require(
            len(own) == len(shape) and not any(map(operator.mod, shape, window)),
            f"task.window must divide the field, got {own} for (time, *space) {shape}; use one "
            "that divides each axis",
        )
        grid = tuple(map(operator.floordiv, shape, window))
        drawn = math.prod(grid if self.config.masking == "random" else grid[1:])
        hidden = round(self.config.mask_ratio * drawn)
        require(
            0 < hidden < drawn,
            "task.mask_ratio must hide some patches and not all, got "
            f"{self.config.mask_ratio}, which hides {hidden} of {drawn}; use a smaller task.window "
            "or another ratio",
        )
        return grid, window, hidden

    def mask(self, shape: Sequence[int], *, key: jax.Array) -> jax.Array:
        """Draws which cells are hidden: exactly as many patches in every example.

        Of a field of shape (batch, time, *space, channel) bool [batch, time, *space], True where a
        cell is hidden.
        """
        batch, cells = shape[0], tuple(shape[1:-1])
        grid, window, hidden = self._hidden(cells)
        drawn = grid if self.config.masking == "random" else (1, *grid[1:])
        noise = jax.random.uniform(key, (batch, math.prod(drawn)))
        # Ranks, because equal draws must not change how many are hidden.
        rank = jnp.argsort(jnp.argsort(noise, axis=-1), axis=-1)
        interleaved = [n for pair in zip(drawn, (1,) * len(grid), strict=True) for n in pair]
        mask = (rank < hidden).reshape(batch, *interleaved)
        spread = [n for pair in zip(grid, window, strict=True) for n in pair]
        return jnp.broadcast_to(mask, (batch, *spread)).reshape(batch, *cells)

    def evaluation_mask(self, batch: Batch) -> jax.Array:
        """Returns the mask of every evaluation, bool [batch, time, *space], from a fixed key."""
        return self.mask(batch["field"].shape, key=_evaluation_key())

    def predict(self, model: MaskedModel, batch: Batch) -> jax.Array:
        """Reconstructs a batch under its `evaluation_mask`: the field in float32."""
        return model(batch["field"], mask=self.evaluation_mask(batch))

    def loss(self, model: MaskedModel, batch: Batch) -> tuple[jax.Array, Metrics]:
        """Computes the mean squared error over the hidden real values of a batch.

        Returns:
            The loss, a float32 scalar, and its metrics, as in `score`.
        """
        mask = self.mask(batch["field"].shape, key=model.mask_key())
        return self._loss(model(batch["field"], mask=mask), batch, mask)

    def score(self, outputs: jax.Array, batch: Batch) -> Metrics:
        """Metrics of a reconstruction over the real values that the `evaluation_mask` hides.

        Returns:
            `mse`, with a `data_range` R `psnr`, `10 log10(R^2 / mse)` in decibels, and `weight`,
            the number of those values.
        """
        return self._loss(outputs, batch, self.evaluation_mask(batch))[1]

    def _loss(self, outputs: jax.Array, batch: Batch, mask: jax.Array) -> tuple[jax.Array, Metrics]:
        judged = self.judged(batch, mask)
        loss = losses.mse(outputs, batch["field"], mask=judged)
        metrics = {"mse": loss, "weight": jnp.sum(losses.entry_weights(judged))}
        if self.config.data_range is not None:
            metrics["psnr"] = 10 * jnp.log10(self.config.data_range**2 / loss)
        return loss, jax.lax.stop_gradient(metrics)

    def judged(self, batch: Batch, mask: jax.Array) -> jax.Array:
        """Where a reconstruction is judged: hidden values that are real, in real examples.

        Of a mask as `mask` gives, bool [batch, time, *space, channel].
        """
        judged = jnp.broadcast_to(mask[..., None], batch["field"].shape)
        if "field_mask" in batch:
            judged = judged & batch["field_mask"]
        return real_entries(judged, batch)

    def baselines(self, batch: Batch) -> dict[str, jax.Array]:
        """Returns naive reconstructions under the `evaluation_mask`, each of the field's shape.

        `visible_mean` is the mean of each example and channel over what is shown. Where patches are
        hidden at random in a field of several times, `persistence` is the last value shown of the
        same cell; the mean where none was.
        """
        field, hidden = jnp.asarray(batch["field"], jnp.float32), self.evaluation_mask(batch)
        shown = jnp.broadcast_to(~hidden[..., None], field.shape)
        if "field_mask" in batch:
            shown = shown & batch["field_mask"]
        axes = tuple(range(1, field.ndim - 1))
        total = jnp.sum(jnp.where(shown, field, 0.0), axis=axes, keepdims=True)
        mean = total / jnp.maximum(jnp.sum(shown, axis=axes, keepdims=True), 1)
        naive = {"visible_mean": jnp.broadcast_to(mean, field.shape)}
        if self.config.masking == "random" and field.shape[1] > 1:
            times = jnp.arange(field.shape[1]).reshape(1, -1, *(1,) * (field.ndim - 2))
            last = jax.lax.cummax(jnp.where(shown, times, -1), axis=1)
            known = jnp.take_along_axis(field, jnp.maximum(last, 0), axis=1)
            naive["persistence"] = jnp.where(last >= 0, known, mean)
        return naive


def _dividing(shape: Sequence[int]) -> tuple[int, ...]:
    """The window of an example `(time, *space)` whose config names none.

    >>> _dividing((24, 64, 37))
    (6, 8, 1)
    """
    parts = (4, *[8] * (len(shape) - 1)) if len(shape) != 2 else (4, shape[1])
    most = (max(1, n // part) for n, part in zip(shape, parts, strict=True))
    return tuple(
        max(width for width in range(1, limit + 1) if n % width == 0)
        for n, limit in zip(shape, most, strict=True)
    )


def _evaluation_key() -> jax.Array:
    return jax.random.key(0)
