"""What a function of windows holds: its present values, and derivatives with respect to them."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from stpatch_jax import WindowSpec
from stpatch_jax.inference import sliding_window_apply, sliding_window_rollout

SPEC = WindowSpec((4,), stride=2)
X = jnp.asarray(np.random.default_rng(0).normal(size=(10, 2)), jnp.float32)


def tiled(fn, x=X, **options):
    return sliding_window_apply(fn, x, SPEC, batch_size=2, **options)


def energy(a):
    return tiled(lambda w: jnp.sin(a * w)).sum()


def plain(a):
    return jnp.sin(a * X).sum()


MODES = {
    "grad": jax.grad,
    "jitted grad": lambda f: jax.jit(jax.grad(f)),
    "forward": jax.jacfwd,
    "hessian": jax.hessian,
    "third": lambda f: jax.grad(jax.grad(jax.grad(f))),
    "vmap": lambda f: lambda a: jax.vmap(f)(a * jnp.arange(3.0)),
    "vmap of grad": lambda f: lambda a: jax.vmap(jax.grad(f))(a * jnp.arange(3.0)),
}


@pytest.mark.parametrize("mode", MODES)
def test_derivatives_reach_what_a_function_closes_over(mode):
    wanted = MODES[mode]
    np.testing.assert_allclose(wanted(energy)(2.0), wanted(plain)(2.0), rtol=1e-4, atol=1e-4)


def test_a_module_that_is_closed_over_has_a_gradient():
    model = nnx.Linear(2, 2, rngs=nnx.Rngs(0))
    found = nnx.grad(lambda m: tiled(lambda w: jnp.tanh(m(w))).sum())(model)
    expected = nnx.grad(lambda m: jnp.tanh(m(X)).sum())(model)
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-4), found, expected)


class Holder:
    """Something of a user's own with a model in it."""

    def __init__(self, model):
        self.model, self.factor = model, 1.0

    def predict(self, windows):
        return self.factor * self.model(windows)


def test_the_present_weights_count_whatever_holds_them():
    model = nnx.Linear(2, 2, rngs=nnx.Rngs(0))
    holder = Holder(model)
    forms = {
        "closure": lambda w: model(w),
        "bound method": holder.predict,
        "module": model,
        "partial": functools.partial(lambda m, w: m(w), model),
    }
    for change in (lambda: None, lambda: None, lambda: model.kernel.set_value(model.kernel * 3)):
        change()
        for name, fn in forms.items():
            np.testing.assert_allclose(tiled(fn), model(X), rtol=1e-5, atol=1e-6, err_msg=name)
    holder.factor = 2.0
    np.testing.assert_allclose(tiled(holder.predict), 2 * model(X), rtol=1e-5, atol=1e-6)


def test_the_same_function_with_other_weights_is_compiled_once(caplog):
    layer = nnx.Linear(2, 3, rngs=nnx.Rngs(0))
    model = nnx.Sequential(layer, nnx.relu)
    fn = lambda w: model(w)  # noqa: E731
    tiled(fn)
    layer.kernel.set_value(layer.kernel * 2)
    with jax.log_compiles(), caplog.at_level("WARNING"):
        tiled(fn)
    compiled = [record.message for record in caplog.records if "Compiling" in record.message]
    assert not [message for message in compiled if "run" in message]


def test_a_call_traces_a_function_once_and_a_pytree_not_again():
    traced = []

    def double(windows):
        traced.append(windows.shape)
        return 2 * windows

    for fn, again in ((double, 1), (jax.tree_util.Partial(double), 0)):
        tiled(fn)
        before = len(traced)
        tiled(fn)
        assert len(traced) - before == again


def test_functions_of_the_host_are_told_apart():
    def on_host(fn):
        def call(windows):
            return jax.pure_callback(fn, jax.typeof(windows), windows)

        return tiled(call)

    for factor in (2, 3):
        found = on_host(lambda windows, factor=factor: factor * np.asarray(windows))
        np.testing.assert_array_equal(found, factor * X)


def test_a_model_of_torch_runs_on_the_host():
    torch = pytest.importorskip("torch")
    layer = torch.nn.Linear(2, 3)

    def on_host(windows):
        with torch.no_grad():
            return layer(torch.from_numpy(np.array(windows))).numpy()

    def call(windows):
        shape = jax.ShapeDtypeStruct((*windows.shape[:-1], 3), windows.dtype)
        return jax.pure_callback(on_host, shape, windows)

    for _ in range(2):  # with the weights of today
        np.testing.assert_allclose(tiled(call), on_host(X), rtol=1e-5, atol=1e-6)
        layer.weight.data *= 2


def test_a_rollout_has_derivatives_with_respect_to_what_its_function_holds():
    spec = WindowSpec((None, 4), stride=(None, 2))
    x = np.ones((3, 8, 1), np.float32)

    def total(a):
        return sliding_window_rollout(lambda w: a * w[:, -1:], x, spec, step=1, horizon=2).sum()

    assert float(total(2.0)) == 8 * (2 + 4)
    assert float(jax.grad(total)(2.0)) == 8 * (1 + 4)


def test_exports_for_any_number_of_examples():
    symbolic = jax.ShapeDtypeStruct(jax.export.symbolic_shape("b, 10, 2"), jnp.float32)
    exported = jax.export.export(jax.jit(lambda x: tiled(jnp.sin, x)))(symbolic)
    many = jnp.stack([X, 2 * X, 3 * X])
    np.testing.assert_allclose(exported.call(many), tiled(jnp.sin, many), rtol=1e-6)
