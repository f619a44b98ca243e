"""The classical models of text and customers that ours stand beside."""

from collections import Counter
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.bgnbd import BGNBD
from benchmarks.ngram import NGram
from benchmarks.published import pooled
from benchmarks.rivals import bgnbd_purchases, customer_scores, token_scores
from stpatch_jax.data import CharactersConfig
from stpatch_jax.recipes.customers import CustomersConfig
from stpatch_jax.recipes.customers.judging import CustomerForecasts

TEXTS = st.lists(st.binary(min_size=1, max_size=40), min_size=1, max_size=3)


def symbols(text):
    return np.frombuffer(text, np.uint8)


@settings(max_examples=20)
@given(texts=TEXTS, order=st.integers(1, 5), history=st.binary(min_size=4, max_size=4))
def test_the_probabilities_of_all_symbols_sum_to_one(texts, order, history):
    model = NGram([symbols(b"\0" * 5 + text) for text in texts], order)
    seen = symbols(b"\0" * 4 + texts[0])[:4]
    for past in (symbols(history), seen):
        past = np.repeat(past[None, 5 - order :], 256, axis=0)
        found = model.probability(past, np.arange(256).astype(np.uint8))
        assert found.min() > 0
        assert found.sum() == pytest.approx(1.0)


def slow(texts, history, symbol):
    """Interpolated Kneser-Ney with plain counters, of any order."""
    order = len(history) + 1
    longest = [text[i : i + 3] for text in texts for i in range(len(text) - 2)]
    grams = {3: Counter(longest)}
    for n in (2, 1):
        seen = {text[i : i + n + 1] for text in texts for i in range(len(text) - n)}
        grams[n] = Counter(gram[1:] for gram in seen)
    counts = grams[order]
    lower = slow(texts, history[1:], symbol) if order > 1 else 1 / 256
    once, twice = (sum(c == n for c in counts.values()) for n in (1, 2))
    discount = once / (once + 2 * twice) if once else 0.5
    after = {gram: c for gram, c in counts.items() if gram[:-1] == history}
    if not after:
        return lower
    own = max(counts[history + symbol] - discount, 0)
    return (own + discount * len(after) * lower) / sum(after.values())


def test_probabilities_are_those_of_plain_counting():
    texts = [b"abracadabra", b"cadabra abba"]
    model = NGram([symbols(text) for text in texts], 3)
    for text in (b"abr", b"bba", b"zab", b"xyz", b"a c", b"acz"):
        found = model.probability(symbols(text)[None, :2], symbols(text)[2:])
        assert found[0] == pytest.approx(slow(texts, text[:2], text[2:]))
    np.testing.assert_allclose(
        model.bits(symbols(b"abrz")),
        -np.log2([slow(texts, b"ab", b"r"), slow(texts, b"br", b"z")]),
    )


def test_token_scores_weigh_every_character_alike(tmp_path):
    (tmp_path / "text.txt").write_text("".join(f"line {at} of a text\n" for at in range(60)))
    data = CharactersConfig(str(tmp_path / "text.txt"), 16, 4, 0.2, 0.2).load()
    source = data.source("test")
    count = np.array([source[at]["token_mask"].sum() for at in range(len(source))], float)
    rows = {"nats": {"model": count * np.log(2)}, "count": count}
    scores, every = token_scores(rows, data)["bits_per_char"], np.arange(len(count))
    assert scores["model"](every) == pytest.approx(1.0)
    (text,) = data.texts["test"]
    bits = NGram(data.texts["train"], 5).bits(np.concatenate([symbols(b"\n\n\n"), text]))
    assert scores["5-gram"](every) == pytest.approx(bits.mean())
    assert scores["5-gram"](np.array([1])) == pytest.approx(bits[12:24].mean())


