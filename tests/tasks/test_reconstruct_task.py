"""Reconstruct: exact masks, loss over hidden real values only, and the backbone handed on."""

import dataclasses
import json
import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from stpatch_jax.errors import InputError
from stpatch_jax.nn import (
    Conv3DConfig,
    NeighborhoodConfig,
    PatchCNNConfig,
    SCNNConfig,
    TokenEmbeddingConfig,
)
from stpatch_jax.patches.windows import WindowSpec
from stpatch_jax.tasks import (
    Classify,
    ClassifyConfig,
    Reconstruct,
    ReconstructConfig,
    transfer_backbone,
)

SHAPE = (4, 6, 4)
BACKBONE = PatchCNNConfig(WindowSpec((2, 3, 2)), features=(8,), dropout=0.5)


def make_batch(examples=3, channels=2):
    rng = np.random.default_rng(0)
    # Waves that differ by phase, so that what is hidden can be told from what is not.
    t, y, x = np.meshgrid(*map(np.arange, SHAPE), indexing="ij")
    phase = rng.uniform(0, 6, size=(examples, 1, 1, 1, channels))
    field = np.sin((t + y / 2 + x)[None, ..., None] + phase).astype(np.float32)
    return {"field": field, "field_mask": rng.random(field.shape) < 0.8}


def build(backbone=BACKBONE, **fields: Any) -> tuple[Reconstruct, Any, dict[str, Any]]:
    task = Reconstruct(ReconstructConfig(**{"window": (2, 2, 2), "mask_ratio": 0.4, **fields}))
    batch = make_batch()
    model: Any = task.build(backbone, {"field": batch["field"].shape}, rngs=nnx.Rngs(0))
    kernel = model.head.dense.kernel
    kernel[...] = jnp.asarray(np.random.default_rng(1).normal(size=kernel.shape), jnp.float32)
    return task, model, batch


