"""Recipes beside their linear forms: what is trained, and which way a gain counts."""

import dataclasses

import numpy as np
import pytest

from benchmarks import linear
from stpatch_jax.nn import FlatPatchesConfig
from stpatch_jax.recipes import recipe


@pytest.mark.parametrize("name", linear.CASES)
def test_a_linear_form_has_the_data_and_the_training_of_its_recipe(name):
    config = recipe(name)
    own = linear.CASES[name][0](config)
    assert (own.data, own.train) == (config.data, config.train)
    assert not vars(own.task).get("hidden")
    if not isinstance(own.model, FlatPatchesConfig):
        assert own.model == dataclasses.replace(config.model, hidden=())


def test_a_gain_is_positive_where_the_network_is_better(monkeypatch, tmp_path):
    values = {"network": np.arange(40.0), "linear": np.arange(40.0) + 1}

    def measured(name, config, folder, metric):
        of = values[folder.name.rpartition("-")[2]]
        score = (lambda chosen: float(of[chosen].mean())), np.arange(40)
        return {"cost": {"parameters": 1}, "validation": score, "test": score}

    monkeypatch.setattr(linear, "measured", measured)
    errors, shares = "video-prediction", "video-classification-motion"
    gains = {name: linear.row(name, tmp_path)["test"]["gain"] for name in (errors, shares)}
    np.testing.assert_allclose(gains[errors], 1)
    np.testing.assert_allclose(gains[shares], -1)
