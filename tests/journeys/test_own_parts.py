"""A task and a backbone of one's own: in a file that the commands run, and in Python."""

import dataclasses
import textwrap

import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from travelled import STEPS, command, reported

import stpatch_jax as st
from stpatch_jax.nn import Backbone, BackboneConfig
from stpatch_jax.patches import WindowSpec

pytestmark = pytest.mark.slow

RECIPE = '''
"""The mean of the coming day, told from the hours of this one."""

from dataclasses import dataclass

import jax.numpy as jnp
from flax import nnx

from stpatch_jax import WindowSpec
from stpatch_jax.data import FieldConfig
from stpatch_jax.nn import FlatPatchesConfig
from stpatch_jax.recipes import register
from stpatch_jax.runs import RunConfig
from stpatch_jax.tasks import BackboneWithHead, TaskBase, TaskConfig
from stpatch_jax.training import TrainConfig


class Head(nnx.Module):
    """A number for every series out of its last features."""

    def __init__(self, linear):
        self.linear = linear

    def __call__(self, features):
        return self.linear(features[:, -1])[..., 0]


class NextMean(TaskBase):
    """Forecasts the mean over the horizon of every series."""

    inputs = ("context",)

    def network(self, body, backbone, shapes, *, rngs):
        return BackboneWithHead(body, Head(backbone.linear(body.out_features, 1, rngs=rngs)))

    def loss(self, model, batch):
        error = self.predict(model, batch) - self.mean(batch)
        return jnp.mean(error**2), {"weight": jnp.float32(len(error))}

    def mean(self, batch):
        return batch["target"].mean(axis=(1, -1))

    def predict(self, model, batch):
        return model(batch["context"])

    def baselines(self, batch):
        return {"last": batch["persistence"][:, 0, ..., 0]}

    def score(self, outputs, batch):
        return {"mae": jnp.abs(outputs - self.mean(batch)).mean()}


@dataclass(frozen=True)
class NextMeanConfig(TaskConfig):
    """No settings."""

    def create(self, *, facts=None):
        return NextMean(self)


@register("next-mean")
def next_mean():
    """The mean of the coming day."""
    return RunConfig(
        data=FieldConfig(context=24, horizon=24),
        model=FlatPatchesConfig(WindowSpec((None, 1))),
        task=NextMeanConfig(),
        train=TrainConfig(steps=20),
    )
'''


def load(path):
    """Two series with a daily cycle."""
    clock = np.arange(500)
    cycle = np.sin(2 * np.pi * clock / 24)
    table = pd.DataFrame({"a": 10 + cycle, "b": 20 - cycle})
    table.insert(0, "time", pd.date_range("2024-01-01", periods=500, freq="h"))
    table.to_csv(path, index=False)


def test_a_task_of_one_s_own_in_a_file(tmp_path):
    (tmp_path / "mine.py").write_text(textwrap.dedent(RECIPE))
    load(tmp_path / "load.csv")
    command(
        *("train", tmp_path / "mine.py", "--data.path", tmp_path / "load.csv", *STEPS),
        *("--workdir", tmp_path / "run"),
    )
    assert reported(tmp_path / "run")["test"]["scores"]["model"]["mae"] < 5
    command("predict", tmp_path / "run", tmp_path / "load.csv", tmp_path / "means.csv")
    assert np.isfinite(pd.read_csv(tmp_path / "means.csv").select_dtypes("number")).all(axis=None)


def test_a_backbone_of_one_s_own_in_python():
    class Means(Backbone):
        """The mean of each window, mixed."""

        def __init__(self, config, in_features, *, shape, rngs):
            super().__init__(config.spec, in_features, config.features, shape=shape)
            self.mix = config.linear(in_features, config.features, rngs=rngs)

        def __call__(self, x):
            patches = st.extract_patches(x, self.spec)
            axes = tuple(range(x.ndim - 1, patches.ndim - 1))
            return jnp.tanh(self.mix(patches.mean(axes)))

    @dataclasses.dataclass(frozen=True)
    class MeansConfig(BackboneConfig[Means]):
        """Settings of `Means`."""

        spec: WindowSpec
        features: int = 8

    random = np.random.default_rng(0)
    times = pd.date_range("2024-01-01", periods=300, freq="h")
    values = 5 + random.normal(size=(300, 4)).cumsum(axis=0)
    field = xr.DataArray(
        values, dims=("time", "place"), coords={"time": times}, attrs={"units": "m"}, name="depth"
    )
    run = st.train(
        "forecast",
        data=field,
        model=MeansConfig(WindowSpec((6, 1))),
        horizon=6,
        context=24,
        steps=20,
    )
    assert run.report.startswith("# forecast")
    coming = run.predict(field)
    assert coming["depth"].attrs["units"] == "m"
    assert float(abs(coming["depth"] - field[-1]).max()) < 20
