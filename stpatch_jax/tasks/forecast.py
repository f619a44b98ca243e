"""Forecast: the coming steps of a field from those before."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any, Literal, Protocol, TypeVar, get_args

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from stpatch_jax import losses
from stpatch_jax.errors import InputError, check_range, require, require_members
from stpatch_jax.metrics import LeadTimeErrors
from stpatch_jax.nn.heads import ForecastHead, ForecastTime
from stpatch_jax.nn.heads.forecast import central_quantile
from stpatch_jax.nn.layers import BackboneConfig, is_size
from stpatch_jax.tasks.baselines import persistence as repeat_last
from stpatch_jax.tasks.common import real_targets
from stpatch_jax.tasks.forecast_models import AnyForecastModel, ForecastModel, ForecastPair
from stpatch_jax.tasks.rollout import instance_statistics, rollout
from stpatch_jax.tasks.task import Batch, TaskBase, TaskConfig

ForecastLoss = Literal["mse", "mae", "huber"]
ForecastMode = Literal["direct", "rollout"]
Naive = Literal["persistence", "seasonal_persistence", "climatology"]
Residual = Literal[Naive, "none"]
Normalize = Literal["none", "instance", "both"]
_CHOICES = {
    "loss": get_args(ForecastLoss),
    "mode": get_args(ForecastMode),
    "residual": get_args(Residual),
    "weighed_against": get_args(Naive),
    "normalize": get_args(Normalize),
    "time": get_args(ForecastTime),
}
Prediction = TypeVar("Prediction", jax.Array, np.ndarray)
_NAIVE = ("seasonal_persistence", "climatology")


@dataclasses.dataclass(frozen=True)
class ForecastConfig(TaskConfig):
    """Settings of `Forecast`.

    Attributes:
        loss: "mse", "mae" or "huber", over the real targets in scaled units; quantiles are always
            trained on the pinball loss.
        huber_delta: Error, in scaled units, at which the Huber loss turns from squares into
            absolute values; the other losses do not use it.
        quantiles: Probabilities in (0, 1), increasing, with 0.5 among them, which is the point
            forecast; empty for point forecasts only.
        mode: "direct" forecasts all lead times at once; "rollout" forecasts `rollout_step` of them
            and feeds these back as context until the horizon is reached. Training differentiates
            through the whole rollout. It gives point forecasts of all channels of the context,
            whose last row is what persistence predicts.
        rollout_step: Number of time steps forecast at once in a rollout.
        residual: What the model adds to: "persistence", another naive forecast that the batch
            brings ("seasonal_persistence", "climatology"), or "none" (0). Under instance
            normalisation the context's mean stands for "none" and is added to "climatology", since
            the context then holds departures from it (see `FieldConfig.anomalies`).
        normalize: "instance" brings the context of each example, cell and channel to mean 0 and
            variance 1 over its time, and the forecast back to the context's scale (RevIN without
            its learned scale and shift). Targets then are channels of the context. "both" trains
            two such networks beside each other, one with and one without, each on its own loss, and
            forecasts their mean: which of them is right depends on whether a shifted level stays.
        target_channels: Which channels of the context the targets are, for `normalize`; None if
            they are all of them, in their order.
        time: "last" or "flatten", see `ForecastHead`.
        bias: Whether the head adds a constant at each lead time. Without it a linear model cannot
            learn the drift of its training span, which need not go on.
        l1: Factor of the L1 penalty on the weights (not biases) that is added to the loss.
        model_weight: Weight w in [0, 1] of the model's point forecast against a naive one p in what
            is forecast, `p + w (model - p)`; the model is trained without it. "data": the one that
            the data tell (see `stpatch_jax.data.rolling_weight`).
        weighed_against: Which naive forecast p is.

    References:
        Kim et al., "Reversible instance normalization for accurate time-series forecasting against
        distribution shift", ICLR 2022. Bates and Granger, "The combination of forecasts",
        Operational Research Quarterly 20 (1969).
    """

    loss: ForecastLoss = "mse"
    huber_delta: float = 1.0
    quantiles: tuple[float, ...] = ()
    mode: ForecastMode = "direct"
    rollout_step: int = 1
    residual: Residual = "persistence"
    normalize: Normalize = "none"
    target_channels: tuple[int, ...] | None = None
    time: ForecastTime = "last"
    bias: bool = True
    l1: float = 0.0
    model_weight: float | Literal["data"] = 1.0
    weighed_against: Naive = "persistence"

    def __post_init__(self) -> None:
        for field in ("quantiles", "target_channels"):
            if isinstance(getattr(self, field), list):
                object.__setattr__(self, field, tuple(getattr(self, field)))
        for field, choices in _CHOICES.items():
            require(
                getattr(self, field) in choices,
                f"Forecast needs {field} to be one of {', '.join(choices)}, "
                f"got {getattr(self, field)!r}",
            )
        require(
            self.huber_delta > 0,
            f"Forecast needs huber_delta > 0 in scaled units, got {self.huber_delta}",
        )
        require(self.l1 >= 0, f"Forecast needs l1 >= 0, got {self.l1}")
        if self.model_weight != "data":
            check_range("model_weight", self.model_weight, 0, 1)
        require(
            self.model_weight == 1 or not self.quantiles,
            f"Forecast weighs point forecasts only, got model_weight={self.model_weight} and "
            f"quantiles {self.quantiles}; use model_weight=1",
        )
        require(
            is_size(self.rollout_step),
            f"Forecast needs rollout_step >= 1 in time steps, got {self.rollout_step!r}",
        )
        if self.quantiles:
            central_quantile(self.quantiles)
        require(
            not self.quantiles or 0.5 in self.quantiles,
            f"Forecast needs 0.5 among its quantiles, got {self.quantiles}; the median is the "
            "point forecast",
        )
        require(
            self.mode == "direct" or self.residual not in _NAIVE,
            f"Forecast rolls out with residual persistence or none, got {self.residual!r}; use "
            'mode="direct"',
        )
        require(
            not self.quantiles or self.mode == "direct",
            f"Forecast cannot roll out quantiles, got {self.quantiles}: what is fed back is one "
            'value; use mode="direct"',
        )

    def create(self, *, facts: Mapping[str, Any] | None = None) -> Forecast:
        """Returns the task of these settings, as in `TaskConfig.create`."""
        return Forecast(self, **(facts or {}))


class WeighsModels(Protocol):
    """What `Forecast` asks of its data for `model_weight="data"`."""

    def model_weight(self) -> float:
        """Weight of a model's forecast against a naive one, from 0 to 1."""
        ...


