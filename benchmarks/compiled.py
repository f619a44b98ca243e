"""What do the compilers of TPU and GPU make of the operators, where neither is at hand?

    python -m benchmarks.compiled [half series] [--small] [--chips v5e v5p h100] [--dtypes float32]

Every program is compiled for a described chip (`stpatch_jax.chips`, extra `chips`) and read, not
run: the bytes that its kernels read and write, of memory and on the chip, beside the ideal, the
number of kernels, the memory in between, the seconds of processor time that the compiler takes. The
ideal is the inputs and the result once each, as they lie in memory.
"""

import dataclasses
import json
import math
import sys
import time
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
from jax import lax

from benchmarks.arguments import arguments
from benchmarks.cases import CASES, SMALL_CASES, Case, raw_patches
from benchmarks.timing import Answer, versions
from stpatch_jax import InputError, chips, extract_patches, fold_patches
from stpatch_jax.files import replaced
from stpatch_jax.nn.windows import embed_patches

CHIPS = ("v5e", "v5p", "h100")
DTYPES = ("float32", "bfloat16")
FEATURES = 256
Program = tuple[Callable[..., jax.Array], tuple[jax.ShapeDtypeStruct, ...]]


def programs(case: Case, dtype: str) -> dict[str, Program]:
    """What is compiled for a case, with the shapes it is given: ours, and what it stands beside."""
    plain, spec, number = case.plain(), case.spec, jnp.dtype(dtype)
    rank, letters = len(case.window), "THWD"[: len(plain.window)]
    field = jax.ShapeDtypeStruct(case.shape, number)
    patches = jax.ShapeDtypeStruct(case.patches_shape, number)
    values = math.prod((*case.window, case.shape[-1]))
    flat = jax.ShapeDtypeStruct((*case.patches_shape[: -1 - rank], values), number)
    # One axis of batch, as networks have it.
    batch = (math.prod(case.shape[: -1 - rank]), *case.shape[-1 - rank :])
    fields = jax.ShapeDtypeStruct(batch, number)
    kernel = jax.ShapeDtypeStruct((*case.window, case.shape[-1], FEATURES), number)

    def convolution(x: jax.Array, kernel: jax.Array) -> jax.Array:
        kernel = kernel.reshape(*plain.window, *kernel.shape[-2:])
        layout = (f"N{letters}C", f"{letters}IO", f"N{letters}C")
        x = x.reshape(plain.shape)
        y = lax.conv_general_dilated(x, kernel, plain.stride, "VALID", dimension_numbers=layout)
        return y.reshape(batch[0], *case.grid, FEATURES)

    def tokens(x: jax.Array) -> jax.Array:
        return extract_patches(x, spec, flat=True)

    def gradient(cut: Callable[[jax.Array], jax.Array]) -> Callable[[jax.Array], jax.Array]:
        return lambda weights: jax.vjp(cut, jnp.zeros(field.shape, number))[1](weights)[0]

    return {
        "patches": (lambda x: extract_patches(x, spec), (field,)),
        "lax op": (lambda x: raw_patches(x.reshape(plain.shape), plain), (field,)),
        "tokens": (tokens, (field,)),
        "gradient": (gradient(lambda x: extract_patches(x, spec)), (patches,)),
        "of tokens": (gradient(tokens), (flat,)),
        "fold": (lambda p: fold_patches(p, spec, case.field, reduce="sum"), (patches,)),
        "embedding": (lambda x, k: embed_patches(x, k, spec), (fields, kernel)),
        "convolution": (convolution, (fields, kernel)),
    }


def read(program: Program, chip: str) -> Answer:
    """Compiles a program for a chip and reads it, or tells why the compiler refuses."""
    function, given = program
    start = time.process_time()
    try:
        done = chips.compile(function, *given, on=chip)
    except InputError as error:
        return {"refused": str(error)}
    seconds = time.process_time() - start
    measured = chips.measure(done)
    ideal = measured.arguments + measured.outputs
    # What a TPU's compiler keeps on the chip counts as well: so small are these cases alone.
    moved = measured.bytes_moved + measured.bytes_on_chip
    return {
        "ideal": ideal,
        "bytes": measured.bytes_moved,
        "on_chip": measured.bytes_on_chip,
        "times_ideal": round(moved / ideal, 3),
        "kernels": measured.launches,
        "temporaries": measured.temporaries,
        "compile_s": round(seconds, 2),
    }


def main() -> None:
    """Compiles, prints and writes, a chip at a time."""
    flag = {"nargs": "+", "default": [*CHIPS], "metavar": "CHIP", "help": "of stpatch_jax.chips"}
    given = arguments(__doc__ or "", CASES, small=SMALL_CASES, dtypes=DTYPES, chips=flag)
    answer: Answer = {
        "cases": {name: dataclasses.asdict(case) for name, case in given.cases.items()}
    }
    answer |= {"versions": versions(), "note": given.note, "chips": {}}
    try:
        for chip in given.chips:
            chips.topology(chip)
    except InputError as error:
        sys.exit(str(error))
    for chip in given.chips:
        answer["chips"][chip] = {dtype: _told(chip, dtype, given.cases) for dtype in given.dtypes}
        if given.results:
            given.results.mkdir(parents=True, exist_ok=True)
            path = given.results / "compiled.json"
            with replaced(path) as part:
                part.write_text(json.dumps(answer, indent=1) + "\n", encoding="utf-8")
            print(path, flush=True)


def _told(chip: str, dtype: str, cases: Mapping[str, Case]) -> Answer:
    """All programs of a chip in a dtype, each case printed as it comes in."""
    answer: Answer = {}
    for title, case in cases.items():
        found = {name: read(program, chip) for name, program in programs(case, dtype).items()}
        told = "  ".join(
            f"{name} {of['times_ideal']:.3g} ({of['kernels']})"
            if "ideal" in of
            else f"{name} refused"
            for name, of in found.items()
        )
        print(f"{chip} {dtype} {title} [moved / ideal (kernels)]: {told}", flush=True)
        answer[title] = found
    return answer


if __name__ == "__main__":
    main()
