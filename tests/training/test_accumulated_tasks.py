"""The gradient of a batch whose parts have more and fewer real targets, from those parts."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.sharding import AxisType

from stpatch_jax.nn.heads import DetectionMap
from stpatch_jax.tasks import (
    Classify,
    ClassifyConfig,
    Detect,
    DetectConfig,
    Forecast,
    ForecastConfig,
    NextToken,
    NextTokenConfig,
    Reconstruct,
    ReconstructConfig,
    Segment,
    SegmentConfig,
)
from stpatch_jax.training.accumulation import accumulated

PARTS = 4
EXAMPLES = 2 * PARTS
RANDOM = np.random.default_rng(0)
WINDOWS = np.array([[0, 0, 2, 2], [0, 2, 2, 4]], np.float32)


class Scaled(nnx.Module):
    """Whatever `output` makes of the input and a few weights."""

    def __init__(self, shape: tuple[int, ...], output: Callable[..., Any]):
        self.weight = nnx.Param(jnp.linspace(-0.5, 1.0, int(np.prod(shape))).reshape(shape))
        self.output = output
        self.horizon = 2

    def __call__(self, x: jax.Array, *, mask: jax.Array | None = None) -> Any:
        del mask
        return self.output(x, self.weight[...])

    def mask_key(self) -> jax.Array:
        return jax.random.key(0)


def normal(*shape: int) -> np.ndarray:
    return RANDOM.normal(size=(EXAMPLES, *shape)).astype(np.float32)


def uneven(*shape: int) -> np.ndarray:
    """A mask of which the first part has nothing and each later one has more."""
    share = np.repeat(np.arange(PARTS) / (PARTS - 1), 2).reshape(-1, *(1,) * len(shape))
    return RANDOM.uniform(size=(EXAMPLES, *shape)) < share


def forecast() -> tuple[Any, Any, dict[str, np.ndarray]]:
    mask, last = uneven(2, 3, 1), normal(1, 3, 1)
    batch = {
        "context": normal(4, 3, 1),
        "target": np.where(mask, normal(2, 3, 1), 0),
        "target_mask": mask,
        "persistence": last,
    }
    weights = np.array([0.25, 1, 1.75], np.float32).reshape(1, 1, 3, 1)
    batch["weights"] = np.repeat(weights, EXAMPLES, axis=0)
    model = Scaled((1, 1, 1, 1), lambda x, w: w * x[:, 2:])
    return Forecast(ForecastConfig(loss="mae", l1=0.1)), model, batch


def classify() -> tuple[Any, Any, dict[str, np.ndarray]]:
    task = Classify(
        ClassifyConfig(class_weights="balanced", label_smoothing=0.1), class_counts=(5, 1, 2)
    )
    batch = {
        "field": normal(4, 2),
        "label": RANDOM.integers(0, 3, EXAMPLES),
        "example_mask": np.arange(EXAMPLES) > 2,
    }
    return task, Scaled((2, 3), lambda x, w: x.mean(1) @ w), batch


def segment() -> tuple[Any, Any, dict[str, np.ndarray]]:
    task = Segment(SegmentConfig(class_weights="balanced"), class_counts=(5, 1, 2))
    label = np.where(uneven(1, 4), RANDOM.integers(0, 3, (EXAMPLES, 1, 4)), -1)
    return task, Scaled((2, 3), lambda x, w: x @ w), {"field": normal(1, 4, 2), "label": label}


def next_token() -> tuple[Any, Any, dict[str, np.ndarray]]:
    batch = {"tokens": RANDOM.integers(0, 3, (EXAMPLES, 5)), "token_mask": uneven(5)}
    model = Scaled((3, 3), lambda x, w: w[x[..., 0]])
    return NextToken(NextTokenConfig(), token_counts=(4, 2, 1)), model, batch


def reconstruct() -> tuple[Any, Any, dict[str, np.ndarray]]:
    """Each part hides cells of its own, so all cells of an example are alike."""
    batch = {"field": normal(1, 4, 1), "example_mask": np.arange(EXAMPLES) > 2}
    batch["field"] = np.repeat(batch["field"][:, :, :1], 4, axis=2)
    task = Reconstruct(ReconstructConfig((1, 2), mask_ratio=0.5, data_range=2.0))
    return task, Scaled((1, 1, 1, 1), lambda x, w: w * x), batch


def detect() -> tuple[Any, Any, dict[str, np.ndarray]]:
    """Frames of two windows; those of the first part hold no object."""

    def output(x: jax.Array, w: jax.Array) -> DetectionMap:
        score = x.mean((2, 4))[:, :, None, 1:3] * w[0]
        label = jnp.stack([score, w[1] * score], -1)
        box = (w[2] * score)[..., None] + WINDOWS.reshape(1, 1, 1, 2, 4)
        return DetectionMap(score, label, box, jnp.asarray(WINDOWS).reshape(1, 2, 4))

    batch = {
        "field": normal(1, 2, 4, 1),
        "boxes": np.broadcast_to(WINDOWS + 0.25, (EXAMPLES, 1, 2, 4)),
        "label": RANDOM.integers(0, 2, (EXAMPLES, 1, 2)),
        "object_mask": uneven(1, 2),
    }
    task = Detect(DetectConfig(), class_counts=(2, 1), mean_box=(0.0, 0.0, 2.0, 2.0))
    return task, Scaled((3,), output), batch


@pytest.mark.parametrize(
    "make",
    [
        forecast,
        *(
            pytest.param(make, marks=pytest.mark.slow)
            for make in (detect, classify, next_token, reconstruct, segment)
        ),
    ],
)
def test_parts_with_uneven_masks_have_the_gradient_of_the_batch(make: Any) -> None:
    task, model, batch = make()
    mesh = jax.make_mesh(
        (1, 1, 1),
        ("data", "fsdp", "space"),
        axis_types=(AxisType.Auto,) * 3,
        devices=jax.devices()[:1],
    )
    gradient = nnx.value_and_grad(task.loss, has_aux=True)

    @nnx.jit
    def both(model: Any, batch: Any) -> Any:
        return gradient(model, batch), accumulated(gradient, PARTS, mesh)(model, batch)

    ((loss, metrics), whole), ((sum_, parts), grads) = both(model, batch)
    assert np.abs(whole.weight[...]).min() > 0
    assert np.abs(whole.weight[...]).max() > 1e-3
    np.testing.assert_allclose(sum_, loss, rtol=1e-5)
    np.testing.assert_allclose(grads.weight[...], whole.weight[...], rtol=1e-5, atol=1e-7)
    assert metrics["weight"] > 0
    assert all(np.isfinite(value) for value in parts.values())
