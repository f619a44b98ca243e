"""Focal loss against optax, overlaps of boxes against counted cells, masks and degenerate boxes."""

import re

import hypothesis
import hypothesis.extra.numpy as hnp
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from stpatch_jax import losses
from stpatch_jax.errors import InputError

SHAPE = (2, 5)
LOGITS = hnp.arrays(np.float32, SHAPE, elements=st.floats(-30, 30, width=32))
BOOLS = hnp.arrays(bool, SHAPE)
SIZE = 6

focal = jax.jit(lambda x, t, m: losses.focal(x, t, mask=m, gamma=1.5, alpha=0.3))
overlaps = jax.jit(lambda a, b: (losses.box_iou(a, b), losses.box_giou(a, b)))


@hypothesis.given(logits=LOGITS, target=BOOLS, mask=BOOLS)
def test_focal_equals_optax_over_the_real_positives(logits, target, mask):
    loss = focal(np.where(mask, logits, np.nan), target, mask)
    assert loss.dtype == jnp.float32
    entries = optax.losses.sigmoid_focal_loss(
        jnp.asarray(logits), jnp.asarray(target, jnp.float32), alpha=0.3, gamma=1.5
    )
    expected = np.asarray(entries)[mask].sum() / max((target & mask).sum(), 1)
    np.testing.assert_allclose(loss, expected, rtol=1e-4, atol=1e-6)


def test_focal_is_finite_at_any_logit_and_masked_entries_have_no_gradient():
    logits = jnp.array([-1e4, 1e4, -1e4, 1e4, 0.0, jnp.nan])
    target = jnp.array([True, True, False, False, True, True])
    mask = jnp.array([True] * 5 + [False])

    @jax.jit
    @jax.value_and_grad
    def run(logits):
        return losses.focal(logits, target, mask=mask, gamma=0.5)

    loss, gradient = run(logits)
    assert np.isfinite(loss)
    assert np.isfinite(gradient).all()
    assert gradient[5] == 0
    # Only the two that are plainly wrong and the undecided one pull.
    np.testing.assert_array_equal(gradient != 0, [True, False, False, True, True, False])


