"""DetectionHead: a score, a class and a box for every window of every frame."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from stpatch_jax.errors import check_size, require
from stpatch_jax.losses import box_iou
from stpatch_jax.nn.layers import Dropout, check_sizes
from stpatch_jax.nn.options import FLOAT32, LayerOptions
from stpatch_jax.patches.windows import AxisWindows, WindowSpec

# Chance of an object that an untrained head gives a window: the first steps are not spent on
# unlearning objects everywhere.
_PRIOR = 0.01
# Boxes stay within e^10 = 22,026 windows, so that their volume in 3 axes is a float32.
_LARGEST_LOG_SIZE = 10.0


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class DetectionMap:
    """What a detection head says of every window of every frame; a pytree, all float32.

    Boxes are `(lo..., hi...)` in input cells; cell i reaches from i to i + 1.

    Attributes:
        score: [batch, time, *ns] logits of "an object is here".
        label: [batch, time, *ns, classes] logits of the class.
        box: [batch, time, *ns, 2 * space axes] predicted boxes.
        window: [*ns, 2 * space axes] the windows themselves, as boxes.
    """

    score: jax.Array
    label: jax.Array
    box: jax.Array
    window: jax.Array

    def flat(self) -> DetectionMap:
        """Returns the map with the axes `*ns` of the patch grid merged into one, row by row."""
        lead = self.score.shape[:2]
        label, box = (x.reshape(*lead, -1, x.shape[-1]) for x in (self.label, self.box))
        window = self.window.reshape(-1, self.window.shape[-1])
        return DetectionMap(self.score.reshape(*lead, -1), label, box, window)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Detections:
    """Detected objects of every frame, by falling score; a pytree.

    Attributes:
        boxes: [*batch, detections, 2 * space axes] bounds `(lo..., hi...)` in input cells.
        score: [*batch, detections] confidence, from 0 to 1.
        label: [*batch, detections] classes, int32.
        valid: Bool [*batch, detections]; False entries only fill up the array.
    """

    boxes: jax.Array
    score: jax.Array
    label: jax.Array
    valid: jax.Array


class DetectionHead(nnx.Module):
    """Detects objects: per window of the patch grid and frame, a score, a class and a box.

    Dense layers map each grid cell's features to its values for every frame that it answers for. A
    box is its centre, as the distance from the window's centre, and the logarithm of its size, both
    in windows. The score starts at a chance of 0.01, and boxes start near their windows.

    Which grid time answers for a frame: where windows look back only (CAUSAL padding, or a window
    of 1), the last one whose window ends at or before the frame, so that a detection never depends
    on later frames; else the one whose window's middle frame is nearest, the earlier of two. So
    with as many grid times as frames (stride 1 with CAUSAL or SAME) each answers for its own frame,
    and a tubelet answers for the frames in it.

    Maps [batch, nt, *ns, features] to a `DetectionMap` of all frames, in float32.

    Args:
        spec: The backbone's `spec`.
        in_features: Number of channels of the feature map.
        shape: `(time, *space)` of the backbone's input, with 1 to 3 space axes.
        classes: Number of classes.
        hidden: Width of each hidden layer, with ReLU; empty for a linear head.
        dropout: Probability that an input or hidden feature is dropped in training.

    Raises:
        InputError: If there is no space axis, a size is not positive or the windows do not fit.

    References:
        Prior and initial weights: Lin et al., "Focal loss for dense object detection", ICCV 2017.
    """

    def __init__(
        self,
        spec: WindowSpec,
        in_features: int,
        *,
        shape: Sequence[int],
        classes: int,
        hidden: Sequence[int] = (),
        dropout: float = 0.0,
        options: LayerOptions = FLOAT32,
        rngs: nnx.Rngs,
    ):
        require(
            spec.rank > 1,
            f"the window must have a space axis for boxes, got {spec.window}; use fields (time, "
            "*space) with 1 to 3 space axes",
        )
        check_size("classes", classes)
        check_sizes("hidden", hidden, least=0)
        self.spec = spec
        self.shape = tuple(shape)
        self.in_features = in_features
        self.classes = classes
        self.offsets = int(_answering(spec.axes(self.shape)[0])[1].max()) + 1
        values = 1 + classes + 2 * (spec.rank - 1)
        widths = (in_features, *hidden)
        self.layers = nnx.List(
            options.linear(*width, rngs=rngs) for width in itertools.pairwise(widths)
        )
        inits = {
            "kernel_init": nnx.initializers.normal(0.01),
            "bias_init": _score_prior(self.offsets, values),
        }
        self.readout = options.linear(widths[-1], self.offsets * values, rngs=rngs, **inits)
        self.dropout = Dropout(dropout, rngs=rngs)

    def __call__(self, features: jax.Array) -> DetectionMap:
        """Maps [batch, nt, *ns, features] to a `DetectionMap` of all frames."""
        grid = self.spec.grid_shape(self.shape)
        require(
            features.shape[1:] == (*grid, self.in_features),
            f"the feature map must be (batch, *{grid}, {self.in_features}), got shape "
            f"{features.shape}; build the head with the backbone's spec, out_features and the "
            "field's shape",
        )
        for layer in self.layers:
            features = jax.nn.relu(layer(self.dropout(features)))
        values = self._by_frame(self.readout(self.dropout(features)).astype(jnp.float32))
        score, label, box = jnp.split(values, (1, 1 + self.classes), axis=-1)
        return DetectionMap(score[..., 0], label, *self._boxes(box))

    def _by_frame(self, values: jax.Array) -> jax.Array:
        """Gives every frame the values of the grid time that answers for it."""
        batch, nt, *space, width = values.shape
        values = values.reshape(batch, nt, *space, self.offsets, width // self.offsets)
        values = jnp.moveaxis(values, -2, 2)
        values = values.reshape(batch, nt * self.offsets, *space, -1)
        time, offset = _answering(self.spec.axes(self.shape)[0])
        index = time * self.offsets + offset
        if np.array_equal(index, np.arange(values.shape[1])):
            return values
        return values[:, index]

    def _boxes(self, values: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Turns offsets and log sizes in windows into bounds in cells; also the windows' own."""
        axes = self.spec.axes(self.shape)[1:]
        starts = np.stack(np.meshgrid(*(a.starts for a in axes), indexing="ij"), axis=-1)
        extent = np.array([a.effective for a in axes], np.float32)
        window = np.concatenate([starts, starts + extent], axis=-1).astype(np.float32)
        middle = (starts + extent / 2).astype(np.float32)
        offset, log_size = jnp.split(values, 2, axis=-1)
        extent = extent.reshape((1,) * (values.ndim - 1) + extent.shape)
        centre = middle[None, None] + offset * extent
        half = extent / 2 * jnp.exp(jnp.clip(log_size, -_LARGEST_LOG_SIZE, _LARGEST_LOG_SIZE))
        return jnp.concatenate([centre - half, centre + half], axis=-1), jnp.asarray(window)


