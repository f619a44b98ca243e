"""Backbones and heads in Flax NNX: every backbone takes a field and gives a feature map.

The `options` of a module say how it computes, stores and splits its parameters, see `LayerOptions`;
its `rngs` have a stream `params`, and `dropout` where it drops features, or a default stream.
"""

from typing import TYPE_CHECKING

from stpatch_jax.on_demand import on_demand

if TYPE_CHECKING:
    from stpatch_jax.nn.attention import (
        SelfAttention,
        TransformerBlock,
        TransformerEncoder,
        TransformerOptions,
        sinusoidal_positions,
    )
    from stpatch_jax.nn.blocks import Block, run_blocks, stack_blocks
    from stpatch_jax.nn.conv3d import Conv3DBackbone, Conv3DConfig
    from stpatch_jax.nn.conv_recurrent import ConvRecurrentBackbone, ConvRecurrentConfig
    from stpatch_jax.nn.embedding import TokenEmbedding, TokenEmbeddingConfig
    from stpatch_jax.nn.fixed import Fixed
    from stpatch_jax.nn.flat_patches import FlatPatches, FlatPatchesConfig
    from stpatch_jax.nn.fused_attention import Seen, attend, attention_mask
    from stpatch_jax.nn.heads import (
        ClassificationHead,
        DenseHead,
        DetectionHead,
        ForecastHead,
        NextTokenHead,
        RidgeHead,
    )
    from stpatch_jax.nn.inception import Inception, InceptionConfig
    from stpatch_jax.nn.layers import (
        Backbone,
        BackboneConfig,
        Convolution,
        TubeletEmbedding,
        convolve,
    )
    from stpatch_jax.nn.neighborhood import NeighborhoodConfig, NeighborhoodOperator
    from stpatch_jax.nn.options import LayerOptions
    from stpatch_jax.nn.own import OwnBackbone
    from stpatch_jax.nn.packing import PackedClips, pack_clips
    from stpatch_jax.nn.patch_cnn import PatchCNN, PatchCNNConfig
    from stpatch_jax.nn.patch_transformer import PatchTransformer, PatchTransformerConfig
    from stpatch_jax.nn.pooling import pool
    from stpatch_jax.nn.random_filters import RandomFilters, RandomFiltersConfig
    from stpatch_jax.nn.random_kernels import RandomKernels, RandomKernelsConfig
    from stpatch_jax.nn.random_units import RandomUnits, RandomUnitsConfig
    from stpatch_jax.nn.recurrent import (
        ConvGRUCell,
        ConvLSTMCell,
        SpaceTimeRNN,
        SpaceTimeRNNConfig,
        scan_time,
    )
    from stpatch_jax.nn.scnn import SCNN, SCNNConfig
    from stpatch_jax.nn.sharding import ShardConfig
    from stpatch_jax.nn.unet import UNet, UNetConfig

__all__ = [
    "SCNN",
    "Backbone",
    "BackboneConfig",
    "Block",
    "ClassificationHead",
    "Conv3DBackbone",
    "Conv3DConfig",
    "ConvGRUCell",
    "ConvLSTMCell",
    "ConvRecurrentBackbone",
    "ConvRecurrentConfig",
    "Convolution",
    "DenseHead",
    "DetectionHead",
    "Fixed",
    "FlatPatches",
    "FlatPatchesConfig",
    "ForecastHead",
    "Inception",
    "InceptionConfig",
    "LayerOptions",
    "NeighborhoodConfig",
    "NeighborhoodOperator",
    "NextTokenHead",
    "OwnBackbone",
    "PackedClips",
    "PatchCNN",
    "PatchCNNConfig",
    "PatchTransformer",
    "PatchTransformerConfig",
    "RandomFilters",
    "RandomFiltersConfig",
    "RandomKernels",
    "RandomKernelsConfig",
    "RandomUnits",
    "RandomUnitsConfig",
    "RidgeHead",
    "SCNNConfig",
    "Seen",
    "SelfAttention",
    "ShardConfig",
    "SpaceTimeRNN",
    "SpaceTimeRNNConfig",
    "TokenEmbedding",
    "TokenEmbeddingConfig",
    "TransformerBlock",
    "TransformerEncoder",
    "TransformerOptions",
    "TubeletEmbedding",
    "UNet",
    "UNetConfig",
    "attend",
    "attention_mask",
    "convolve",
    "pack_clips",
    "pool",
    "run_blocks",
    "scan_time",
    "sinusoidal_positions",
    "stack_blocks",
]

__getattr__, __dir__ = on_demand(__name__)
