"""Detect: squares are found, objects go to the nearest window, and bad objects are refused."""

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
from stpatch_jax.metrics import AveragePrecision
from stpatch_jax.nn import Conv3DConfig, PatchCNNConfig
from stpatch_jax.nn.heads import DetectionMap
from stpatch_jax.patches.windows import WindowSpec
from stpatch_jax.tasks import Detect, DetectConfig

SIDES = (3, 6)  # of the squares of each class, in cells
FRAME = 16


def make_batch(examples=4, time=2, seed=0):
    """Bright squares on dark frames, one or two in each, one row for no object."""
    rng = np.random.default_rng(seed)
    batch = {
        "field": 0.05 * rng.normal(size=(examples, time, FRAME, FRAME, 1)).astype(np.float32),
        "boxes": np.full((examples, time, 3, 4), np.nan, np.float32),
        "label": np.full((examples, time, 3), -1),
        "object_mask": np.zeros((examples, time, 3), bool),
    }
    for frame in np.ndindex(examples, time):
        for row in range(rng.integers(1, 3)):
            label = int(rng.integers(2))
            # One in the left half and one in the right, so that none hides another.
            room = np.array([FRAME, FRAME // 2]) - SIDES[label]
            lo = rng.integers(0, room) + np.array([0, 8 * row])
            hi = lo + SIDES[label]
            batch["field"][(*frame, slice(lo[0], hi[0]), slice(lo[1], hi[1]))] += 1
            batch["boxes"][(*frame, row)] = [*lo, *hi]
            batch["label"][(*frame, row)] = label
            batch["object_mask"][(*frame, row)] = True
    return batch


def task_of(batch):
    boxes, label = (batch[name][batch["object_mask"]] for name in ("boxes", "label"))
    counts, mean_box = np.bincount(label, minlength=2), boxes.astype(np.float64).mean(axis=0)
    return Detect(DetectConfig(), class_counts=counts.tolist(), mean_box=mean_box.tolist())


def average_precision(detections, batch, **options):
    """Detections of two classes matched to the objects of a batch."""
    return AveragePrecision.of(
        detections.boxes,
        detections.score,
        detections.label,
        valid=detections.valid,
        true_boxes=batch["boxes"],
        true_label=batch["label"],
        true_mask=batch["object_mask"],
        classes=2,
        **options,
    )


def shapes_of(batch):
    return {name: value.shape for name, value in batch.items()}


PATCHES = PatchCNNConfig(
    WindowSpec((1, 8, 8), stride=(1, 4, 4), padding=("VALID", "SAME", "SAME")), features=(8, 16)
)
BACKBONES = {"patches": PATCHES, "tubelets": Conv3DConfig(2, features=(16, 32))}


@pytest.mark.parametrize("name", ["patches", pytest.param("tubelets", marks=pytest.mark.slow)])
def test_one_batch_is_learnt_to_the_box(name):
    batch = make_batch()
    task = task_of(batch)
    model = task.build(BACKBONES[name], shapes_of(batch), rngs=nnx.Rngs(0))
    optimizer = nnx.Optimizer(model, optax.adam(0.01), wrt=nnx.Param)

    @nnx.jit
    def train_step(model, optimizer, batch):
        (loss, metrics), gradient = nnx.value_and_grad(task.loss, has_aux=True)(model, batch)
        optimizer.update(model, gradient)
        return loss, metrics, gradient

    predict = nnx.jit(task.predict)
    first, metrics, gradient = train_step(model, optimizer, batch)
    assert metrics["lost_objects"] == 0
    for path, leaf in nnx.to_flat_state(gradient):
        assert np.isfinite(leaf[...]).all(), path
        assert (leaf[...] != 0).any(), path
    for _ in range(150):
        train_step(model, optimizer, batch)
    loss, metrics, _ = train_step(model, optimizer, batch)
    assert loss < 0.1 * first
    parts = {"focal", "cross_entropy", "box", "lost_objects"}
    assert set(metrics) == parts | {"weight", "divisor"}
    counts = average_precision(predict(model, batch), batch, thresholds=(0.5, 0.75))
    assert (counts.average_precision()[0] > 0.9).all()
    baseline = average_precision(task.baselines(batch)["mean_box"], batch)
    assert baseline.mean() < 0.3


class Says(nnx.Module):
    """A model that says the same whatever it sees."""

    def __init__(self, output):
        self.output = nnx.data(output)

    def __call__(self, field):
        return self.output


def grid_map(seed=0):
    """Random outputs of one example and frame over windows of 4 x 4 in 8 x 8 cells."""
    rng = np.random.default_rng(seed)
    window = np.array([[[y, x, y + 4, x + 4] for x in (0, 4)] for y in (0, 4)], np.float32)
    box = window + rng.uniform(-1, 1, (1, 1, 2, 2, 4))
    score, label = rng.normal(size=(1, 1, 2, 2)), rng.normal(size=(1, 1, 2, 2, 2))
    return DetectionMap(*(jnp.asarray(a, jnp.float32) for a in (score, label, box, window)))


def given_objects(*rows):
    """A batch of one frame of 8 x 8 cells with objects (box, label), and one masked row."""
    boxes, label = zip(*rows, ([np.nan] * 4, 9), strict=True)
    return {
        "field": np.zeros((1, 1, 8, 8, 1), np.float32),
        "boxes": np.array(boxes, np.float32).reshape(1, 1, -1, 4),
        "label": np.array(label).reshape(1, 1, -1),
        "object_mask": np.array([True] * len(rows) + [False]).reshape(1, 1, -1),
    }


CONFIG = DetectConfig(gamma=1.0, label_weight=0.5, box_weight=3.0)
FACTS: Any = {"class_counts": (3, 1), "mean_box": (0.0, 0.0, 4.0, 4.0)}
run_loss = nnx.jit(Detect(CONFIG, **FACTS).loss)


@pytest.mark.parametrize(
    ("rows", "learnt"),
    [
        # In the middle of its window; between all four windows, which goes to the first.
        ([([5, 0, 7, 3], 1), ([2, 2, 6, 6], 0)], {0: (1, 0), 1: (0, 0)}),
        # Three in one window: the smallest is learnt, of equal ones the first.
        ([([0, 0, 3, 3], 0), ([1, 1, 3, 3], 1), ([0, 1, 2, 3], 0)], {1: (0, 0)}),
        # Outside of every window: the nearest.
        ([([9, 6, 12, 9], 1)], {0: (1, 1)}),
    ],
)
def test_the_loss_is_that_of_the_objects_at_their_nearest_windows(rows, learnt):
    output, batch = grid_map(), given_objects(*rows)
    loss, metrics = run_loss(Says(output), batch)
    score, label, box = (np.asarray(a, np.float64)[0, 0] for a in jax.tree.leaves(output)[:3])
    target = np.zeros((2, 2), bool)
    entropy, overlap, bounds = [], [], []
    for row, cell in learnt.items():
        target[cell] = True
        true, said = batch["boxes"][0, 0, row], box[cell]
        logits = label[cell]
        entropy.append(np.log(np.exp(logits).sum()) - logits[batch["label"][0, 0, row]])
        lo, hi = np.minimum(true, said), np.maximum(true, said)
        shared = np.prod(np.maximum(lo[2:] - hi[:2], 0))
        union = np.prod(true[2:] - true[:2]) + np.prod(said[2:] - said[:2]) - shared
        hull = np.prod(hi[2:] - lo[:2])
        overlap.append(1 - shared / union + (hull - union) / hull)
        error = np.abs(true - said) / 4
        bounds.append(np.where(error < 1, error**2 / 2, error - 0.5).mean())
    p = 1 / (1 + np.exp(-np.where(target, score, -score)))
    focal = np.sum(np.where(target, 0.25, 0.75) * (1 - p) * -np.log(p)) / target.sum()
    expected = {
        "focal": focal,
        "cross_entropy": np.mean(entropy),
        "box": np.mean(overlap) + np.mean(bounds),
        "lost_objects": len(rows) - len(learnt),
    }
    for name, value in expected.items():
        np.testing.assert_allclose(metrics[name], value, rtol=1e-5, err_msg=name)
    total = focal + 0.5 * expected["cross_entropy"] + 3 * expected["box"]
    np.testing.assert_allclose(loss, total, rtol=1e-5)


def test_examples_that_fill_a_batch_and_empty_frames_count_nowhere():
    task = Detect(CONFIG, **FACTS)
    one, two = grid_map(0), grid_map(1)
    rows = [([5, 0, 7, 3], 1), ([1, 1, 2, 2], 0)]
    batch, other = given_objects(*rows), given_objects(*rows[::-1])

    def pair(a, b):
        return jax.tree.map(lambda *values: np.concatenate(values), a, b)

    output = dataclasses.replace(pair(one, two), window=one.window)
    both = pair(batch, other) | {"example_mask": np.array([True, False])}
    empty = {**batch, "object_mask": np.zeros((1, 1, 3), bool)}

    @nnx.jit
    def run(both_say, one_says):
        return task.loss(both_say, both), task.loss(one_says, batch), task.loss(one_says, empty)

    got, expected, nothing = run(Says(output), Says(one))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), got, expected)
    assert nothing[1]["cross_entropy"] == nothing[1]["box"] == nothing[1]["lost_objects"] == 0
    assert nothing[0] == nothing[1]["focal"] > 0


