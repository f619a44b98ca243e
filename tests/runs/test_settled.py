"""What a configuration leaves to the data: chosen once, written down, found again."""

import numpy as np
import pytest

from stpatch_jax import InputError
from stpatch_jax.data import FieldConfig
from stpatch_jax.nn import FlatPatchesConfig
from stpatch_jax.nn.windows import chosen_windows
from stpatch_jax.runs import RunConfig
from stpatch_jax.runs.run import Run
from stpatch_jax.tasks import ForecastConfig
from stpatch_jax.training import TrainConfig


def a_run() -> Run:
    data = FieldConfig(context=6, horizon=2)
    train = TrainConfig(batch_size="auto")
    config = RunConfig(data, FlatPatchesConfig(), ForecastConfig(), train, recipe="mine")
    field = np.random.default_rng(0).normal(size=(120, 3, 1)).astype(np.float32)
    return Run(config, data=field)


def test_what_is_left_to_the_data_is_chosen_by_them():
    run = a_run()
    assert run.config.model == FlatPatchesConfig(chosen_windows((6, 3), whole_time=True))
    # Of 77 windows a quarter; 8 devices share a batch.
    assert run.config.train.examples == 16
    assert set(run.chosen) == {"model.spec.window", "train.batch_size"}
    assert run.extras()["config"]["train"]["batch_size"] == 16
    assert a_run().config == run.config


@pytest.mark.parametrize("examples", [1, 5, 33, 10**6])
@pytest.mark.parametrize("bytes_each", [1, 10**7, 10**10])
@pytest.mark.parametrize("parts", [1, 3])
def test_a_chosen_batch_is_small_enough_and_splits_into_its_parts(examples, bytes_each, parts):
    config = TrainConfig(batch_size="auto", accumulate=parts)
    size = config.settled(examples=examples, example_bytes=bytes_each)[0].examples
    assert size % parts == 0
    assert parts <= size < 32 + parts
    assert size == parts or (size - parts) * bytes_each < 2**28


def test_an_open_batch_is_no_number():
    with pytest.raises(InputError, match="must be a number here, got auto"):
        _ = TrainConfig(batch_size="auto").examples
