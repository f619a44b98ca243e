"""NextToken: each token of a text from those before it."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from stpatch_jax import losses
from stpatch_jax.errors import InputError, require, require_members
from stpatch_jax.metrics import TokenEntropy, bits_per_token
from stpatch_jax.nn.embedding import TokenEmbedding, TokenEmbeddingConfig
from stpatch_jax.nn.heads import NextTokenHead
from stpatch_jax.nn.layers import BackboneConfig
from stpatch_jax.tasks.common import BackboneWithHead
from stpatch_jax.tasks.task import Batch, TaskBase, TaskConfig, checked_counts, known


@dataclasses.dataclass(frozen=True)
class NextTokenConfig(TaskConfig):
    """Settings of `NextToken`: there are none."""

    def create(self, *, facts: Mapping[str, Any] | None = None) -> NextToken:
        """Returns the task of these settings, as in `TaskConfig.create`."""
        return NextToken(self, **(facts or {}))


class CountedTokens(Protocol):
    """What `NextToken` asks of its data."""

    @property
    def token_counts(self) -> tuple[int, ...]:
        """How often each token of the vocabulary occurs in the training texts."""
        ...


class NextToken(TaskBase):
    """Predicts each token of a text from those before it.

    A batch holds `tokens` [batch, time] integers from 0 to vocabulary - 1, and optionally bool
    `token_mask` [batch, time], False where a token only fills up a short text, and bool
    `example_mask` [batch]. The first token of a text is given and not predicted: put a token there
    that marks the beginning if the first word should be.

    Args:
        config: Settings.
        token_counts: How often each token of the vocabulary occurs in the training texts: how many
            tokens there are, and what the baseline goes by. Empty until `fitted`.

    Raises:
        InputError: The counts are none.
    """

    inputs = ("tokens",)

    def __init__(self, config: NextTokenConfig, *, token_counts: Sequence[int] = ()):
        self.config = config
        self.token_counts = checked_counts("token_counts", token_counts, least=2)

    @property
    def facts(self) -> Mapping[str, Any]:
        """The token counts, JSON-able."""
        return {"token_counts": list(self.token_counts)}

    def fitted(self, data: CountedTokens) -> NextToken:
        """The task with the token counts of the data.

        Raises:
            InputError: The data have none.
        """
        require_members(data, CountedTokens, what="the data of NextToken")
        return NextToken(self.config, token_counts=data.token_counts)

    @property
    def vocabulary(self) -> int:
        """Number of tokens.

        Raises:
            InputError: The task was not `fitted`.
        """
        known("token_counts", self.token_counts)
        return len(self.token_counts)

    def build(
        self,
        backbone: BackboneConfig,
        shapes: Mapping[str, Sequence[int]],
        *,
        rngs: nnx.Rngs,
    ) -> BackboneWithHead:
        """Builds backbone and head for batches of the given shapes.

        Args:
            backbone: A `TokenEmbeddingConfig` around a causal backbone with one output per token:
                windows with stride 1 that end at their own step (CAUSAL padding in time, or a
                window of 1), and `causal=True` where a config has that field.
            shapes: Shape of `tokens` in a batch; the batch size does not matter.
            rngs: Streams `params` and `dropout`.

        Returns:
            The model, whose head is zero: it holds all tokens for equally likely.

        Raises:
            InputError: If the backbone does not embed tokens or could see those to come.
        """
        tokens = tuple(shapes["tokens"])
        require(
            len(tokens) == 2 and tokens[1] > 1,
            f"NextToken needs tokens (batch, time) with at least 2 time steps, got shape {tokens}",
        )
        vocabulary = self.vocabulary
        if not isinstance(backbone, TokenEmbeddingConfig) or backbone.vocabulary != vocabulary:
            of = f" of {getattr(backbone, 'vocabulary', 'no')} tokens"
            raise InputError(
                "NextToken needs a TokenEmbeddingConfig with its vocabulary of "
                f"{vocabulary} tokens, got {type(backbone).__name__}{of}; wrap the backbone in one"
            )
        body = backbone.build(1, shape=(tokens[1] - 1,), rngs=rngs)
        _check_causal(backbone, body, tokens[1] - 1)
        head = NextTokenHead(body.out_features, vocabulary=vocabulary, rngs=rngs, **backbone.dtypes)
        return BackboneWithHead(body, head)

    def check_batch(self, batch: Batch) -> None:
        """Refuses tokens that the vocabulary has not; for data on the host, before training.

        Raises:
            InputError: If a token is not an integer from 0 to vocabulary - 1.
        """
        vocabulary, tokens = self.vocabulary, np.asarray(batch["tokens"])
        wrong = tokens[(tokens < 0) | (tokens >= vocabulary) | (tokens != np.floor(tokens))]
        require(
            wrong.size == 0,
            f"NextToken has {vocabulary} tokens and needs ids from 0 to {vocabulary - 1}, "
            f"got {wrong[:1].tolist()}; encode the text anew or give a count for every token",
        )

    def predict(self, model: nnx.Module, batch: Batch) -> jax.Array:
        """Returns the log probabilities of the tokens 1, 2, ... of each text, given all before.

        Give `nnx.view(model, deterministic=True)` outside of training.

        Returns:
            [batch, time - 1, vocabulary] float32, in nats.
        """
        return jax.nn.log_softmax(model(batch["tokens"][:, :-1, None]), axis=-1)

    def loss(self, model: nnx.Module, batch: Batch) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Computes the cross-entropy over the real tokens of a batch but the first of each text.

        Returns:
            The loss, a float32 scalar in nats per token, and its metrics `bits_per_token` and
            `weight`, the number of those tokens.
        """
        known("token_counts", self.token_counts)
        label, mask = self._labels(batch)
        loss = losses.cross_entropy(self.predict(model, batch), label, mask=mask)
        bits = jnp.asarray(bits_per_token(jax.lax.stop_gradient(loss)))
        return loss, {"bits_per_token": bits, "weight": jnp.sum(losses.entry_weights(mask))}

    def _labels(self, batch: Batch) -> tuple[jax.Array, jax.Array]:
        """The tokens that are predicted, and which of them are real."""
        label = jnp.asarray(batch["tokens"])[:, 1:]
        mask = jnp.ones(label.shape, bool)
        if "token_mask" in batch:
            mask = mask & batch["token_mask"][:, 1:]
        if "example_mask" in batch:
            mask = mask & batch["example_mask"][:, None]
        return label, mask

    def entropy(self, prediction: jax.Array, batch: Batch) -> TokenEntropy:
        """Sums the information of a batch's real tokens under a prediction.

        Args:
            prediction: [batch, time - 1, vocabulary] log probabilities, the model's or a
                baseline's.
            batch: The batch.

        Returns:
            Sums; add those of all batches, then ask for bits per token.
        """
        label, mask = self._labels(batch)
        return TokenEntropy.of(prediction, label, mask=mask)

    def baselines(self, batch: Batch) -> dict[str, jax.Array]:
        """Returns the naive predictions by name, each [batch, time - 1, vocabulary] as `predict`.

        `unigram` gives every token its frequency in the training texts, whatever came before; one
        occurrence is added to each, so that no token is held for impossible (Laplace's rule).
        """
        known("token_counts", self.token_counts)
        counts = np.asarray(self.token_counts, np.float64) + 1
        frequencies = jnp.asarray(np.log(counts / counts.sum()), jnp.float32)
        batch_size, time = batch["tokens"].shape
        shape = (batch_size, time - 1, len(counts))
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
        prompt, vocabulary = np.asarray(prompt), self.vocabulary
        require(
            prompt.ndim == 2
            and prompt.shape[1] > 0
            and bool(((prompt >= 0) & (prompt < vocabulary)).all()),
            f"NextToken samples from a prompt (batch, time) of at least one token from 0 to "
            f"{vocabulary - 1} per text, got shape {prompt.shape}; give a token that marks the "
            "beginning where there is none",
        )
        require(
            length >= 1 and temperature >= 0,
            "NextToken samples with a length >= 1 and a temperature >= 0, "
            f"got {length} and {temperature}",
        )
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


def _check_causal(config: TokenEmbeddingConfig, body: TokenEmbedding, time: int) -> None:
    """Refuses a backbone that could see the token it is to predict."""
    (axis,) = body.spec.axes((time,))
    aligned = body.grid_shape((time,)) == (time,) and axis.stride == 1
    require(
        aligned and axis.lo == axis.effective - 1 and getattr(config.backbone, "causal", True),
        f"NextToken needs a causal backbone with one output per token, but "
        f"{type(body.backbone).__name__} with {body.spec} has {body.grid_shape((time,))[0]} for "
        f"{time} tokens or looks ahead; use stride 1, CAUSAL padding in time, and causal=True "
        "where the config has it",
    )
