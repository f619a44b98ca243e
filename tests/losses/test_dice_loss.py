"""The soft Dice loss: its laws, and the value of MONAI's."""

import re

import hypothesis
import hypothesis.extra.numpy as hnp
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from stpatch_jax import losses
from stpatch_jax.errors import InputError

# One shape, so that hypothesis draws values and not compilations.
CELLS, CLASSES = (3, 4, 5), 3
LOGITS = hnp.arrays(np.float32, (*CELLS, CLASSES), elements=st.floats(-9, 9, width=32))
LABELS = hnp.arrays(np.int32, CELLS, elements=st.integers(0, CLASSES - 1))
MASKS = hnp.arrays(bool, CELLS)
dice = jax.jit(losses.dice)


@hypothesis.settings(max_examples=15)
@hypothesis.given(logits=LOGITS, label=LABELS, mask=MASKS)
def test_order_and_what_is_ignored_change_nothing(logits, label, mask):
    loss = dice(logits, label, mask=mask)
    assert 0 <= loss <= 1
    order = np.array([2, 0, 1])
    np.testing.assert_allclose(loss, dice(logits[order], label[order], mask=mask[order]), rtol=1e-6)
    hidden = np.where(mask[..., None], logits, np.nan).astype(np.float32)
    assert loss == dice(hidden, np.where(mask, label, 7), mask=mask)
    gradient = jax.grad(losses.dice)(jnp.asarray(hidden), label, mask=mask)
    assert np.isfinite(gradient).all()
    assert not np.asarray(gradient)[~mask].any()


def test_what_is_sure_and_right_costs_nothing_and_an_example_counts_by_its_weight():
    label = np.random.default_rng(0).integers(0, CLASSES, CELLS).astype(np.int32)
    sure = 60 * np.asarray(jax.nn.one_hot(label, CLASSES))
    np.testing.assert_allclose(dice(sure, label), 0, atol=1e-6)
    sure[0] = -sure[0]
    alone = dice(sure[:1], label[:1])
    weights = np.array([3, 1, 0], np.float32)
    np.testing.assert_allclose(dice(sure, label, weights=weights), 0.75 * alone, rtol=1e-6)
    assert dice(sure, label, weights=np.zeros(3, np.float32)) == 0


def test_equals_that_of_monai():
    monai, torch = pytest.importorskip("monai.losses"), pytest.importorskip("torch")
    random = np.random.default_rng(1)
    logits = random.normal(size=(2, 4, 5, 6, 3)).astype(np.float32)
    label = random.integers(0, 3, (2, 4, 5, 6))
    first = torch.from_numpy(np.moveaxis(logits, -1, 1).copy())
    theirs = monai.DiceCELoss(softmax=True, to_onehot_y=True)(
        first, torch.from_numpy(label)[:, None]
    )
    given = jnp.asarray(logits), jnp.asarray(label)
    ours = losses.dice(*given) + losses.cross_entropy(*given)
    np.testing.assert_allclose(ours, theirs.item(), rtol=1e-5)


def test_wrong_shapes_are_refused():
    with pytest.raises(InputError, match=re.escape("predictions of dice must be (*target, class)")):
        losses.dice(jnp.zeros((2, 3, 4)), jnp.zeros((2, 4), int))
    with pytest.raises(InputError, match="smooth must be"):
        losses.dice(jnp.zeros((2, 3, 4)), jnp.zeros((2, 3), int), smooth=0.0)
