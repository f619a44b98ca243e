import dataclasses
import json
import math
from typing import Any

import pytest

from stpatch_jax.errors import InputError
from stpatch_jax.training import MeshConfig, OptimizerConfig, TrainConfig


@pytest.mark.parametrize(
    ("field", "value", "flag"),
    [
        ("steps", 0, "train.steps"),
        ("batch_size", -1, "train.batch_size"),
        ("checkpoint_every", 0, "train.checkpoint_every"),
        ("evaluate_every", 0, "train.evaluate_every"),
        ("keep_checkpoints", 0, "train.keep_checkpoints"),
        ("seed", -1, "train.seed"),
        ("seed", 2**32, "train.seed"),
        ("on_nonfinite", "retry", "train.on_nonfinite"),
        ("accumulate", 0, "train.accumulate"),
        ("accumulate", 5, "train.accumulate"),
        ("ema", 1.0, "train.ema"),
        ("step_timeout", 0.0, "train.step_timeout"),
        ("step_timeout", float("inf"), "train.step_timeout"),
        ("keep_best", "mae", "train.keep_best"),
        ("keep_best", "min:", "train.keep_best"),
        ("patience", 0, "train.patience"),
        ("patience", -1, "train.patience"),
    ],
)
def test_train_config_checks_itself(field: str, value: Any, flag: str) -> None:
    with pytest.raises(InputError, match=rf"^{flag} must be .*, got {value!r}; \w+ "):
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
    flag = f"train.optimizer.{field}"
    with pytest.raises(InputError, match=rf"^{flag} must be .*, got {value!r}; \w+ "):
        OptimizerConfig(**{field: value})


def test_config_is_hashable_and_goes_to_json() -> None:
    config = TrainConfig(optimizer=OptimizerConfig("sgd", clip_norm=None), mesh=MeshConfig(4))
    fields = json.loads(json.dumps(dataclasses.asdict(config)))
    inner = {
        "optimizer": OptimizerConfig(**fields["optimizer"]),
        "mesh": MeshConfig(**fields["mesh"]),
    }
    again = TrainConfig(**fields | inner)
    assert again == config
    assert hash(again) == hash(config)


def test_keep_best_wants_every_checkpoint_validated() -> None:
    with pytest.raises(
        InputError, match=r"checkpoint_every must be a multiple of train.evaluate_every"
    ):
        TrainConfig(keep_best="min:mae", checkpoint_every=10, evaluate_every=20)
    TrainConfig(keep_best="min:mae", checkpoint_every=20, evaluate_every=10)
    with pytest.raises(InputError, match=r"keep_best must name the metric that train.patience go"):
        TrainConfig(patience=3)


def test_mesh_config_checks_itself() -> None:
    with pytest.raises(InputError, match=r"train.mesh.fsdp must be a whole number .* got 0; use"):
        MeshConfig(fsdp=0)
    with pytest.raises(InputError, match=r"train.mesh must have one axis of -1 at most, got"):
        MeshConfig(fsdp=-1)


@pytest.mark.parametrize("devices", [1, 2, 3, 6, 8, 12])
@pytest.mark.parametrize(
    "mesh",
    [MeshConfig(), MeshConfig(fsdp=4, space=2), MeshConfig(2, 2, 2), MeshConfig(3, -1, 2, 2, 4)],
)
def test_a_mesh_is_fitted_to_any_number_of_devices(mesh: MeshConfig, devices: int) -> None:
    sizes = dataclasses.asdict(mesh.fitted(devices))
    assert list(sizes.values()).count(-1) == 1
    for name, size in sizes.items():
        wanted = getattr(mesh, name)
        assert size == -1 or wanted % size == 0
    assert devices % math.prod(size for size in sizes.values() if size != -1) == 0
