"""Attention rollout: which tokens of a patch transformer the output draws from."""

from collections.abc import Iterator
from typing import Literal

import jax
import numpy as np
import xarray as xr
from flax import nnx

from stpatch_jax.errors import require
from stpatch_jax.explain.occlusion import patch_map
from stpatch_jax.explain.score import values_of
from stpatch_jax.nn import PatchTransformer


def attention_rollout(
    backbone: PatchTransformer, field: xr.DataArray, *, time: Literal["mean", "last"] = "mean"
) -> xr.DataArray:
    """Tells how much each patch takes part in the tokens that a transformer puts out.

    The mean of `rollout_matrix` over the output tokens, on the cells of the field: a cell gets the
    mean over the windows that hold it. It shows where the network looks, not which way that moves
    the output.

    Args:
        backbone: The transformer; the attention of the task's head, if any, is not part of it.
        field: One field (time, *space, channel) as it takes it.
        time: Output tokens of all times, or of the last one, which is all that a forecast head with
            `time="last"` reads.

    Returns:
        (time, *space), shares of 1 over all patches.

    Raises:
        InputError: The field does not fit the transformer.

    References:
        Abnar and Zuidema, "Quantifying attention flow in transformers", ACL 2020.
    """
    require(
        isinstance(backbone, PatchTransformer),
        f"attention rollout needs a PatchTransformer, got {type(backbone).__name__}; use occlusion",
    )
    matrix = rollout_matrix(backbone, field)
    spec = backbone.config.spec
    grid = spec.grid_shape(field.shape[:-1])
    outputs = matrix.reshape(grid[0], -1, matrix.shape[-1])
    chosen = outputs[-1:] if time == "last" else outputs
    shares = chosen.mean(axis=(0, 1)).reshape(grid)
    return patch_map(shares, spec, field, name="attention_rollout", unit="share of attention")


def rollout_matrix(backbone: PatchTransformer, field: xr.DataArray) -> np.ndarray:
    """Follows attention from the output tokens of a transformer back to its patches.

    Each attention counts as `(A + I) / 2`, half for the residual beside it, with A the mean over
    the heads; all of them are multiplied. Axis by axis where the attention is, and through the mean
    over space of "factorised_encoder".

    Args:
        backbone: The transformer.
        field: One field (time, *space, channel).

    Returns:
        [output tokens, patches] float64, rows that sum to one; the tokens are those of the feature
        map, one per time with "factorised_encoder".

    Raises:
        InputError: The field does not fit the transformer.
    """
    shape = field.shape[:-1]
    grid = backbone.config.spec.grid_shape(shape)
    times, cells = grid[0], int(np.prod(grid[1:]))
    flow = np.eye(times * cells).reshape(times, cells, -1)
    for stage, weights in _recorded(backbone, field):
        if stage == "pooled" and flow.shape[1] > 1:
            flow = flow.mean(axis=1, keepdims=True)
        flow = (flow + _looked_up(weights, stage, flow)) / 2
    return flow.reshape(-1, times * cells)


def _looked_up(weights: np.ndarray, stage: str, flow: np.ndarray) -> np.ndarray:
    """What one attention [rows, tokens, tokens] makes of a flow [time, cell, patch]."""
    if stage == "joint":
        tokens = flow.reshape(-1, flow.shape[-1])
        return (weights[0] @ tokens).reshape(flow.shape)
    if stage == "space":
        return np.einsum("tij,tjp->tip", weights, flow)
    return np.einsum("cij,jcp->icp", weights, flow)


def _recorded(backbone: PatchTransformer, field: xr.DataArray) -> Iterator[tuple[str, np.ndarray]]:
    """Every attention in turn: what it goes along, and its weights, the mean over the heads."""
    graphdef, state = nnx.split(nnx.view(backbone, deterministic=True, raise_if_not_found=False))

    @jax.jit
    def forward(state: nnx.State, x: jax.Array) -> nnx.State:
        look = nnx.capture(lambda model, x: model(x), nnx.Intermediate)
        return look(nnx.merge(graphdef, state), x)[1]

    found = forward(state, values_of(field)[None])
    by_axis = {1: "joint" if backbone.config.attention == "joint" else "time", 2: "space"}
    for name in ("encoder", "temporal_encoder"):
        encoder = getattr(backbone, name)
        for at, block in enumerate(encoder.blocks if encoder else ()):
            for number, axis in enumerate(block.axes):
                (weights,) = found[name]["blocks"][at]["attentions"][number]["weights"].get_value()
                stage = "pooled" if name == "temporal_encoder" else by_axis[axis]
                yield stage, np.asarray(weights, np.float64).mean(axis=1)
