"""How fast is `extract_patches`, and its gradient, beside other ways to cut windows?

    python -m benchmarks.extract_patches [half series] [--small] [--repeats 25] [--full]

All functions of a case are timed in turn in one process; times are medians, compile time stands
apart. Every result is compared with NumPy's before it is timed. To add a device, run the whole of
this on it (a run of some cases writes only where `--results` says), commit
`benchmarks/results/extract_patches-DEVICE.json` and run `python -m benchmarks.tables` for the
pages. Peers that are not installed are left out; peers that run on the host (NumPy, torch,
kornia) are measured on the CPU only.
"""

from collections.abc import Callable, Collection
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

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
from stpatch_jax import extract_patches

DTYPES = ("float32", "bfloat16", "uint8")
LOWERINGS = ("conv", "blocks", "gather", "reshape")
Function = Callable[[Any], Any]


def windows_by_torch(x: Any, case: Case) -> Any:
    """`Tensor.unfold` per axis, permuted to our order and copied."""
    first = x.ndim - 1 - len(case.window)
    for position, (window, stride) in enumerate(zip(case.window, case.stride, strict=True)):
        x = x.unfold(first + position, window, stride)
    return x.movedim(first + len(case.window), -1).contiguous()


def jax_functions(case: Case) -> dict[str, Function]:
    """Ours and the peers on JAX, each a function of the field; results in their own order."""
    plain, spec = case.plain(), case.spec
    functions: dict[str, Function] = {"auto": lambda x: extract_patches(x, spec)}
    for name in LOWERINGS:
        if name != "reshape" or case.window == case.stride:
            functions[name] = lambda x, name=name: extract_patches(x, spec, lowering=name)
    functions["raw lax"] = lambda x: raw_patches(x.reshape(plain.shape), plain)
    if dm_pix := peer("dm_pix"):
        ones = (1,) * (len(plain.window) + 2)
        sizes, strides = (1, *plain.window, 1), (1, *plain.stride, 1)
        functions["dm_pix"] = lambda x: dm_pix.extract_patches(
            x.reshape(plain.shape), sizes, strides, ones
        )
    rank = len(plain.window)
    if rank in (2, 3) and (keras := peer("keras")):
        cut = keras.ops.image.extract_patches_3d if rank == 3 else keras.ops.image.extract_patches
        functions["keras"] = lambda x: cut(x.reshape(plain.shape), plain.window, plain.stride)
    return functions


def host_functions(case: Case, values: np.ndarray) -> dict[str, Call]:
    """The peers on the host, on data that already lies in the layout they want."""
    plain = case.plain()
    functions: dict[str, Call] = {"numpy": lambda: windows_by_numpy(values, case)}
    if torch := peer("torch"):
        field = to_torch(torch, values)
        functions["torch"] = lambda: windows_by_torch(field, case)
        functions["torch, 1 thread"] = on_one_thread(torch, functions["torch"])
    if len(plain.window) == 2 and torch and (kornia := peer("kornia")):
        images = to_torch(torch, values.reshape(plain.shape)).movedim(-1, 1).contiguous()
        cut = kornia.contrib.extract_tensor_patches
        functions["kornia"] = lambda: cut(images, plain.window, plain.stride).contiguous()
    return functions


def in_our_order(name: str, result: Any, case: Case) -> np.ndarray:
    """The result of a function as `(*batch, *grid, *window, channel)`."""
    values, channels = as_float32(result), case.shape[-1]
    if name == "raw lax":
        values = values.reshape(*values.shape[:-1], channels, -1).swapaxes(-1, -2)
    elif name == "kornia":
        values = np.moveaxis(values, 2, -1)
    return values.reshape(case.patches_shape)


def left_out(what: str, name: str, case: str, dtype: str) -> str | None:
    """Why a peer is not measured here unless `--full`, or None."""
    if what == "gradient" and name == "raw lax":
        if case in RAW_GRADIENT_MINUTES:
            return "takes minutes a call"
        return "measured in float32 only" if dtype != "float32" else None
    if name == "conv" and case == "volume":
        return "a convolution over four axes takes minutes a call"
    slow = what == "forward" and dtype == "uint8" and case in ("volume", "wide")
    if slow and name in ("dm_pix", "keras"):
        return "the same convolution as the lax op, which takes a minute a call"
    return None


