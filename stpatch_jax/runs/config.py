"""The configuration of a run: everything that decides its figures."""

import dataclasses
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import jax
import numpy as np
import pandas as pd
import tyro
import xarray as xr

from stpatch_jax.data import Data, DataConfig
from stpatch_jax.data.protocols import CATALOG_PREFIX
from stpatch_jax.errors import InputError, listed, require, require_members, shortened
from stpatch_jax.nn import BackboneConfig
from stpatch_jax.patches import WindowSpec
from stpatch_jax.runs.directory import RunDirectory
from stpatch_jax.runs.values import OWN_FILE, from_values
from stpatch_jax.tasks import TaskConfig
from stpatch_jax.training import TrainConfig


@dataclasses.dataclass(frozen=True)
class RecipeFile:
    """A file of one's own that a recipe came from.

    Attributes:
        path: Where it lies.
        digest: Its SHA-256, which tells whether it has changed; that makes it no other run.
    """

    path: str
    digest: str

    @property
    def module(self) -> str:
        """Under what name it is imported: it hides no other, and its classes are found again."""
        return OWN_FILE + re.sub(r"\W", "_", Path(self.path).stem)


@dataclasses.dataclass(frozen=True)
class RunConfig:
    """Everything that decides a run's figures; the flags of `stpatch train RECIPE`.

    Attributes:
        recipe: Name of the recipe it started from, which `stpatch_jax.recipes` fills in.
        recipe_file: The file of your own that it stands in, likewise.
        data: The data and how they are cut into examples.
        model: The backbone.
        task: The task.
        train: How it is trained.
        start_from: Directory of a run with the same backbone, such as one of `pretrain`, whose
            backbone the training starts from; None starts from random weights.
    """

    # The command line names it before the flags.
    recipe: tyro.conf.Suppress[str] = dataclasses.field(default="", kw_only=True)
    recipe_file: tyro.conf.Suppress[RecipeFile | None] = dataclasses.field(
        default=None, kw_only=True, metadata={"added": True}
    )
    data: DataConfig
    model: BackboneConfig
    task: TaskConfig
    train: TrainConfig
    start_from: str | None = None

    def of_model(self, model: BackboneConfig) -> Self:
        """The configuration with another backbone that was asked for: no other takes its place."""
        rivals = self.task.rivals()
        return dataclasses.replace(self, model=model, task=rivals[1] if rivals else self.task)


_Frames = xr.DataArray | xr.Dataset | pd.DataFrame | pd.Series
InMemory = _Frames | np.ndarray | jax.Array | list | tuple
"""Data that are there already: `DataConfig.of` makes a data set of them."""


def plain(given: Any) -> Any:
    """What is in memory with arrays of NumPy alone: NaN, or None, is where one of them has a mask.

    >>> plain([np.ma.masked_equal([3, 4], 4)])
    [array([ 3., nan])]
    """
    if isinstance(given, list | tuple):
        each = [plain(one) for one in given]
        return each if isinstance(given, list) else tuple(each)
    if isinstance(given, np.ma.MaskedArray):
        hidden, values = np.ma.getmaskarray(given), np.ma.getdata(given)
        nothing: Any = np.nan if values.dtype.kind in "biuf" else None
        return np.where(hidden, nothing, values) if hidden.any() else values
    return np.asarray(given) if isinstance(given, jax.Array) else given


def data_of(config: RunConfig, given: Data | InMemory | None) -> Data:
    """The data of a run: a data set, or what `config.data.of` makes one of; None loads them."""
    if isinstance(given, str | Path):
        raise InputError(
            f"data= must be in memory or a data set, got the path {shortened(given)}; give it as "
            'path=, as in st.train("forecast", path="sales.csv")'
        )
    if isinstance(given, InMemory):
        data = config.data.of(plain(given))
    else:
        data = config.data.load() if given is None else given
    require_members(data, Data, what="the data")
    return data


_PER_AXIS = ("window", "stride", "dilation", "padding", "padding_mode")


