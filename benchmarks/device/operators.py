"""What the patch operators do on a device: exactness, speed beside a copy, fields in tiles."""

import dataclasses
import functools
import itertools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.cases import (
    CASES,
    SMALL_CASES,
    Case,
    folded_by_numpy,
    raw_patches,
    to_torch,
    windows_by_numpy,
)
from benchmarks.compiled import programs
from benchmarks.device.programs import (
    Given,
    Items,
    OfTorch,
    Programs,
    different,
    failing,
    held,
    torch_on_device,
)
from benchmarks.extract_patches import windows_by_torch
from benchmarks.sliding_window import by_convolve
from benchmarks.timing import Answer, interleaved
from stpatch_jax import WindowSpec, extract_patches, fold_patches
from stpatch_jax.inference.sliding_window import memory_plan, sliding_window_apply
from stpatch_jax.testing import reference_extract_patches, reference_fold_patches

# What an operator moves: far more than any cache holds.
MOVED = 2**30

# --- exactness

EXACT_DTYPES = ("float32", "bfloat16", "float16", "int32", "uint8")
EXACT_SPECS = {
    "overlapping": WindowSpec((3, 8, 8), stride=(1, 4, 4)),
    "padded": WindowSpec(
        (2, 3, 5),
        stride=(1, 2, 3),
        dilation=(1, 2, 1),
        padding=("CAUSAL", "SAME", "FLUSH"),
        padding_mode=("edge", "reflect", "constant"),
    ),
    "tiled": WindowSpec((2, 8, 8)),
}
FIELD = (2, 6, 24, 32, 3)
SUMS = {"float32": 2**20, "bfloat16": 200, "float16": 200, "int32": 2**20}
"""Up to where the whole numbers go whose sums are compared: no sum in float32 is rounded."""


def exactness(small: bool) -> Items:
    """Every lowering bit for bit, the input gradient and the fold, against NumPy."""
    dtypes = EXACT_DTYPES[:1] if small else EXACT_DTYPES
    for dtype in dtypes:
        yield f"copies, {dtype}", functools.partial(copies, dtype)
    for dtype in dtypes:
        if dtype in SUMS:
            yield f"sums, {dtype}", functools.partial(sums, dtype)


def hard_values(dtype: str) -> np.ndarray:
    """Random bits (any NaN, subnormals, infinities) and numbers that rounding loses."""
    rng = np.random.default_rng(0)
    kind = jnp.dtype(dtype)
    values = np.frombuffer(rng.bytes(int(np.prod(FIELD)) * kind.itemsize), kind).copy()
    if jnp.issubdtype(kind, jnp.floating):
        planted = [-0.0, 2.0**11 + 1, 2.0**24 - 1, float(jnp.finfo(kind).smallest_subnormal)]
        with np.errstate(over="ignore"):  # to infinity, in float16
            values[: len(planted)] = np.asarray(planted, np.float64).astype(kind)
    return values.reshape(FIELD)


def copies(dtype: str) -> Answer:
    """Numbers that come out with other bits, per kind of windows and lowering."""
    x, references = hard_values(dtype), {}
    given: dict[str, Given] = {}
    for name, spec in EXACT_SPECS.items():
        references[name] = reference_extract_patches(x, spec)
        for lowering in ("auto", "conv", "blocks", "gather", "reshape"):
            if lowering != "reshape" or name == "tiled":
                cut = functools.partial(extract_patches, spec=spec, lowering=lowering)
                given[f"{name}, {lowering}"] = cut, (jnp.asarray(x),)
    made = Programs.of(given)
    wrong: dict[str, int] = {}
    for name, call in made.calls.items():
        with failing(made.errors, name):
            wrong[name] = different(call(), references[name.partition(",")[0]])
    return {"numbers": x.size, "different": wrong, "errors": made.errors}