def patches_of(mask, window=(2, 2, 2)):
    """Masks patch by patch, [batch, *grid, samples]; all samples of a patch must agree."""
    split = [n for size, w in zip(mask.shape[1:], window, strict=True) for n in (size // w, w)]
    cut = np.moveaxis(np.asarray(mask).reshape(-1, *split), (2, 4, 6), (4, 5, 6))
    cut = cut.reshape(*cut.shape[:4], -1)
    np.testing.assert_array_equal(cut, np.repeat(cut[..., :1], cut.shape[-1], axis=-1))
    return cut[..., 0]


@pytest.mark.parametrize("masking", ["random", "tube"])
@pytest.mark.parametrize("ratio", [0.1, 0.4, 0.9])
def test_exactly_the_ratio_of_the_patches_is_hidden(masking, ratio):
    task = Reconstruct(ReconstructConfig((2, 2, 2), mask_ratio=ratio, masking=masking))
    draw = jax.jit(lambda seed: task.mask((5, *SHAPE, 1), key=jax.random.key(seed)))
    grid = (2, 3, 2)
    masks = [patches_of(draw(seed)) for seed in range(3)]
    for mask in masks:
        assert mask.shape == (5, *grid)
        counted = mask if masking == "random" else mask[:, 0]
        patches = 12 if masking == "random" else 6
        np.testing.assert_array_equal(counted.reshape(5, -1).sum(1), round(ratio * patches))
        if masking == "tube":
            np.testing.assert_array_equal(mask[:, 1], mask[:, 0])
    assert (masks[0] != masks[1]).any()
    # Over many draws every patch is hidden at times: no place is favoured.
    assert np.concatenate(masks + [patches_of(draw(s)) for s in range(3, 30)]).any(axis=0).all()


def test_the_loss_counts_hidden_real_values_only_and_the_hidden_cannot_be_seen():
    task, model, batch = build(data_range=2.0)
    evaluate = nnx.view(model, deterministic=True)
    hidden = np.asarray(task.evaluation_mask(batch))[..., None]
    loss_of = nnx.jit(task.loss)
    loss, metrics = loss_of(evaluate, batch)
    predict = nnx.jit(task.predict)
    prediction = np.asarray(predict(evaluate, batch))
    judged = hidden & batch["field_mask"]
    np.testing.assert_allclose(
        loss, np.square(prediction - batch["field"])[judged].mean(), rtol=1e-5
    )
    np.testing.assert_allclose(metrics["psnr"], 10 * np.log10(4 / loss), rtol=1e-5)
    score = task.score(jnp.asarray(prediction), batch)
    np.testing.assert_allclose(score["mse"], loss, rtol=1e-5)
    assert int(score["weight"]) == judged.sum()
    other = {**batch, "field": np.where(hidden, 7.0, batch["field"]).astype(np.float32)}
    np.testing.assert_array_equal(predict(evaluate, other), prediction)


def test_masks_and_dropout_are_drawn_anew_in_training_and_fixed_in_evaluation():
    task, model, batch = build()
    evaluate = nnx.view(model, deterministic=True)

    @nnx.jit
    def losses(model, evaluate):
        keys = [jax.random.key_data(m.mask_key()) for m in (model, model, evaluate)]
        return keys, [task.loss(m, batch)[0] for m in (model, model, evaluate, evaluate)]

    keys, (noisy, noisier, first, second) = losses(model, evaluate)
    assert (keys[0] != keys[1]).any()
    assert noisy != noisier
    assert first == second
    again, (_, _, third, _) = losses(model, evaluate)
    assert (again[0] != keys[0]).any()
    np.testing.assert_array_equal(again[2], keys[2])
    assert third == first


def test_one_batch_is_learnt_and_handed_on_to_a_classifier():
    backbone = dataclasses.replace(BACKBONE, features=(16,), dropout=0.0)
    task, model, batch = build(backbone, window=(1, 3, 2))
    optimizer = nnx.Optimizer(model, optax.adam(0.02), wrt=nnx.Param)
    # Under one mask: what lies under the other patches is never asked for.
    model = nnx.view(model, deterministic=True)

    @nnx.jit
    def train(model, optimizer):
        def step(_, carry):
            model, optimizer = carry
            gradient = nnx.grad(lambda model: task.loss(model, batch)[0])(model)
            optimizer.update(model, gradient)
            return model, optimizer

        (first, _), gradient = nnx.value_and_grad(task.loss, has_aux=True)(model, batch)
        nnx.fori_loop(0, 300, step, (model, optimizer))
        return first, gradient, task.loss(model, batch)[0]

    first, gradient, loss = train(model, optimizer)
    for path, leaf in nnx.to_flat_state(gradient):
        assert np.isfinite(leaf[...]).all(), path
        assert (leaf[...] != 0).any(), path
    assert loss < 0.1 * first
    for name, naive in jax.jit(task.baselines)(batch).items():
        assert loss < task.score(naive, batch)["mse"], name

    shapes = {"field": batch["field"].shape}
    later: Any = Classify(ClassifyConfig(), class_counts=(1, 1)).build(
        backbone, shapes, rngs=nnx.Rngs(1)
    )
    head = jax.tree.map(np.asarray, nnx.state(later.head, nnx.Param))
    nnx.jit(transfer_backbone)(model, later)
    jax.tree.map(
        np.testing.assert_array_equal,
        nnx.state(later.backbone, nnx.Param),
        nnx.state(model.backbone, nnx.Param),
    )
    jax.tree.map(np.testing.assert_array_equal, nnx.state(later.head, nnx.Param), head)
    kernel = np.asarray(later.backbone.stages[0].kernel[...])
    model.backbone.stages[0].kernel[...] += 1.0
    np.testing.assert_array_equal(later.backbone.stages[0].kernel[...], kernel)


def test_a_backbone_that_does_not_fit_is_not_handed_on():
    model = nnx.eval_shape(lambda: build()[1])
    for backbone, message in (
        (dataclasses.replace(BACKBONE, features=(4,)), r"readout.bias with \(8,\) in the trained"),
        (Conv3DConfig(2, (8,)), "stages.0.kernel with .* in the trained model"),
        (SCNNConfig(2, features=8, depth=1), "with no shape in the trained model and"),
    ):
        task = Classify(ClassifyConfig(), class_counts=(1, 1))
        later = nnx.eval_shape(
            lambda task=task, backbone=backbone: task.build(
                backbone, {"field": (1, *SHAPE, 2)}, rngs=nnx.Rngs(1)
            )
        )
        with pytest.raises(InputError, match=f"must have the same backbone, got .*{message}"):
            transfer_backbone(model, later)


def test_naive_reconstructions_by_hand():
    task = Reconstruct(ReconstructConfig((1, 1), mask_ratio=0.5))
    rng = np.random.default_rng(0)
    field = rng.normal(size=(3, 5, 4, 2)).astype(np.float32)
    batch = {"field": field, "field_mask": rng.random(field.shape) < 0.7}
    hidden = np.asarray(task.evaluation_mask(batch))
    shown = ~hidden[..., None] & batch["field_mask"]
    naive = jax.tree.map(np.asarray, jax.jit(task.baselines)(batch))
    for example, channel in np.ndindex(3, 2):
        at = (example, ..., channel)
        mean = field[at][shown[at]].mean()
        np.testing.assert_allclose(naive["visible_mean"][at], mean, rtol=1e-5)
        for cell in range(4):
            last = mean
            for time in range(5):
                if shown[example, time, cell, channel]:
                    last = field[example, time, cell, channel]
                got = naive["persistence"][example, time, cell, channel]
                np.testing.assert_allclose(got, last, rtol=1e-5)
    tubes = Reconstruct(ReconstructConfig((1, 1), mask_ratio=0.5, masking="tube"))
    assert set(jax.eval_shape(tubes.baselines, batch)) == {"visible_mean"}


def test_examples_that_fill_a_batch_are_not_judged():
    task, model, batch = build()
    evaluate = nnx.view(model, deterministic=True)
    batch["example_mask"] = np.array([True, True, False])
    spoilt = {**batch, "field": batch["field"].copy()}
    spoilt["field"][2] = 1e3
    loss = nnx.jit(task.loss)
    np.testing.assert_allclose(loss(evaluate, batch)[0], loss(evaluate, spoilt)[0], rtol=1e-6)


def test_what_does_not_fit_is_refused():
    cases: Any = (
        ({"window": (2, 4, 2)}, "task.window must divide the field, got (2, 4, 2)"),
        ({"mask_ratio": 0.01}, "got 0.01, which hides 0 of 12"),
        ({"mask_ratio": 0.99}, "got 0.99, which hides 12 of 12"),
        ({"window": (1, None, None), "masking": "tube"}, "hides 0 of 1"),
    )
    for fields, message in cases:
        with pytest.raises(InputError, match=re.escape(message)):
            build(**fields)
    text = TokenEmbeddingConfig(NeighborhoodConfig.tiny(0), vocabulary=9)
    with pytest.raises(InputError, match="pretrain text with NextToken"):
        Reconstruct(ReconstructConfig((1,))).build(text, {"field": (2, 8, 1)}, rngs=nnx.Rngs(0))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"mask_ratio": 1.0}, r"mask_ratio must be in \(0, 1\), got 1.0"),
        ({"masking": "block"}, "masking must be 'random' or 'tube', got 'block'"),
        ({"window": (2,), "masking": "tube"}, "window must have a space axis for tubes"),
        ({"window": WindowSpec((2, 2), stride=1)}, "window must be a bare"),
        ({"data_range": 0.0}, "data_range must be above 0, got 0.0"),
    ],
)
def test_bad_settings_are_refused(fields, message):
    with pytest.raises(InputError, match=message):
        ReconstructConfig(**{"window": (2, 2, 2), **fields})


def test_config_goes_to_json_and_back():
    config = ReconstructConfig((2, None, 2), masking="tube", blend="hann")
    assert ReconstructConfig(**json.loads(json.dumps(dataclasses.asdict(config)))) == config
