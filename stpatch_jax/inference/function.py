"""A function apart from the arrays it holds, so that those are arguments of a program."""

import contextlib
import dataclasses
import itertools
import weakref
from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import Any

import jax
from jax.extend.core import ClosedJaxpr, Jaxpr, jaxpr_as_fun
from jax.sharding import AbstractMesh, AxisType, Mesh

from stpatch_jax.inference.augmenting import Pair, augmented

Arrays = list[Any]


@dataclasses.dataclass(frozen=True)
class Function:
    """A function of arrays without those it holds; two of the same `key` are the same program.

    A callable that is a pytree (a Flax module, `jax.tree_util.Partial`) is taken apart; any other
    is traced, and what it holds is found there: its values of today, those of an outer `grad` or
    `vmap` among them. Traced programs are for one shape.
    """

    key: Hashable
    call: Callable[[Arrays, Any], Any] = dataclasses.field(compare=False, repr=False)
    known: Any = dataclasses.field(default=None, compare=False, repr=False)

    @classmethod
    def split(
        cls, fn: Callable[[Any], Any], given: Any, *, augment: Sequence[Pair] = ()
    ) -> tuple["Function", Arrays]:
        """The function of what is `given`, an array or a tree of arrays, and what it holds."""
        if augment:
            owners = (fn, *itertools.chain.from_iterable(augment))
            return _traced(augmented(fn, augment), given, owners)
        leaves, tree = jax.tree.flatten(fn)
        if jax.tree_util.treedef_is_leaf(tree):
            return _traced(fn, given, (fn,))
        arrays = jax.Array | jax.ShapeDtypeStruct
        is_array = [isinstance(leaf, arrays) or hasattr(leaf, "__array__") for leaf in leaves]
        fixed = [None if one else leaf for one, leaf in zip(is_array, leaves, strict=True)]
        arrays = [leaf for one, leaf in zip(is_array, leaves, strict=True) if one]

        def call(arrays: Arrays, given: Any) -> Any:
            rest = iter(arrays)
            merged = [next(rest) if leaf is None else leaf for leaf in fixed]
            return jax.tree.unflatten(tree, merged)(given)

        return cls((tree, tuple(fixed)), call), arrays

    def outputs(self, arrays: Arrays, given: Any) -> Any:
        """Shapes and dtypes of what it returns; a traced program told them."""
        return jax.eval_shape(self, arrays, given) if self.known is None else self.known

    def __call__(self, arrays: Arrays, given: Any) -> Any:
        """Calls the function with its arrays put back."""
        return self.call(arrays, given)


def _traced(fn: Callable[[Any], Any], given: Any, owners: Sequence[Any]) -> tuple[Function, Arrays]:
    """A function as the program that it is now."""
    # A function of its own: JAX remembers what it traced by the function, not by what that holds.
    with _auto_axes():
        program, outputs = jax.make_jaxpr(lambda given: fn(given), return_shape=True)(given)
    tree, text = jax.tree.structure(outputs), str(program)
    # The text of a program says all but what Python functions it calls: those of the host, and
    # the rules of custom derivatives, of which nobody changes one without the other.
    rules = tuple(map(_reference, owners)) if "custom_" in text else None
    key = text, tree, tuple(_host_functions(program.jaxpr)), rules

    def call(arrays: Arrays, given: Any) -> Any:
        closed = ClosedJaxpr(program.jaxpr, arrays)
        return jax.tree.unflatten(tree, jaxpr_as_fun(closed)(*jax.tree.leaves(given)))

    return Function(key, call, outputs), list(program.consts)


def _auto_axes() -> contextlib.AbstractContextManager[Any]:
    """What is around a function while it runs: axes that the compiler may use as it sees fit."""
    mesh = jax.sharding.get_abstract_mesh()
    if AxisType.Explicit not in mesh.axis_types:
        return contextlib.nullcontext()
    types = (AxisType.Auto if one == AxisType.Explicit else one for one in mesh.axis_types)
    auto = AbstractMesh(mesh.axis_sizes, mesh.axis_names, axis_types=tuple(types))
    return jax.sharding.use_abstract_mesh(auto)


def on_mesh(mesh: Mesh | AbstractMesh | None) -> contextlib.AbstractContextManager[Any]:
    """What is around a function whose batch a mesh shares: kernels that no compiler splits ask."""
    if mesh is None:
        return contextlib.nullcontext()
    return jax.sharding.use_abstract_mesh(mesh.abstract_mesh)


def _reference(fn: Any) -> Hashable:
    """What stands for a Python function without keeping it alive."""
    try:
        reference = weakref.ref(getattr(fn, "__func__", fn))
        hash(reference)
        return reference
    except TypeError:
        return object()  # compiled anew each time


def _host_functions(program: Jaxpr) -> Iterator[Hashable]:
    """The functions of the host that a program calls."""
    for equation in program.eqns:
        if "callback" in equation.params:
            yield equation.params["callback"]
        for value in jax.tree.leaves(list(equation.params.values()), is_leaf=_is_program):
            if _is_program(value):
                yield from _host_functions(getattr(value, "jaxpr", value))


def _is_program(value: Any) -> bool:
    return isinstance(value, Jaxpr | ClosedJaxpr)