def sums(dtype: str) -> Answer:
    """The same for the gradient and the fold, whose float32 sums here need no rounding.

    Shorter floats are summed in float32 and rounded once. Tells too what their programs hold that
    copies and ordered sums need not, and whether a second run gives the same bits.
    """
    rng, whole = np.random.default_rng(1), jnp.dtype(dtype)
    x = jnp.asarray(rng.integers(0, 9, FIELD).astype(whole))
    given: dict[str, Given] = {}
    references: dict[str, np.ndarray] = {}
    for name, spec in EXACT_SPECS.items():
        shape = jax.eval_shape(functools.partial(extract_patches, spec=spec), x).shape
        patches = rng.integers(-SUMS[dtype], SUMS[dtype] + 1, shape).astype(whole)
        references[name] = reference_fold_patches(patches, spec, FIELD[1:-1]).astype(whole)
        fold = functools.partial(fold_patches, spec=spec, shape=FIELD[1:-1], reduce="sum")
        given[f"{name}, fold"] = fold, (jnp.asarray(patches),)
        if jnp.issubdtype(whole, jnp.floating):
            given[f"{name}, gradient"] = gradient_of(spec), (x, jnp.asarray(patches))
    made = Programs.of(given)
    wrong, again, holds = {}, {}, {}
    for name, call in made.calls.items():
        with failing(made.errors, name):
            first = np.asarray(call())
            wrong[name] = different(first, references[name.partition(",")[0]])
            again[name] = different(call(), first)
            text = made.programs[name].as_text()
            holds[name] = [op for op in ("scatter", "dot", "convolution") if f" {op}(" in text]
    answer = {"different": wrong, "different_again": again, "holds": holds}
    return {"numbers": x.size, **answer, "errors": made.errors}


def gradient_of(spec: WindowSpec) -> Callable[[jax.Array, jax.Array], jax.Array]:
    """The input gradient for given cotangents of the patches."""
    return lambda x, given: jax.vjp(lambda x: extract_patches(x, spec), x)[1](given)[0]


# --- operators


def operators(small: bool) -> Items:
    """Cutting, its gradient and folding beside a copy of as many bytes."""
    for dtype, (name, case) in itertools.product(("float32", "bfloat16", "uint8"), cases(small)):
        yield f"{name}, {dtype}", functools.partial(operator, case, dtype)


def raw(small: bool) -> Items:
    """The lax operator by itself, as long as it takes."""
    for name, case in cases(small):
        yield f"{name}, float32", functools.partial(raw_operator, case)


def cases(small: bool) -> list[tuple[str, Case]]:
    """The cases of `benchmarks.cases` with batches that no cache holds."""
    if small:
        return [*SMALL_CASES.items()][:2]
    return [(name, many(case)) for name, case in CASES.items()]


def many(case: Case) -> Case:
    """The case with so many examples that an operator moves about `MOVED` bytes in float32."""
    numbers = int(np.prod(case.shape)) + int(np.prod(case.patches_shape))
    batch = case.shape[0] * max(1, round(MOVED / 4 / numbers))
    return dataclasses.replace(case, shape=(batch, *case.shape[1:]))


def field_and_patches(case: Case, dtype: str) -> tuple[jax.Array, np.ndarray, jax.Array]:
    """A field of equal examples, the patches of one by NumPy, and those of all."""
    one = dataclasses.replace(case, shape=(1, *case.shape[1:]))
    field = one.values(dtype)
    patches = windows_by_numpy(field, one)
    x, all_patches = (jnp.repeat(jnp.asarray(y), case.shape[0], axis=0) for y in (field, patches))
    return x, patches, all_patches


def operator(case: Case, dtype: str) -> Answer:
    """Every lowering, tokens, gradient and fold of one case, checked and timed."""
    one = dataclasses.replace(case, shape=(1, *case.shape[1:]))
    x, cut, patches = field_and_patches(case, dtype)
    spec, copied = case.spec, (x.size + patches.size) // 2
    tiled = case.window == case.stride
    grid = (case.shape[0], *case.grid)
    fold = functools.partial(fold_patches, spec=spec, shape=case.field, reduce="sum")
    given: dict[str, Given] = {
        "auto": (lambda x: extract_patches(x, spec), (x,)),
        "copy": (jnp.copy, (patches.ravel()[:copied],)),
        "tokens": (lambda x: extract_patches(x, spec).reshape(*grid, -1), (x,)),
        "fold": (fold, (patches,)),
    }
    for lowering in ("reshape",) if tiled else ("blocks", "gather"):
        cutting = functools.partial(extract_patches, spec=spec, lowering=lowering)
        given[lowering] = cutting, (x,)
    if dtype != "uint8":
        given["gradient"] = gradient_of(spec), (x, patches)
    made = Programs.of(given)
    total = folded_by_numpy(cut, one).astype(jnp.dtype(dtype)) if dtype != "uint8" else None
    wrong: dict[str, int] = {}

    def check(name: str, result: Any) -> None:
        expected = total if name in ("fold", "gradient") else cut
        if name != "copy" and expected is not None:
            ends = (np.asarray(result[at]).reshape(expected[0].shape) for at in (0, -1))
            wrong[name] = sum(different(end, expected[0]) for end in ends)

    if there := torch_on_device():
        torch, device = there
        given_torch = to_torch(torch, np.array(x)).to(device)
        made.calls["torch"] = lambda: OfTorch(torch, windows_by_torch(given_torch, case))
    return {"moved": x.nbytes + patches.nbytes, "different": wrong, **made.timed(check=check)}


