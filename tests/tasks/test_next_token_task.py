"""NextToken: causal, learns a text by heart, samples it back."""

import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import sklearn.metrics
from flax import nnx

from stpatch_jax.errors import InputError
from stpatch_jax.nn import (
    BackboneConfig,
    Conv3DConfig,
    NeighborhoodConfig,
    PatchCNNConfig,
    SCNNConfig,
    SpaceTimeRNNConfig,
    TokenEmbeddingConfig,
)
from stpatch_jax.patches.windows import WindowSpec
from stpatch_jax.tasks import NextToken, NextTokenConfig

VOCABULARY = 7
COUNTS = (4, 0, 2, 9, 1, 1, 3)
LSTM = SpaceTimeRNNConfig(0, features=16)


def make_batch():
    rng = np.random.default_rng(0)
    tokens = rng.integers(0, VOCABULARY, size=(3, 9)).astype(np.int32)
    tokens[:, 0] = [0, 1, 2]  # so that the whole text is known by its first token
    return {"tokens": tokens, "token_mask": np.arange(9) < np.array([[9], [9], [6]])}


def build(inner: BackboneConfig = LSTM, **fields: Any) -> tuple[NextToken, Any]:
    task = NextToken(NextTokenConfig(), token_counts=COUNTS)
    config = TokenEmbeddingConfig(inner, vocabulary=VOCABULARY, features=8, **fields)
    model: Any = task.build(config, {"tokens": (3, 9)}, rngs=nnx.Rngs(0))
    kernel = model.head.dense.kernel
    kernel[...] = jnp.asarray(np.random.default_rng(1).normal(size=kernel.shape), jnp.float32)
    return task, model


CAUSAL = WindowSpec((3,), stride=1, padding="CAUSAL")


@pytest.mark.parametrize(
    "inner",
    [LSTM, SCNNConfig(0, features=8, depth=1, causal=True), PatchCNNConfig(CAUSAL, features=(8,))],
    ids=["lstm", "scnn", "patch_cnn"],
)
def test_later_tokens_change_no_earlier_prediction(inner):
    task, model = build(inner)
    tokens = make_batch()["tokens"]
    changed = tokens.copy()
    changed[:, 5] = (changed[:, 5] + 1) % VOCABULARY
    before, after = (nnx.jit(task.predict)(model, {"tokens": t}) for t in (tokens, changed))
    assert before.shape == (3, 8, VOCABULARY)
    np.testing.assert_allclose(np.exp(before).sum(-1), 1, rtol=1e-5)
    # What is predicted from token 5 on is the token after it.
    np.testing.assert_array_equal(before[:, :5], after[:, :5])
    assert (before[:, 5:] != after[:, 5:]).any()


def test_loss_is_the_log_loss_of_the_real_tokens():
    task, model = build()
    batch = make_batch()
    batch["example_mask"] = np.array([True, False, True])
    loss, metrics = nnx.jit(task.loss)(model, batch)
    prediction = nnx.jit(task.predict)(model, batch)
    real = batch["token_mask"][:, 1:] & batch["example_mask"][:, None]
    label, p = batch["tokens"][:, 1:][real], np.exp(np.asarray(prediction, np.float64)[real])
    p /= p.sum(-1, keepdims=True)
    expected = sklearn.metrics.log_loss(label, p, labels=range(VOCABULARY))
    np.testing.assert_allclose(loss, expected, rtol=1e-5)
    np.testing.assert_allclose(metrics["bits_per_token"], expected / np.log(2), rtol=1e-5)
    assert metrics["weight"] == real.sum()
    same = task.score(prediction, batch)
    np.testing.assert_allclose(same["bits_per_token"], metrics["bits_per_token"], rtol=1e-6)


def test_naive_probabilities_are_smoothed_frequencies():
    task, batch = NextToken(NextTokenConfig(), token_counts=COUNTS), make_batch()
    unigram = task.baselines(batch)["unigram"]
    assert unigram.shape == (3, 8, VOCABULARY)
    frequencies = (np.array(COUNTS) + 1) / (sum(COUNTS) + VOCABULARY)
    np.testing.assert_allclose(np.exp(unigram[1, 2]), frequencies, rtol=1e-5)
    real = batch["token_mask"][:, 1:]
    expected = -np.log2(frequencies[batch["tokens"][:, 1:][real]]).mean()
    got = task.score(unigram, batch)["bits_per_token"]
    np.testing.assert_allclose(got, expected, rtol=1e-5)


