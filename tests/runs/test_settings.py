"""Settings by name: in full or by the end of the name, refused where that is of none or several."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stpatch_jax.errors import InputError
from stpatch_jax.nn import FlatPatchesConfig, UNetConfig
from stpatch_jax.patches import WindowSpec
from stpatch_jax.recipes import recipe
from stpatch_jax.runs.settings import with_settings
from stpatch_jax.runs.values import to_values
from stpatch_jax.training import OptimizerConfig

BASE: Any = recipe("stocks")


def test_a_setting_is_found_by_the_end_of_its_name():
    found: Any = with_settings(
        BASE,
        {
            "horizon": np.int64(3),
            "steps": 7,
            "learning_rate": 1e-2,
            "window": [8, 1],
            "train.seed": 5,
            "path": Path("mine.csv"),
        },
    )
    assert (found.data.horizon, found.train.steps, found.train.seed) == (3, 7, 5)
    assert found.train.optimizer.learning_rate == 1e-2
    assert found.model.spec == WindowSpec((8, 1), stride=BASE.model.spec.stride)
    assert found.data.path == "mine.csv"
    assert with_settings(BASE, {}) == BASE
    # One name is a list of one.
    one: Any = with_settings(recipe("forecast"), {"known": "promo"})
    assert one.data.known == ("promo",)


def test_a_part_is_given_whole_before_its_settings():
    model = FlatPatchesConfig(WindowSpec((None, 1)))
    found = with_settings(BASE, {"stride": (2, 1), "model": model, "optimizer": OptimizerConfig()})
    assert found.model == FlatPatchesConfig(WindowSpec((None, 1), stride=(2, 1)))
    assert found.train.optimizer == OptimizerConfig()
    named = with_settings(BASE, {"stride": (1, 2, 2), "window": (4, 2, 2), "model": "unet:tiny"})
    spec = WindowSpec((4, 2, 2), stride=(1, 2, 2))
    assert named.model == UNetConfig.tiny(spec)


def leaves(tree, before=""):
    for name, value in tree.items():
        if isinstance(value, dict):
            yield from leaves(value, f"{before}{name}.")
        elif name != "type":
            yield before + name, value


def test_every_setting_has_its_full_name():
    for name, value in leaves(to_values(BASE)):
        assert with_settings(BASE, {name: value}) == BASE


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("horizn", 3, "got 'horizn'; write one of it, such as data.horizon"),
        ("train.horizon", 3, "got 'train.horizon'; write one of it, such as"),
        ("time", 3, "are called alike, got 'time'; write one of data.time, task.time"),
        ("type", "x", "must be named as in the configuration, got 'type'"),
        ("model", "unet:huge", "the size of a model must be"),
        ("window", 3, "window must be"),
        ("", 3, "must be named as in the configuration, got ''"),
        ("steps", "many", "train.steps must be int, got 'many'"),
        ("model", OptimizerConfig(), "model must be a BackboneConfig"),
        ("horizon", -1, "horizon must be a whole number >= 1, got -1"),
    ],
)
def test_a_wrong_setting_is_one_sentence(name, value, told):
    with pytest.raises(InputError, match=told):
        with_settings(BASE, {name: value})