def test_predictions_are_the_best_of_each_class_by_score():
    config = dataclasses.replace(CONFIG, max_detections=3, score_threshold=0.2)
    task = Detect(config, **FACTS)
    output = grid_map()
    score = jnp.array([2.0, 1.0, 0.0, -3.0]).reshape(1, 1, 2, 2)
    label = jnp.array([[5.0, 0.0], [0.0, 5.0], [0.0, 0.0], [5.0, 0.0]]).reshape(1, 1, 2, 2, 2)
    found = nnx.jit(task.predict)(
        Says(dataclasses.replace(output, score=score, label=label)), {"field": np.zeros(1)}
    )
    sure = 1 / (1 + np.exp(-5.0))
    expected = [sure / (1 + np.exp(-2.0)), sure / (1 + np.exp(-1.0)), 0.25]
    np.testing.assert_allclose(found.score[0, 0], expected, rtol=1e-5)
    assert found.label[0, 0].tolist() == [0, 1, 0]
    assert found.valid.all()
    np.testing.assert_array_equal(found.boxes[0, 0], output.box.reshape(4, 4)[:3])


def test_mean_box_is_counted_from_the_training_objects():
    batch = given_objects(([0, 0, 2, 4], 1), ([2, 2, 4, 8], 1), ([1, 4, 3, 6], 0))
    task = task_of(batch)
    assert task.class_counts == (1, 2)
    assert task.mean_box == (1.0, 2.0, 3.0, 6.0)
    baseline = task.baselines(batch)["mean_box"]
    np.testing.assert_array_equal(baseline.boxes, np.reshape([1.0, 2.0, 3.0, 6.0], (1, 1, 1, 4)))
    assert baseline.label.item() == 1
    assert baseline.score.item() == pytest.approx(2 / 3)
    # Its IoU with the two objects of class 1 is 2 / 14 and 4 / 16: one of two is hit at 0.2.
    found = average_precision(baseline, batch, thresholds=(0.2,))
    assert found.mean() == pytest.approx(51 / 101 / 2)


