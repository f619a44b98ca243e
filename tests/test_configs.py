"""Configurations go to JSON and back, and a difference is found by its name."""

import dataclasses
import json

import pytest

from stpatch_jax.errors import InputError
from stpatch_jax.recipes import RECIPES, recipe
from stpatch_jax.runs.run import RunConfig
from stpatch_jax.runs.values import difference, from_values, to_values


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_every_recipe_goes_through_json_unchanged(name):
    config = recipe(name)
    assert from_values(RunConfig, json.loads(json.dumps(to_values(config)))) == config


def test_values_of_another_version_are_refused():
    values = to_values(recipe("stocks"))
    values["train"].pop("seed")
    with pytest.raises(InputError, match=r"config.train must have the entries .*another version"):
        from_values(RunConfig, values)
    with pytest.raises(InputError, match="config must have the entries"):
        from_values(RunConfig, None)


def test_a_difference_is_named_by_its_path():
    config = recipe("stocks")
    other = dataclasses.replace(config, data=dataclasses.replace(config.data, horizon=7))
    assert difference(to_values(config), to_values(other)) == ("data.horizon", 6, 7)
    assert difference(to_values(config), to_values(config)) is None
    assert difference({"a": 1}, {"b": 1}) == ("a", 1, None)