def forward(case: Case, dtype: str, skipped: Collection[str], *, repeats: int) -> Answer:
    """Times extraction; refuses results that are not the reference's."""
    functions = {name: f for name, f in jax_functions(case).items() if name not in skipped}
    values = case.values(dtype)
    reference = windows_by_numpy(values, case)
    arguments = dict.fromkeys(functions, jnp.asarray(values))
    arguments["copy"] = jnp.asarray(reference)
    calls: dict[str, Call] = {}
    compile_s: dict[str, float] = {}
    for name, function in {**functions, "copy": jnp.copy}.items():
        calls[name], compile_s[name] = compiled(function, arguments[name])
    if jax.default_backend() == "cpu":
        calls |= host_functions(case, values)
    errors: dict[str, float] = {}

    def check(name: str, result: Any) -> None:
        difference = in_our_order(name, result, case) - reference.astype(np.float32)
        errors[name] = float(np.abs(difference).max())
        # On accelerators the lax operator and what stands on it round at default precision.
        rounds = name in ("raw lax", "dm_pix", "keras") and jax.default_backend() != "cpu"
        if errors[name] and not rounds:
            raise RuntimeError(f"{name} differs from NumPy by {errors[name]} for {case} in {dtype}")

    timings = interleaved(calls, repeats=repeats, check=check)
    moved = values.nbytes + reference.nbytes
    return {"ms": timings, "compile_s": compile_s, "max_error": errors, "bytes": moved}


def gradient(case: Case, dtype: str, skipped: Collection[str], *, repeats: int) -> Answer:
    """Times the input gradient for a given cotangent; whole numbers make float32 sums exact."""
    functions = jax_functions(case)
    functions = {name: functions[name] for name in ("auto", "raw lax") if name not in skipped}
    x = jnp.asarray(case.values(dtype))
    reference = windows_by_numpy(case.values(dtype), case)
    calls: dict[str, Call] = {}
    compile_s: dict[str, float] = {}
    for name, function in functions.items():
        cotangent = jnp.asarray(reference)
        if name == "raw lax":
            cotangent = jnp.moveaxis(cotangent, -1, -1 - len(case.window))
            cotangent = cotangent.reshape(jax.eval_shape(function, x).shape)
        calls[name], compile_s[name] = compiled(
            lambda x, given, function=function: jax.vjp(function, x)[1](given)[0], x, cotangent
        )
    calls["copy"], compile_s["copy"] = compiled(jnp.copy, jnp.asarray(reference))
    if jax.default_backend() == "cpu" and (torch := peer("torch")):
        field = to_torch(torch, case.values(dtype)).requires_grad_()
        cut, given = windows_by_torch(field, case), to_torch(torch, reference)
        calls["torch"] = lambda: torch.autograd.grad(cut, field, given, retain_graph=True)[0]
        calls["torch, 1 thread"] = on_one_thread(torch, calls["torch"])
    expected = folded_by_numpy(reference, case)

    def check(name: str, result: Any) -> None:
        if name != "copy":
            got = as_float32(result).reshape(case.shape)
            tolerance = 0.0 if dtype == "float32" and jax.default_backend() == "cpu" else 0.05
            np.testing.assert_allclose(got, expected, rtol=tolerance, err_msg=name)

    timings = interleaved(calls, repeats=repeats, check=check)
    return {"ms": timings, "compile_s": compile_s, "bytes": x.nbytes + reference.nbytes}


MEASUREMENTS = {
    "forward": Measurement("auto", lambda case, dtype: jax_functions(case), forward),
    "gradient": Measurement(
        "auto", lambda case, dtype: None if dtype == "uint8" else ("auto", "raw lax"), gradient
    ),
}

if __name__ == "__main__":
    run("extract_patches", __doc__ or "", DTYPES, MEASUREMENTS, left_out)