class Forecast(TaskBase):
    """Forecasts every lead time of the horizon, one value or one set of quantiles per target.

    The model learns the residual to persistence (unless told otherwise), so that before training it
    is persistence. A batch holds, all in scaled units: `context` [batch, context, *space, channel],
    `target` and bool `target_mask` [batch, horizon, *space, channel'], `persistence`
    [batch, 1, *space, channel'], and optionally bool `example_mask` [batch], False where an example
    only fills up the batch. It may bring `weights` of the targets in the loss, each axis as long as
    the target's or 1 (such as `losses.latitude_weights`), and further naive forecasts,
    `seasonal_persistence` and `climatology` [batch, 1 or horizon, *space, channel'], see
    `stpatch_jax.tasks.baselines`.

    Args:
        config: Settings.
        model_weight: The weight that the data tell, for `model_weight="data"`; None until `fitted`.
    """

    def __init__(self, config: ForecastConfig, *, model_weight: float | None = None):
        self.config = config
        self.model_weight = model_weight if config.model_weight == "data" else config.model_weight

    @property
    def facts(self) -> Mapping[str, Any]:
        """The weight that the data told, if they did."""
        if self.config.model_weight != "data" or self.model_weight is None:
            return {}
        return {"model_weight": self.model_weight}

    def fitted(self, data: Any) -> Forecast:
        """The task with the weight that the data tell, where the config leaves it to them.

        Raises:
            InputError: They cannot tell it.
        """
        if self.config.model_weight != "data":
            return self
        require_members(data, WeighsModels, what="the data of a Forecast of model_weight data")
        return Forecast(self.config, model_weight=data.model_weight())

    def build(
        self,
        backbone: BackboneConfig,
        shapes: Mapping[str, Sequence[int]],
        *,
        rngs: nnx.Rngs,
    ) -> AnyForecastModel:
        """Builds backbone and head for batches of the given shapes, or a pair of both.

        Args:
            backbone: Config of any backbone.
            shapes: Shapes of `context` and `target` in a batch; the batch size does not matter.
            rngs: Streams `params` and `dropout`.

        Returns:
            The model, whose head is zero: it forecasts persistence, or what else `residual` names.

        Raises:
            InputError: If the shapes do not belong together or do not fit backbone or config.
        """
        self._weight()
        context, target = tuple(shapes["context"]), tuple(shapes["target"])
        self._check_shapes(context, target)
        self._check_channels(context[-1], target[-1])
        if self.config.normalize == "both":
            return ForecastPair(*(self._network(backbone, context, target, rngs) for _ in range(2)))
        return self._network(backbone, context, target, rngs)

    def _network(
        self,
        backbone: BackboneConfig,
        context: tuple[int, ...],
        target: tuple[int, ...],
        rngs: nnx.Rngs,
    ) -> ForecastModel:
        body = backbone.build(context[-1], shape=context[1:-1], rngs=rngs)
        head = ForecastHead(
            body.spec,
            body.out_features,
            space=context[2:-1],
            horizon=self.config.rollout_step if self.config.mode == "rollout" else target[1],
            channels=target[-1],
            quantiles=self.config.quantiles,
            time=self.config.time,
            grid_time=body.grid_shape(context[1:-1])[0],
            bias=self.config.bias,
            rngs=rngs,
            **backbone.dtypes,
        )
        return ForecastModel(body, head, horizon=target[1])

    def _check_shapes(self, context: tuple[int, ...], target: tuple[int, ...]) -> None:
        require(
            len(context) >= 3 and len(context) == len(target) and context[2:-1] == target[2:-1],
            "Forecast needs context (batch, context, *space, channel) and target (batch, horizon, "
            f"*space, channel) over the same space, got {context} and {target}; cut both from the "
            "same cells",
        )

    def _check_channels(self, context: int, target: int) -> None:
        """Refuses targets that the options need to be channels of the context, but are not."""
        every = tuple(range(context))
        chosen = every if self.config.target_channels is None else self.config.target_channels
        fits = len(chosen) == target and set(chosen) <= set(every)
        require(
            self.config.normalize == "none" or fits,
            f"Forecast normalizes by instance only targets that are channels of the context, but "
            f"channels {chosen} of {context} were named for {target} targets; give "
            "target_channels, one for each target",
        )
        require(
            self.config.mode == "direct" or (fits and chosen == every),
            f"Forecast rolls out only where all {context} channels of the context are "
            f"targets, in their order, got {target} targets; forecast every channel or use "
            'mode="direct"',
        )

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of the arrays of a batch that `predict` reads."""
        needed = (self.config.residual, self.config.weighed_against)
        return ("context", "persistence", *(name for name in _NAIVE if name in needed))

    def check_batch(self, batch: Batch) -> None:
        """Refuses a batch that does not suit the options; for data on the host, before training.

        Raises:
            InputError: If the batch lacks a naive forecast that is used, or the task rolls out and
                persistence is not the context's last row.
        """
        require(
            set(self.inputs) <= set(batch),
            f"Forecast needs {', '.join(self.inputs)} in a batch, but it has {', '.join(batch)}; "
            "give the data a season or a climatology, or choose another residual",
        )
        if self.config.mode == "direct":
            return
        last, persistence = np.asarray(batch["context"])[:, -1:], np.asarray(batch["persistence"])
        require(
            last.shape == persistence.shape and np.allclose(last, persistence, atol=1e-5),
            "Forecast rolls out only where persistence is the last row of the context, so that a "
            "forecast can follow it as context, but here they differ; use another representation "
            'of the data or mode="direct"',
        )

    def predict(self, model: AnyForecastModel, batch: Batch) -> jax.Array:
        """Forecasts a batch.

        Give `nnx.view(model, deterministic=True)` outside of training. Only `inputs` are used; a
        rollout takes the context's last row for persistence.

        Returns:
            [batch, horizon, *space, channel'], float32, in scaled units; with quantiles
            [batch, horizon, *space, channel', quantile].
        """
        forecast = _mean(self._of_members(model, batch))
        weight = self._weight()
        if weight == 1:
            return forecast
        naive = batch[self.config.weighed_against].astype(jnp.float32)
        return naive + weight * (forecast - naive)

    def _weight(self) -> float:
        if self.model_weight is None:
            raise InputError(
                "model_weight must be known to the task, got data, which nobody asked; use "
                "task.fitted(data) or a number from 0 to 1"
            )
        return self.model_weight

    def _members(self, model: Any) -> list[tuple[Any, bool]]:
        """The networks, and whether each sees its context normalised."""
        if self.config.normalize == "both":
            return [(model.anchored, True), (model.free, False)]
        return [(model, self.config.normalize == "instance")]

    def _of_members(self, model: Any, batch: Batch) -> list[jax.Array]:
        """What each network forecasts."""
        return [self._rolled(*member, batch) for member in self._members(model)]

    def _rolled(self, model: Any, anchored: bool, batch: Batch) -> jax.Array:
        context = batch["context"]
        if self.config.mode == "rollout":

            def step(model: Any, x: jax.Array) -> jax.Array:
                return self._forecast(model, anchored, x, x[:, -1:])

            return rollout(step, model, context, horizon=model.horizon)
        base = "persistence" if self.config.residual == "none" else self.config.residual
        return self._forecast(model, anchored, context, batch[base])

    def _forecast(
        self, model: Any, anchored: bool, context: jax.Array, naive: jax.Array
    ) -> jax.Array:
        """What one call of a network forecasts, in scaled units."""
        base = naive.astype(jnp.float32)
        if self.config.residual == "none":
            base = jnp.zeros_like(base)
        scale = jnp.ones_like(base)
        if anchored:
            mean, deviation = instance_statistics(context)
            context = ((context - mean) / deviation).astype(context.dtype)
            chosen = self.config.target_channels
            channels = slice(None) if chosen is None else np.array(chosen)
            scale = deviation[..., channels]
            if self.config.residual in ("none", "climatology"):
                base += mean[..., channels]
        values = model(context)
        if self.config.quantiles:
            base, scale = base[..., None], scale[..., None]
        return base + scale * values

    def point(self, prediction: Prediction) -> Prediction:
        """Returns the point forecast of what `predict` gave: the median, where it is quantiles."""
        if not self.config.quantiles:
            return prediction
        return prediction[..., self.config.quantiles.index(0.5)]

    def loss(self, model: AnyForecastModel, batch: Batch) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Computes the loss over the real targets of a batch; of a pair, the mean of both losses.

        Returns:
            The loss, a float32 scalar, and its metrics, float32 scalars: `mae` and `rmse` of the
            model's point forecast over all lead times, unweighted and in scaled units (0 if the
            batch has no real target), and `weight`, what the loss was divided by.
        """
        self._weight()
        members, target, mask = self._of_members(model, batch), batch["target"], real_targets(batch)
        loss = _mean([self._loss_of(member, batch, mask) for member in members])
        point = self.point(_mean(members))
        metrics = {
            "mae": losses.mae(point, target, mask=mask),
            "rmse": jnp.sqrt(losses.mse(point, target, mask=mask)),
            "weight": jnp.sum(losses.entry_weights(mask, weights=batch.get("weights"))),
        }
        if self.config.l1:
            loss += self.config.l1 * losses.l1_penalty(nnx.state(model, nnx.Param))
        return loss, jax.lax.stop_gradient(metrics)

    def _loss_of(self, prediction: jax.Array, batch: Batch, mask: jax.Array) -> jax.Array:
        target, point = batch["target"], self.point(prediction)
        options: dict[str, Any] = {"mask": mask, "weights": batch.get("weights")}
        if self.config.quantiles:
            return losses.pinball(prediction, target, quantiles=self.config.quantiles, **options)
        if self.config.loss == "huber":
            return losses.huber(point, target, delta=self.config.huber_delta, **options)
        return getattr(losses, self.config.loss)(point, target, **options)

    def errors(self, prediction: jax.Array, batch: Batch) -> LeadTimeErrors:
        """Sums the errors of a point forecast over a batch's real targets.

        Args:
            prediction: [batch, horizon, *space, channel'], the model's `point` or a baseline's.
            batch: The batch.

        Returns:
            Errors per lead time in scaled units; add up all batches, then ask for MAE or RMSE.
        """
        return LeadTimeErrors.of(prediction, batch["target"], mask=real_targets(batch))

    def baselines(self, batch: Batch) -> dict[str, jax.Array]:
        """Returns the naive forecasts by name, each [batch, horizon, *space, channel'].

        `persistence` repeats the last known value at every lead time; `seasonal_persistence` and
        `climatology` are there where the batch brings them.
        """
        last = jnp.asarray(batch["persistence"], jnp.float32)
        shape = (len(last), batch["target"].shape[1], *last.shape[2:])
        naive = {"persistence": repeat_last(last, horizon=shape[1])}
        for name in _NAIVE:
            if name in batch:
                naive[name] = jnp.broadcast_to(jnp.asarray(batch[name], jnp.float32), shape)
        return naive


def _mean(values: list[jax.Array]) -> jax.Array:
    return functools.reduce(jnp.add, values) / len(values)
