"""What the tasks share: their batches and the model that they train."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
from flax import nnx

from stpatch_jax.nn.layers import Backbone

Batch = Mapping[str, Any]
"""Arrays by name, each [batch, ...]."""


class BackboneWithHead(nnx.Module):
    """What a task trains: a backbone and a head on its feature map."""

    def __init__(self, backbone: Backbone, head: Callable[[jax.Array], jax.Array]):
        self.backbone = backbone
        self.head = head

    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps [batch, time, *space, channel] to the head's output."""
        return self.head(self.backbone(x))


def real_targets(batch: Batch) -> jax.Array:
    """Returns where targets are real: `target_mask`, False in examples that only fill a batch."""
    mask = batch["target_mask"]
    if "example_mask" not in batch:
        return mask
    examples = batch["example_mask"]
    return mask & examples.reshape(examples.shape + (1,) * (mask.ndim - 1))
