"""What a forecast trains: a network, or two whose mean is the forecast."""

from flax import nnx

from stpatch_jax.nn.heads import ForecastHead
from stpatch_jax.nn.layers import Backbone
from stpatch_jax.tasks.common import BackboneWithHead


class ForecastModel(BackboneWithHead):
    """A backbone and a `ForecastHead`, and how far they are to forecast.

    Attributes:
        horizon: Number of time steps to forecast; a rollout runs the head until it is reached.
    """

    def __init__(self, backbone: Backbone, head: ForecastHead, *, horizon: int):
        super().__init__(backbone, head)
        self.horizon = horizon


class ForecastPair(nnx.Module):
    """Two networks whose mean is the forecast: see `normalize="both"`.

    Attributes:
        anchored: Sees each context with mean 0 and variance 1.
        free: Sees the context as it is.
        horizon: Number of time steps to forecast.
    """

    def __init__(self, anchored: ForecastModel, free: ForecastModel):
        self.anchored = anchored
        self.free = free
        self.horizon = free.horizon


AnyForecastModel = ForecastModel | ForecastPair
