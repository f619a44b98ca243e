"""NextToken: each token of a text from those before it."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from stpatch_jax import losses
from stpatch_jax.errors import InputError, check_range, check_size, require
from stpatch_jax.metrics import bits_per_token
from stpatch_jax.nn.embedding import TokenEmbedding, TokenEmbeddingConfig
from stpatch_jax.nn.heads import NextTokenHead
from stpatch_jax.nn.layers import Backbone, BackboneConfig
from stpatch_jax.tasks.models import BackboneWithHead
from stpatch_jax.tasks.task import (
    Batch,
    Metrics,
    Shapes,
    TaskBase,
    TaskConfig,
    check_ids,
    checked_counts,
    real_entries,
)


@dataclasses.dataclass(frozen=True)
class NextTokenConfig(TaskConfig):
    """Settings of `NextToken`: there are none."""

    def create(self, *, facts: Mapping[str, Any] | None = None) -> NextToken:
        """The task of these settings, as in `TaskConfig.create`."""
        return NextToken(self, **(facts or {}))


class CountedTokens(Protocol):
    """What `NextToken` asks of its data, as its own fact."""

    token_counts: tuple[int, ...]


class NextToken(TaskBase):
    """Predicts each token of a text from those before it.

    A batch holds `tokens` [batch, time] integers from 0 to vocabulary - 1, and optionally bool
    `token_mask` [batch, time], False where a token only fills up a short text, and bool
    `example_mask` [batch]. The first token of a text is given and not predicted: put a token there
    that marks the beginning if the first word should be.

    The backbone is a `TokenEmbeddingConfig` around a causal one with one output per token: windows
    with stride 1 that end at their own step (CAUSAL padding in time, or a window of 1), and
    `causal=True` where a config has that field. The head is zero before training, so that all
    tokens are held for equally likely.

    Args:
        config: Settings.
        token_counts: How often each token of the vocabulary occurs in the training texts: how many
            tokens there are, and what the baseline goes by. Empty until `fitted`.

    Raises:
        InputError: The counts are none.
    """

    inputs = ("tokens",)
    asks = CountedTokens
    config: NextTokenConfig

    def __init__(self, config: NextTokenConfig, *, token_counts: Sequence[int] = ()):
        counts = checked_counts("token_counts", token_counts, least=2)
        super().__init__(config, token_counts=counts)

    @property
    def token_counts(self) -> tuple[int, ...]:
        """How often each token occurs in the training texts, once `fitted`."""
        return self.fact("token_counts")

    def check_shapes(self, backbone: BackboneConfig, shapes: Shapes) -> None:
        """Refuses texts of one token, and backbones that do not embed the vocabulary.

        Raises:
            InputError: Saying which of these.
        """
        tokens, vocabulary = tuple(shapes["tokens"]), len(self.token_counts)
        require(
            len(tokens) == 2 and tokens[1] > 1,
            f"tokens must be (batch, time) with at least 2 time steps, got shape {tokens}; use "
            "longer texts",
        )
        if not isinstance(backbone, TokenEmbeddingConfig):
            raise InputError(
                f"the backbone of NextToken must be a TokenEmbeddingConfig, got "
                f"{type(backbone).__name__}; wrap it in one of {vocabulary} tokens"
            )
        require(
            backbone.vocabulary == vocabulary,
            f"the TokenEmbeddingConfig must have a vocabulary of {vocabulary}, got "
            f"{backbone.vocabulary}; give it that of the data",
        )

    def field_shape(self, shapes: Shapes) -> tuple[int, ...]:
        """All tokens but the last, which nothing is predicted from."""
        return (shapes["tokens"][0], shapes["tokens"][1] - 1, 1)

    def network(
        self, body: Backbone, backbone: BackboneConfig, shapes: Shapes, *, rngs: nnx.Rngs
    ) -> BackboneWithHead:
        """Puts a `NextTokenHead` on a backbone.

        Raises:
            InputError: The backbone could see the tokens to come.
        """
        assert isinstance(backbone, TokenEmbeddingConfig)  # by check_shapes
        assert isinstance(body, TokenEmbedding)
        time = shapes["tokens"][1] - 1
        (axis,), grid = body.spec.axes((time,)), body.grid_shape((time,))
        aligned = grid == (time,) and axis.stride == 1
        looks_back = axis.lo == axis.effective - 1 and getattr(backbone.backbone, "causal", True)
        require(
            aligned and looks_back,
            f"the backbone of NextToken must be causal with one output per token, got "
            f"{type(body.backbone).__name__} with {grid[0]} for {time} tokens, or one that looks "
            "ahead; use stride=(1,), padding=('CAUSAL',), and its causal where it has that",
        )
        options: Any = {"vocabulary": len(self.token_counts), "options": backbone.for_head}
        return BackboneWithHead(body, NextTokenHead(body.out_features, rngs=rngs, **options))

    def check_batch(self, batch: Batch) -> None:
        """Refuses tokens that the vocabulary has not, as in `Task.check_batch`."""
        check_ids("tokens", batch["tokens"], len(self.token_counts))

    def predict(self, model: nnx.Module, batch: Batch) -> jax.Array:
        """Returns the log probabilities of the tokens 1, 2, ... of each text, given all before.

        They are [batch, time - 1, vocabulary] float32, in nats.
        """
        return jax.nn.log_softmax(model(batch["tokens"][:, :-1, None]), axis=-1)

    def loss(self, model: nnx.Module, batch: Batch) -> tuple[jax.Array, Metrics]:
        """Computes the cross-entropy over the real tokens of a batch but the first of each text.

        Returns:
            The loss, a float32 scalar in nats per token, and the metrics of `score`.
        """
        return self._loss(self.predict(model, batch), batch)

    def score(self, outputs: jax.Array, batch: Batch) -> Metrics:
        """`bits_per_token` of outputs as of `predict`, and `weight`, the number of real tokens."""
        return self._loss(outputs, batch)[1]

    def _loss(self, outputs: jax.Array, batch: Batch) -> tuple[jax.Array, Metrics]:
        label = jnp.asarray(batch["tokens"])[:, 1:]
        mask = jnp.ones(label.shape, bool)
        if "token_mask" in batch:
            mask = mask & batch["token_mask"][:, 1:]
        mask = real_entries(mask, batch)
        loss = losses.cross_entropy(outputs, label, mask=mask)
        bits = jnp.asarray(bits_per_token(jax.lax.stop_gradient(loss)))
        return loss, {"bits_per_token": bits, "weight": jnp.sum(losses.entry_weights(mask))}

    def baselines(self, batch: Batch) -> dict[str, jax.Array]:
        """Returns the naive predictions by name, each [batch, time - 1, vocabulary] as `predict`.

        `unigram` gives every token its frequency in the training texts, whatever came before; one
        occurrence is added to each, so that no token is held for impossible (Laplace's rule).
        """
        counts = np.asarray(self.token_counts, np.float64) + 1
        frequencies = jnp.asarray(np.log(counts / counts.sum()), jnp.float32)
        shape = (*batch["tokens"][:, 1:].shape, len(counts))
        return {"unigram": jnp.broadcast_to(frequencies.reshape(1, 1, -1), shape)}

    def sample(
        self,
        model: nnx.Module,
        prompt: jax.Array | np.ndarray,
        *,
        length: int,
        temperature: float = 1.0,
        key: jax.Array,
    ) -> jax.Array:
        """Continues texts token by token, drawn from the model's probabilities.

        Each token runs the model over a whole buffer of the final length, in one compiled loop:
        the cost grows with the square of the length. Dropout is off.

        Args:
            model: The model.
            prompt: [batch, prompt] integers, at least one token per text.
            length: Number of tokens to add.
            temperature: What logits are divided by; 0 always takes the likeliest token.
            key: PRNG key.

        Returns:
            [batch, prompt + length] int32, which begin with the prompt.

        Raises:
            InputError: If the prompt is empty or holds what is no token, or an option is wrong.
        """
        prompt = np.asarray(prompt)
        require(
            prompt.ndim == 2 and prompt.shape[1] > 0,
            "prompt must be (batch, time) with at least one token per text, got shape "
            f"{prompt.shape}; give a token that marks the beginning where there is none",
        )
        check_ids("prompt", prompt, len(self.token_counts))
        check_size("length", length)
        check_range("temperature", temperature, 0, math.inf)
        evaluated = nnx.view(model, deterministic=True, raise_if_not_found=False)
        start = jnp.asarray(prompt, jnp.int32)
        return _sample(evaluated, start, jnp.float32(temperature), key, length=length)


@functools.partial(nnx.jit, static_argnames="length")
def _sample(
    model: nnx.Module, prompt: jax.Array, temperature: jax.Array, key: jax.Array, *, length: int
) -> jax.Array:
    graphdef, state = nnx.split(model)

    def add_token(at: jax.Array, tokens: jax.Array) -> jax.Array:
        # What follows in the buffer does not matter to a causal model.
        logits = nnx.merge(graphdef, state)(tokens[..., None])
        last = jax.lax.dynamic_index_in_dim(logits, at - 1, axis=1, keepdims=False)
        drawn = jax.random.categorical(
            jax.random.fold_in(key, at), last / jnp.where(temperature > 0, temperature, 1.0)
        )
        token = jnp.where(temperature > 0, drawn, jnp.argmax(last, axis=-1))
        return jax.lax.dynamic_update_slice_in_dim(
            tokens, token.astype(tokens.dtype)[:, None], at, axis=1
        )

    first = prompt.shape[1]
    buffer = jnp.pad(prompt, ((0, 0), (0, length)))
    return jax.lax.fori_loop(first, first + length, add_token, buffer)
