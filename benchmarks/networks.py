"""The networks that `benchmarks.backbones` measures, and PyTorch twins of the two classic ones."""

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np
from flax import nnx

from stpatch_jax.nn import (
    BackboneConfig,
    Conv3DConfig,
    ConvRecurrentConfig,
    NeighborhoodConfig,
    PatchCNNConfig,
    PatchTransformerConfig,
    SCNNConfig,
    SpaceTimeRNNConfig,
)
from stpatch_jax.nn.options import DTypeName
from stpatch_jax.patches.windows import WindowSpec
from stpatch_jax.tasks import Batch, Classify, ClassifyConfig

CLASSES = 10


@dataclass(frozen=True)
class Network:
    """A backbone with a classification head on fields of one shape.

    Attributes:
        backbone: From the name of the dtype that computes to the config.
        shape: `(batch, time, *space, channel)`.
        hidden: Hidden widths of the head; it flattens the feature map.
    """

    backbone: Callable[[DTypeName], BackboneConfig]
    shape: tuple[int, ...]
    hidden: tuple[int, ...] = ()

    @property
    def task(self) -> Classify:
        """Classes of equal size."""
        return Classify(ClassifyConfig(hidden=self.hidden), class_counts=(1,) * CLASSES)

    def create(self, dtype: DTypeName, rngs: nnx.Rngs) -> nnx.Module:
        """Backbone and head."""
        return self.task.build(self.backbone(dtype), {"field": self.shape}, rngs=rngs)

    def batch(self) -> Batch:
        """Random fields and labels."""
        rng = np.random.default_rng(0)
        field = rng.normal(size=self.shape).astype(np.float32)
        return {"field": field, "label": rng.integers(0, CLASSES, self.shape[0]).astype(np.int32)}

    def small(self) -> "Network":
        """The same network for two examples."""
        return Network(self.backbone, (2, *self.shape[1:]), self.hidden)


NETWORKS = {
    "conv3d_64": Network(
        lambda dtype: Conv3DConfig(features=(64,), dtype=dtype), (32, 16, 10, 10, 3), hidden=(64,)
    ),
    "cnn_scnn_lstm": Network(
        lambda dtype: ConvRecurrentConfig(WindowSpec((1, 16, 16)), grid_depth=1, dtype=dtype),
        (8, 8, 32, 32, 1),
    ),
    "patch_cnn": Network(
        lambda dtype: PatchCNNConfig(WindowSpec((4, 8, 8)), dtype=dtype), (8, 8, 16, 16, 3)
    ),
    "scnn": Network(lambda dtype: SCNNConfig(2, dtype=dtype), (8, 8, 16, 16, 16)),
    "lstm": Network(lambda dtype: SpaceTimeRNNConfig(1, dtype=dtype), (32, 32, 16, 8)),
    "gru": Network(lambda dtype: SpaceTimeRNNConfig(1, cell="gru", dtype=dtype), (32, 32, 16, 8)),
    "conv_lstm": Network(
        lambda dtype: SpaceTimeRNNConfig(2, features=32, spatial_kernel_size=3, dtype=dtype),
        (8, 10, 16, 16, 1),
    ),
    "neighborhood": Network(
        lambda dtype: NeighborhoodConfig(
            NeighborhoodConfig.forward(2).offsets, lags=3, features=32, hidden=(32,), dtype=dtype
        ),
        (8, 10, 16, 16, 1),
    ),
    "patch_transformer": Network(
        lambda dtype: PatchTransformerConfig(
            WindowSpec((2, 8, 8)), features=128, depth=4, heads=4, dtype=dtype
        ),
        (8, 8, 32, 32, 3),
    ),
}
"""What is measured, by name; the first two are the classic networks that have a twin."""


def twin(torch: ModuleType, name: str, shape: tuple[int, ...]) -> Any:
    """The same layers in PyTorch, channels first; None for a network without a twin."""
    make = {"conv3d_64": _conv3d_twin, "cnn_scnn_lstm": _chain_twin}.get(name)
    return make and make(torch, shape)


