"""How fast is `fold_patches` beside other ways to add windows back into a field?

    python -m benchmarks.fold_patches [half image] [--small] [--repeats 25] [--full]

All functions of a case are timed in turn in one process; times are medians, compile time stands
apart. Sums of whole numbers are exact in float32, and every result is compared with NumPy's before
it is timed. `lax gradient` is the input gradient of `lax.conv_general_dilated_patches`, a grouped
transposed convolution with an identity kernel; `conv_transpose` is the same kernel in
`lax.conv_transpose` with the channels in the batch. Every peer gets its patches in its own order;
`torch, our order` starts from ours. To add a device, run this on it, commit
`benchmarks/results/fold_patches-DEVICE.json` and run `python -m benchmarks.tables`.
"""

import functools
import math
from collections.abc import Callable, Collection
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from benchmarks.cases import (
    RAW_GRADIENT_MINUTES,
    Case,
    Measurement,
    as_float32,
    folded_by_numpy,
    on_one_thread,
    peer,
    raw_patches,
    run,
    to_torch,
    windows_by_numpy,
)
from benchmarks.timing import Answer, Call, compiled, interleaved
from stpatch_jax import fold_patches

DTYPES = ("float32", "bfloat16")
# A function, and the patches in the order it wants.
Given = tuple[Callable[[Any], Any], np.ndarray]


def our_functions(case: Case, patches: np.ndarray) -> dict[str, Given]:
    """The sum, the mean and a blended mean."""
    fold = functools.partial(fold_patches, spec=case.spec, shape=case.field)
    return {
        "sum": (lambda p: fold(p, reduce="sum"), patches),
        "mean": (lambda p: fold(p, reduce="mean"), patches),
        "hann mean": (lambda p: fold(p, reduce="mean", blend="hann"), patches),
    }


def transposed_convolutions(case: Case, patches: np.ndarray) -> dict[str, Given]:
    """The two ways to fold by a convolution, on `(batch, *grid, channel, *window)` patches."""
    rank, samples = len(case.window), math.prod(case.window)
    major = np.moveaxis(patches, -1, -1 - rank)
    field = jax.ShapeDtypeStruct(case.shape, patches.dtype)
    axes = "THWD"[:rank]

    def lax_gradient(p: jax.Array) -> jax.Array:
        return jax.linear_transpose(lambda x: raw_patches(x, case), field)(p)[0]

    def conv_transpose(p: jax.Array) -> jax.Array:
        # lax.conv_transpose correlates: the window runs backwards in the kernel.
        kernel = jnp.eye(samples, dtype=p.dtype)[::-1].reshape(*case.window, 1, samples)
        numbers = (f"N{axes}C", f"{axes}OI", f"N{axes}C")
        return lax.conv_transpose(
            p, kernel, strides=case.stride, padding="VALID", dimension_numbers=numbers
        )

    in_batch = np.moveaxis(major, 1 + rank, 1).reshape(-1, *case.grid, samples)
    return {
        "lax gradient": (lax_gradient, major.reshape(case.shape[0], *case.grid, -1)),
        "conv_transpose": (conv_transpose, np.ascontiguousarray(in_batch)),
    }


def columns(case: Case, patches: np.ndarray) -> np.ndarray:
    """Patches as `(batch, channel * window, grid)`, the order of torch and Keras."""
    rank = len(case.window)
    order = (0, 2 * rank + 1, *range(rank + 1, 2 * rank + 1), *range(1, rank + 1))
    return np.ascontiguousarray(patches.transpose(order)).reshape(
        case.shape[0], -1, math.prod(case.grid)
    )


def flat(case: Case) -> dict[str, Any]:
    """The sizes of a case of at most two axes, as torch and Keras name them."""
    sizes = {"output_size": case.field, "kernel_size": case.window, "stride": case.stride}
    return {name: (1,) * (2 - len(size)) + size for name, size in sizes.items()}


