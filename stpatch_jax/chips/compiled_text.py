"""The text of a compiled program: its computations, their instructions, what a shape takes."""

import dataclasses
import functools
import math
import re
from collections.abc import Iterator

_SHAPE = re.compile(r"([a-z]\w*)\[([\d,<=]*)\](?:\{([^}]*)\})?")
_INSTRUCTION = re.compile(r"\s+(ROOT )?%?(\S+) = (.*?) ([a-z][a-z0-9-]*)\((.*)")
_COMPUTATION = re.compile(r"(ENTRY )?%?([^\s(]+) .*\{$")
_SOURCE = re.compile(r'op_name="([^"]*)"')


@dataclasses.dataclass(frozen=True)
class Array:
    """An array as it lies in memory.

    Attributes:
        logical: Bytes of its numbers.
        padded: Bytes with what its layout adds: on a TPU the axes that vary fastest come in tiles
            such as (8, 128).
        main: Whether it lies in the memory of the device, not on the chip itself.
    """

    logical: int
    padded: int
    main: bool


@dataclasses.dataclass(frozen=True)
class Instruction:
    """A line of a computation; `arrays` are its results, `operands` names in the computation."""

    name: str
    opcode: str
    arrays: tuple[Array, ...]
    operands: tuple[str, ...]
    inside: str
    attributes: str
    root: bool

    @property
    def source(self) -> str:
        """What of the program it came from, as JAX names it."""
        found = _SOURCE.search(self.attributes)
        return found[1] if found else ""

    def called(self, *attributes: str) -> list[str]:
        """The computations that it calls by attributes such as "body"."""
        found = re.findall(
            rf"\b(?:{'|'.join(attributes)})=(%[\w.-]+|\{{[^}}]*\}})", self.attributes
        )
        return [name for group in found for name in re.findall(r"%([\w.-]+)", group)]


Computation = dict[str, Instruction]


@dataclasses.dataclass(frozen=True)
class Module:
    """The computations of a program by name, and which of them it begins with."""

    computations: dict[str, Computation]
    entry: str


def parse(text: str) -> Module:
    """Reads what `as_text()` of a compiled program gives.

    >>> module = parse('''
    ... ENTRY %main (x: f32[3]) -> f32[3] {
    ...   %x = f32[3]{0:T(128)} parameter(0)
    ...   ROOT %y = f32[3]{0:T(128)} copy(%x), metadata={op_name="f"}
    ... }
    ... ''')
    >>> copy = module.computations[module.entry]["y"]
    >>> copy.opcode, copy.operands, copy.arrays[0].padded, copy.source
    ('copy', ('x',), 512, 'f')
    """
    computations: dict[str, Computation] = {}
    entry, now = "", {}
    for line in text.splitlines():
        if line[:1] not in (" ", "}", ""):
            if found := _COMPUTATION.fullmatch(line):
                now = computations.setdefault(found[2], {})
                entry = found[2] if found[1] else entry
        elif found := _INSTRUCTION.match(line):
            root, name, shape, opcode, rest = found.groups()
            inside, attributes = _closed(rest)
            operands = tuple(re.findall(r"%([\w.-]+)", inside))
            arrays = tuple(arrays_of(shape))
            now[name] = Instruction(name, opcode, arrays, operands, inside, attributes, bool(root))
    return Module(computations, entry)


def arrays_of(shape: str) -> Iterator[Array]:
    """The arrays of a shape, of a tuple one after the other.

    >>> [array.padded for array in arrays_of("(f32[], bf16[30,3]{1,0:T(8,128)(2,1)S(1)})")]
    [4, 8192]
    """
    return map(_array, _SHAPE.findall(shape))


@functools.cache
def _array(found: tuple[str, str, str]) -> Array:
    dtype, sizes, layout = found
    dims = [int(size.lstrip("<=")) for size in sizes.split(",") if size]
    bits = re.search(r"\d+", dtype)
    # Tokens and opaque handles hold nothing.
    size = int(bits[0]) / 8 if bits else float(dtype == "pred")
    order, _, tiling = layout.partition(":")
    axes = [int(axis) for axis in order.split(",") if axis][::-1]
    laid = [dims[axis] for axis in axes] if len(axes) == len(dims) else dims
    if tile := re.search(r"T\(([\d,]+)\)", tiling):
        sides = [int(side) for side in tile[1].split(",")]
        laid = [1] * (len(sides) - len(laid)) + laid
        split = len(laid) - len(sides)
        tiles = zip(laid[split:], sides, strict=True)
        laid = laid[:split] + [-(-n // side) * side for n, side in tiles]
    main = not re.search(r"S\([1-9]", tiling)
    return Array(math.ceil(math.prod(dims) * size), math.ceil(math.prod(laid) * size), main)


def _closed(rest: str) -> tuple[str, str]:
    """What stands before the parenthesis that closes the operands, and after it."""
    depth = 1
    for place, sign in enumerate(rest):
        depth += (sign == "(") - (sign == ")")
        if not depth:
            return rest[:place], rest[place + 1 :]
    return rest, ""