@pytest.mark.slow
# Without optimisations XLA of jaxlib 0.10 gets the gradient of pooling wrong.
@pytest.mark.optimised
def test_a_batch_over_eight_devices_gives_the_same_loss_and_gradient():
    batch = make_batch(examples=8, time=2)
    task = task_of(batch)
    backbone = Conv3DConfig(2, features=(4,))
    model = task.build(backbone, shapes_of(batch), rngs=nnx.Rngs(0))
    graphdef, state = nnx.split(model)

    @jax.jit
    def run(state, batch):
        return jax.value_and_grad(
            lambda state: task.loss(nnx.merge(graphdef, state), batch)[0], allow_int=True
        )(state)

    mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    together = (
        jax.device_put(state, jax.NamedSharding(mesh, jax.P())),
        jax.device_put(batch, jax.NamedSharding(mesh, jax.P("data"))),
    )
    program = run.lower(*together).compile()
    assert not re.findall(r"all-gather|all-to-all|collective-permute", program.as_text() or "")
    expected, got = run(state, batch), program(*together)
    np.testing.assert_allclose(got[0], expected[0], rtol=1e-5)
    for a, b in zip(
        *(jax.tree.leaves(nnx.state(g[1], nnx.Param)) for g in (got, expected)), strict=True
    ):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5)


def test_causal_windows_detect_without_later_frames():
    spec = WindowSpec((3, 8, 8), stride=(2, 8, 8), padding=("CAUSAL", "VALID", "VALID"))
    batch = make_batch(examples=1, time=6)
    task = task_of(batch)
    backbone = PatchCNNConfig(spec, features=(4,), axes="all")
    model = task.build(backbone, shapes_of(batch), rngs=nnx.Rngs(0))
    run = nnx.jit(lambda model, x: model(x).score)
    field = jnp.asarray(batch["field"])
    before, after = run(model, field), run(model, field.at[:, 4:].add(1.0))
    assert before.shape == (1, 6, 2, 2)
    np.testing.assert_array_equal(before[:, :4], after[:, :4])
    assert (before[:, 4:] != after[:, 4:]).any()