def keras_fold(case: Case, patches: np.ndarray) -> dict[str, Given]:
    """`keras.ops.fold`, for windows of at most two axes."""
    if len(case.window) > 2 or not (keras := peer("keras")):
        return {}
    return {"keras": (lambda p: keras.ops.fold(p, **flat(case)), columns(case, patches))}


def torch_folds(case: Case, patches: np.ndarray) -> dict[str, Call]:
    """`torch.nn.functional.fold` on its own order, and from our order to ours."""
    if len(case.window) > 2 or jax.default_backend() != "cpu" or not (torch := peer("torch")):
        return {}
    fold, sizes, rank = torch.nn.functional.fold, flat(case), len(case.window)
    own, ours = to_torch(torch, columns(case, patches)), to_torch(torch, patches)
    order = (0, 2 * rank + 1, *range(rank + 1, 2 * rank + 1), *range(1, rank + 1))
    count = math.prod(case.grid)

    def from_ours() -> Any:
        folded = fold(ours.permute(order).reshape(case.shape[0], -1, count), **sizes)
        return folded.movedim(1, -1).contiguous()

    calls: dict[str, Call] = {"torch": lambda: fold(own, **sizes), "torch, our order": from_ours}
    return calls | {f"{name}, 1 thread": on_one_thread(torch, call) for name, call in calls.items()}


def left_out(what: str, name: str, case: str, dtype: str) -> str | None:
    """Why a peer is not measured here unless `--full`, or None."""
    del what
    if name == "lax gradient" and case in RAW_GRADIENT_MINUTES:
        return "takes minutes a call"
    if name == "conv_transpose" and case == "half":
        return "takes over a minute a call"
    if name in ("lax gradient", "conv_transpose") and dtype != "float32":
        return "measured in float32 only"
    return None


def channels_last(name: str, result: Any, case: Case) -> np.ndarray:
    """The result of a function as `(batch, time, *space, channel)`."""
    values, channels = as_float32(result), case.shape[-1]
    if name in ("keras", "torch", "torch, 1 thread"):
        values = np.moveaxis(values, 1, -1)
    elif name == "conv_transpose":
        values = np.moveaxis(values.reshape(case.shape[0], channels, *case.field), 1, -1)
    return values.reshape(case.shape)


def fold(case: Case, dtype: str, skipped: Collection[str], *, repeats: int) -> Answer:
    """Times the folds of one case; refuses results that are not the reference's."""
    plain, x = case.plain(), case.values(dtype)
    patches = windows_by_numpy(x, case)
    same = patches.reshape(plain.patches_shape)
    given = our_functions(case, patches) | transposed_convolutions(plain, same)
    given |= keras_fold(plain, same) | {"copy": (jnp.copy, patches)}
    calls: dict[str, Call] = {}
    compile_s: dict[str, float] = {}
    for name, (function, values) in given.items():
        if name not in skipped:
            calls[name], compile_s[name] = compiled(function, jnp.asarray(values))
    calls |= torch_folds(plain, same)
    total = folded_by_numpy(patches, case)
    count = folded_by_numpy(np.ones_like(patches), case)
    # Sums of whole numbers are exact in float32; bfloat16 rounds every partial sum of a peer.
    tolerance = 1e-6 if dtype == "float32" else 0.05

    def check(name: str, result: Any) -> None:
        if name != "copy":
            got = channels_last(name, result, plain).reshape(case.shape)
            expected = np.where(count > 0, x.astype(np.float64), 0) if "mean" in name else total
            np.testing.assert_allclose(got, expected, rtol=tolerance, atol=1e-4, err_msg=name)

    timings = interleaved(calls, repeats=repeats, check=check)
    return {"ms": timings, "compile_s": compile_s, "bytes": patches.nbytes + x.nbytes}


MEASUREMENTS = {
    "fold": Measurement("sum", lambda case, dtype: ("lax gradient", "conv_transpose"), fold)
}

if __name__ == "__main__":
    run("fold_patches", __doc__ or "", DTYPES, MEASUREMENTS, left_out)