def config_of(run: RunDirectory) -> RunConfig:
    """The configuration that a run directory holds.

    Raises:
        InputError: It holds none, or one with entries of other names, types or ranges than those of
            this version; file and entry are named.
    """
    values = run.config()
    require(
        "backtest" not in values,
        f"{run.path} must be a run directory, got that of a backtest; give one in it, such as "
        f"{run.path / 'model'} or {run.path / 'fold-1'}",
    )
    try:
        return from_values(RunConfig, values)
    except InputError as error:
        told = f"{run.config_file}: {error}"
        raise InputError(told) from error


def check_windows(config: RunConfig, data: Data, shape: Sequence[int]) -> None:
    """Refuses windows that do not fit cells (time, *space), in the words of the configuration."""
    settings, space = vars(config.model), shape[1:]
    windows, specs = {}, _specs("model", config.model)
    for setting, spec in specs.items():
        each = ", ".join(f"{setting}.{name}" for name in _PER_AXIS)
        windows[setting] = spec.rank - 1, f"{each} {len(space) + 1} entries each, time first"
    if "offsets" in settings:
        windows["model.offsets.0"] = len(settings["offsets"][0]), f"it {len(space)} numbers"
    for setting, (axes, entries) in windows.items():
        if axes == len(space):
            continue
        names = data.input_axes("train", 0).dims or [f"axis {at}" for at in range(len(space))]
        found = listed(f"{name} ({cells})" for name, cells in zip(names, space, strict=False))
        many = len(space) > axes and "select" in config.data.reading
        raise InputError(
            f"the data must have {axes} axes of space, as many as {setting}, got {len(space)}: "
            f"{found}; {'choose one position of an axis with select=, or ' if many else ''}"
            f"give {entries}"
        )
    lags = settings.get("lags", 1)
    require(
        lags <= shape[0],
        f"model.lags must be at most the {shape[0]} time steps of an input, got {lags}; give fewer "
        "or a longer data.context",
    )
    for setting, spec in specs.items():
        try:
            spec.resolve(shape)
        except InputError as error:
            raise InputError(_of_setting(str(error), setting)) from error


def in_settings(message: str, config: RunConfig) -> str:
    """What a network says of its windows, in the words of the configuration."""
    for setting in _specs("model", config.model):
        message = _of_setting(message, setting)
    return message


def _specs(setting: str, value: Any) -> dict[str, WindowSpec]:
    """The windows among the settings of a backbone, by their names."""
    if isinstance(value, WindowSpec):
        return {setting: value}
    if not isinstance(value, BackboneConfig):
        return {}
    fields = (_specs(f"{setting}.{name}", entry) for name, entry in vars(value).items())
    return {name: spec for of in fields for name, spec in of.items()}


def _of_setting(message: str, setting: str) -> str:
    return re.sub(rf"(?<![\w.])({'|'.join(_PER_AXIS)})\b", rf"{setting}.\1", message)


def resolved(config: RunConfig) -> RunConfig:
    """Returns the configuration with paths that hold in any working directory."""
    require(
        isinstance(config, RunConfig),
        f"the configuration must be a RunConfig, got {config!r:.40}; give that of a recipe, such "
        "as stpatch_jax.recipes.recipe('weather')",
    )
    if config.start_from is not None:
        start = str(Path(config.start_from).absolute())
        config = dataclasses.replace(config, start_from=start)
    path = config.data.path
    if path is None or path.startswith(CATALOG_PREFIX) or "://" in path:
        return config
    path = str(Path(path).absolute())
    return dataclasses.replace(config, data=dataclasses.replace(config.data, path=path))


def for_these_devices(config: RunConfig) -> RunConfig:
    """The configuration with a mesh that fits the devices here, which may be fewer."""
    mesh = config.train.mesh.fitted(jax.device_count())
    return dataclasses.replace(config, train=dataclasses.replace(config.train, mesh=mesh))