def cells(box):
    """The cells of a grid that a box of whole bounds holds."""
    held = np.zeros((SIZE,) * (len(box) // 2), bool)
    lo, hi = np.split(np.asarray(box, int), 2)
    held[tuple(slice(a, b) for a, b in zip(lo, hi, strict=True))] = True
    return held


def whole_boxes(axes):
    bounds = st.integers(0, SIZE - 1).flatmap(lambda a: st.tuples(st.just(a), st.integers(a, SIZE)))
    box = st.lists(bounds, min_size=axes, max_size=axes)
    box = box.map(lambda pairs: [a for a, _ in pairs] + [b for _, b in pairs])
    return st.lists(box, min_size=4, max_size=4).map(lambda rows: np.array(rows, np.float32))


@pytest.mark.parametrize("axes", [1, 2, 3])
@hypothesis.given(data=st.data())
def test_overlaps_equal_counted_cells(axes, data):
    a, b = data.draw(whole_boxes(axes)), data.draw(whole_boxes(axes))
    iou, giou = overlaps(a[:, None], b[None])
    for row, column in np.ndindex(4, 4):
        first, second = cells(a[row]), cells(b[column])
        lo = np.minimum(a[row], b[column])[:axes]
        hi = np.maximum(a[row], b[column])[axes:]
        union, hull = (first | second).sum(), cells([*lo, *hi]).sum()
        expected = (first & second).sum() / union if union else 0
        np.testing.assert_allclose(iou[row, column], expected, rtol=1e-6)
        expected -= (hull - union) / hull if hull else 0
        np.testing.assert_allclose(giou[row, column], expected, rtol=1e-5, atol=1e-6)


def test_box_loss_is_the_masked_mean_of_its_parts():
    rng = np.random.default_rng(0)
    lo = rng.uniform(0, 3, (2, 2, 4, 2))
    prediction, target = np.concatenate([lo, lo + rng.uniform(1, 4, lo.shape)], -1).astype("f4")
    mask = jnp.array([[True, False, True, True], [False, True, True, False]])
    holes = np.where(mask[..., None], target, np.nan)

    @jax.jit
    def run(prediction, holes):
        return (
            losses.box_loss(prediction, holes, mask=mask),
            losses.box_loss(prediction, holes, mask=mask, smooth_l1=0.5),
            losses.box_loss(prediction, target),
            losses.box_giou(prediction, target),
            losses.huber(prediction[mask], target[mask], delta=1.0),
            losses.box_loss(prediction, holes, mask=jnp.zeros_like(mask), smooth_l1=1.0),
        )

    plain, mixed, unmasked, giou, smooth, nothing = run(prediction, holes)
    np.testing.assert_allclose(plain, np.mean(1 - np.asarray(giou)[mask]), rtol=1e-5)
    np.testing.assert_allclose(mixed, plain + 0.5 * smooth, rtol=1e-5)
    np.testing.assert_allclose(unmasked, np.mean(1 - np.asarray(giou)), rtol=1e-5)
    assert nothing == 0


def test_degenerate_boxes_have_finite_losses_and_gradients_and_apart_ones_attract():
    pairs = {
        "two points": ([1, 1, 1, 1], [1, 1, 1, 1]),
        "point inside": ([1, 1, 1, 1], [0, 0, 2, 2]),
        "line": ([0, 1, 2, 1], [0, 1, 2, 1]),
        "inside out": ([2, 2, 1, 1], [0, 0, 3, 3]),
        "tiny": ([0, 0, 1e-12, 1e-12], [0, 0, 1e-12, 1e-12]),
        "huge": ([-1e9, -1e9, 1e9, 1e9], [0, 0, 1, 1]),
        "apart": ([0, 0, 1, 1], [5, 0, 6, 1]),
        "masked": ([np.nan] * 4, [np.nan] * 4),
    }
    prediction, target = np.array(list(pairs.values()), np.float32).swapaxes(0, 1)
    mask = jnp.array([name != "masked" for name in pairs])

    @jax.jit
    @jax.value_and_grad
    def run(prediction):
        return losses.box_loss(prediction, target, mask=mask, smooth_l1=0.1)

    loss, gradient = run(prediction)
    assert np.isfinite(loss)
    assert np.isfinite(gradient).all()
    assert (gradient[-1] == 0).all()
    apart = gradient[list(pairs).index("apart")]
    # A step against the gradient moves the upper bound along the first axis to the target.
    assert apart[2] < 0


def test_what_does_not_fit_is_refused():
    box = jnp.zeros((2, 4))
    with pytest.raises(InputError, match=re.escape("one shape, got (2,), (3,)")):
        losses.focal(jnp.zeros(2), jnp.zeros(3, bool))
    with pytest.raises(InputError, match="target of focal must be bool, got float32"):
        losses.focal(jnp.zeros(2), jnp.zeros(2))
    for gamma, alpha in ((-1.0, 0.5), (2.0, 1.5)):
        with pytest.raises(InputError, match=r"(gamma must be at least 0|alpha must be in)"):
            losses.focal(jnp.zeros(2), jnp.zeros(2, bool), gamma=gamma, alpha=alpha)
    for other in (jnp.zeros((2, 2)), jnp.zeros((3, 4)), jnp.zeros(4)):
        with pytest.raises(InputError, match=re.escape(f"got (2, 4) and {other.shape}")):
            losses.box_giou(box, other)
    with pytest.raises(InputError, match="boxes of box_iou must be"):
        losses.box_iou(jnp.zeros((2, 8)), jnp.zeros((2, 8)))
    with pytest.raises(InputError, match="of box_loss must have one shape"):
        losses.box_loss(box, jnp.zeros((1, 4)))
    with pytest.raises(InputError, match=re.escape("one value per box (2,), got (2, 4)")):
        losses.box_loss(box, box, mask=jnp.ones((2, 4), bool))
    with pytest.raises(InputError, match="smooth_l1 must be at least 0, got -1"):
        losses.box_loss(box, box, smooth_l1=-1)
