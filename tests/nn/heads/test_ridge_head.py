"""Ridge regression in closed form: scikit-learn's, and what refits without an example say."""

from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
from sklearn.linear_model import Ridge, RidgeClassifierCV

from stpatch_jax.errors import InputError
from stpatch_jax.nn import RidgeHead
from stpatch_jax.nn.heads import fit_ridge

PENALTIES = np.logspace(-3, 3, 10)


def made(examples, features, seed=0):
    random = np.random.default_rng(seed)
    labels = np.arange(examples) % 3
    x = random.normal(size=(examples, features)) + 0.7 * (labels[:, None] == np.arange(features))
    return x, labels, np.where(labels[:, None] == np.arange(3), 1.0, -1.0)


@pytest.mark.parametrize(("examples", "features"), [(30, 70), (90, 12), (20, 20)])
def test_it_is_that_of_scikit_learn(examples, features):
    x, labels, targets = made(examples, features)
    found = fit_ridge(x, targets)
    expected: Any = RidgeClassifierCV(PENALTIES).fit(x, labels)
    assert found.penalty == expected.alpha_
    np.testing.assert_allclose(found.kernel.T, expected.coef_, atol=1e-9)
    np.testing.assert_allclose(found.bias, expected.intercept_, atol=1e-9)


@pytest.mark.parametrize(("examples", "features"), [(15, 40), (40, 8)])
def test_what_is_left_out_is_what_a_refit_says(examples, features):
    x, _, targets = made(examples, features, seed=1)
    weights = np.random.default_rng(2).uniform(0.5, 3, examples)
    found = fit_ridge(x, targets, weights=weights, penalties=[2.0])
    for left in range(0, examples, 7):
        kept = np.arange(examples) != left
        refit = Ridge(2.0).fit(x[kept], targets[kept], weights[kept])
        np.testing.assert_allclose(found.left_out[left], refit.predict(x[[left]])[0], atol=1e-8)
    whole = Ridge(2.0).fit(x, targets, weights)
    np.testing.assert_allclose(x @ found.kernel + found.bias, whole.predict(x), atol=1e-8)


def test_one_example_is_refused():
    with pytest.raises(InputError, match="two examples or more, got 1"):
        fit_ridge(np.ones((1, 2)), np.ones((1, 2)))


def test_the_head_standardises_and_its_logits_are_scaled_scores():
    x, labels, targets = made(40, 9)
    x = np.concatenate([1e3 * x + 7, np.full((40, 1), 5.0)], axis=1)
    head = RidgeHead((1,), 10, classes=3)
    assert (head(jnp.ones((2, 1, 10))) == 0).all()
    left_out = head.fit(x[:, None], labels)
    used = (x - x.mean(0))[:, :9] / x.std(0)[:9]
    scores = RidgeClassifierCV(PENALTIES).fit(used, labels).decision_function(used)
    logits = np.asarray(head(jnp.asarray(x[:, None], jnp.float32)))
    scale = (logits * scores).sum() / np.square(scores).sum()
    np.testing.assert_allclose(logits, scale * scores, atol=2e-3)
    # Of the factors near it none makes better logits of what is left out.
    losses = [
        -np.take_along_axis(
            scipy.special.log_softmax(factor * left_out, axis=1), labels[:, None], axis=1
        ).mean()
        for factor in (0.5, 1, 2)
    ]
    assert losses[1] < min(losses[0], losses[2])
    assert targets.shape == left_out.shape


def test_features_of_another_size_are_refused():
    with pytest.raises(InputError, match=r"6 features of an example, got shape \(2, 1, 4\)"):
        RidgeHead((2,), 3, classes=2)(jnp.ones((2, 1, 4)))
