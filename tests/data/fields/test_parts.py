"""Parts of a field for a task without targets: the values themselves, scaled, side by side."""

import numpy as np
import pytest

from stpatch_jax import InputError
from stpatch_jax.data import FieldPartsConfig
from stpatch_jax.tasks import ReconstructConfig

RANDOM = np.random.default_rng(0)
VALUES = RANDOM.normal(3, 2, (100, 4, 6, 1)).astype(np.float32)
VALUES[:, 0, 0] = np.nan
VALUES[5, 2, 2] = np.nan


def test_parts_are_what_was_read_and_where_it_is_known():
    data = FieldPartsConfig(horizon=8).of(VALUES)
    source, start = data.source("train"), data.names("train")["start"]
    for number in (0, len(source) - 1):
        example, row = source[number], int(start[number])
        assert set(example) == {"field", "field_mask"}
        there = VALUES[row : row + 8]
        np.testing.assert_array_equal(example["field_mask"], np.isfinite(there))
        made = data.in_units(example["field"][None], np.zeros(1, np.int64))[0]
        known = example["field_mask"]
        np.testing.assert_allclose(made[known], there[known], rtol=1e-5, atol=1e-6)
        assert not example["field"][~known].any()
        axes = data.input_axes("train", number)
        np.testing.assert_array_equal(axes.coords["time"], np.arange(row, row + 8))


def test_parts_of_another_file_lie_side_by_side(tmp_path):
    np.save(tmp_path / "a.npy", VALUES)
    config = FieldPartsConfig(
        str(tmp_path / "a.npy"), horizon=8, dims=("time", "y", "x", "channel")
    )
    data = config.load()
    other = config.restore(str(tmp_path / "a.npy"), data.state())
    # The last part ends the file.
    assert list(other.names("all")["start"]) == [*range(1, 92, 8), 92]
    whole = FieldPartsConfig(horizon=8).of(VALUES)
    held = whole.config.restore_values(VALUES, whole.state())
    np.testing.assert_array_equal(held.names("all")["start"], other.names("all")["start"])
    np.testing.assert_array_equal(held.source("all")[3]["field"], other.source("all")[3]["field"])


@pytest.mark.parametrize(
    ("shape", "window"),
    [((24,), (6,)), ((7, 5), (1, 1)), ((24, 64, 37), (6, 8, 1)), ((4, 8), (1, 1))],
)
def test_an_open_window_divides_the_example(shape, window):
    class Data:
        def source(self, split):
            return [{"field": np.zeros((*shape, 1))}]

    task = ReconstructConfig().create()
    with pytest.raises(InputError, match="the task must know window"):
        _ = task.window
    fitted = task.fitted(Data())
    assert fitted.window == window
    assert ReconstructConfig().create(facts=fitted.facts).window == window
    assert ReconstructConfig((2, 1)).create().window == (2, 1)
