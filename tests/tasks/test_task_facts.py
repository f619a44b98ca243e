"""What only the data know: tasks take it from them, give it as JSON and refuse to go on without."""

import json
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from flax import nnx

from stpatch_jax.errors import InputError, require_members
from stpatch_jax.nn import Conv3DConfig
from stpatch_jax.tasks import (
    ClassifyConfig,
    DetectConfig,
    ForecastConfig,
    NextTokenConfig,
    ReconstructConfig,
    RegressConfig,
    SegmentConfig,
    Task,
    TaskConfig,
)

CONFIGS: dict[str, TaskConfig] = {
    "classify": ClassifyConfig(class_weights="balanced"),
    "segment": SegmentConfig(class_weights="balanced"),
    "regress": RegressConfig(),
    "detect": DetectConfig(),
    "next_token": NextTokenConfig(),
    "forecast": ForecastConfig(model_weight="auto"),
    "reconstruct": ReconstructConfig((1, 2)),
}
DATA: dict[str, Any] = {
    "classify": SimpleNamespace(class_counts=(3, 1)),
    "segment": SimpleNamespace(class_counts=(3, 1)),
    "regress": SimpleNamespace(target_medians=(0.5,)),
    "detect": SimpleNamespace(class_counts=(3,), mean_box=(0.0, 1.0, 2.0, 4.0)),
    "next_token": SimpleNamespace(token_counts=(0, 2, 5)),
    "forecast": SimpleNamespace(model_weight=lambda: 0.25),
    "reconstruct": SimpleNamespace(),
}
EXPECTED = {
    "classify": {"class_counts": [3, 1]},
    "segment": {"class_counts": [3, 1]},
    "regress": {"target_medians": [0.5]},
    "detect": {"class_counts": [3], "mean_box": [0.0, 1.0, 2.0, 4.0]},
    "next_token": {"token_counts": [0, 2, 5]},
    "forecast": {"model_weight": 0.25},
    "reconstruct": {},
}
NEED = [name for name, facts in EXPECTED.items() if facts]
BATCH = {
    "field": np.zeros((1, 2, 4, 4, 1), np.float32),
    "boxes": np.zeros((1, 2, 3, 4), np.float32),
    "tokens": np.zeros((1, 4), int),
    "context": np.zeros((1, 2, 4, 4, 1), np.float32),
    "persistence": np.zeros((1, 1, 4, 4, 1), np.float32),
    "target": np.zeros((1, 1, 4, 4, 1), np.float32),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_facts_of_the_data_go_to_json_and_back(name):
    task = CONFIGS[name].create().fitted(DATA[name])
    require_members(task, Task, what="the task")
    assert task.facts == EXPECTED[name]
    again = CONFIGS[name].create(facts=json.loads(json.dumps(task.facts)))
    assert again.facts == task.facts
    assert type(again) is type(task)
    assert again.inputs == task.inputs


@pytest.mark.parametrize("name", NEED)
def test_data_that_do_not_know_are_refused(name):
    with pytest.raises(InputError, match=r"must have the members of .*, got SimpleNamespace"):
        CONFIGS[name].create().fitted(SimpleNamespace())


@pytest.mark.parametrize("name", NEED)
def test_an_unfitted_task_refuses_what_needs_its_facts(name):
    task: Any = CONFIGS[name].create()
    shapes = {name: values.shape for name, values in BATCH.items()}
    backbone = Conv3DConfig(2, features=(4,), window=(1, 2, 2))
    with pytest.raises(InputError, match=r"must know .*, got none; use task\.fitted\(data\)"):
        # A model is the same whatever its forecast will weigh.
        task.predict(task.build(backbone, shapes, rngs=nnx.Rngs(0)), BATCH)


def test_a_weight_that_is_a_number_asks_nobody():
    task = ForecastConfig(model_weight=0.5).create()
    assert task.fitted(SimpleNamespace()) is task
    assert task.facts == {}
