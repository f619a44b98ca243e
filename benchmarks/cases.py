"""The fields and windows that the benchmarks measure, and what both scripts need of them."""

import dataclasses
import functools
import importlib
import itertools
import math
import os
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from benchmarks.arguments import arguments
from benchmarks.timing import Answer, Call, print_case, print_summary, ratios, write_results
from stpatch_jax import WindowSpec


@dataclass(frozen=True)
class Case:
    """A field `(*batch, time, *space, channel)` and the windows cut from it."""

    shape: tuple[int, ...]
    window: tuple[int, ...]
    stride: tuple[int, ...]

    @property
    def spec(self) -> WindowSpec:
        """The windows as the library takes them."""
        return WindowSpec(self.window, stride=self.stride)

    @property
    def field(self) -> tuple[int, ...]:
        """Extent `(time, *space)`."""
        return self.shape[-1 - len(self.window) : -1]

    @property
    def grid(self) -> tuple[int, ...]:
        """Extent of the patch grid."""
        return self.spec.grid_shape(self.field)

    @property
    def patches_shape(self) -> tuple[int, ...]:
        """`(*batch, *grid, *window, channel)`."""
        batch = self.shape[: -1 - len(self.window)]
        return (*batch, *self.grid, *self.window, self.shape[-1])

    def plain(self) -> "Case":
        """The same windows with one batch axis and no axis of extent 1.

        Peers get this form: it is a reshape without a copy, more of them know it, and those that
        convolve are much faster on fewer axes.
        """
        batch = math.prod(self.shape[: -1 - len(self.window)])
        kept = [axis for axis, size in enumerate(self.field) if size > 1]
        return Case(
            (batch, *(self.field[axis] for axis in kept), self.shape[-1]),
            tuple(self.window[axis] for axis in kept),
            tuple(self.stride[axis] for axis in kept),
        )

    def values(self, dtype: str) -> np.ndarray:
        """Whole numbers up to 200, which every dtype and every peer can hold exactly."""
        whole = np.random.default_rng(0).integers(0, 201, self.shape)
        return whole.astype(jnp.dtype(dtype))


CASES = {
    "tubelet": Case((4, 16, 112, 112, 3), (2, 16, 16), (2, 16, 16)),
    "half": Case((1, 16, 64, 64, 3), (4, 8, 8), (2, 4, 4)),
    "dense3": Case((1, 16, 32, 32, 3), (3, 3, 3), (1, 1, 1)),
    "space2": Case((8, 32, 16, 16, 2), (4, 4, 4), (1, 2, 2)),
    "wide": Case((2, 16, 32, 32, 16), (4, 8, 8), (4, 4, 4)),
    "grad": Case((1, 8, 32, 32, 4), (4, 8, 8), (2, 4, 4)),
    "series": Case((32, 4096, 8), (16,), (8,)),
    "image": Case((4, 1, 224, 224, 3), (1, 16, 16), (1, 8, 8)),
    "maps": Case((8, 1, 64, 64, 16), (1, 8, 8), (1, 4, 4)),
    "volume": Case((1, 1, 64, 64, 64, 1), (1, 16, 16, 16), (1, 8, 8, 8)),
}
SMALL_CASES = {
    "video": Case((1, 4, 8, 8, 2), (2, 4, 4), (1, 2, 2)),
    "tiled": Case((1, 4, 8, 8, 2), (2, 4, 4), (2, 4, 4)),
    "image": Case((2, 1, 8, 8, 2), (1, 4, 4), (1, 2, 2)),
    "series": Case((2, 16, 2), (4,), (2,)),
}
# The gradient of the lax operator takes minutes a call here: left out unless `--full`.
RAW_GRADIENT_MINUTES = ("tubelet", "wide")


def raw_patches(x: jax.Array, case: Case) -> jax.Array:
    """`lax.conv_general_dilated_patches` as it stands: `(batch, *grid, channel * window)`."""
    axes = "THWD"[: len(case.window)]
    return lax.conv_general_dilated_patches(
        x,
        filter_shape=case.window,
        window_strides=case.stride,
        padding="VALID",
        dimension_numbers=(f"N{axes}C", f"OI{axes}", f"N{axes}C"),
    )


