import dataclasses
import json
from typing import Any

import pytest

from stpatch_jax.errors import InputError
from stpatch_jax.training import OptimizerConfig, TrainConfig


@pytest.mark.parametrize(
    ("field", "value", "flag"),
    [
        ("steps", 0, "train.steps"),
        ("batch_size", -1, "train.batch-size"),
        ("checkpoint_every", 0, "train.checkpoint-every"),
        ("evaluate_every", 0, "train.evaluate-every"),
        ("keep_checkpoints", 0, "train.keep-checkpoints"),
        ("seed", -1, "train.seed"),
        ("seed", 2**32, "train.seed"),
        ("on_nonfinite", "rollback", "train.on-nonfinite"),
    ],
)
def test_train_config_checks_itself(field: str, value: Any, flag: str) -> None:
    with pytest.raises(InputError, match=f"^{flag} must be .* but it is {value!r}; give another"):
        TrainConfig(**{field: value})


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", "lion"),
        ("learning_rate", 0.0),
        ("learning_rate", float("nan")),
        ("learning_rate", float("inf")),
        ("momentum", 1.0),
        ("weight_decay", -1e-3),
        ("clip_norm", 0.0),
        ("warmup_steps", -1),
        ("schedule", "linear"),
    ],
)
def test_optimizer_config_checks_itself(field: str, value: Any) -> None:
    flag = "train.optimizer." + field.replace("_", "-")
    with pytest.raises(InputError, match=f"^{flag} must be .* but it is {value!r}; give another"):
        OptimizerConfig(**{field: value})


def test_config_is_hashable_and_goes_to_json() -> None:
    config = TrainConfig(optimizer=OptimizerConfig("sgd", clip_norm=None))
    fields = json.loads(json.dumps(dataclasses.asdict(config)))
    again = TrainConfig(**fields | {"optimizer": OptimizerConfig(**fields["optimizer"])})
    assert again == config
    assert hash(again) == hash(config)