def non_maximum_suppression(
    detections: Detections, *, iou: float, candidates: int, max_detections: int
) -> Detections:
    """Keeps, of the detections of one class that overlap in a frame, the one with the best score.

    By falling score, a detection is kept unless one kept before it has its class and overlaps it by
    an IoU of more than `iou`. Of equal scores the first counts as the better one.

    Args:
        detections: Any order; [*batch, detections] each.
        iou: Overlap above which the lower score goes, from 0 to 1.
        candidates: How many of a frame's best valid detections are looked at; work and memory grow
            with its square.
        max_detections: How many are returned per frame, at most.

    Returns:
        [*batch, min(max_detections, candidates, detections)] each, by falling score.

    >>> one = Detections(
    ...     boxes=jnp.array([[0.0, 4.0], [0.0, 3.0], [7.0, 9.0]]),
    ...     score=jnp.array([0.5, 0.9, 0.6]),
    ...     label=jnp.array([0, 0, 0]),
    ...     valid=jnp.array([True, True, True]),
    ... )
    >>> best = non_maximum_suppression(one, iou=0.5, candidates=3, max_detections=2)
    >>> best.boxes.tolist(), best.valid.tolist()
    ([[0.0, 3.0], [7.0, 9.0]], [True, True])
    """
    best = _best(detections, candidates)
    first, second = best.boxes[..., :, None, :], best.boxes[..., None, :, :]
    same = best.label[..., :, None] == best.label[..., None, :]
    rivals = (box_iou(first, second) > iou) & same

    def visit(i: jax.Array, keep: jax.Array) -> jax.Array:
        row = jax.lax.dynamic_index_in_dim(rivals, i, axis=rivals.ndim - 2, keepdims=False)
        own = jax.lax.dynamic_index_in_dim(keep, i, axis=keep.ndim - 1)
        later = (jnp.arange(keep.shape[-1]) > i).reshape((1,) * (keep.ndim - 1) + (-1,))
        return keep & ~(row & own & later)

    keep = jax.lax.fori_loop(0, best.score.shape[-1], visit, best.valid)
    return _best(dataclasses.replace(best, valid=keep), max_detections)


def _best(detections: Detections, count: int) -> Detections:
    """Returns the valid detections of the best scores, by falling score, then invalid ones."""
    ranked = jnp.where(detections.valid, detections.score, -jnp.inf)
    _, index = jax.lax.top_k(ranked, min(count, ranked.shape[-1]))
    score, label, valid = (
        jnp.take_along_axis(values, index, axis=-1)
        for values in (detections.score, detections.label, detections.valid)
    )
    boxes = jnp.take_along_axis(detections.boxes, index[..., None], axis=-2)
    return Detections(boxes, score, label, valid)


def _answering(time: AxisWindows) -> tuple[np.ndarray, np.ndarray]:
    """Returns which grid time answers for each frame, and for which of its frames, from 0 on."""
    starts, frames = np.asarray(time.starts), np.arange(time.size)
    if time.lo >= time.effective - 1:
        own = starts + time.effective - 1
        answering = np.searchsorted(own, frames, side="right") - 1
    else:
        own = starts + (time.effective - 1) // 2
        answering = np.abs(frames[:, None] - own).argmin(axis=1)
    offset = frames - own[answering]
    return answering, offset - offset.min()


def _score_prior(offsets: int, values: int) -> nnx.Initializer:
    """Initialises the bias: the prior for the scores, zero for the rest."""
    bias = np.zeros((offsets, values))
    bias[:, 0] = -math.log((1 - _PRIOR) / _PRIOR)
    return lambda key, shape, dtype: jnp.asarray(bias.reshape(shape), dtype)
