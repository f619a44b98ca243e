"""Attention rollout: which tokens of a transformer the output draws from."""

from collections.abc import Sequence
from typing import Literal, Protocol, runtime_checkable

import jax
import numpy as np
import xarray as xr

from stpatch_jax.errors import require_members
from stpatch_jax.explain.occlusion import patch_map
from stpatch_jax.explain.score import FieldLike, as_field, values_of
from stpatch_jax.patches.windows import WindowSpec


@runtime_checkable
class AttentionModel(Protocol):
    """A model that tells its attention, as `nn.PatchTransformer` does."""

    @property
    def token_spec(self) -> WindowSpec:
        """The windows whose patches are its tokens."""
        ...

    def attention(self, x: jax.Array) -> Sequence[tuple[str, jax.Array]]:
        """The weights of every attention in turn, for one field [1, time, *space, channel].

        Each is [rows, heads, tokens, tokens], query before key: among all tokens in one row
        ("joint"), among the cells of every time ("space"), the times of every cell ("time"), or the
        times of the mean over space ("pooled").
        """
        ...


def attention_rollout(
    backbone: AttentionModel, field: FieldLike, *, time: Literal["mean", "last"] = "mean"
) -> xr.DataArray:
    """Tells how much each patch takes part in the tokens that a transformer puts out.

    The mean of `rollout_matrix` over the output tokens, on the cells of the field: a cell gets the
    mean over the windows that hold it. It shows where the network looks, not which way that moves
    the output.

    Args:
        backbone: The transformer, see `AttentionModel`; the attention of the task's head, if any,
            is not part of it.
        field: One field (time, *space, channel) as it takes it.
        time: Output tokens of all times, or of the last one, which is all that a forecast head with
            `time="last"` reads.

    Returns:
        (time, *space), shares of 1 over all patches.

    Raises:
        InputError: The model tells no attention, or the field does not fit it.

    Examples:
        >>> class Even:
        ...     token_spec = WindowSpec((1,))
        ...     def attention(self, x):
        ...         return [("joint", np.full((1, 1, 2, 2), 0.5))]
        >>> attention_rollout(Even(), np.ones((2, 1)), time="last").values.tolist()
        [0.25, 0.75]

    References:
        Abnar and Zuidema, "Quantifying attention flow in transformers", ACL 2020.
    """
    field = as_field(field)
    matrix = rollout_matrix(backbone, field)
    spec = backbone.token_spec
    grid = spec.grid_shape(field.shape[:-1])
    outputs = matrix.reshape(grid[0], -1, matrix.shape[-1])
    outputs = outputs[-1:] if time == "last" else outputs
    shares = outputs.mean(axis=(0, 1)).reshape(grid)
    return patch_map(shares, spec, field, name="attention_rollout", unit="share of attention")


def rollout_matrix(backbone: AttentionModel, field: FieldLike) -> np.ndarray:
    """Follows attention from the output tokens of a transformer back to its patches.

    Each attention counts as `(A + I) / 2`, half for the residual beside it, with A the mean over
    the heads; all of them are multiplied. Axis by axis where the attention is, and through the mean
    over space of "factorised_encoder".

    Arguments as in `attention_rollout`.

    Returns:
        [output tokens, patches] float64, rows that sum to one; the tokens are those of the feature
        map, one per time with "factorised_encoder".

    Raises:
        InputError: The model tells no attention, or the field does not fit it.

    Examples:
        >>> class Even:
        ...     token_spec = WindowSpec((1,))
        ...     def attention(self, x):
        ...         return [("joint", np.full((1, 1, 2, 2), 0.5))]
        >>> rollout_matrix(Even(), np.ones((2, 1))).tolist()
        [[0.75, 0.25], [0.25, 0.75]]
    """
    require_members(backbone, AttentionModel, what="a model of attention rollout")
    field = as_field(field)
    grid = backbone.token_spec.grid_shape(field.shape[:-1])
    times, cells = grid[0], int(np.prod(grid[1:]))
    flow = np.eye(times * cells).reshape(times, cells, -1)
    for kind, weights in backbone.attention(jax.numpy.asarray(values_of(field)[None])):
        if kind == "pooled" and flow.shape[1] > 1:
            flow = flow.mean(axis=1, keepdims=True)
        mean = np.asarray(weights, np.float64).mean(axis=1)
        flow = (flow + _looked_up(mean, kind, flow)) / 2
    return flow.reshape(-1, times * cells)


def _looked_up(weights: np.ndarray, kind: str, flow: np.ndarray) -> np.ndarray:
    """What one attention [rows, tokens, tokens] makes of a flow [time, cell, patch]."""
    if kind == "joint":
        tokens = flow.reshape(-1, flow.shape[-1])
        return (weights[0] @ tokens).reshape(flow.shape)
    if kind == "space":
        return np.einsum("tij,tjp->tip", weights, flow)
    return np.einsum("cij,jcp->icp", weights, flow)
