"""Regress: numbers for a whole field."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Literal, Protocol, Self, get_args

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from stpatch_jax import losses
from stpatch_jax.errors import check_choice, require
from stpatch_jax.nn.heads import ClassificationReduce, FieldHead, RidgeFieldHead
from stpatch_jax.nn.layers import Backbone, BackboneConfig, check_sizes
from stpatch_jax.tasks.models import BackboneWithHead, FixedModel
from stpatch_jax.tasks.rivals import COMPARED, RIVALS, Compared
from stpatch_jax.tasks.task import Batch, Metrics, Shapes, TaskBase, TaskConfig, real_entries

RegressionLoss = Literal["mse", "mae", "huber"]


@dataclasses.dataclass(frozen=True)
class RegressConfig(TaskConfig):
    """Settings of `Regress`.

    Attributes:
        loss: "mse" for the mean, "mae" for the median, "huber" between both, of scaled targets.
        hidden: Width of each hidden layer of the head; empty for a linear one.
        reduce: "flatten" or "mean", see `FieldHead`.
        compare: "random_features" and ridge regression are compared with the network, as in
            `ClassifyConfig`; they tell means, and are left out for medians.
    """

    loss: RegressionLoss = "huber"
    hidden: tuple[int, ...] = (64,)
    reduce: ClassificationReduce = "flatten"
    compare: Compared = dataclasses.field(default=None, metadata={"added": True})

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("loss", self.loss, get_args(RegressionLoss))
        check_sizes("hidden", self.hidden, least=0)
        check_choice("compare", self.compare, COMPARED)

    def rivals(self) -> tuple[Mapping[str, BackboneConfig], Self] | None:
        """Random features, where they are to be compared, as in `TaskConfig.rivals`."""
        decided = dataclasses.replace(self, compare=None)
        return None if self.compare is None else ({} if self.loss == "mae" else RIVALS, decided)

    def create(self, *, facts: Mapping[str, Any] | None = None) -> Regress:
        """The task of these settings, as in `TaskConfig.create`."""
        return Regress(self, **(facts or {}))


class Targets(Protocol):
    """What `Regress` asks of its data, as its own fact."""

    target_medians: tuple[float, ...]


class Regress(TaskBase):
    """Gives numbers to a whole field, its targets.

    A batch holds `field` [batch, time, *space, channel], `target` [batch, target], scaled so that
    the mean of the training examples is 0, and optionally bool `example_mask` [batch], False where
    an example only fills up the batch.

    Args:
        config: Settings.
        target_medians: Median of each target over the training examples, scaled: how many there
            are, and one of the rules. Empty until `fitted`.
    """

    asks = Targets
    config: RegressConfig

    def __init__(self, config: RegressConfig, *, target_medians: Sequence[float] = ()):
        super().__init__(config, target_medians=tuple(map(float, target_medians)))

    @property
    def target_medians(self) -> tuple[float, ...]:
        """Median of each target over the training examples, scaled, once `fitted`."""
        return self.fact("target_medians")

    def network(
        self, body: Backbone, backbone: BackboneConfig, shapes: Shapes, *, rngs: nnx.Rngs
    ) -> BackboneWithHead:
        """Puts a `FieldHead` on a backbone, or a `RidgeFieldHead` where that is `fixed`."""
        grid, outputs = body.grid_shape(shapes["field"][1:-1]), len(self.target_medians)
        if backbone.fixed and self.config.loss != "mae":
            ridge = RidgeFieldHead(grid, body.out_features, outputs=outputs)
            return FixedModel(body, ridge, answers="target")
        head = FieldHead(
            grid,
            body.out_features,
            outputs=outputs,
            hidden=self.config.hidden,
            reduce=self.config.reduce,
            dropout=backbone.dropout,
            rngs=rngs,
            options=backbone.for_head,
        )
        return BackboneWithHead(body, head)

    def check_batch(self, batch: Batch) -> None:
        """Refuses other targets than those of this task, as in `Task.check_batch`."""
        shape, count = np.shape(batch["target"]), len(self.target_medians)
        require(
            len(shape) == 2 and shape[1] == count,
            f"target must be [batch, {count}], got shape {shape}; give as many targets as the task "
            "was fitted to",
        )

    def loss(self, model: Any, batch: Batch) -> tuple[jax.Array, Metrics]:
        """Computes the loss of scaled targets over a batch's real examples.

        Returns:
            The loss, a float32 scalar, and its metrics: those of `score`.
        """
        prediction = model(batch["field"])
        loss = getattr(losses, self.config.loss)(prediction, batch["target"], mask=_real(batch))
        return loss, self.score(prediction, batch)

    def predict(self, model: Any, batch: Batch) -> jax.Array:
        """Returns the scaled targets, [batch, target] in float32."""
        return model(batch["field"])

    def score(self, outputs: jax.Array, batch: Batch) -> Metrics:
        """The mean absolute error of scaled targets [batch, target], and the number of these."""
        mask = _real(batch)
        weight = jnp.sum(mask, dtype=jnp.float32)
        return {"mae": losses.mae(outputs, batch["target"], mask=mask), "weight": weight}

    def baselines(self, batch: Batch) -> dict[str, jax.Array]:
        """Returns the naive predictions by name, each [batch, target], scaled.

        They are the same for every example: `mean` and `median` of the training examples.
        """
        medians = jnp.asarray(self.target_medians, jnp.float32)
        same = {"mean": jnp.zeros_like(medians), "median": medians}
        shape = (len(batch["target"]), len(medians))
        return {name: jnp.broadcast_to(value, shape) for name, value in same.items()}


def _real(batch: Batch) -> jax.Array:
    """Which targets count, bool [batch, target]."""
    return real_entries(jnp.ones(batch["target"].shape, bool), batch)