def _conv3d_twin(torch: ModuleType, shape: tuple[int, ...]) -> Any:
    cells = int(np.prod([-(-n // 2) for n in shape[1:-1]]))
    relu = torch.nn.functional.relu

    class Twin(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = torch.nn.Conv3d(shape[-1], 64, 3, padding=1)
            self.pool = torch.nn.MaxPool3d(2, ceil_mode=True)
            self.hidden = torch.nn.Linear(cells * 64, 64)
            self.readout = torch.nn.Linear(64, CLASSES)

        def forward(self, x: Any) -> Any:
            y = self.pool(relu(self.conv(x)))
            # Flattened with the channels last, as ours, so that the weights are the same.
            y = y.movedim(1, -1).flatten(1)
            return self.readout(relu(self.hidden(y)))

        def load(self, model: Any) -> None:
            _copy(torch, self.conv, model.backbone.stages[0])
            _copy(torch, self.hidden, model.head.layers[0])
            _copy(torch, self.readout, model.head.layers[1])

    return Twin()


def _chain_twin(torch: ModuleType, shape: tuple[int, ...]) -> Any:
    batch, time, height, width, channels = shape
    rows, columns = height // 16, width // 16
    cells = rows * columns
    relu, layers = torch.nn.functional.relu, torch.nn

    class Twin(layers.Module):
        def __init__(self) -> None:
            super().__init__()
            widths = (channels, 64, 128, 256)
            self.stages = layers.ModuleList(
                layers.Conv2d(a, b, 3, padding=1) for a, b in itertools.pairwise(widths)
            )
            self.pool = layers.MaxPool2d(2)
            self.patch = layers.Linear(4 * 256, 256)
            self.temporal = layers.Conv3d(256, 64, (3, 1, 1), padding=(1, 0, 0))
            self.spatial = layers.Conv3d(64, 64, (1, 3, 3), padding=(0, 1, 1))
            self.lstm = layers.LSTM(256 + 64, 128, batch_first=True)
            self.readout = layers.Linear(time * cells * 128, CLASSES)

        def forward(self, x: Any) -> Any:
            y = x.movedim(1, 2).reshape(batch * time, channels, rows, 16, columns, 16)
            y = y.permute(0, 2, 4, 1, 3, 5).reshape(-1, channels, 16, 16)
            for stage in self.stages:
                y = self.pool(relu(stage(y)))
            y = self.patch(y.movedim(1, -1).flatten(1))
            y = y.reshape(batch, time, rows, columns, 256).movedim(-1, 1)
            z = relu(self.spatial(relu(self.temporal(y))))
            y = torch.cat([y, z], 1).movedim(2, -1).flatten(2, 3).movedim(1, -1)
            h, _ = self.lstm(y.reshape(batch * cells, time, 256 + 64))
            h = h.reshape(batch, cells, time, 128).movedim(2, 1)
            return self.readout(h.flatten(1))

        def load(self, model: Any) -> None:
            chain = model.backbone
            cnn, scnn, rnn = chain.patch_cnn, chain.scnn, chain.rnn
            for ours, theirs in zip(cnn.stages, self.stages, strict=True):
                _copy(torch, theirs, ours)
            _copy(torch, self.patch, cnn.readout)
            _copy(torch, self.temporal, scnn.layers[0])
            _copy(torch, self.spatial, scnn.layers[1])
            _copy(torch, self.readout, model.head.layers[0])
            cell = rnn.cells[0]
            with torch.no_grad():
                weights = (cell.kernel, cell.recurrent_kernel)
                for target, value in zip(
                    (self.lstm.weight_ih_l0, self.lstm.weight_hh_l0), weights, strict=True
                ):
                    matrix = np.asarray(value[...]).reshape(-1, value.shape[-1]).T
                    target.copy_(torch.from_numpy(matrix.copy()))
                self.lstm.bias_ih_l0.copy_(torch.from_numpy(np.array(cell.bias[...])))
                self.lstm.bias_hh_l0.zero_()

    return Twin()


def _copy(torch: ModuleType, theirs: Any, ours: Any) -> None:
    """Copies kernel `(*extents, in, out)` and bias into a layer with `(out, in, *extents)`."""
    kernel = np.asarray(ours.kernel[...])
    with torch.no_grad():
        theirs.weight.copy_(
            torch.from_numpy(
                np.moveaxis(kernel, (-1, -2), (0, 1)).reshape(theirs.weight.shape).copy()
            )
        )
        theirs.bias.copy_(torch.from_numpy(np.array(ours.bias[...])))
