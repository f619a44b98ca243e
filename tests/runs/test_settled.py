"""What a configuration leaves to the data: chosen once, written down, found again."""

import dataclasses

import numpy as np
import pytest

from stpatch_jax import InputError
from stpatch_jax.data import FieldConfig
from stpatch_jax.nn import FlatPatchesConfig
from stpatch_jax.patches import WindowSpec
from stpatch_jax.runs import RunConfig
from stpatch_jax.runs.run import Run
from stpatch_jax.tasks import ForecastConfig
from stpatch_jax.training import TrainConfig


@dataclasses.dataclass(frozen=True)
class OpenPatchesConfig(FlatPatchesConfig):
    """Leaves its windows to the data: the whole context of each cell."""

    spec: WindowSpec = dataclasses.field(default_factory=lambda: WindowSpec((1,)))

    def settled(self, shape, channels):
        """One window over all of time."""
        spec = WindowSpec((shape[0], *[1] * (len(shape) - 1)))
        return dataclasses.replace(self, spec=spec), {"model.spec.window": f"of {channels}"}


def a_run() -> Run:
    data = FieldConfig(context=6, horizon=2)
    train = TrainConfig(batch_size="auto")
    config = RunConfig(data, OpenPatchesConfig(), ForecastConfig(), train, recipe="mine")
    field = np.random.default_rng(0).normal(size=(120, 3, 1)).astype(np.float32)
    return Run(config, data=field)


def test_what_is_left_to_the_data_is_chosen_by_them():
    run = a_run()
    assert run.config.model == OpenPatchesConfig(WindowSpec((6, 1)))
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