def test_a_text_is_learnt_by_heart_and_sampled_back():
    task, model = build()
    batch = {"tokens": make_batch()["tokens"]}
    optimizer = nnx.Optimizer(model, optax.adam(0.02), wrt=nnx.Param)

    @nnx.jit
    def train(model, optimizer):
        def step(_, carry):
            model, optimizer = carry
            gradient = nnx.grad(lambda model: task.loss(model, batch)[0])(model)
            optimizer.update(model, gradient)
            return model, optimizer

        gradient = nnx.grad(lambda model: task.loss(model, batch)[0])(model)
        nnx.fori_loop(0, 300, step, (model, optimizer))
        return gradient, task.loss(model, batch)[1]

    gradient, metrics = train(model, optimizer)
    for path, leaf in nnx.to_flat_state(gradient):
        assert np.isfinite(leaf[...]).all(), path
        assert (leaf[...] != 0).any(), path
    assert metrics["bits_per_token"] < 0.05
    for temperature in (0.0, 0.01):
        text = task.sample(
            model, batch["tokens"][:, :2], length=7, temperature=temperature, key=jax.random.key(0)
        )
        np.testing.assert_array_equal(text, batch["tokens"])


def test_cold_sampling_is_greedy_and_warm_sampling_repeats_by_its_key():
    task, model = build(dropout=0.5)
    prompt = make_batch()["tokens"][:, :4]

    def sample(seed, temperature):
        key = jax.random.key(seed)
        return np.asarray(task.sample(model, prompt, length=5, temperature=temperature, key=key))

    greedy = sample(0, 0.0)
    evaluate = nnx.view(model, deterministic=True)
    # Padded to one length, because a causal model does not mind what follows.
    likeliest = nnx.jit(lambda model, tokens: jnp.argmax(model(tokens[..., None]), axis=-1))
    expected = np.zeros((3, 9), np.int32)
    expected[:, :4] = prompt
    for at in range(4, 9):
        expected[:, at] = likeliest(evaluate, expected)[:, at - 1]
    np.testing.assert_array_equal(greedy, expected)
    np.testing.assert_array_equal(sample(1, 1e-6), greedy)
    warm = sample(1, 2.0)
    np.testing.assert_array_equal(warm[:, :4], prompt)
    np.testing.assert_array_equal(sample(1, 2.0), warm)
    assert (sample(2, 2.0) != warm).any()
    assert warm.min() >= 0
    assert warm.max() < VOCABULARY


def test_backbones_that_could_look_ahead_are_refused():
    for inner in (
        SCNNConfig(0, features=8, depth=1),
        PatchCNNConfig(WindowSpec((3,), stride=1, padding="SAME"), features=(8,)),
        PatchCNNConfig(WindowSpec((2,)), features=(8,)),
        NeighborhoodConfig(((),), lags=2),
        Conv3DConfig.tiny(0),
    ):
        with pytest.raises(InputError, match="the backbone of NextToken must be causal with one"):
            build(inner)
    build(NeighborhoodConfig(((),), lags=1))


def test_what_does_not_fit_is_refused():
    task, model = build()
    with pytest.raises(InputError, match=r"must be a TokenEmbeddingConfig, got SpaceTimeRNNConfig"):
        task.build(LSTM, {"tokens": (3, 9)}, rngs=nnx.Rngs(0))
    with pytest.raises(InputError, match="must have a vocabulary of 7, got 8"):
        task.build(TokenEmbeddingConfig(LSTM, vocabulary=8), {"tokens": (3, 9)}, rngs=nnx.Rngs(0))
    config = TokenEmbeddingConfig(LSTM, vocabulary=VOCABULARY)
    with pytest.raises(InputError, match=re.escape("at least 2 time steps, got shape (3, 1)")):
        task.build(config, {"tokens": (3, 1)}, rngs=nnx.Rngs(0))
    key = jax.random.key(0)
    for prompt in (np.zeros((2, 0), int), np.array([3])):
        with pytest.raises(InputError, match=r"prompt must be .* at least one token per text"):
            task.sample(model, prompt, length=1, key=key)
    with pytest.raises(InputError, match=r"prompt must be whole numbers from 0 to 6, got \[7\]"):
        task.sample(model, np.array([[7]]), length=1, key=key)
    with pytest.raises(InputError, match="length must be a whole number >= 1, got 0"):
        task.sample(model, np.array([[1]]), length=0, key=key)
    with pytest.raises(InputError, match="temperature must be at least 0, got -1"):
        task.sample(model, np.array([[1]]), length=1, temperature=-1.0, key=key)
    with pytest.raises(InputError, match=r"tokens must be whole numbers from 0 to 6, got \[7\]"):
        task.check_batch({"tokens": np.array([[1, 7]])})
    wrong: Any = ((5,), (1, -1), (1, 0.5))
    for counts in wrong:
        with pytest.raises(InputError, match="token_counts must be"):
            NextToken(NextTokenConfig(), token_counts=counts)
