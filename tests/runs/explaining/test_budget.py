"""What an explanation computes is bounded, however much one answer costs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr
from jax.tree_util import Partial

from stpatch_jax.runs.explaining.explanation import Budget, hidden_windows
from stpatch_jax.runs.judging.question import Question


def question(width: int, features: int) -> Question:
    """Of a map whose answer takes a product of all its cells with `features` columns."""
    field = xr.DataArray(
        np.zeros((4, width, width, 1), np.float32), dims=("time", "y", "x", "channel")
    )
    weights = jax.ShapeDtypeStruct((4 * width * width, features), jnp.float32)

    def answer(model, fixed, fields):
        del fixed
        flat = fields.reshape(len(fields), -1)
        return (flat @ jnp.zeros(weights.shape)).sum(axis=-1) + 0 * model()

    return Question(
        field, Partial(answer, Partial(lambda: 0.0), {}), title="sum", unit="1", zero="0"
    )


def test_a_cheap_answer_is_explained_with_all_there_is():
    budget = Budget.of(question(8, 3), windows=900)
    assert budget == Budget(2 * 4 * 8 * 8 * 3, 900)
    assert budget.told == ""
    assert budget.allows(64)


@pytest.mark.parametrize("features", [300, 1000, 10_000])
def test_a_dear_answer_is_explained_with_less(features):
    asked = question(1000, features)
    budget = Budget.of(asked, windows=1000)
    answers = 4 * (budget.windows + 3 * budget.points + 3 * budget.samples)
    least = (budget.windows, budget.points, budget.samples) == (64, 16, 8)
    assert least or answers * budget.flops <= 5e12
    assert budget.batch_size * budget.flops <= 2e10 or budget.batch_size == 1
    assert f"{budget.flops:.2g} FLOP: occlusion hides at most {budget.windows} windows" in (
        budget.told
    )
    spec = hidden_windows(None, asked, most=budget.windows)
    assert 1 < np.prod(spec.grid_shape((4, 1000, 1000))) <= budget.windows
    assert not budget.allows(10**6)
