"""Configurations go to JSON and back, and a difference is found by its name."""

import dataclasses
import json
import sys
from typing import Literal

import pytest

from stpatch_jax.data import DataConfig
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
    with pytest.raises(
        InputError,
        match=r"config.train must have the entries of this version, got none .* seed missing",
    ):
        from_values(RunConfig, values)
    with pytest.raises(InputError, match="config must have the entries"):
        from_values(RunConfig, None)


def test_a_difference_is_named_by_its_path():
    config = recipe("stocks")
    other = dataclasses.replace(config, data=dataclasses.replace(config.data, horizon=7))
    assert difference(to_values(config), to_values(other)) == ("data.horizon", 6, 7)
    assert difference(to_values(config), to_values(config)) is None
    assert difference({"a": 1}, {"b": 1}) == ("a", 1, None)


@dataclasses.dataclass(frozen=True)
class Own(DataConfig):
    """A configuration that only this file knows."""

    rate: float = 1.0
    sizes: tuple[int | None, ...] = (1, None)
    kind: Literal["a", "b"] = "a"

    def load(self):
        raise NotImplementedError


def test_a_class_of_ones_own_is_found_by_module_and_name_and_nothing_is_imported():
    config = dataclasses.replace(recipe("stocks"), data=Own(sizes=(4, None)))
    values = json.loads(json.dumps(to_values(config)))
    assert values["data"]["type"] == f"{__name__}:Own"
    assert from_values(RunConfig, values) == config
    values["data"]["type"] = "antigravity:Own"
    with pytest.raises(InputError, match=r"config\.data must be a DataConfig .*'antigravity:Own'"):
        from_values(RunConfig, values)
    assert "antigravity" not in sys.modules


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"rate": "fast"}, r"data\.rate must be float, got 'fast'"),
        ({"rate": True}, r"data\.rate must be float, got True"),
        ({"sizes": [1, "x"]}, r"data\.sizes\[1\] must be int \| None, got 'x'"),
        ({"sizes": 3}, r"data\.sizes must be tuple"),
        ({"kind": "c"}, r"data\.kind must be Literal\['a', 'b'\], got 'c'"),
        ({"path": 3}, r"data\.path must be str \| None, got 3"),
    ],
)
def test_values_of_another_type_are_refused(changes, told):
    with pytest.raises(InputError, match=told):
        from_values(Own, to_values(Own()) | changes, where="data")
    assert from_values(Own, to_values(Own()) | {"rate": 2}, where="data").rate == 2


@pytest.mark.parametrize("name", [["a"], {}, "stpatch_jax.__main__:Own", "stpatch_jax..x:Own"])
def test_a_name_that_is_none_is_refused_and_runs_nothing(name):
    values = to_values(dataclasses.replace(recipe("stocks"), data=Own()))
    values["data"]["type"] = name
    with pytest.raises(InputError, match=r"config\.data must be a DataConfig that is known here"):
        from_values(RunConfig, values)


def test_a_class_must_be_named_where_there_are_several():
    values = to_values(recipe("stocks"))
    values["data"] = {"path": None}
    with pytest.raises(InputError, match=r"config\.data must name the class it is of under 'type'"):
        from_values(RunConfig, values)


def test_a_class_of_a_script_is_found_where_the_script_is_imported():
    config = dataclasses.replace(recipe("stocks"), data=Own())
    values = to_values(config)
    values["data"]["type"] = "__main__:Own"
    assert from_values(RunConfig, values) == config
    values["data"]["type"] = "__main__:Elsewhere"
    with pytest.raises(InputError, match="import the module or script that defines it first"):
        from_values(RunConfig, values)
