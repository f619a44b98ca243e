"""What a tiled prediction needs in memory is known before, kept to, and survived where it fails."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from stpatch_jax import WindowSpec
from stpatch_jax.errors import InputError
from stpatch_jax.inference import memory_plan, sliding_window_apply
from stpatch_jax.inference.job import TiledJob
from stpatch_jax.inference.memory import MemoryPlan, fitted, usual_batch_size

SPEC = WindowSpec((8, 16), stride=(4, 8), padding="COVER", padding_mode="edge")
FIELD = jax.ShapeDtypeStruct((30, 60, 2), jnp.float32)
KERNEL = np.ones((2, 32), np.float32)


def wide(windows):
    """Holds 16 times what it gets."""
    hidden = jnp.tanh(windows @ KERNEL)
    return jnp.sort(hidden, axis=1)[..., :1]


def test_the_plan_is_what_the_compiler_says_of_the_whole_program():
    batch_size = 5
    plan = memory_plan(wide, FIELD, SPEC, batch_size=batch_size)
    program = jax.jit(lambda x: sliding_window_apply(wide, x, SPEC, batch_size=batch_size))
    use = program.lower(FIELD).compile().memory_analysis()
    assert use is not None
    needed = use.argument_size_in_bytes + use.output_size_in_bytes + use.temp_size_in_bytes
    assert plan.total == pytest.approx(needed, rel=0.1)
    assert plan.results == 30 * 60 * 4
    assert plan.scratch > batch_size * 8 * 16 * 32 * 4  # what `wide` holds


def test_the_batch_fits_the_budget():
    usual = memory_plan(wide, FIELD, SPEC)
    least = memory_plan(wide, FIELD, SPEC, batch_size=1)
    budget = (usual.total + least.total) // 2
    fit = memory_plan(wide, FIELD, SPEC, memory_budget=budget)
    assert 1 < fit.batch_size < usual.batch_size
    assert fit.total <= budget
    assert usual.windows == 49
    x = np.ones(FIELD.shape, np.float32)
    y = sliding_window_apply(wide, x, SPEC, memory_budget=budget)
    np.testing.assert_allclose(y, np.tanh(2), rtol=1e-5)
    with pytest.raises(InputError, match="must hold the field and 1 windows, which need"):
        sliding_window_apply(wide, x, SPEC, memory_budget=1000)


def test_few_plans_are_made():
    asked = []

    def plan(batch_size):
        asked.append(batch_size)
        return MemoryPlan(batch_size, 1000, 50, 50, 10 + 7 * batch_size)

    assert fitted(plan, 256, 500, 4) == 52
    assert len(asked) <= 3
    assert fitted(plan, 256, 10_000, 4) == 256


def test_what_the_compiler_refuses_for_its_size_is_tried_with_half():
    def refused(lowered):
        if "tensor<8x4x1xf32>" in lowered.as_text():
            raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Ran out of memory in hbm")
        return lowered.compile()

    x = jax.ShapeDtypeStruct((11, 1), jnp.float32)
    job = TiledJob.of(jnp.sin, x, WindowSpec((4,), stride=1))
    assert job.program.batch_size == 8
    assert job.sized(x, "auto", 2**20, finish=refused).program.batch_size == 4

    def too_large(lowered):
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED")

    with pytest.raises(InputError, match="1 windows, which need more bytes, got 1,048,576"):
        job.sized(x, "auto", 2**20, finish=too_large)


def test_batches_are_evenly_filled():
    assert usual_batch_size((64, 64, 64), 64, 1, "cpu") == 1
    assert usual_batch_size((1, 1), 300, 1, "cpu") == 150
    assert usual_batch_size((1, 1), 300, 8, "cpu") == 304


def failing(error, largest):
    """A function of windows whose device fails with more than `largest` of them at a time."""

    def check(windows):
        if len(windows) > largest:
            raise RuntimeError(error)
        return windows

    return lambda windows: jax.pure_callback(check, windows, windows)


def test_a_device_out_of_memory_gets_half_the_batch():
    scarce = "RESOURCE_EXHAUSTED: Out of memory allocating"
    x = np.ones((12, 1), np.float32)
    spec = WindowSpec((4,), stride=1)
    with pytest.warns(RuntimeWarning) as warned:
        y = sliding_window_apply(failing(scarce, 2), x, spec, batch_size=8)
    np.testing.assert_allclose(y, x, rtol=1e-6)
    halved = [str(w.message) for w in warned if "ran out of memory" in str(w.message)]
    assert [text.split()[-1] for text in halved] == ["4", "2"]
    with (
        pytest.warns(RuntimeWarning, match="going on with 1"),
        pytest.raises(InputError, match="the device must hold the field and 1 windows"),
    ):
        sliding_window_apply(failing(scarce, 0), x, spec, batch_size=2)


def test_other_errors_of_the_device_pass():
    with pytest.raises(jax.errors.JaxRuntimeError, match="fire"):
        sliding_window_apply(failing("fire", 0), np.ones((4, 1), np.float32), (2,))