def windows_by_numpy(x: np.ndarray, case: Case) -> np.ndarray:
    """The reference of the extraction: a view of all windows, copied."""
    rank = len(case.window)
    first = x.ndim - 1 - rank
    axes = tuple(range(first, first + rank))
    view = np.lib.stride_tricks.sliding_window_view(x, case.window, axis=axes)
    strided = view[(slice(None),) * first + tuple(slice(None, None, s) for s in case.stride)]
    return np.ascontiguousarray(np.moveaxis(strided, first + rank, -1))


def folded_by_numpy(patches: np.ndarray, case: Case) -> np.ndarray:
    """The reference of the overlap-add: every window sample added where it was read, in float64."""
    field = np.zeros(case.shape)
    batch = len(case.shape) - 1 - len(case.window)
    leading = (slice(None),) * (batch + len(case.window))
    for sample in itertools.product(*(range(extent) for extent in case.window)):
        cells = tuple(
            slice(first, first + (count - 1) * stride + 1, stride)
            for first, count, stride in zip(sample, case.grid, case.stride, strict=True)
        )
        field[(slice(None),) * batch + cells] += patches[leading + sample]
    return field


@functools.cache
def peer(name: str) -> ModuleType | None:
    """A peer library, or None where it is not installed, told once; Keras on its JAX backend."""
    os.environ.setdefault("KERAS_BACKEND", "jax")
    # Else torch's idle threads keep spinning on the cores that the next function needs.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        return importlib.import_module(name)
    except ImportError:
        print(f"{name} is not installed: left out (pip install {name})", file=sys.stderr)
        return None


def to_torch(torch: ModuleType, values: np.ndarray) -> Any:
    """A torch tensor of the same values, bfloat16 included, which NumPy itself does not know."""
    if values.dtype == jnp.bfloat16:
        return torch.from_numpy(values.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(values)


def on_one_thread(torch: ModuleType, call: Call) -> Call:
    """The call with one torch thread: short calls and busy machines are faster so."""

    def single() -> Any:
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            return call()
        finally:
            torch.set_num_threads(threads)

    return single


def as_float32(result: Any) -> np.ndarray:
    """The result of JAX, NumPy or torch as a NumPy array of float32."""
    if isinstance(result, (jax.Array, np.ndarray)):
        return np.asarray(result).astype(np.float32)
    return result.detach().float().numpy()


LeftOut = Callable[[str, str, str, str], str | None]
"""`(what, function, case, dtype) -> why it is not measured unless with --full, or None`."""


@dataclass(frozen=True)
class Measurement:
    """One kind of measurement of a script.

    Attributes:
        ours: The function that the others are compared with.
        names: Of the functions of a case in a dtype that may be left out; None where the case is
            not measured in that dtype.
        time: Times a case in a dtype, without some functions.
    """

    ours: str
    names: Callable[[Case, str], Collection[str] | None]
    time: Callable[..., Answer]


def run(
    script: str,
    doc: str,
    dtypes: Sequence[str],
    measurements: Mapping[str, Measurement],
    left_out: LeftOut,
) -> None:
    """The whole of a script about operators: measures, prints and writes.

    The results hold `{what: {dtype: {case: answer}}}`, and what was left out and why.
    """
    full = {"action": "store_true", "help": "also what takes minutes a call"}
    given = arguments(doc, CASES, small=SMALL_CASES, dtypes=dtypes, repeats=25, full=full)
    answer: Answer = {**{what: {} for what in measurements}, "left_out": []}
    for dtype, (title, case) in itertools.product(given.dtypes, given.cases.items()):
        for what, measurement in measurements.items():
            names = measurement.names(case, dtype)
            if names is None:
                continue
            reasons = {name: left_out(what, name, title, dtype) for name in names}
            skipped = {name: why for name, why in reasons.items() if why and not given.full}
            measured = measurement.time(case, dtype, skipped, repeats=given.repeats)
            print_case(f"{what} {dtype} {title}", measured["ms"])
            answer[what].setdefault(dtype, {})[title] = measured
            answer["left_out"] += [
                {"what": what, "dtype": dtype, "case": title, "function": name, "reason": why}
                for name, why in skipped.items()
            ]
    answer["cases"] = {title: dataclasses.asdict(case) for title, case in given.cases.items()}
    answer["summary"] = {
        f"{what} {dtype}": ratios(cases, measurement.ours)
        for what, measurement in measurements.items()
        for dtype, cases in answer[what].items()
    }
    print_summary(answer["summary"])
    write_results(script, answer, folder=given.results, note=given.note)
