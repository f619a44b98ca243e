"""What a window spec makes of a file, before anything is trained: `stpatch patches`."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import tyro
import xarray as xr
from matplotlib.figure import Figure

from stpatch_jax.data import FileConfig
from stpatch_jax.data.fields.describing import binary, describe_patches, patch_summary, product
from stpatch_jax.errors import check_choice, check_range, require
from stpatch_jax.files import replaced, usable
from stpatch_jax.nn.costs import nearby_windows, window_cost, window_costs, windowed_backbones
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
        padding: VALID, SAME, CAUSAL, COVER or FLUSH, one for all axes or one each.
        data: How the file is read, where it does not say so itself.
        output: Picture of the patch grid to write, e.g. patches.png.
        costs: Time steps of an example that a model would see, to list what this window and those
            near it cost; none by default.
        backbone: Whose costs, at its base size: that of any backbone that cuts windows, such as
            conv_recurrent, flat_patches, patch_cnn, patch_transformer and unet.
    """

    file: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="FILE")]
    window: tuple[int | None, ...]
    stride: tuple[int | None, ...] | None = None
    dilation: tuple[int, ...] = (1,)
    padding: tuple[PaddingName, ...] = ("VALID",)
    data: FileConfig = field(default_factory=FileConfig)
    output: Path | None = None
    costs: int | None = None
    backbone: str = "patch_transformer"


@usable()
def inspect_patches(config: PatchesConfig) -> str:
    """Describes the patches of a file, and draws them where an output is given.

    Raises:
        InputError: If the file cannot be read, the windows do not fit it, or the picture cannot be
            written; then nothing is.
    """
    others = ("stride", "dilation", "padding")
    spec = WindowSpec(config.window, **{n: _one_or_each(getattr(config, n)) for n in others})
    opened = config.data.open(config.file)
    lines = describe_patches(patch_summary(opened, spec))
    if config.costs is not None:
        lines += "\n\n" + _costs(config.costs, config.backbone, opened, spec)
    if config.output is not None:
        _write(draw_patches(opened, spec), config.output)
        lines += f"\n{'picture':16}{config.output}"
    return lines


def _one_or_each(values: Sequence[Any] | None) -> Any:
    return values[0] if values is not None and len(values) == 1 else values


def _costs(times: int, name: str, field: xr.DataArray, spec: WindowSpec) -> str:
    """A table of what the windows and those near them cost; the windows asked for are marked."""
    check_range("--costs, the time steps of an example,", times, 1, len(field))
    backbones = windowed_backbones()
    check_choice("--backbone", name, sorted(backbones))
    backbone = backbones[name].base
    shape, channels = (times, *field.shape[1:-1]), field.shape[-1]
    window = spec.window_shape(shape)
    stride = (step or cells for step, cells in zip(spec.stride, window, strict=True))
    spec = spec.replace(window=window, stride=tuple(stride))
    asked = window_cost(shape, spec, backbone, channels=channels, memory=True)
    specs = dict.fromkeys([spec, *nearby_windows(spec, shape)])
    costs = window_costs(shape, specs, backbone, channels=channels)
    memory = "" if asked.memory is None else f", {binary(asked.memory)} of memory on this platform"
    grid = product(asked.grid)
    lines = [
        f"{name} with {product(asked.spec.window)}: {asked.patches:,} tokens ({grid}), "
        f"{asked.parameters:,} parameters, {_amount(asked.flops)}FLOP a gradient of one example"
        f"{memory}",
        "",
        f"{'window':>16} {'stride':>14} {'patches':>9} {'bytes':>10} {'parameters':>12} "
        f"{'FLOP':>8} {'relative':>9}",
    ]
    for cost in costs:
        mark = " <" if cost.spec == asked.spec else ""
        relative = cost.flops / asked.flops if asked.flops else 1.0
        lines.append(
            f"{product(cost.spec.window):>16} {product(cost.spec.stride):>14} {cost.patches:>9,} "
            f"{binary(cost.patch_bytes):>10} {cost.parameters:>12,} {_amount(cost.flops):>8} "
            f"{relative:>9.2f}{mark}"
        )
    return "\n".join(lines)


def _amount(number: int) -> str:
    """A large number with the letter of its power of a thousand."""
    value = float(number)
    for letter in ("", "k", "M", "G", "T"):
        if value < 1000:
            return f"{value:.3g} {letter}"
        value /= 1000
    return f"{value:.3g} P"


def _write(figure: Figure, path: Path) -> None:
    kinds = figure.canvas.get_supported_filetypes()
    require(
        path.suffix[1:].lower() in kinds,
        f"the picture must be a file of one of the types {', '.join(sorted(kinds))}, got "
        f"{path.name}; name it patches.png",
    )
    with replaced(path) as part:
        figure.savefig(part, dpi=_DPI)