@pytest.mark.parametrize("space", [(6,), (4, 4), (4, 4, 4)])
def test_panels_video_and_volumes_have_boxes(space):
    axes = len(space)
    config = DetectConfig(max_detections=3)
    task = Detect(config, class_counts=(1,), mean_box=(0.0,) * axes + (2.0,) * axes)
    batch = {
        "field": jnp.zeros((2, 3, *space, 1)),
        "boxes": jnp.zeros((2, 3, 0, 2 * axes)),
        "label": jnp.zeros((2, 3, 0), int),
        "object_mask": jnp.zeros((2, 3, 0), bool),
    }
    backbone = Conv3DConfig(axes, features=(4,))
    model = nnx.eval_shape(lambda: task.build(backbone, shapes_of(batch), rngs=nnx.Rngs(0)))
    found, (loss, _) = nnx.eval_shape(
        lambda model, batch: (task.predict(model, batch), task.loss(model, batch)), model, batch
    )
    assert found.boxes.shape == (2, 3, 3, 2 * axes)
    assert loss.shape == ()


def test_objects_that_cannot_be_learnt_are_refused():
    task, batch = Detect(CONFIG, **FACTS), given_objects(([0, 0, 2, 4], 1))
    task.check_batch(batch)
    for label in (2, -1, 0.5):
        message = f"label must be whole numbers from 0 to 1, got [{label}"
        with pytest.raises(InputError, match=re.escape(message)):
            task.check_batch({**batch, "label": np.full((1, 1, 2), label)})
    for bounds in ([0, 0, -1, 4], [0, 0, np.inf, 4]):
        with pytest.raises(InputError, match=r"finite bounds .* with lo <= hi, got"):
            task.check_batch(given_objects((bounds, 1)))


def test_shapes_that_do_not_fit_are_refused():
    task, batch = Detect(CONFIG, **FACTS), given_objects(([0, 0, 2, 4], 1))
    shapes = shapes_of(batch)
    for field in ((1, 1, 1), (1, 1, 8, 1), (1, 1, 8, 8, 8, 1)):
        with pytest.raises(InputError, match="the 2 space axes of mean_box, got shape"):
            task.build(PATCHES, {**shapes, "field": field}, rngs=nnx.Rngs(0))
    for boxes in ((1, 1, 2), (1, 2, 2, 4), (1, 1, 2, 6)):
        message = f"boxes must be (batch, time, objects, 4) in the frames of the field, got {boxes}"
        with pytest.raises(InputError, match=re.escape(message)):
            task.build(PATCHES, {**shapes, "boxes": boxes}, rngs=nnx.Rngs(0))
    with pytest.raises(InputError, match=re.escape("in the frames of the field, got (1, 2, 4)")):
        task.loss(Says(grid_map()), {**batch, "boxes": np.zeros((1, 2, 4))})
    for name in ("label", "object_mask"):
        with pytest.raises(InputError, match=r"label and object_mask must be \(1, 1, 2\), one"):
            task.loss(Says(grid_map()), {**batch, name: batch[name][:, :, :1]})


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"class_counts": (0, 0)}, "class_counts must be of 1 kinds at least and not all 0"),
        ({"mean_box": (0.0, 1.0, 2.0)}, "mean_box must be 2, 4 or 6 bounds"),
        ({"mean_box": (0.0, 1.0, 0.0, 2.0)}, "with lo < hi along 1 to 3 space axes"),
        ({"gamma": -1.0}, "gamma must be at least 0, got -1"),
        ({"box_weight": -1.0}, "box_weight must be at least 0"),
        ({"alpha": 2.0}, r"alpha must be in \[0, 1\], got 2"),
        ({"iou_threshold": -0.1}, r"iou_threshold must be in \[0, 1\]"),
        ({"max_detections": 0}, "max_detections must be a whole number >= 1, got 0"),
    ],
)
def test_bad_settings_are_refused(fields, message):
    facts = {name: fields.pop(name, FACTS[name]) for name in FACTS}
    with pytest.raises(InputError, match=message):
        Detect(DetectConfig(**fields), **facts)


def test_config_goes_to_json_and_back():
    config = dataclasses.replace(CONFIG, hidden=(8,), smooth_l1=0.5)
    assert DetectConfig(**json.loads(json.dumps(dataclasses.asdict(config)))) == config
