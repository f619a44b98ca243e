"""Correlation, macro averages, ROC areas and token entropy against scikit-learn."""

import re
import warnings

import hypothesis
import hypothesis.extra.numpy as hnp
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sklearn.metrics

from stpatch_jax.errors import InputError
from stpatch_jax.metrics import Confusion, TokenEntropy, bits_per_token, roc_auc

CLASSES = hnp.arrays(np.int32, 12, elements=st.integers(0, 2))
# Few different scores, so that ties are common.
SCORES = hnp.arrays(np.float64, 12, elements=st.sampled_from([-1.0, 0.0, 0.25, 0.5, 7.0, np.inf]))


@hypothesis.given(label=CLASSES, predicted=CLASSES)
def test_confusion_answers_equal_scikit_learn(label, predicted):
    counts = np.zeros((3, 3), np.int64)
    np.add.at(counts, (label, predicted), 1)
    confusion = Confusion(counts)
    with warnings.catch_warnings():
        # It warns of what is a single class, and of classes that are predicted but not there.
        warnings.simplefilter("ignore", UserWarning)
        expected = sklearn.metrics.matthews_corrcoef(label, predicted)
        balanced = sklearn.metrics.balanced_accuracy_score(label, predicted)
    if np.isnan(confusion.mcc()):
        # scikit-learn calls the undefined one 0.
        assert expected == 0
        assert len(set(label)) == 1 or len(set(predicted)) == 1
    else:
        np.testing.assert_allclose(confusion.mcc(), expected, atol=1e-12)
    np.testing.assert_allclose(
        confusion.macro_f1(), sklearn.metrics.f1_score(label, predicted, average="macro")
    )
    np.testing.assert_allclose(confusion.balanced_accuracy(), balanced)


def test_mcc_in_jit_survives_many_examples_and_is_nan_for_one_class():
    mcc = jax.jit(Confusion.mcc)
    # The squares of these counts are no int32.
    many = np.array([[900_000, 50_000], [20_000, 30_000]])
    label = np.repeat([0, 0, 1, 1], many.ravel())
    predicted = np.repeat([0, 1, 0, 1], many.ravel())
    expected = sklearn.metrics.matthews_corrcoef(label, predicted)
    np.testing.assert_allclose(mcc(Confusion(jnp.asarray(many))), expected, rtol=1e-4)
    assert np.isnan(mcc(Confusion(jnp.array([[333, 0], [77, 0]]))))
    assert np.isnan(mcc(Confusion(jnp.array([[333, 77], [0, 0]]))))


@hypothesis.given(score=SCORES, label=hnp.arrays(bool, 12), mask=hnp.arrays(bool, 12))
def test_binary_roc_auc_equals_scikit_learn_with_ties_and_mask(score, label, mask):
    area = roc_auc(np.where(mask, score, np.nan), label, mask=mask)
    if len(set(label[mask])) < 2:
        assert np.isnan(area)
        return
    expected = sklearn.metrics.roc_auc_score(label[mask], np.minimum(score[mask], 1e9))
    np.testing.assert_allclose(area, expected, rtol=1e-12)
    np.testing.assert_allclose(area, 1 - roc_auc(score, ~label, mask=mask), rtol=1e-12)


def test_roc_auc_of_classes_is_the_mean_of_each_against_the_rest():
    rng = np.random.default_rng(0)
    score, label = rng.random((40, 3)), rng.integers(0, 3, 40)
    probability = score / score.sum(axis=1, keepdims=True)
    expected = sklearn.metrics.roc_auc_score(label, probability, multi_class="ovr")
    np.testing.assert_allclose(roc_auc(probability, label), expected, rtol=1e-12)
    folded = roc_auc(jnp.asarray(probability).reshape(8, 5, 3), jnp.asarray(label).reshape(8, 5))
    np.testing.assert_allclose(folded, expected, rtol=1e-4)
    # A class without examples is left out; NaN scores have no rank.
    unseen = roc_auc(np.c_[probability, np.zeros(40)], label)
    np.testing.assert_allclose(unseen, expected, rtol=1e-12)
    assert np.isnan(roc_auc(np.array([np.nan, 1.0]), np.array([0, 1])))


def test_roc_auc_refuses_what_does_not_fit():
    with pytest.raises(InputError, match=re.escape("got (4, 2), (3,) and (3,)")):
        roc_auc(np.zeros((4, 2)), np.zeros(3, int))
    with pytest.raises(InputError, match=re.escape("got (3,), (3,) and (1,)")):
        roc_auc(np.zeros(3), np.zeros(3, int), mask=np.ones(1, bool))
    with pytest.raises(
        InputError, match="labels of roc_auc must be from 0 to 1, got 2; mask what has no label"
    ):
        roc_auc(np.zeros(3), np.array([0, 1, 2]))
    with pytest.raises(InputError, match="must be from 0 to 3, got -1"):
        roc_auc(np.zeros((3, 4)), np.array([0, 1, -1]))


@hypothesis.given(
    # Apart by less than 36, below which scikit-learn takes probabilities for one and the same.
    logits=hnp.arrays(np.float64, (6, 3), elements=st.floats(-17, 17)),
    token=hnp.arrays(np.int64, 6, elements=st.integers(0, 2)),
)
def test_token_entropy_equals_scikit_learn(logits, token):
    entropy = TokenEntropy.of(logits, token)
    power = np.exp(logits - logits.max(axis=1, keepdims=True))
    probability = power / power.sum(axis=1, keepdims=True)
    expected = sklearn.metrics.log_loss(token, probability, labels=[0, 1, 2])
    np.testing.assert_allclose(entropy.nats_per_token(), expected, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(
        entropy.bits_per_token(), expected / np.log(2), rtol=1e-9, atol=1e-12
    )
    np.testing.assert_allclose(entropy.perplexity(), np.exp(expected), rtol=1e-9)
    assert bits_per_token(entropy.nats_per_token()) == entropy.bits_per_token()


def test_token_entropy_survives_large_logits_and_shows_tokens_that_are_none():
    huge = np.array([[1e30, 0.0], [-1e30, 0.0]])
    assert TokenEntropy.of(huge, np.array([0, 1])).bits_per_token() == 0
    assert np.isnan(TokenEntropy.of(np.zeros((2, 3)), np.array([0, 3])).bits_per_token())
    with pytest.raises(InputError, match=re.escape("got (2, 3), (3,) and None")):
        TokenEntropy.of(np.zeros((2, 3)), np.zeros(3, int))
    with pytest.raises(InputError, match=re.escape("got (2, 3), (2,) and (3,)")):
        TokenEntropy.of(np.zeros((2, 3)), np.zeros(2, int), mask=np.ones(3, bool))
