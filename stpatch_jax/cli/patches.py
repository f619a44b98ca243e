"""What a window spec makes of a file, before anything is trained: `stpatch patches`."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import tyro
import xarray as xr
from matplotlib.figure import Figure

from stpatch_jax.data import open_field
from stpatch_jax.data.fields.describing import describe_patches, patch_summary
from stpatch_jax.errors import InputError, require
from stpatch_jax.nn.costs import (
    BACKBONES,
    WindowCost,
    describe_costs,
    nearby_windows,
    window_cost,
    window_costs,
)
from stpatch_jax.patches.canonical import PaddingName
from stpatch_jax.patches.windows import WindowSpec
from stpatch_jax.plotting.patches_of_file import draw_patches

_DPI = 120


@dataclass(frozen=True)
class PatchesConfig:
    """Tells what a window spec makes of a file, reading no more of it than it must.

    Attributes:
        file: A file, folder or URL that `stpatch_jax.data.open_field` opens.
        window: Samples along time and each space axis; None for the whole axis.
        stride: Cells between window starts, one for all axes or one each; by default the window.
        dilation: Cells between samples of a window, one for all axes or one each.
        padding: VALID, SAME, CAUSAL or COVER, one for all axes or one each.
        variable: The one variable to look at; all that fit by default.
        dims: Names of the axes of a .npy or .npz file that does not tell them, e.g. time z y x.
        output: Picture of the patch grid to write, e.g. patches.png.
        costs: Time steps of an example that a model would see, to list what this window and those
            near it cost; none by default.
        backbone: Whose costs: conv_recurrent, flat_patches, patch_cnn or patch_transformer, each at
            its base size.
    """

    file: tyro.conf.Positional[str]
    window: tuple[int | None, ...]
    stride: tuple[int | None, ...] | None = None
    dilation: tuple[int, ...] = (1,)
    padding: tuple[PaddingName, ...] = ("VALID",)
    variable: str | None = None
    dims: tuple[str, ...] = ()
    output: Path | None = None
    costs: int | None = None
    backbone: Literal["conv_recurrent", "flat_patches", "patch_cnn", "patch_transformer"] = (
        "patch_transformer"
    )


def inspect_patches(config: PatchesConfig) -> str:
    """Describes the patches of a file, and draws them where an output is given.

    Raises:
        InputError: If the file cannot be read, the windows do not fit it, or the picture cannot be
            written; then nothing is.
    """
    spec = WindowSpec(
        config.window,
        stride=_one_or_each(config.stride),
        dilation=_one_or_each(config.dilation),
        padding=_one_or_each(config.padding),
    )
    options: dict[str, Any] = {"dims": config.dims} if config.dims else {}
    field = open_field(
        config.file, variables=None if config.variable is None else [config.variable], **options
    )
    lines = describe_patches(patch_summary(field, spec))
    if config.costs is not None:
        lines += "\n\n" + _costs(config.costs, config.backbone, field, spec)
    if config.output is not None:
        _write(draw_patches(field, spec), config.output)
        lines += f"\n{'picture':16}{config.output}"
    return lines


def _one_or_each(values: Sequence[Any] | None) -> Any:
    return values[0] if values is not None and len(values) == 1 else values


def _costs(times: int, name: str, field: xr.DataArray, spec: WindowSpec) -> str:
    require(
        1 <= times <= len(field),
        f"--costs must be the time steps of an example, 1 to {len(field)}, but it is {times}; "
        "choose one of them",
    )
    shape, channels = (times, *field.shape[1:-1]), field.shape[-1]
    window = spec.window_shape(shape)
    stride = (step or cells for step, cells in zip(spec.stride, window, strict=True))
    spec = spec.replace(window=window, stride=tuple(stride))
    chosen = window_cost(shape, spec, BACKBONES[name], channels=channels, memory=True)
    specs = dict.fromkeys([spec, *nearby_windows(spec, shape)])
    costs = window_costs(shape, specs, BACKBONES[name], channels=channels)
    return describe_costs(costs, chosen=chosen, name=name)


def _write(figure: Figure, path: Path) -> None:
    """Writes a picture under a temporary name and renames it."""
    kinds = figure.canvas.get_supported_filetypes()
    require(
        path.suffix[1:].lower() in kinds,
        f"the picture must be a file of one of the types {', '.join(sorted(kinds))}, got "
        f"{path.name}; name it patches.png",
    )
    part = path.with_name(f".{path.stem}.part{path.suffix}")
    try:
        figure.savefig(part, dpi=_DPI)
        part.replace(path)
    except OSError as error:
        raise InputError(
            f"the picture {path} must be writable, but writing gave: {error.strerror or error}; "
            "give a path in an existing folder with room"
        ) from error
    finally:
        if part.exists():
            part.unlink()


__all__ = [
    "BACKBONES",
    "PatchesConfig",
    "WindowCost",
    "describe_costs",
    "describe_patches",
    "draw_patches",
    "inspect_patches",
    "nearby_windows",
    "patch_summary",
    "window_cost",
    "window_costs",
]
