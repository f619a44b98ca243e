"""What every backbone keeps on every layout: shapes, dtypes, gradients, learning, causality."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from stpatch_jax.nn import (
    Conv3DConfig,
    ConvRecurrentConfig,
    NeighborhoodConfig,
    PatchCNNConfig,
    PatchTransformerConfig,
    SCNNConfig,
    SpaceTimeRNNConfig,
)
from stpatch_jax.patches.windows import WindowSpec

# (time, *space) of the input, and the window where patches are cut.
LAYOUTS = {
    "series": ((12,), (4,)),
    "panel": ((12, 5), (4, 1)),
    "video": ((4, 8, 8), (2, 4, 4)),
    "volume": ((4, 4, 4, 4), (1, 2, 2, 2)),
}
CHANNELS = 3


def patch_cnn(spec, **fields):
    return PatchCNNConfig(spec, features=(8, 16), **fields)


def scnn(spec, **fields):
    return SCNNConfig(spec.rank - 1, features=8, depth=1, **fields)


def lstm(spec, **fields):
    return SpaceTimeRNNConfig(spec.rank - 1, features=8, **fields)


def gru(spec, **fields):
    return SpaceTimeRNNConfig(spec.rank - 1, cell="gru", features=8, depth=2, **fields)


def conv_lstm(spec, **fields):
    return lstm(spec, spatial_kernel_size=3, **fields)


def conv_gru(spec, **fields):
    return SpaceTimeRNNConfig(
        spec.rank - 1, cell="gru", features=8, spatial_kernel_size=3, **fields
    )


def conv3d(spec, **fields):
    return Conv3DConfig(spec.rank - 1, (8,), **fields)


def neighborhood(spec, **fields):
    offsets = NeighborhoodConfig.forward(spec.rank - 1).offsets
    return NeighborhoodConfig(offsets, lags=3, features=8, hidden=(8,), **fields)


def conv_recurrent(spec, **fields):
    small = {"patch_features": (8,), "grid_features": 8, "grid_depth": 1, "recurrent_features": 8}
    return ConvRecurrentConfig(spec, **small, **fields)


def patch_transformer(spec, **fields):
    return PatchTransformerConfig(spec, features=8, depth=1, heads=2, **fields)


BACKBONES = {
    f.__name__: f
    for f in (
        patch_cnn,
        scnn,
        lstm,
        gru,
        conv_lstm,
        conv_gru,
        conv3d,
        neighborhood,
        conv_recurrent,
        patch_transformer,
    )
}
each_backbone = pytest.mark.parametrize("backbone", BACKBONES)
# What compiles longest meets a layout or two in the quick suite, and between them they meet every
# one; their others are met in the slow suite.
QUICK = {
    "lstm": ["series"],
    "gru": ["panel"],
    "conv_lstm": ["video"],
    "conv_gru": ["volume"],
    "conv_recurrent": ["panel", "volume"],
    "patch_transformer": ["video"],
}


def pair(backbone, layout, *, quick=None):
    quick = layout in QUICK.get(backbone, LAYOUTS) if quick is None else layout == quick
    return pytest.param(backbone, layout, marks=() if quick else pytest.mark.slow)


each_pair = pytest.mark.parametrize(
    ("backbone", "layout"), [pair(b, layout) for b in BACKBONES for layout in LAYOUTS]
)
# Conv3DBackbone pools along time and claims no causality.
CAUSAL_ON_REQUEST = ("scnn", "conv_recurrent", "patch_transformer")
each_causal_pair = pytest.mark.parametrize(
    ("backbone", "layout"),
    [pair(b, layout) for b in BACKBONES if b != "conv3d" for layout in LAYOUTS],
)


def build(backbone, layout, spec=None, **fields):
    shape, window = LAYOUTS[layout]
    config = BACKBONES[backbone](WindowSpec.of(spec or window), **fields)
    return config.build(CHANNELS, shape=shape, rngs=nnx.Rngs(0))


@nnx.jit
def run(model, x):
    return model(x)


def field(layout, batch=2):
    values = np.random.default_rng(1).normal(size=(batch, *LAYOUTS[layout][0], CHANNELS))
    return jnp.asarray(values, jnp.float32)


@each_pair
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_shape_and_dtype_without_building_or_running(backbone, layout, dtype):
    x = field(layout)
    model = nnx.eval_shape(lambda: build(backbone, layout, dtype=dtype))
    y = nnx.eval_shape(lambda model, x: model(x), model, x)
    shape, window = LAYOUTS[layout]
    grid = {
        "patch_cnn": tuple(n // w for n, w in zip(shape, window, strict=True)),
        "conv_recurrent": tuple(n // w for n, w in zip(shape, window, strict=True)),
        "patch_transformer": tuple(n // w for n, w in zip(shape, window, strict=True)),
        "conv3d": tuple(-(-n // 2) for n in shape),
        "neighborhood": (shape[0] - 2, *shape[1:]),
    }.get(backbone, shape)
    assert y.shape == (2, *grid, model.out_features)
    assert model.grid_shape(shape) == grid
    assert y.dtype == dtype
    stored = {p.dtype for p in jax.tree.leaves(nnx.state(model, nnx.Param))}
    assert stored == {jnp.dtype("float32")}


class Regression(nnx.Module):
    """A backbone with one linear value per example."""

    def __init__(self, backbone):
        self.backbone = backbone
        self.readout = nnx.Linear(backbone.out_features, 1, rngs=nnx.Rngs(2))

    def __call__(self, x):
        features = self.backbone(x)
        return self.readout(features.mean(tuple(range(1, features.ndim - 1))))


@each_pair
def test_gradient_reaches_every_parameter_and_one_batch_is_learnt(backbone, layout):
    x, target = field(layout, batch=3), jnp.array([[-1.0], [0.5], [2.0]])
    model = Regression(build(backbone, layout))
    optimizer = nnx.Optimizer(model, optax.adam(0.02), wrt=nnx.Param)

    @nnx.jit
    def train_step(model, optimizer):
        def loss_fn(model):
            return jnp.square(model(x) - target).mean()

        loss, gradient = nnx.value_and_grad(loss_fn)(model)
        optimizer.update(model, gradient)
        return loss, gradient

    first, gradient = train_step(model, optimizer)
    for path, leaf in nnx.to_flat_state(gradient):
        assert np.isfinite(leaf[...]).all(), path
        assert (leaf[...] != 0).any(), path
    losses = [float(train_step(model, optimizer)[0]) for _ in range(120)]
    assert min(losses) < 0.01 * first


@pytest.mark.parametrize(
    ("backbone", "layout"),
    [pair(b, layout, quick="panel") for b in BACKBONES for layout in LAYOUTS],
)
def test_evaluation_is_deterministic_and_training_is_not(backbone, layout):
    model = build(backbone, layout, dropout=0.5)
    x = field(layout)
    evaluate = nnx.view(model, deterministic=True)

    plain = build(backbone, layout)

    @nnx.jit
    def forward(model, evaluate, plain):
        return model(x), model(x), evaluate(x), evaluate(x), plain(x)

    noisy, noisier, first, second, without = forward(model, evaluate, plain)
    assert (noisy != noisier).any()
    np.testing.assert_array_equal(first, second)
    np.testing.assert_allclose(first, without, rtol=1e-4, atol=1e-5)


@each_causal_pair
def test_causal_networks_do_not_see_the_future(backbone, layout):
    shape, window = LAYOUTS[layout]
    padding = ("CAUSAL", *["VALID"] * (len(window) - 1))
    spec = WindowSpec(window, stride=(1, *window[1:]), padding=padding)
    fields = {"causal": True} if backbone in CAUSAL_ON_REQUEST else {}
    model = build(backbone, layout, spec, **fields)
    x = field(layout)
    now = shape[0] // 2
    before, after = run(model, x), run(model, x.at[:, now:].add(1.0))
    # The window that ends at step `now` is the first that may change.
    first = now + before.shape[1] - shape[0]
    np.testing.assert_array_equal(before[:, :first], after[:, :first])
    assert (before[:, first:] != after[:, first:]).any()


@each_backbone
def test_bfloat16_is_close_to_float32(backbone):
    x = field("panel")
    full = run(build(backbone, "panel"), x)
    half = run(build(backbone, "panel", dtype="bfloat16"), x)
    assert half.dtype == jnp.bfloat16
    np.testing.assert_allclose(half.astype(jnp.float32), full, rtol=0.05, atol=0.05)


@each_backbone
def test_a_batch_over_eight_devices_gives_the_same_and_moves_no_activations(backbone):
    layout = "panel"
    model, x = build(backbone, layout), field(layout, batch=8)
    mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    sharded = jax.device_put(x, jax.NamedSharding(mesh, jax.P("data")))
    graphdef, state = nnx.split(model)
    state = jax.device_put(state, jax.NamedSharding(mesh, jax.P()))

    def loss_and_gradient(state, x):
        return jax.value_and_grad(
            lambda state: jnp.square(nnx.merge(graphdef, state)(x).astype(jnp.float32)).sum(),
            allow_int=True,
        )(state)

    program = jax.jit(loss_and_gradient).lower(state, sharded).compile().as_text() or ""
    assert "all-reduce(" in program
    assert not re.findall(r"all-gather|all-to-all|collective-permute", program)
    # Gradients are summed over devices once, not at every step of a recurrence.
    assert not re.findall(r"all-reduce\(.*while/body", program)
    alone = run(model, x)
    together = run(nnx.merge(graphdef, state), sharded)
    assert len(together.sharding.device_set) == 8
    np.testing.assert_allclose(together, alone, rtol=1e-4, atol=1e-6)
