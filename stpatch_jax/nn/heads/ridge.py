"""Ridge regression in closed form, and the heads that it makes of a feature map."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from stpatch_jax.errors import check_size, require
from stpatch_jax.nn.fixed import Fixed

_PENALTIES = np.logspace(-3, 3, 10)
# Numbers that features hardly tell ask for more than classes do.
_OF_NUMBERS = np.logspace(-3, 5, 13)
_BEYOND = 0.1
_SCALES = np.logspace(-1, 2, 61)


class Ridge(NamedTuple):
    """A linear map fitted by `fit_ridge`: `features @ kernel + bias`.

    Attributes:
        kernel: [feature, target].
        bias: [target].
        penalty: The one of least squared error where each example is left out.
        left_out: What the map fitted to all other examples says of each [example, target].
    """

    kernel: np.ndarray
    bias: np.ndarray
    penalty: float
    left_out: np.ndarray


def fit_ridge(
    features: np.ndarray,
    targets: np.ndarray,
    *,
    weights: np.ndarray | None = None,
    penalties: Sequence[float] | np.ndarray = _PENALTIES,
) -> Ridge:
    """Fits ridge regression, and takes the penalty that does best where an example is left out.

    No fit is repeated: of one to all examples the diagonal of its hat matrix tells what every fit
    to all but one would say. Products are of examples or of features, whichever are fewer.

    Args:
        features: [example, feature].
        targets: [example, target].
        weights: Weight of each example [example] in all means and sums; 1 by default.
        penalties: Factors of the squared kernel to choose from, positive; the bias has none.

    Raises:
        InputError: There are fewer than two examples.

    >>> x = np.array([[0.0], [1.0], [2.0]])
    >>> fitted = fit_ridge(x, 2 * x + 1, penalties=[1e-9])
    >>> np.round(fitted.kernel.ravel() + fitted.bias, 6).tolist()
    [3.0]
    """
    count = len(features)
    require(count > 1, f"features must be of two examples or more, got {count}; give more")
    weights = np.ones(count) if weights is None else np.asarray(weights, np.float64)
    shares, roots = weights / weights.sum(), np.sqrt(weights)[:, None]
    middle, mean = shares @ features, shares @ targets
    scaled, wanted = roots * (features - middle), roots * (targets - mean)
    if count <= features.shape[1]:
        squares, left = np.linalg.eigh(scaled @ scaled.T)
        right = None
    else:
        squares, right = np.linalg.eigh(scaled.T @ scaled)
        left = scaled @ right / np.sqrt(np.maximum(squares, np.finfo(np.float64).tiny))
    # What rounding leaves of zero spans nothing.
    kept = squares > squares.max() * max(scaled.shape) * np.finfo(squares.dtype).eps
    squares, left = squares[kept], left[:, kept]
    along, best = left.T @ wanted, None
    for penalty in penalties:
        share = squares / (squares + penalty)
        missed = (wanted - left @ (share[:, None] * along)) / roots
        missed /= np.maximum(1 - np.square(left) @ share - shares, 1e-12)[:, None]
        error = float(shares @ np.square(missed).mean(axis=1))
        if best is None or error < best[0]:
            best = error, float(penalty), targets - missed
    assert best is not None
    coefficients = along / (squares + best[1])[:, None]
    if right is None:
        kernel = scaled.T @ (left @ coefficients)
    else:
        kernel = right[:, kept] @ (np.sqrt(squares)[:, None] * coefficients)
    return Ridge(kernel, mean - middle @ kernel, best[1], best[2])


class _RidgeMap(nnx.Module):
    """A linear map [batch, *grid, features] to [batch, outputs] in float32; 0 until fitted."""

    def __init__(self, grid: Sequence[int], in_features: int, outputs: int):
        self.features = math.prod(grid) * in_features
        self.kernel = Fixed(jnp.zeros((self.features, outputs), jnp.float32))
        self.bias = Fixed(jnp.zeros(outputs, jnp.float32))

    def __call__(self, features: jax.Array) -> jax.Array:
        """Maps [batch, *grid, features] to [batch, outputs] in float32."""
        y = features.reshape(len(features), -1)
        require(
            y.shape[1] == self.features,
            f"the feature map must have {self.features} features of an example, got shape "
            f"{features.shape}; give fields of the size that the head was built for",
        )
        return y.astype(jnp.float32) @ self.kernel[...] + self.bias[...][None]

    def _fit(
        self,
        features: np.ndarray,
        targets: np.ndarray,
        *,
        scale: Callable[[np.ndarray], float],
        **options: Any,
    ) -> np.ndarray:
        """Fits the map, times the `scale` of what is left out; returns the latter so scaled."""
        values = np.asarray(features, np.float32).reshape(len(features), -1)
        middle, spread = values.mean(axis=0), values.std(axis=0)
        # A feature that is the same for all is not divided by what rounding left.
        spread = np.where(spread > 1e-6 * np.abs(values).max(axis=0), spread, np.inf)
        fitted = fit_ridge((values - middle) / spread, targets, **options)
        factor = scale(fitted.left_out)
        kernel = factor * fitted.kernel / spread[:, None]
        self.kernel[...] = jnp.asarray(kernel, jnp.float32)
        self.bias[...] = jnp.asarray(factor * fitted.bias - middle @ kernel, jnp.float32)
        return factor * fitted.left_out


class RidgeHead(_RidgeMap):
    """Classifies a feature map by ridge regression on whether an example is of a class, 1 or -1.

    Nothing in it is learnt by steps: until `fit` it says that all classes are as likely. Features
    are standardised for the fit, and the scores of the classes multiplied by the one factor under
    which those of left out examples make the best logits.

    Maps [batch, *grid, features] to logits [batch, classes] in float32.

    Args:
        grid: `(nt, *ns)` of the feature map.
        in_features: Number of channels of the feature map.
        classes: Number of classes.

    Raises:
        InputError: There are fewer than two classes.

    References:
        Rifkin and Lippert, "Notes on regularized least squares", MIT 2007.
    """

    def __init__(self, grid: Sequence[int], in_features: int, *, classes: int):
        check_size("classes", classes, least=2)
        super().__init__(grid, in_features, classes)

    def fit(
        self, features: np.ndarray, labels: np.ndarray, *, weights: np.ndarray | None = None
    ) -> np.ndarray:
        """Fits the head to features [example, ...] of classes [example]; see `fit_ridge`.

        Returns:
            The logits of each example that the head fitted to all others gives, up to the scaling
            of features and logits, which all examples tell [example, classes].
        """
        targets = np.where(labels[:, None] == np.arange(self.bias.shape[0]), 1.0, -1.0)
        scale = functools.partial(_best_scale, labels=labels)
        return self._fit(features, targets, scale=scale, weights=weights)


class RidgeFieldHead(_RidgeMap):
    """Tells numbers by ridge regression on standardised features; 0 until `fit`.

    What it says is at most a tenth of their range beyond the numbers of the examples: a feature
    that was nearly the same for all of them could otherwise say anything of one that differs.

    Maps [batch, *grid, features] to [batch, outputs] in float32.

    Args:
        grid: `(nt, *ns)` of the feature map.
        in_features: Number of channels of the feature map.
        outputs: How many numbers come out.
    """

    def __init__(self, grid: Sequence[int], in_features: int, *, outputs: int):
        super().__init__(grid, in_features, outputs)
        self.bounds = Fixed(jnp.zeros((2, outputs), jnp.float32))

    def __call__(self, features: jax.Array) -> jax.Array:
        """Maps [batch, *grid, features] to [batch, outputs] in float32."""
        least, most = self.bounds[...][:, None]
        return jnp.clip(super().__call__(features), least, most)

    def fit(
        self, features: np.ndarray, targets: np.ndarray, *, weights: np.ndarray | None = None
    ) -> np.ndarray:
        """Fits the head to features [example, ...] of targets [example, output]; see `fit_ridge`.

        Returns:
            What the head fitted to all other examples says of each, up to the scaling of features
            [example, output].
        """
        least, most = targets.min(axis=0), targets.max(axis=0)
        beyond = _BEYOND * (most - least)
        self.bounds[...] = jnp.asarray(np.stack([least - beyond, most + beyond]), jnp.float32)
        options: Any = {"weights": weights, "penalties": _OF_NUMBERS}
        return self._fit(features, targets, scale=lambda _: 1.0, **options)


def _best_scale(scores: np.ndarray, labels: np.ndarray) -> float:
    """The factor that makes logits of scores [example, classes], by the cross-entropy.

    One label of one more example than there are is taken for wrong, so that no class is ever sure.
    """
    count, classes = scores.shape
    wrong = 1 / (count + 1)

    def entropy(scale: float) -> float:
        logits = scale * (scores - scores.max(axis=1, keepdims=True))
        logs = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
        right = logs[np.arange(count), labels]
        return float(-((1 - wrong) * right + wrong / classes * logs.sum(axis=1)).mean())

    return min(_SCALES.tolist(), key=entropy)
