"""What the kernels of a compiled program read and write, and how often they run."""

import dataclasses
import re
from collections.abc import Iterator

from stpatch_jax.chips.compiled_text import Array, Computation, Instruction, Module

# Names for what is there already; ends of what began; notes to the compiler.
_FREE = {
    "parameter", "constant", "tuple", "get-tuple-element", "bitcast", "after-all", "opt-barrier",
    "add-dependency", "partition-id", "replica-id", "domain",
}  # fmt: skip
_FREE_CALLS = {
    "AllocateBuffer", "ConcatBitcast", "AsyncCollectiveStart", "AsyncCollectiveDone",
    "annotate_device_placement", "Sharding", "AssumeGatherIndicesInBound",
}  # fmt: skip
_RENAMING = {"bitcast", "reshape"}
# What slices of TPUs tell each other goes through their hosts, by a runtime of its own.
_BETWEEN_SLICES = re.compile(r'_xla_megascale_transfer_type="(\w+)"')
_CHAIN = re.compile(r'chain_id="\d+"')
_COLLECTIVES = {
    "all-reduce", "all-gather", "reduce-scatter", "all-to-all", "ragged-all-to-all",
    "collective-permute", "collective-broadcast",
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Kernel:
    """A kernel that a program runs.

    Attributes:
        name: Its name in the text.
        kind: What it does, such as "fusion", "copy" or "custom-call".
        source: Where in the function it comes from.
        bytes: What it reads and writes of the memory of a device, each time.
        on_chip: What it reads and writes of the memory on the chip itself, each time.
        times: How often it runs.
    """

    name: str
    kind: str
    source: str
    bytes: int
    on_chip: int
    times: int


@dataclasses.dataclass(frozen=True)
class Step:
    """An instruction that runs, in its computation, and how often."""

    instruction: Instruction
    computation: Computation
    times: int


def steps(module: Module) -> tuple[list[Step], bool]:
    """The instructions that run, and whether the turns of every loop are known.

    The body of a loop runs as often as its counter says, of a conditional the branch with the most
    instructions. Where a loop does not tell its turns it counts as one.
    """
    known = [True]
    return list(_walk(module, module.entry, 1, known)), all(known)


def _walk(module: Module, name: str, times: int, known: list[bool]) -> Iterator[Step]:
    computation = module.computations.get(name, {})
    for instruction in computation.values():
        opcode = instruction.opcode
        if opcode == "while":
            trips = _trips(module, computation, instruction)
            known.append(trips is not None)
            for body in instruction.called("body"):
                yield from _walk(module, body, times * (1 if trips is None else trips), known)
        elif opcode == "conditional":
            attributes = ("branch_computations", "true_computation", "false_computation")
            branches = [
                list(_walk(module, branch, times, known))
                for branch in instruction.called(*attributes)
            ]
            yield from max(branches, key=len, default=[])
        elif opcode in ("call", "async-start"):
            for inner in instruction.called("to_apply", "calls"):
                yield from _walk(module, inner, times, known)
        elif opcode not in _FREE and not opcode.endswith(("-done", "-update")):
            yield Step(instruction, computation, times)


def _trips(module: Module, computation: Computation, loop: Instruction) -> int | None:
    """The turns of a loop: as the compiler says, or of a counter from a constant to another."""
    if stated := re.search(r'"known_trip_count":\{"n":"(\d+)"', loop.attributes):
        return int(stated[1])
    (condition,) = loop.called("condition")
    test = module.computations[condition]
    (root,) = (x for x in test.values() if x.root)
    if root.opcode == "fusion":
        return None
    start = computation[loop.operands[0]]
    ends: list[int | None] = []
    for operand in root.operands:
        side: Instruction | None = test[operand]
        if side and side.opcode == "get-tuple-element" and start.opcode == "tuple":
            index = int(re.search(r"index=(\d+)", side.attributes)[1])  # pyright: ignore[reportOptionalSubscript]
            side = computation[start.operands[index]]
        while side and side.opcode in ("copy", "bitcast"):
            side = computation.get(side.operands[0])
        constant = side and side.opcode == "constant" and side.inside.lstrip("-").isdigit()
        ends.append(int(side.inside) if side and constant else None)
    first, last = ends if len(ends) == 2 else (None, None)
    if first is None or last is None or "direction=LT" not in root.attributes:
        return None
    return max(last - first, 0)


def kernels(module: Module, found: list[Step]) -> list[Kernel]:
    """The kernels of a program with the bytes of their operands and results.

    Both are counted as they lie, with the padding of their layouts. Of an array that a kernel only
    cuts a piece out of the piece counts, and of one that it puts a piece into, in place, the piece.
    What `pallas_call` was given as its cost counts for its kernel.
    """
    answer = []
    for step in found:
        instruction = step.instruction
        target = re.search(r'custom_call_target="([^"]*)"', instruction.attributes)
        if target and target[1] in _FREE_CALLS:
            continue
        parts = list(_moved(module, step))
        stated = re.search(r'"bytes_accessed":"?(\d+)', instruction.attributes) if target else None
        main = int(stated[1]) if stated else sum(n for n, array in parts if array.main)
        chip = 0 if stated else sum(n for n, array in parts if not array.main)
        answer.append(
            Kernel(instruction.name, kind(instruction), instruction.source, main, chip, step.times)
        )
    return answer


def kind(instruction: Instruction) -> str:
    """What an instruction does, whether it is waited for or begun only."""
    return instruction.opcode.removesuffix("-start")


def results(step: Step) -> tuple[Array, ...]:
    """The arrays that an instruction makes; what is begun tells its operands beside them."""
    instruction = step.instruction
    arrays = instruction.arrays
    if instruction.opcode in ("send", "recv"):
        return arrays[: instruction.opcode == "recv"]
    if '_target="__cu' in instruction.attributes and len(arrays) > 1:
        return arrays[:-1]  # the last is room that cuBLAS and cuDNN work in
    if not instruction.opcode.endswith("-start"):
        return arrays
    if instruction.opcode == "copy-start":
        return arrays[:1]
    given = sum(len(step.computation[name].arrays) for name in instruction.operands)
    return arrays if len(arrays) <= given else arrays[given : 2 * given]


def operands(step: Step) -> list[Array]:
    """The arrays that an instruction takes."""
    names = step.instruction.operands
    return [array for name in names for array in step.computation[name].arrays]


def _moved(module: Module, step: Step) -> Iterator[tuple[int, Array]]:
    """Bytes of each array that an instruction reads or writes."""
    instruction = step.instruction
    if instruction.opcode != "fusion":
        # Nothing else of the computation counts for what stands in no fusion.
        taken = {name: step.computation[name] for name in instruction.operands}
        for operand in taken.values():
            for array in operand.arrays:
                yield min(_touched_by(module, instruction, operand, taken), array.padded), array
        for array in results(step):
            yield _written(instruction, step.computation, array), array
        return
    inner = module.computations[instruction.called("calls")[0]]
    (root,) = (x for x in inner.values() if x.root)
    if "AsyncCollectiveStart" in root.attributes:  # its first results are what goes and comes
        yield from ((array.padded, array) for array in instruction.arrays[:2])
    elif "AsyncCollectiveDone" not in root.attributes:
        yield from _moved_by_fusion(module, step, inner, root)


def _moved_by_fusion(
    module: Module, step: Step, inner: Computation, root: Instruction
) -> Iterator[tuple[int, Array]]:
    parameters = {int(x.inside): x for x in inner.values() if x.opcode == "parameter"}
    for place, name in enumerate(step.instruction.operands):
        read = _touched(module, inner, parameters[place])
        for array in step.computation[name].arrays:
            yield min(read, array.padded), array
    made = [inner[name] for name in root.operands] if root.opcode == "tuple" else [root]
    arrays = step.instruction.arrays
    if len(made) == len(arrays):
        yield from ((_written(x, inner, y), y) for x, y in zip(made, arrays, strict=True))
    else:
        yield from ((array.padded, array) for array in arrays)


def _padded(instruction: Instruction) -> int:
    return sum(array.padded for array in instruction.arrays)


def _touched(module: Module, computation: Computation, value: Instruction) -> int:
    """Bytes of a value that those who use it inside a computation read."""
    users = [x for x in computation.values() if value.name in x.operands]
    whole = _padded(value)
    if value.root or not users:
        return whole if value.root else 0
    return min(whole, sum(_touched_by(module, x, value, computation) for x in users))


def _touched_by(
    module: Module, user: Instruction, value: Instruction, computation: Computation
) -> int:
    first = bool(user.operands) and user.operands[0] == value.name
    base, whole = kind(user), _padded(value)
    if base == "tuple" or _CHAIN.search(user.attributes):
        return 0  # it is handed on, or belongs to what was begun in another kernel
    if base in ("slice", "dynamic-slice", "gather") and first:
        made = user.arrays if base == user.opcode else user.arrays[len(value.arrays) :][:1]
        return sum(array.padded for array in made)
    if base == "dynamic-update-slice" and first:
        return 0
    if base == "scatter" and first:
        return _padded(computation[user.operands[-1]])
    if base in (*_RENAMING, "convert") and not user.root and user.name in computation:
        through = _touched(module, computation, user)
        return whole if through >= _padded(user) else through * whole // _padded(user)
    if base == "fusion" and user.name in computation:
        for name in user.called("calls"):
            inner = module.computations[name]
            places = [place for place, x in enumerate(user.operands) if x == value.name]
            taken = [
                x for x in inner.values() if x.opcode == "parameter" and int(x.inside) in places
            ]
            return min(whole, sum(_touched(module, inner, x) for x in taken))
    return whole


def _written(made: Instruction, computation: Computation, array: Array) -> int:
    """Bytes of a result that are written: of one put together in place the new piece."""
    while made.opcode in _RENAMING and made.operands[0] in computation:
        made = computation[made.operands[0]]
    if made.opcode == "parameter" or _CHAIN.search(made.attributes):
        return 0
    if made.opcode in ("dynamic-update-slice", "scatter"):
        piece = made.operands[1 if made.opcode == "dynamic-update-slice" else -1]
        return min(array.padded, _padded(computation[piece]))
    return array.padded


def collectives(module: Module, found: list[Step]) -> Iterator[tuple[Step, str]]:
    """The collectives that run, inside of fusions too, with their kinds.

    On a TPU one may go on through several kernels, a chain, which counts once; a sum of which every
    device keeps a part is an all-reduce in a fusion of that name.
    """
    seen: set[tuple[int, str]] = set()
    for outer in found:
        for step in _with_inner(module, outer):
            if between := between_slices(step.instruction):
                yield step, between
            if kind(step.instruction) not in _COLLECTIVES:
                continue
            chain = _CHAIN.search(step.instruction.attributes)
            key = id(outer.computation), chain[0] if chain else ""
            if chain and key in seen:
                continue
            seen.add(key)
            split = "all-reduce-scatter" in "".join(outer.instruction.called("calls"))
            name = kind(step.instruction)
            yield step, "reduce-scatter" if split and name == "all-reduce" else name


def between_slices(instruction: Instruction) -> str | None:
    """The kind of a collective over the network between slices of TPUs, None of anything else."""
    found = _BETWEEN_SLICES.search(instruction.attributes) if instruction.opcode == "send" else None
    return found[1].lower().replace("_", "-") if found else None


def _with_inner(module: Module, step: Step) -> Iterator[Step]:
    yield step
    if step.instruction.opcode.startswith(("fusion", "async")):
        for name in step.instruction.called("calls"):
            inner = module.computations[name]
            for instruction in inner.values():
                yield from _with_inner(module, Step(instruction, inner, step.times))