def weeks(frame):
    """Repeat purchases, weeks to the last, weeks to the end, and purchases behind week 39."""
    frame = frame.drop_duplicates(["customer", "day"])
    by = frame[frame.day < 273].groupby("customer").day
    first = by.min()
    later = frame[frame.day >= 273].groupby("customer").day.count()
    return by.count() - 1.0, (by.max() - first) / 7, (272 - first) / 7, later


def test_bg_nbd_of_the_published_sample_has_its_parameters(data_dir):
    frame = pd.read_csv(
        data_dir / "customer/CDNOW_sample.txt",
        sep=r"\s+",
        header=None,
        names=["id", "customer", "date", "number", "amount"],
    )
    dates = pd.to_datetime(frame.date.astype(str), format="%Y%m%d")
    frame["day"] = (dates - pd.Timestamp("1997-01-01")).dt.days
    model = BGNBD.fit(*(values.to_numpy(float) for values in weeks(frame)[:3]))
    found = [model.r, model.alpha, model.a, model.b]
    np.testing.assert_allclose(found, [0.243, 4.414, 0.793, 2.426], atol=6e-4)
    header = ("id", "customer", "date", "number", "amount")
    config = CustomersConfig("catalog:cdnow_sample", header=header, series=("customer",))
    data = config.load()
    repeats, last, age, later = weeks(frame)
    expected = model.expected(*(v.to_numpy(float) for v in (repeats, last, age)), time=39.0)
    np.testing.assert_allclose(bgnbd_purchases(data), expected, rtol=1e-3)
    real = data.splits["test"].real[:, 0]
    np.testing.assert_array_equal(real, later.reindex(repeats.index, fill_value=0))
    both = data.splits["test"].real
    scores = customer_scores(CustomerForecasts({"model": both}, both, both, real), data)
    every = np.arange(len(real))
    assert scores["rmse"]["model"](every) == 0
    assert scores["total"]["bg_nbd"](every) == pytest.approx(expected.sum(), rel=1e-3)
    assert scores["rmse"]["bg_nbd"](every) == pytest.approx(1.608, abs=2e-3)


def test_bg_nbd_expects_what_its_customers_do():
    model, random, count = BGNBD(1.5, 4.0, 0.8, 2.4), np.random.default_rng(0), 40_000
    rate = random.gamma(model.r, 1 / model.alpha, count)
    leaves = random.beta(model.a, model.b, count)
    times = np.cumsum(random.exponential(1 / rate[:, None], (count, 60)), axis=1)
    stays = np.cumprod(random.random((count, 60)) > leaves[:, None], axis=1)
    # A purchase happens if the customer stayed after all those before it.
    happens = np.concatenate([np.ones((count, 1), bool), stays[:, :-1].astype(bool)], axis=1)
    age, horizon = 10.0, 8.0
    known, coming = (
        happens & (times >= low) & (times < low + length)
        for low, length in ((0, age), (age, horizon))
    )
    repeats = known.sum(axis=1).astype(float)
    last = np.where(known, times, 0).max(axis=1)
    expected = model.expected(repeats, last, np.full(count, age), time=horizon)
    for chosen in (repeats == 0, repeats == 1, repeats >= 2):
        real = coming.sum(axis=1)[chosen]
        error = real.std() / np.sqrt(chosen.sum())
        assert expected[chosen].mean() == pytest.approx(real.mean(), abs=4 * error)


def test_folds_are_pooled_by_example():
    folds = [np.array([1.0, 0.0]), np.array([1.0, 1.0, 0.0])]
    results: Any = [
        ({"accuracy": {"model": lambda chosen, v=v: float(v[chosen].mean())}}, np.arange(len(v)))
        for v in folds
    ]
    found = pooled(results)
    every = np.arange(5)
    means = [scores["accuracy"]["model"](every) for scores, _ in found]
    assert means == pytest.approx([1 / 2, 2 / 3])
    assert all(groups.tolist() == every.tolist() for _, groups in found)
    assert found[1][0]["accuracy"]["model"](np.array([0, 4, 2, 2])) == pytest.approx(2 / 3)
