"""Training in one line: the recipe or configuration that it stands for."""

import re
from pathlib import Path

import numpy as np
import pytest

import stpatch_jax as st
from stpatch_jax.nn import UNetConfig
from stpatch_jax.nn.costs import OPEN
from stpatch_jax.recipes import calls, recipe

README = Path(__file__).parents[2] / "README.md"


@pytest.fixture
def asked(monkeypatch):
    """What was to be trained, in place of training it."""
    found = []
    monkeypatch.setattr(calls, "train_run", lambda config, **others: found.append((config, others)))
    return found


def test_a_call_trains_a_recipe_with_other_settings(asked):
    st.classify([2], [3], model="unet:tiny", workdir="w", progress=False)
    ((config, others),) = asked
    assert (config.recipe, config.model) == ("classify", UNetConfig.tiny(OPEN))
    assert others == {"data": ([2], [3]), "workdir": "w", "progress": False}
    st.forecast([1], horizon=7)
    assert (asked[-1][0].recipe, asked[-1][0].data.horizon) == ("forecast", 7)
    st.train("stocks")
    assert asked[-1] == (recipe("stocks"), {"data": None, "workdir": None, "progress": True})
    # What is in memory did not come from the file of the recipe.
    st.train("exchange", data=np.zeros((2, 1, 1)))
    assert recipe("exchange").data.path is not None
    assert asked[-1][0].data.path is None


@pytest.mark.slow
def test_the_example_of_the_readme_forecasts_a_week():
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    (example,) = (block for block in blocks if "st.forecast" in block)
    assert len(example.strip().splitlines()) <= 10
    names: dict = {}
    exec(example, names)
    assert len(names["run"].predict(names["sales"])) == 7
    assert names["run"].metrics["test"]["original"]["model"]["mae"]["all"] < 1
