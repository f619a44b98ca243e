"""Classify: loss and baseline against scikit-learn, learning, refused labels and shapes."""

import dataclasses
import json
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.stats
import sklearn.metrics
from flax import nnx

from stpatch_jax.errors import InputError
from stpatch_jax.nn import (
    ClassificationHead,
    Conv3DConfig,
    ConvRecurrentConfig,
    SpaceTimeRNNConfig,
    TokenEmbeddingConfig,
)
from stpatch_jax.tasks import Classify, ClassifyConfig

COUNTS = (6, 2, 4)
TEXT = TokenEmbeddingConfig(SpaceTimeRNNConfig(0, features=8), vocabulary=9, features=6)
BACKBONES = {
    "video": (Conv3DConfig.tiny(2), (4, 6, 6)),
    "panel": (ConvRecurrentConfig.tiny((4, 1)), (8, 3)),
    "text": (TEXT, (7,)),
}


def make_batch(shape, examples=6):
    rng = np.random.default_rng(0)
    field = rng.normal(size=(examples, *shape, 2)).astype(np.float32)
    label = rng.integers(0, len(COUNTS), examples)
    if len(shape) == 1:
        field = rng.integers(0, TEXT.vocabulary, (examples, *shape, 1))
    return {"field": field, "label": label}


def build(name="video", **fields):
    backbone, shape = BACKBONES[name]
    batch = make_batch(shape)
    task = Classify(ClassifyConfig(**fields), class_counts=COUNTS)
    shapes = {key: value.shape for key, value in batch.items()}
    return task, task.build(backbone, shapes, rngs=nnx.Rngs(0)), batch


@pytest.mark.parametrize(
    ("name", "reduce"),
    [
        ("text", "mean"),
        pytest.param("video", "mean", marks=pytest.mark.slow),
        pytest.param("panel", "flatten", marks=pytest.mark.slow),
    ],
)
def test_one_batch_is_learnt_and_every_parameter_takes_part(name, reduce):
    task, model, batch = build(name, reduce=reduce)
    optimizer = nnx.Optimizer(model, optax.adam(0.01), wrt=nnx.Param)

    @nnx.jit
    def train_step(model, optimizer, batch):
        (loss, metrics), gradient = nnx.value_and_grad(task.loss, has_aux=True)(model, batch)
        optimizer.update(model, gradient)
        return loss, metrics, gradient

    first, _, gradient = train_step(model, optimizer, batch)
    for path, leaf in nnx.to_flat_state(gradient):
        assert np.isfinite(leaf[...]).all(), path
        assert (leaf[...] != 0).any(), path
    steps = (train_step(model, optimizer, batch)[:2] for _ in range(151))
    accuracies = (metrics["accuracy"] for loss, metrics in steps if loss < 0.02 * first)
    # Of the first step that is good enough, after which none is made.
    assert next(accuracies, None) == 1


def test_loss_and_accuracy_are_those_of_the_predicted_probabilities():
    task, model, batch = build(class_weights="balanced")
    loss, metrics = nnx.jit(task.loss)(model, batch)
    probability = np.asarray(nnx.jit(task.predict)(model, batch), np.float64)
    assert probability.shape == (6, 3)
    np.testing.assert_allclose(probability.sum(1), 1, rtol=1e-6)
    probability /= probability.sum(1, keepdims=True)
    weights = np.take([12 / (3 * n) for n in COUNTS], batch["label"])
    expected = sklearn.metrics.log_loss(
        batch["label"], probability, sample_weight=weights, labels=[0, 1, 2]
    )
    np.testing.assert_allclose(loss, expected, rtol=1e-4)
    accuracy = sklearn.metrics.accuracy_score(batch["label"], probability.argmax(1))
    np.testing.assert_allclose(metrics["accuracy"], accuracy, rtol=1e-6)


def test_examples_that_fill_a_batch_count_nowhere():
    task, model, batch = build()
    padded = jax.tree.map(lambda a: np.concatenate([a, a[-1:]]), batch)
    padded["example_mask"] = np.array([True] * 6 + [False])
    loss = nnx.jit(task.loss)
    expected, got = loss(model, batch), loss(model, padded)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), expected, got)


