"""What every backbone keeps on every layout: shapes, dtypes, gradients, learning, causality."""

import dataclasses
import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from stpatch_jax import extract_patches, nn
from stpatch_jax.nn import (
    Backbone,
    BackboneConfig,
    Conv3DConfig,
    FlatPatchesConfig,
    NeighborhoodConfig,
    PatchTransformerConfig,
    SpaceTimeRNNConfig,
    TokenEmbeddingConfig,
    UNetConfig,
)
from stpatch_jax.patches.windows import WindowSpec


class Mixing(Backbone):
    """A backbone as a user writes one: a dense layer of each patch."""

    def __init__(self, config, in_features, *, shape, rngs):
        super().__init__(config.spec, in_features, config.features, shape=shape)
        self.config = config
        self.mix = config.linear(math.prod(config.spec.window) * in_features, 8, rngs=rngs)
        self.dropout = nnx.Dropout(config.dropout, rngs=rngs)

    def __call__(self, x):
        self.check_input(x)
        patches = extract_patches(x.astype(self.config.dtype), self.spec)
        y = jax.nn.relu(self.mix(patches.reshape(*patches.shape[: x.ndim - 1], -1)))
        return self.dropout(y)


@dataclasses.dataclass(frozen=True)
class MixingConfig(BackboneConfig[Mixing]):
    spec: WindowSpec
    features: int = 8


def subclasses(kind):
    for child in kind.__subclasses__():
        yield child
        yield from subclasses(child)


def name_of(kind):
    return kind.__name__.removesuffix("Config")


# (time, *space) of the input, and the window where patches are cut.
LAYOUTS = {
    "series": ((12,), (4,)),
    "panel": ((12, 5), (4, 1)),
    "video": ((4, 8, 8), (2, 4, 4)),
    "volume": ((4, 4, 4, 4), (1, 2, 2, 2)),
}
CHANNELS = 3
# A class is there once its name has been asked for, be it by another test or not.
assert all(hasattr(nn, name) for name in nn.__all__)
FOUND = {name_of(kind): kind for kind in subclasses(BackboneConfig)}
# Backbones by name: the class, and where not those of `tiny`, the settings.
BACKBONES = {name: (kind, {}) for name, kind in FOUND.items()} | {
    "Neighborhood": (NeighborhoodConfig, {"lags": 3, "features": 8, "hidden": (8,)}),
    "PatchTransformer": (PatchTransformerConfig, {"features": 8, "depth": 1}),
    "gru": (SpaceTimeRNNConfig, {"cell": "gru", "depth": 2}),
    "conv_lstm": (SpaceTimeRNNConfig, {"spatial_kernel_size": 3}),
    "conv_gru": (SpaceTimeRNNConfig, {"cell": "gru", "spatial_kernel_size": 3}),
}
# Those that do not take every layout.
LIMITED = {UNetConfig: ("panel", "video", "volume"), TokenEmbeddingConfig: ("series",)}
# What compiles longest meets a layout or two in the quick suite, and between them they meet every
# one; their others are met in the slow suite.
QUICK = {
    "SpaceTimeRNN": ["series"],
    "gru": ["panel"],
    "conv_lstm": ["video"],
    "conv_gru": ["volume"],
    "ConvRecurrent": ["panel", "volume"],
    "PatchTransformer": ["video"],
    "UNet": ["panel"],
}


def layouts(backbone):
    return LIMITED.get(BACKBONES[backbone][0], tuple(LAYOUTS))


def usual(backbone):
    return "panel" if "panel" in layouts(backbone) else "series"


# Cells that differ from another by a function.
LIKE_OTHERS = {"gru", "conv_gru"}


def pairs(*, quick=None, without=()):
    """Every backbone on every layout, of which the quick suite meets some or the usual one.

    Laws that compile meet cells that are like others on the usual layout alone.
    """
    rows = []
    for backbone, (kind, _) in BACKBONES.items():
        met = layouts(backbone) if quick is None or backbone not in LIKE_OTHERS else ["panel"]
        for layout in met if kind not in without else ():
            soon = layout in QUICK.get(backbone, LAYOUTS)
            soon = soon if quick is None else layout == usual(backbone)
            soon = soon and (quick is None or backbone not in LIKE_OTHERS)
            rows.append(pytest.param(backbone, layout, marks=() if soon else pytest.mark.slow))
    return rows


each_backbone = pytest.mark.parametrize(
    "backbone",
    [pytest.param(of, marks=[pytest.mark.slow] * (of in LIKE_OTHERS)) for of in BACKBONES],
)
each_pair = pytest.mark.parametrize(("backbone", "layout"), pairs())


def build(backbone, layout, spec=None, **fields):
    shape, window = LAYOUTS[layout]
    kind, settings = BACKBONES[backbone]
    if "causal" not in {field.name for field in dataclasses.fields(kind)}:
        fields.pop("causal", None)
    config = dataclasses.replace(kind.tiny(WindowSpec.of(spec or window)), **settings, **fields)
    channels = 1 if kind is TokenEmbeddingConfig else CHANNELS
    return config.build(channels, shape=shape, rngs=nnx.Rngs(0))


@nnx.jit
def run(model, x):
    return model(x)


def field(backbone, layout, batch=2):
    rng = np.random.default_rng(1)
    if BACKBONES[backbone][0] is TokenEmbeddingConfig:
        return jnp.asarray(rng.integers(0, 250, (batch, *LAYOUTS[layout][0], 1)), jnp.float32)
    values = rng.normal(size=(batch, *LAYOUTS[layout][0], CHANNELS))
    return jnp.asarray(values, jnp.float32)


