"""What windows cost before anything is trained: patches, parameters, arithmetic, memory."""

import dataclasses
import itertools
import math
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

import stpatch_jax.nn
from stpatch_jax.errors import InputError, check_choice
from stpatch_jax.flops import compiled_bytes, gradient_flops
from stpatch_jax.nn.layers import BackboneConfig
from stpatch_jax.on_demand import load_all
from stpatch_jax.patches.extraction import Spec
from stpatch_jax.patches.windows import OPEN, WindowSpec

SIZES = ("tiny", "base", "large")


def windowed_backbones() -> dict[str, type[BackboneConfig]]:
    """The configs of all backbones whose windows can be chosen, by name, a user's own included.

    >>> [name for name in sorted(windowed_backbones()) if name.startswith("p")]
    ['patch_cnn', 'patch_transformer']
    """
    load_all(stpatch_jax.nn)
    return {
        re.sub(r"(?<=[a-z])(?=[A-Z])", "_", kind.__name__.removesuffix("Config")).lower(): kind
        for kind in _subclasses(BackboneConfig)
        if "spec" in {field.name for field in dataclasses.fields(kind)}
    }


def backbone_by_name(named: str) -> BackboneConfig:
    """The settings of a backbone by its name and size, NAME or NAME:SIZE.

    Windows are open but of a published size, such as `patch_transformer:vit_l`, which has its own.

    >>> backbone_by_name("patch_transformer:tiny").features
    16
    >>> backbone_by_name("patch_transformer:vit_l").spec.window
    (2, 16, 16)
    """
    name, _, size = named.partition(":")
    backbones = windowed_backbones()
    check_choice("the model", name, sorted(backbones))
    kind = backbones[name]
    check_choice("the size of a model", size or "base", (*SIZES, *kind.published))
    if size in kind.published:
        return kind(**kind.published[size])
    return getattr(kind, size or "base")(OPEN)


def _subclasses(kind: type[BackboneConfig]) -> Iterator[type[BackboneConfig]]:
    for child in kind.__subclasses__():
        yield child
        yield from _subclasses(child)


@dataclasses.dataclass(frozen=True)
class WindowCost:
    """What one window costs.

    Attributes:
        spec: The windows.
        grid: Patches along (time, *space).
        values_per_patch: Cells times channels of a window.
        patch_bytes: Of the patches of one example in float32.
        parameters: Of the backbone.
        flops: Of one gradient of the backbone's output, for one example: the multiplications and
            additions of matrix products and convolutions.
        memory: Bytes that the compiled gradient needs on one device of this platform, weights and
            example included; None where it was not compiled.
    """

    spec: WindowSpec
    grid: tuple[int, ...]
    values_per_patch: int
    patch_bytes: int
    parameters: int
    flops: int
    memory: int | None = None

    @property
    def patches(self) -> int:
        """Number of patches, which are the tokens of a transformer."""
        return math.prod(self.grid)


def window_cost(
    shape: Sequence[int],
    spec: Spec,
    backbone: Callable[[WindowSpec], BackboneConfig],
    *,
    channels: int = 1,
    memory: bool = False,
) -> WindowCost:
    """Counts what a backbone with one window costs on one example; nothing is computed.

    Args:
        shape: `(time, *space)` of an example.
        spec: The windows.
        backbone: Config of the backbone for given windows, such as `PatchTransformerConfig.base`.
        channels: Input channels.
        memory: Whether to compile the gradient and ask the compiler for its memory, which takes
            seconds.

    Examples:
        >>> from stpatch_jax.nn import PatchTransformerConfig
        >>> cost = window_cost((8, 16, 16), (2, 8, 8), PatchTransformerConfig.tiny)
        >>> cost.patches, cost.values_per_patch, cost.parameters
        (16, 128, 6544)
    """
    spec, shape = WindowSpec.of(spec), tuple(shape)
    config = backbone(spec)
    model: Any = nnx.eval_shape(lambda: config.build(channels, shape=shape, rngs=nnx.Rngs(0)))
    x = jax.ShapeDtypeStruct((1, *shape, channels), jnp.float32)
    grid = spec.grid_shape(shape)
    values = math.prod(spec.window_shape(shape)) * channels
    peak = None
    if memory:
        gradient = nnx.jit(nnx.grad(lambda model, x: _total(model, x)[0]))
        peak = compiled_bytes(gradient.lower(model, x).compile())
    parameters = sum(leaf.size for leaf in jax.tree.leaves(nnx.state(model, nnx.Param)))
    flops, patch_bytes = gradient_flops(_total, model, x), 4 * math.prod(grid) * values
    return WindowCost(spec, grid, values, patch_bytes, parameters, flops, peak)


def _total(model: Any, x: jax.Array) -> tuple[jax.Array, dict[str, Any]]:
    """A loss that every feature takes part in."""
    return jnp.sum(model(x).astype(jnp.float32)), {}


def window_costs(
    shape: Sequence[int],
    specs: Iterable[Spec],
    backbone: Callable[[WindowSpec], BackboneConfig],
    *,
    channels: int = 1,
) -> list[WindowCost]:
    """Lists windows and strides by what they cost a backbone, the cheapest first.

    Sorted by FLOPs, then by the bytes of the patches. Windows, such as `nearby_windows` gives, that
    do not fit the example or the backbone are left out. The other arguments are `window_cost`'s.

    Examples:
        >>> from stpatch_jax.nn import PatchTransformerConfig
        >>> costs = window_costs((8, 16), [(2, 2), (4, 4), (8, 32)], PatchTransformerConfig.tiny)
        >>> [cost.spec.window for cost in costs]
        [(4, 4), (2, 2)]
    """
    costs = []
    for spec in specs:
        try:
            costs.append(window_cost(shape, spec, backbone, channels=channels))
        except InputError:
            continue
    return sorted(costs, key=lambda cost: (cost.flops, cost.patch_bytes))


def nearby_windows(spec: WindowSpec, shape: Sequence[int]) -> list[WindowSpec]:
    """Windows of half, the same and twice the extent, in time and in space.

    Each once, with strides of a whole window and of half of it. Dilation and padding stay; windows
    longer than an example, of shape `(time, *space)`, are left out.

    Examples:
        >>> near = nearby_windows(WindowSpec((4,)), (8,))
        >>> [(s.window, s.stride) for s in near]
        [((2,), (2,)), ((2,), (1,)), ((4,), (4,)), ((4,), (2,)), ((8,), (8,)), ((8,), (4,))]
    """
    window = spec.window_shape(shape)
    specs: dict[WindowSpec, None] = {}
    factors = (0.5, 1, 2)
    for in_time, in_space in itertools.product(factors, factors if len(window) > 1 else (1,)):
        scales = (in_time, *[in_space] * (len(window) - 1))
        cells = [max(1, int(n * scale)) for n, scale in zip(window, scales, strict=True)]
        if any(n > size for n, size in zip(cells, shape, strict=True)):
            continue
        for stride in (cells, [max(1, n // 2) for n in cells]):
            specs[spec.replace(window=tuple(cells), stride=tuple(stride))] = None
    return list(specs)
