"""The configuration of a run: everything that decides its figures."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np
import tyro
import xarray as xr

from stpatch_jax.data import Data, DataConfig
from stpatch_jax.data.protocols import CATALOG_PREFIX
from stpatch_jax.errors import InputError, listed, require, require_members
from stpatch_jax.nn import BackboneConfig
from stpatch_jax.runs.directory import RunDirectory
from stpatch_jax.runs.values import from_values
from stpatch_jax.tasks import TaskConfig
from stpatch_jax.training import TrainConfig


@dataclasses.dataclass(frozen=True)
class RunConfig:
    """Everything that decides a run's figures; the flags of `stpatch train RECIPE`.

    Attributes:
        recipe: Name of the recipe it started from, which `stpatch_jax.recipes` fills in.
        data: The data and how they are cut into examples.
        model: The backbone.
        task: The task.
        train: How it is trained.
        start_from: Directory of a run with the same backbone, such as one of `pretrain`, whose
            backbone the training starts from; None starts from random weights.
    """

    # The command line names it before the flags.
    recipe: tyro.conf.Suppress[str] = dataclasses.field(default="", kw_only=True)
    data: DataConfig
    model: BackboneConfig
    task: TaskConfig
    train: TrainConfig
    start_from: str | None = None


InMemory = xr.DataArray | xr.Dataset | np.ndarray | tuple
"""Data that are there already: `DataConfig.of` makes a data set of them."""


def data_of(config: RunConfig, given: Data | InMemory | None) -> Data:
    """The data of a run: a data set, or what `config.data.of` makes one of; None loads them.

    Raises:
        InputError: The data cannot be used, or are no data set.
    """
    if isinstance(given, InMemory):
        data = config.data.of(given)
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
    try:
        return from_values(RunConfig, values)
    except InputError as error:
        told = f"{run.config_file}: {error}"
        raise InputError(told) from error


def check_space(config: RunConfig, data: Data, space: Sequence[int]) -> None:
    """Refuses data whose space has more or fewer axes than the windows of the backbone.

    Args:
        config: The configuration.
        data: Its data.
        space: Cells along each axis of space that the backbone sees.

    Raises:
        InputError: They differ; the axes are named.
    """
    settings = vars(config.model)
    windows = {}
    if "spec" in settings:
        each = ", ".join(f"model.spec.{name}" for name in _PER_AXIS)
        entries = f"{each} {len(space) + 1} entries each, time first"
        windows["model.spec"] = len(settings["spec"].window) - 1, entries
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


def resolved(config: RunConfig) -> RunConfig:
    """Returns the configuration with paths that hold in any working directory.

    Raises:
        InputError: It is none.
    """
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