def test_every_backbone_of_the_package_takes_part():
    named = {name for name in nn.__all__ if isinstance(getattr(nn, name), type)}
    configs = {name for name in named if issubclass(getattr(nn, name), BackboneConfig)}
    met = {kind.__name__ for backbone, (kind, _) in BACKBONES.items() if layouts(backbone)}
    assert met >= configs - {"BackboneConfig"} >= {"UNetConfig", "FlatPatchesConfig"}
    assert "MixingConfig" in met


@each_pair
def test_shape_and_dtype_without_building_or_running(backbone, layout):
    x = field(backbone, layout)
    model = nnx.eval_shape(lambda: build(backbone, layout, dtype="bfloat16"))
    y = nnx.eval_shape(lambda model, x: model(x), model, x)
    shape, window = LAYOUTS[layout]
    kind = BACKBONES[backbone][0]
    grid = {
        Conv3DConfig: tuple(-(-n // 2) for n in shape),
        NeighborhoodConfig: (shape[0] - 2, *shape[1:]),
    }.get(kind, shape)
    if kind is TokenEmbeddingConfig or hasattr(kind.tiny(window), "spec"):
        grid = tuple(n // w for n, w in zip(shape, window, strict=True))
    assert y.shape == (2, *grid, model.out_features)
    assert model.grid_shape(shape) == grid
    assert y.dtype == "bfloat16"
    stored = {p.dtype for p in jax.tree.leaves(nnx.state(model, nnx.Param))}
    assert stored <= {jnp.dtype("float32")}


class Regression(nnx.Module):
    """A backbone with one linear value per example."""

    def __init__(self, backbone):
        self.backbone = backbone
        self.readout = nnx.Linear(backbone.out_features, 1, rngs=nnx.Rngs(2))

    def __call__(self, x):
        features = self.backbone(x)
        return self.readout(features.mean(tuple(range(1, features.ndim - 1))))


@pytest.mark.parametrize(("backbone", "layout"), pairs(quick="usual", without=[FlatPatchesConfig]))
def test_gradient_reaches_every_parameter_and_one_batch_is_learnt(backbone, layout):
    x, target = field(backbone, layout, batch=3), jnp.array([[-1.0], [0.5], [2.0]])
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
    # No step is made after the one that is good enough.
    assert any(train_step(model, optimizer)[0] < 0.01 * first for _ in range(120))


@each_backbone
def test_evaluation_is_deterministic_and_training_is_not(backbone):
    layout = usual(backbone)
    model = build(backbone, layout, dropout=0.5)
    x = field(backbone, layout)
    evaluate = nnx.view(model, deterministic=True)

    assert (run(model, x) != run(model, x)).any()
    first = run(evaluate, x)
    np.testing.assert_array_equal(run(evaluate, x), first)
    np.testing.assert_allclose(run(build(backbone, layout), x), first, rtol=1e-4, atol=1e-5)


# Conv3DBackbone pools along time and claims no causality.
@pytest.mark.parametrize(("backbone", "layout"), pairs(quick="usual", without=[Conv3DConfig]))
def test_causal_networks_do_not_see_the_future(backbone, layout):
    shape, window = LAYOUTS[layout]
    padding = ("CAUSAL", *["VALID"] * (len(window) - 1))
    spec = WindowSpec(window, stride=(1, *window[1:]), padding=padding)
    model = build(backbone, layout, spec, causal=True)
    x = field(backbone, layout)
    now = shape[0] // 2
    before, after = run(model, x), run(model, x.at[:, now:].add(1.0))
    # The window that ends at step `now` is the first that may change.
    first = now + before.shape[1] - shape[0]
    np.testing.assert_array_equal(before[:, :first], after[:, :first])
    assert (before[:, first:] != after[:, first:]).any()


@each_backbone
def test_bfloat16_is_close_to_float32(backbone):
    layout = usual(backbone)
    x = field(backbone, layout)
    full = run(build(backbone, layout), x)
    half = run(build(backbone, layout, dtype="bfloat16"), x)
    assert (full.dtype, half.dtype) == (jnp.float32, jnp.bfloat16)
    np.testing.assert_allclose(half.astype(jnp.float32), full, rtol=0.05, atol=0.05)


@each_backbone
def test_a_batch_over_eight_devices_gives_the_same_and_moves_no_activations(backbone):
    layout = usual(backbone)
    model, x = build(backbone, layout), field(backbone, layout, batch=8)
    mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    sharded = jax.device_put(x, jax.NamedSharding(mesh, jax.P("data")))
    graphdef, state = nnx.split(model)
    state = jax.device_put(state, jax.NamedSharding(mesh, jax.P()))

    def loss(state, x):
        y = nnx.merge(graphdef, state)(x)
        return jnp.square(y.astype(jnp.float32)).sum(), y

    derivative = jax.jit(jax.value_and_grad(loss, has_aux=True, allow_int=True))
    program = derivative.lower(state, sharded).compile()
    text = program.as_text() or ""
    assert "all-reduce(" in text
    assert not re.findall(r"all-gather|all-to-all|collective-permute", text)
    # Gradients are summed over devices once, not at every step of a recurrence.
    assert not re.findall(r"all-reduce\(.*while/body", text)
    alone = run(model, x)
    (_, together), _ = program(state, sharded)
    assert len(together.sharding.device_set) == 8
    np.testing.assert_allclose(together, alone, rtol=1e-4, atol=1e-6)
