"""Backbones and heads in Flax NNX: every backbone takes a field and gives a feature map."""

from stpatch_jax.nn.conv3d import Conv3DBackbone, Conv3DConfig
from stpatch_jax.nn.conv_recurrent import ConvRecurrentBackbone, ConvRecurrentConfig
from stpatch_jax.nn.heads import ClassificationHead, ForecastHead
from stpatch_jax.nn.layers import Backbone, BackboneConfig, Convolution, convolve, pool
from stpatch_jax.nn.neighborhood import NeighborhoodConfig, NeighborhoodOperator
from stpatch_jax.nn.patch_cnn import PatchCNN, PatchCNNConfig
from stpatch_jax.nn.recurrent import (
    ConvGRUCell,
    ConvLSTMCell,
    SpaceTimeRNN,
    SpaceTimeRNNConfig,
    scan_time,
)
from stpatch_jax.nn.scnn import SCNN, SCNNConfig

__all__ = [
    "SCNN",
    "Backbone",
    "BackboneConfig",
    "ClassificationHead",
    "Conv3DBackbone",
    "Conv3DConfig",
    "ConvGRUCell",
    "ConvLSTMCell",
    "ConvRecurrentBackbone",
    "ConvRecurrentConfig",
    "Convolution",
    "ForecastHead",
    "NeighborhoodConfig",
    "NeighborhoodOperator",
    "PatchCNN",
    "PatchCNNConfig",
    "SCNNConfig",
    "SpaceTimeRNN",
    "SpaceTimeRNNConfig",
    "convolve",
    "pool",
    "scan_time",
]
