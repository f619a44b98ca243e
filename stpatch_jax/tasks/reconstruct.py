"""Reconstruct: hidden patches of a field from those that are left, to pretrain a backbone."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from stpatch_jax import losses
from stpatch_jax.errors import require
from stpatch_jax.metrics import LeadTimeErrors
from stpatch_jax.nn.embedding import TokenEmbeddingConfig
from stpatch_jax.nn.heads import DenseHead
from stpatch_jax.nn.layers import Backbone, BackboneConfig
from stpatch_jax.patches.folding import Blend
from stpatch_jax.patches.windows import WindowSpec
from stpatch_jax.tasks.task import Batch, TaskBase, TaskConfig

Masking = Literal["random", "tube"]


@dataclasses.dataclass(frozen=True)
class ReconstructConfig(TaskConfig):
    """Settings of `Reconstruct`.

    Attributes:
        window: Extent `(time, *space)` in cells of the patches that are hidden or shown as a whole,
            side by side; None takes the whole axis. It need not be the backbone's window.
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

    window: tuple[int | None, ...]
    mask_ratio: float = 0.75
    masking: Masking = "random"
    blend: Blend = "uniform"
    data_range: float | None = None

    def __post_init__(self) -> None:
        require(
            not isinstance(self.window, WindowSpec),
            "Reconstruct needs a bare window (time, *space), because the patches it hides lie side "
            f"by side, got {self.window}; give its window",
        )
        object.__setattr__(self, "window", WindowSpec(self.window).window)
        require(
            0 < self.mask_ratio < 1,
            f"Reconstruct needs 0 < mask_ratio < 1, got {self.mask_ratio}",
        )
        require(
            self.masking in get_args(Masking),
            f'Reconstruct needs masking "random" or "tube", got {self.masking!r}',
        )
        require(
            self.masking == "random" or len(self.window) > 1,
            "Reconstruct masks tubes only where there is space, but the window "
            f'{self.window} has none; use masking="random"',
        )
        require(
            self.data_range is None or self.data_range > 0,
            f"Reconstruct needs data_range > 0 or None, got {self.data_range}",
        )

    def create(self, *, facts: Mapping[str, Any] | None = None) -> Reconstruct:
        """Returns the task of these settings, as in `TaskConfig.create`."""
        del facts
        return Reconstruct(self)


class MaskedModel(nnx.Module):
    """What `Reconstruct` trains: a learned value per channel for hidden cells, a backbone, a head.

    In training each call of `mask_key` is another key; in `nnx.view(model, deterministic=True)` it
    is always the same one.
    """

    def __init__(self, backbone: Backbone, head: DenseHead, *, channels: int, rngs: nnx.Rngs):
        self.backbone = backbone
        self.head = head
        # Not 0, where ReLU has no slope and the value would not be learnt.
        init = nnx.initializers.normal(0.02)
        dtype = head.dense.kernel[...].dtype
        self.hidden_value = nnx.Param(init(rngs.params(), (channels,), dtype))
        self.masks = rngs["mask"].fork()
        self.deterministic = False

    def set_view(self, *, deterministic: bool | None = None) -> None:
        """Chooses, for `nnx.view`, between masks that are drawn anew and fixed ones.

        Args:
            deterministic: If True, masks are always the same.
        """
        if deterministic is not None:
            self.deterministic = deterministic

    def mask_key(self) -> jax.Array:
        """Returns the key to draw the next mask with."""
        return _evaluation_key() if self.deterministic else self.masks()

    def __call__(self, x: jax.Array, mask: jax.Array) -> jax.Array:
        """Reconstructs a field of which a part is hidden.

        Args:
            x: [batch, time, *space, channel].
            mask: Bool [batch, time, *space], True where a cell is hidden.

        Returns:
            [batch, time, *space, channel] in float32; what `x` holds where it is hidden does not
            count.
        """
        value = self.hidden_value[...].astype(x.dtype).reshape((1,) * (x.ndim - 1) + (-1,))
        return self.head(self.backbone(jnp.where(mask[..., None], value, x)))


