"""Forecast: the coming steps of a field from those before."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Literal, get_args

import jax
import jax.numpy as jnp
from flax import nnx

from stpatch_jax import losses
from stpatch_jax.metrics import LeadTimeErrors
from stpatch_jax.nn.heads import ForecastHead
from stpatch_jax.nn.layers import BackboneConfig, require
from stpatch_jax.tasks.common import BackboneWithHead, Batch, real_targets

ForecastLoss = Literal["mse", "mae", "huber"]


@dataclasses.dataclass(frozen=True)
class ForecastConfig:
    """Settings of `Forecast`.

    Attributes:
        loss: "mse", "mae" or "huber", over the real targets in scaled units.
        huber_delta: Error, in scaled units, at which the Huber loss turns from squares into
            absolute values; the other losses do not use it.
    """

    loss: ForecastLoss = "mse"
    huber_delta: float = 1.0

    def __post_init__(self) -> None:
        require(
            self.loss in get_args(ForecastLoss),
            f"Forecast needs loss to be one of {', '.join(get_args(ForecastLoss))}, "
            f"got {self.loss!r}",
        )
        require(
            self.huber_delta > 0,
            f"Forecast needs huber_delta > 0 in scaled units, got {self.huber_delta}",
        )


class Forecast:
    """Forecasts every lead time of the horizon at once, one value per target.

    The model learns the residual to persistence, so that before training it is persistence. A batch
    holds, all in scaled units: `context` [batch, context, *space, channel], `target` and bool
    `target_mask` [batch, horizon, *space, channel'], `persistence` [batch, 1, *space, channel'],
    and optionally bool `example_mask` [batch], False where an example only fills up the batch.

    Args:
        config: Settings.
    """

    def __init__(self, config: ForecastConfig):
        self.config = config

    def build(
        self,
        backbone: BackboneConfig,
        shapes: Mapping[str, Sequence[int]],
        *,
        rngs: nnx.Rngs,
    ) -> BackboneWithHead:
        """Builds backbone and head for batches of the given shapes.

        Args:
            backbone: Config of any backbone.
            shapes: Shapes of `context` and `target` in a batch; the batch size does not matter.
            rngs: Streams `params` and `dropout`.

        Returns:
            The model, whose head is zero: it forecasts persistence.

        Raises:
            InputError: If the shapes do not belong together or do not fit the backbone.
        """
        context, target = tuple(shapes["context"]), tuple(shapes["target"])
        self._check_shapes(context, target)
        body = backbone.build(context[-1], shape=context[1:-1], rngs=rngs)
        head = ForecastHead(
            body.spec,
            body.out_features,
            space=context[2:-1],
            horizon=target[1],
            channels=target[-1],
            rngs=rngs,
            **backbone.dtypes,
        )
        return BackboneWithHead(body, head)

    def _check_shapes(self, context: tuple[int, ...], target: tuple[int, ...]) -> None:
        require(
            len(context) >= 3 and len(context) == len(target) and context[2:-1] == target[2:-1],
            "Forecast needs context (batch, context, *space, channel) and target (batch, horizon, "
            f"*space, channel) over the same space, got {context} and {target}; cut both from the "
            "same cells",
        )

    def predict(self, model: nnx.Module, batch: Batch) -> jax.Array:
        """Forecasts a batch: persistence plus the model's residual.

        Give `nnx.view(model, deterministic=True)` outside of training.

        Returns:
            [batch, horizon, *space, channel'], float32, in scaled units.
        """
        return batch["persistence"].astype(jnp.float32) + model(batch["context"])

    def loss(self, model: nnx.Module, batch: Batch) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Computes the loss over the real targets of a batch.

        Returns:
            The loss, a float32 scalar, and its metrics `mae` and `rmse` over all lead times,
            float32 scalars in scaled units (0 if the batch has no real target).
        """
        prediction, target = self.predict(model, batch), batch["target"]
        mask = real_targets(batch)
        error = {
            "mse": losses.mse(prediction, target, mask=mask),
            "mae": losses.mae(prediction, target, mask=mask),
        }
        options = {"delta": self.config.huber_delta} if self.config.loss == "huber" else {}
        loss = getattr(losses, self.config.loss)(prediction, target, mask=mask, **options)
        metrics = {"mae": error["mae"], "rmse": jnp.sqrt(error["mse"])}
        return loss, jax.lax.stop_gradient(metrics)

    def errors(self, prediction: jax.Array, batch: Batch) -> LeadTimeErrors:
        """Sums the errors of a forecast (the model's or a baseline's) over a batch's real targets.

        Returns:
            Errors per lead time in scaled units; add up all batches, then ask for MAE or RMSE.
        """
        return LeadTimeErrors.of(prediction, batch["target"], mask=real_targets(batch))

    def baselines(self, batch: Batch) -> dict[str, jax.Array]:
        """Returns the naive forecasts by name, each [batch, horizon, *space, channel'].

        `persistence` repeats the last known value at every lead time.
        """
        persistence = jnp.asarray(batch["persistence"], jnp.float32)
        horizon = batch["target"].shape[1]
        shape = (persistence.shape[0], horizon, *persistence.shape[2:])
        return {"persistence": jnp.broadcast_to(persistence, shape)}
