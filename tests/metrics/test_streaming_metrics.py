"""The law of every metric that streams: batches add up, on the host, in jit and over devices."""

import functools

import hypothesis
import hypothesis.extra.numpy as hnp
import hypothesis.strategies as st
import jax
import numpy as np
import pytest

from stpatch_jax.metrics import (
    AreaErrors,
    Confusion,
    EventCounts,
    LeadTimeErrors,
    Mean,
    QuantileErrors,
    TokenEntropy,
    crps_from_quantiles,
    psnr,
    ssim,
)

EXAMPLES = 8
SEEDS = st.integers(0, 2**32 - 1)
MASKS = hnp.arrays(bool, EXAMPLES)
CUTS = st.integers(0, EXAMPLES)


def batch_of(seed, mask):
    """Random examples, which hold NaN, infinity and impossible classes where masked."""
    rng = np.random.default_rng(seed)
    batch = {
        "forecast": rng.normal(size=(EXAMPLES, 3, 2)),
        "target": rng.normal(size=(EXAMPLES, 3, 2)),
        "logits": rng.normal(size=(EXAMPLES, 4)),
        "label": rng.integers(0, 4, EXAMPLES),
        "image": rng.random((EXAMPLES, 12, 13, 1)),
        "true_image": rng.random((EXAMPLES, 12, 13, 1)),
    }
    for name, values in batch.items():
        if name in ("target", "image", "logits"):
            values[~mask] = np.inf if name == "logits" else np.nan
        batch[name] = values.astype(np.float32 if values.dtype == float else np.int32)
    batch["label"][~mask] = -5
    return {**batch, "mask": mask}


def on_host(batch):
    """The sums that NumPy makes of a batch of any size."""
    forecast, target, mask = batch["forecast"], batch["target"], batch["mask"]
    wide = mask[:, None, None] & (target == target)
    scores = crps_from_quantiles(forecast, target[..., 0], quantiles=(0.2, 0.6))
    weights = np.array([[0.5, 1.0, 2.0]])
    return {
        "lead": LeadTimeErrors.of(forecast, target, mask=wide),
        "area": AreaErrors.of(
            forecast, target, weights[..., None], climatology=0 * forecast, mask=wide
        ),
        "quantiles": QuantileErrors.of(
            forecast, target[..., 0], quantiles=(0.2, 0.6), mask=wide[..., 0]
        ),
        "mean": Mean.of(scores, mask=wide[..., 0], weights=weights),
        "events": EventCounts.of(forecast > 0, target > 0, mask=wide),
        "tokens": TokenEntropy.of(batch["logits"], batch["label"], mask=mask),
    }


def on_device(batch):
    """Those and the sums that only JAX makes."""
    best = batch["logits"].argmax(axis=-1)
    images = batch["image"], batch["true_image"]
    return {
        **on_host(batch),
        "confusion": Confusion.of(best, batch["label"], classes=4, mask=batch["mask"]),
        "images": Mean.of(psnr(*images, data_range=1.0), mask=batch["mask"]),
        "similarity": Mean.of(ssim(*images, data_range=1.0), mask=batch["mask"]),
    }


@functools.cache
def program():
    """`on_device`, compiled for examples spread over all devices."""
    mesh = jax.make_mesh((jax.device_count(),), ("data",), (jax.sharding.AxisType.Auto,))
    sharding = jax.sharding.NamedSharding(mesh, jax.P("data"))
    return jax.jit(on_device, in_shardings=(sharding,))


def check_equal(found, expected, **tolerance):
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    for (path, a), b in zip(
        jax.tree.leaves_with_path(found), jax.tree.leaves(expected), strict=True
    ):
        np.testing.assert_allclose(a, b, err_msg=jax.tree_util.keystr(path), **tolerance)


def add(first, second):
    return {name: first[name] + second[name] for name in first}


@hypothesis.given(seed=SEEDS, mask=MASKS, cut=CUTS)
def test_batches_on_the_host_add_up_whatever_the_cut(seed, mask, cut):
    batch = batch_of(seed, mask)
    whole = on_host(batch)
    parts = (
        on_host({name: values[slice(*ends)] for name, values in batch.items()})
        for ends in ((0, cut), (cut, EXAMPLES))
    )
    check_equal(add(*parts), whole, rtol=1e-12, atol=1e-12)
    for leaf in jax.tree.leaves(whole):
        assert isinstance(leaf, np.ndarray | np.generic)
        assert leaf.dtype in (np.float64, np.int64)


@hypothesis.given(seed=SEEDS, mask=MASKS, cut=CUTS)
@hypothesis.settings(max_examples=20)
def test_batches_over_devices_add_up_whatever_the_cut_and_equal_the_host(seed, mask, cut):
    first = np.arange(EXAMPLES) < cut
    batch = batch_of(seed, mask)
    whole, *parts = (
        {name: sums.to_host() for name, sums in program()({**batch, "mask": chosen}).items()}
        for chosen in (mask, mask & first, mask & ~first)
    )
    check_equal(add(*parts), whole, rtol=1e-5, atol=1e-5)
    host = on_host(batch)
    check_equal({name: whole[name] for name in host}, host, rtol=1e-4, atol=1e-5)


def test_masked_examples_count_nothing_and_nothing_real_gives_nan():
    nothing = program()(batch_of(0, np.zeros(EXAMPLES, bool)))
    assert all((np.asarray(leaf) == 0).all() for leaf in jax.tree.leaves(nothing))
    answers = {
        "lead": ("mae", "mse", "rmse"),
        "mean": ("value",),
        "events": (
            "critical_success_index",
            "probability_of_detection",
            "false_alarm_ratio",
            "frequency_bias",
        ),
        "tokens": ("nats_per_token", "bits_per_token", "perplexity"),
        "confusion": ("accuracy", "precision", "balanced_accuracy", "macro_f1", "mcc"),
        "images": ("value",),
    }
    for name, methods in answers.items():
        sums = nothing[name].to_host()
        assert all(np.isnan(getattr(sums, method)()).all() for method in methods), name


@pytest.mark.parametrize("dtype", [np.float64, np.int64])
def test_host_sums_keep_what_float32_would_lose(dtype):
    many, one = (TokenEntropy(np.array(n, dtype), np.array(n, dtype)) for n in (2**24, 1))
    assert (many + one).to_host().nats == 2**24 + 1