def test_majority_is_the_most_frequent_class_and_its_log_loss_the_entropy():
    task = Classify(ClassifyConfig(), class_counts=COUNTS)
    batch = {"label": np.repeat([0, 1, 2], COUNTS)}
    majority = task.baselines(batch)["majority"]
    np.testing.assert_allclose(task.score(majority, batch)["accuracy"], 0.5)
    np.testing.assert_array_equal(majority.argmax(-1), 0)
    log_loss = sklearn.metrics.log_loss(batch["label"], np.asarray(majority, np.float64))
    np.testing.assert_allclose(log_loss, scipy.stats.entropy(COUNTS), rtol=1e-6)


def test_published_head_by_hand():
    head = nnx.eval_shape(lambda: ClassificationHead((8, 5, 5), 64, classes=10, rngs=nnx.Rngs(0)))
    count = sum(p.size for p in jax.tree.leaves(nnx.state(head, nnx.Param)))
    assert count == (8 * 5 * 5 * 64 * 64 + 64) + (64 * 10 + 10)


def test_bfloat16_gives_float32_logits_and_dropout_only_trains():
    backbone = dataclasses.replace(Conv3DConfig.tiny(2), dtype="bfloat16", dropout=0.5)
    batch = make_batch((4, 6, 6))
    task = Classify(ClassifyConfig(), class_counts=COUNTS)
    model = task.build(backbone, {"field": batch["field"].shape}, rngs=nnx.Rngs(0))
    evaluate = nnx.view(model, deterministic=True)
    predict = nnx.jit(lambda a, b: (a(batch["field"]), b(batch["field"]), b(batch["field"])))
    noisy, first, second = predict(model, evaluate)
    assert first.dtype == jnp.float32
    np.testing.assert_array_equal(first, second)
    assert (noisy != first).any()


def test_labels_that_are_no_class_are_refused():
    task = Classify(ClassifyConfig(), class_counts=COUNTS)
    task.check_batch({"label": np.array([0, 2])})
    for label in ([0, 3], [-1], [0.5]):
        message = rf"label must be whole numbers from 0 to 2, got \[{label[-1]}\]"
        with pytest.raises(InputError, match=message):
            task.check_batch({"label": np.array(label)})


def test_shapes_that_do_not_fit_are_refused():
    task = Classify(ClassifyConfig(), class_counts=COUNTS)
    with pytest.raises(InputError, match=re.escape("field must have the axes (batch, time")):
        task.build(Conv3DConfig.tiny(0), {"field": (2, 3)}, rngs=nnx.Rngs(0))
    head = ClassificationHead((2, 3), 4, classes=2, rngs=nnx.Rngs(0))
    with pytest.raises(
        InputError, match=re.escape("the feature map must be (batch, *(2, 3), 4), got")
    ):
        head(jnp.zeros((1, 2, 3, 5)))
    with pytest.raises(
        InputError, match=re.escape("the grid must be (2, 3) to be flattened, got (2, 4)")
    ):
        head(jnp.zeros((1, 2, 4, 4)))
    with pytest.raises(InputError, match="classes must be a whole number >= 2, got 1"):
        ClassificationHead((2, 3), 4, classes=1, rngs=nnx.Rngs(0))
    with pytest.raises(InputError, match="reduce must be 'flatten' or 'mean', got 'max'"):
        ClassificationHead((2, 3), 4, classes=2, reduce="max", rngs=nnx.Rngs(0))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"class_counts": (5,)}, "class_counts must be of 2 kinds at least"),
        ({"class_counts": (0, 0)}, "and not all 0, got"),
        ({"label_smoothing": 1.0}, r"label_smoothing must be in \[0, 1\), got 1.0"),
        ({"class_weights": (1.0,)}, "class_weights must be one for each of 2 classes, got"),
        ({"class_weights": (1.0, -1.0)}, "class_weights must be at least 0, got -1.0"),
        ({"class_weights": "even"}, "class_weights must be 'balanced' or None, got 'even'"),
        (
            {"class_counts": (3, 0), "class_weights": "balanced"},
            "class_counts must be above 0 for balanced class_weights",
        ),
    ],
)
def test_bad_settings_are_refused(fields, message):
    counts = fields.pop("class_counts", (3, 4))
    with pytest.raises(InputError, match=message):
        Classify(ClassifyConfig(**fields), class_counts=counts)


def test_config_goes_to_json_and_back():
    config = ClassifyConfig(hidden=(8,), class_weights=(1.0, 2.0, 0.5))
    assert ClassifyConfig(**json.loads(json.dumps(dataclasses.asdict(config)))) == config
