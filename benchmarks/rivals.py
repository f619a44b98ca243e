"""Scores of text and customer models beside those of classical models of the same training data."""

import math
from collections.abc import Mapping

import numpy as np

from benchmarks.bgnbd import BGNBD
from benchmarks.ngram import NGram
from benchmarks.scores import Rows, Score, Scores
from stpatch_jax.data import Characters
from stpatch_jax.recipes.customers import Customers
from stpatch_jax.recipes.customers.history import DAYS
from stpatch_jax.recipes.customers.judging import CustomerForecasts

_ORDER = 5


def token_scores(rows: Rows, data: Characters) -> Scores:
    """Bits per character of the model, the naive rule and a 5-gram model, on the test split.

    Args:
        rows: The rows of a `TextJudge`.
        data: Its data.
    """
    count = rows["count"]
    nats: Mapping[str, np.ndarray] = {**rows["nats"], f"{_ORDER}-gram": ngram_nats(data)}

    def score(values: np.ndarray) -> Score:
        return lambda chosen: float(values[chosen].sum() / count[chosen].sum() / math.log(2))

    return {"bits_per_char": {name: score(values) for name, values in nats.items()}}


def ngram_nats(data: Characters) -> np.ndarray:
    """Information of each test example under the n-gram model of the training texts, in nats."""
    model = NGram(data.texts["train"], _ORDER)
    step = data.config.window - data.config.context
    sums = []
    for text in data.texts["test"]:
        # The first characters, too, are predicted from as many before them.
        bits = model.bits(np.concatenate([np.repeat(text[:1], _ORDER - 2), text]))
        sums.append(np.add.reduceat(bits, np.arange(0, len(bits), step)))
    return np.concatenate(sums) * math.log(2)


def customer_scores(forecasts: CustomerForecasts, data: Customers) -> Scores:
    """RMSE and MAE of each customer's purchases, and their total, beside a BG/NBD model's."""
    purchases = {name: values[:, 0] for name, values in forecasts.by_rule.items()}
    purchases["bg_nbd"] = bgnbd_purchases(data)
    real = forecasts.real[:, 0]

    def rmse(values: np.ndarray) -> Score:
        return lambda chosen: float(np.sqrt(np.mean((values - real)[chosen] ** 2)))

    def mae(values: np.ndarray) -> Score:
        return lambda chosen: float(np.mean(np.abs(values - real)[chosen]))

    def total(values: np.ndarray) -> Score:
        return lambda chosen: float(values[chosen].sum())

    return {
        metric.__name__: {name: metric(values) for name, values in purchases.items()}
        for metric in (rmse, mae, total)
    }


def bgnbd_purchases(data: Customers) -> np.ndarray:
    """Expected purchases of each test customer under the model of the calibration, in weeks."""
    known = data.history.summary(0, data.known)
    customer = data.splits["test"].customer
    repeats = (known.count - 1.0)[customer]
    last = ((known.last - known.first) / DAYS)[customer]
    age = ((data.known - 1 - known.first) / DAYS)[customer]
    model = BGNBD.fit(repeats, last, age)
    return model.expected(repeats, last, age, time=data.horizon_days / DAYS)
