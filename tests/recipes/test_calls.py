"""Training in one line: the recipe or configuration that it stands for."""

import subprocess
import sys

import numpy as np
import pytest

import stpatch_jax as st
from stpatch_jax.nn import UNetConfig
from stpatch_jax.nn.costs import OPEN
from stpatch_jax.recipes import calls, recipe


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
    silent = {"on_step": None, "on_evaluate": None}
    assert others == {"data": ([2], [3]), "workdir": "w", "progress": False, **silent}
    st.forecast([1], horizon=7)
    assert (asked[-1][0].recipe, asked[-1][0].data.horizon) == ("forecast", 7)
    st.train("stocks", on_step=print)
    given = {"data": None, "workdir": None, "progress": True, **silent, "on_step": print}
    assert asked[-1] == (recipe("stocks"), given)
    # What is in memory did not come from the file of the recipe.
    st.train("exchange", data=np.zeros((2, 1, 1)))
    assert recipe("exchange").data.path is not None
    assert asked[-1][0].data.path is None


@pytest.mark.slow
def test_a_new_session_trains_and_predicts_with_one_import():
    program = (
        "import numpy as np, stpatch_jax as st; x = np.sin(np.arange(120.0))[:, None, None]; "
        "run = st.forecast(x, horizon=3, context=8, steps=2, progress=False); "
        "print(run.predict(x).shape)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.split("\n")[0].startswith("(3, 1"), done.stderr[-2000:]