class Reconstruct(TaskBase):
    """Reconstructs hidden patches of a field from those that are left: pretraining for any task.

    A batch holds `field` [batch, time, *space, channel], NaN-free and best scaled to mean 0 and
    variance 1, and optionally bool `field_mask` of its shape, True where a value is real, and bool
    `example_mask` [batch]. Afterwards `transfer_backbone` copies the backbone into another
    task's model.

    Args:
        config: Settings.
    """

    inputs = ("field",)

    def __init__(self, config: ReconstructConfig):
        self.config = config

    def build(
        self,
        backbone: BackboneConfig,
        shapes: Mapping[str, Sequence[int]],
        *,
        rngs: nnx.Rngs,
    ) -> MaskedModel:
        """Builds backbone and head for batches of the given shapes.

        Args:
            backbone: Config of any backbone for numbers; its windows must cover the field.
            shapes: Shape of `field` in a batch; the batch size does not matter.
            rngs: Streams `params`, `dropout` and `mask`.

        Returns:
            The model, whose head is zero: it reconstructs 0.

        Raises:
            InputError: If the field does not fit backbone or window, or all or no patches would be
                hidden.
        """
        field = tuple(shapes["field"])
        self._hidden(field[1:-1])
        require(
            not isinstance(backbone, TokenEmbeddingConfig),
            "Reconstruct needs a field of numbers, not token ids; pretrain text with NextToken",
        )
        body = backbone.build(field[-1], shape=field[1:-1], rngs=rngs)
        head = DenseHead(
            body.spec,
            body.out_features,
            shape=field[1:-1],
            channels=field[-1],
            blend=self.config.blend,
            rngs=rngs,
            **backbone.dtypes,
        )
        return MaskedModel(body, head, channels=field[-1], rngs=rngs)

    def check_batch(self, batch: Batch) -> None:
        """Refuses fields that hold something else than numbers; for data on the host.

        Raises:
            InputError: If a value is NaN or infinite.
        """
        require(
            bool(np.isfinite(batch["field"]).all()),
            "Reconstruct needs a field of numbers, got NaN or infinity; fill what is missing and "
            "say so in field_mask",
        )

    def _hidden(self, shape: tuple[int, ...]) -> tuple[tuple[int, ...], tuple[int, ...], int]:
        """Returns patch grid, window and number of hidden patches (of one time, for tubes)."""
        spec = WindowSpec.of(self.config.window)
        grid, window = spec.grid_shape(shape), spec.window_shape(shape)
        require(
            all(n == g * w for n, g, w in zip(shape, grid, window, strict=True)),
            f"Reconstruct needs a field that its window divides, got the window {window} for "
            f"(time, *space) {shape}; use a window that divides each axis",
        )
        drawn = math.prod(grid if self.config.masking == "random" else grid[1:])
        hidden = round(self.config.mask_ratio * drawn)
        require(
            0 < hidden < drawn,
            f"Reconstruct needs to hide some of the patches and not all, but mask_ratio "
            f"{self.config.mask_ratio} of {drawn} patches hides {hidden}; use a smaller window or "
            "another mask_ratio",
        )
        return grid, window, hidden

    def mask(self, shape: Sequence[int], *, key: jax.Array) -> jax.Array:
        """Draws which cells are hidden: exactly as many patches in every example.

        Args:
            shape: Shape of the field, (batch, time, *space, channel).
            key: PRNG key.

        Returns:
            Bool [batch, time, *space], True where a cell is hidden.
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
        """Reconstructs a batch under its `evaluation_mask`.

        Give `nnx.view(model, deterministic=True)` outside of training.

        Returns:
            [batch, time, *space, channel] in float32.
        """
        return model(batch["field"], self.evaluation_mask(batch))

    def loss(self, model: MaskedModel, batch: Batch) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Computes the mean squared error over the hidden real values of a batch.

        Returns:
            The loss, a float32 scalar, and its metrics over the hidden values: `mse`, with a
            `data_range` R `psnr`, `10 log10(R^2 / mse)` in decibels, and `weight`, their number.
        """
        mask = self.mask(batch["field"].shape, key=model.mask_key())
        prediction, judged = model(batch["field"], mask), _judged(batch, mask)
        loss = losses.mse(prediction, batch["field"], mask=judged)
        metrics = {"mse": loss, "weight": jnp.sum(losses.entry_weights(judged))}
        if self.config.data_range is not None:
            metrics["psnr"] = 10 * jnp.log10(self.config.data_range**2 / loss)
        return loss, jax.lax.stop_gradient(metrics)

    def errors(self, prediction: jax.Array, batch: Batch) -> LeadTimeErrors:
        """Sums errors over the values that the `evaluation_mask` hides.

        Args:
            prediction: [batch, time, *space, channel], the model's or a baseline's.
            batch: The batch.

        Returns:
            Errors per time step of the field; add up all batches, then ask for MAE or RMSE.
        """
        mask = _judged(batch, self.evaluation_mask(batch))
        return LeadTimeErrors.of(prediction, jnp.asarray(batch["field"]), mask=mask)

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


def _judged(batch: Batch, mask: jax.Array) -> jax.Array:
    """Where a reconstruction is judged: hidden values that are real, in real examples."""
    judged = jnp.broadcast_to(mask[..., None], batch["field"].shape)
    if "field_mask" in batch:
        judged = judged & batch["field_mask"]
    if "example_mask" in batch:
        examples = batch["example_mask"]
        judged = judged & examples.reshape(examples.shape + (1,) * (judged.ndim - 1))
    return judged


def _evaluation_key() -> jax.Array:
    return jax.random.key(0)