def raw_operator(case: Case) -> Answer:
    """`lax.conv_general_dilated_patches` as it stands, which rounds where the device does."""
    plain = case.plain()
    x, _, patches = field_and_patches(case, "float32")
    made = Programs.of(
        {"raw lax": (functools.partial(raw_patches, case=plain), (x.reshape(plain.shape),))}
    )
    return {"moved": x.nbytes + patches.nbytes, **made.timed(repeats=3)}


def embeddings(small: bool) -> Items:
    """Patches times a matrix, as networks embed them and by each of the ways there are."""
    named = dict(cases(small)).items()
    for dtype, (name, case) in itertools.product(("bfloat16", "float32"), named):
        if small or name in ("tubelet", "half", "image", "series"):
            yield f"{name}, {dtype}", functools.partial(embedding, case, dtype)


def embedding(case: Case, dtype: str) -> Answer:
    """The embedding of networks beside patches times the matrix and the strided convolution."""
    ways = programs(case, dtype)
    keys = jax.random.split(jax.random.key(0))
    x, kernel = (
        jax.random.normal(key, leaf.shape, leaf.dtype)
        for key, leaf in zip(keys, ways["embedding"][1], strict=True)
    )
    cut = ways["tokens"][0]
    given = {name: (ways[name][0], (x, kernel)) for name in ("embedding", "convolution")}
    given["matrix"] = lambda x, k: cut(x) @ k.reshape(-1, k.shape[-1]), (x, kernel)
    return Programs.of(given).timed()


# --- tiles


def tiles(small: bool) -> Items:
    """A small network over a volume by windows that overlap by half."""
    cells, window = (24, 8) if small else (160, 64)
    for large in (32,) if small else (256, 512):
        yield f"{large} cells", functools.partial(tiled, large, window)
    # Last: it holds all windows at once, and the peak of the others would not be seen.
    yield "one call", functools.partial(tiles_beside_one_call, cells, window)


def volume(cells: int) -> jax.Array:
    """Random numbers `(cells, cells, cells, 1)`."""
    return jax.random.normal(jax.random.key(0), (cells, cells, cells, 1))


def tiles_beside_one_call(cells: int, window: int) -> Answer:
    """The largest difference from the same windows in one call, and numbers that a copy changes."""
    x, spec = volume(cells), WindowSpec((window,) * 3, stride=window // 2, padding="COVER")
    at_once = jax.jit(
        lambda x: fold_patches(
            by_convolve(extract_patches(x, spec).reshape(-1, *spec.window, 1)).reshape(
                *spec.grid_shape(x.shape[:-1]), *spec.window, 1
            ),
            spec,
            x.shape[:-1],
            blend="hann",
        )
    )
    run = functools.partial(sliding_window_apply, x=x, spec=spec)
    expected = np.asarray(at_once(x))
    difference = np.abs(np.asarray(run(jax.tree_util.Partial(by_convolve))) - expected).max()
    copied = run(jax.tree_util.Partial(jnp.copy))
    return {
        "largest_difference": float(difference),
        "largest_value": float(np.abs(expected).max()),
        "copied_differently": different(copied, np.asarray(x)),
    }


def tiled(cells: int, window: int) -> Answer:
    """Cells a second with a network and with a copy in its place; memory by plan and by device."""
    before = held()
    x, spec = volume(cells), WindowSpec((window,) * 3, stride=window // 2, padding="COVER")
    plan = memory_plan(by_convolve, x, spec)
    networks = {"copy": jnp.copy, "network": by_convolve}
    calls = {
        # These hold nothing that changes: no need to trace them at every call.
        name: functools.partial(sliding_window_apply, jax.tree_util.Partial(network), x, spec)
        for name, network in networks.items()
    }
    for call in calls.values():
        jax.block_until_ready(call())
    answer: Answer = {"ms": interleaved(calls, repeats=3, slow_s=10)}
    for timing in answer["ms"].values():
        timing["cells_per_s"] = 1e3 * cells**3 / timing["ms"]
    answer |= {"batch_size": plan.batch_size, "memory_bytes": plan.total}
    return answer | ({"peak_bytes": held()} if held() > before else {})


PARTS = {
    "exactness": exactness,
    "operators": operators,
    "embeddings": embeddings,
    "tiles": tiles,
    "raw": raw,
}
