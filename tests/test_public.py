"""Every public name, those that load late too: its docstring says what people look for."""

import ast
import importlib
import inspect
import re
import runpy
import textwrap
from pathlib import Path

PAGES = runpy.run_path(str(Path(__file__).parents[1] / "docs" / "written.py"))
PUBLIC = {
    f"{room}.{name}": getattr(module, name)
    for room in PAGES["ROOMS"]
    for module in [importlib.import_module(room)]
    for name in PAGES["public_names"](module)
}
CLASSES = {name: value for name, value in PUBLIC.items() if inspect.isclass(value)}
FUNCTIONS = {
    name: inspect.unwrap(value) for name, value in PUBLIC.items() if inspect.isroutine(value)
}
ARRAY = re.compile(r"\b(Array|ArrayLike|ndarray)\b")
NUMBERS = re.compile(r"\b(Array|ndarray|DataArray|Dataset|float)\b")
AXES = re.compile(r"\[[a-z*.][^\]]*\]|\(\*?[a-z]+, [^)]*\)|\b(scalar|shape|axes)\b", re.I)


def _said(value):
    """A docstring without its examples, and whether it has any."""
    text = inspect.getdoc(value) or ""
    prose = "\n".join(line for line in text.splitlines() if not re.match(r"\s*(>>>|\.\.\. )", line))
    return prose, prose != text


def _annotated(function, name=None):
    """Annotations as text; data of any kind, a table as well as an array, have a page of theirs."""
    every = inspect.get_annotations(function)
    told = [str(kind) for key, kind in every.items() if name in (None, key)]
    return " ".join(kind for kind in told if "DataFrame" not in kind)


def _raises(function):
    """Whether the body refuses anything by itself."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func).rpartition(".")[2]
            if called in ("require", "InputError") or called.startswith("check_"):
                return True
        elif isinstance(node, ast.Raise) and node.exc and "NotImpl" not in ast.unparse(node.exc):
            return True
    return False


def _made_by(kind):
    """What makes an object of a class, as written in the class itself."""
    made = [vars(kind).get(name) for name in ("__init__", "__post_init__")]
    return [
        f
        for f in made
        if inspect.isfunction(f)
        and f.__code__.co_filename != "<string>"
        and f.__module__.startswith("stpatch_jax")
    ]


def test_a_summary_is_one_sentence():
    first = {
        name: " ".join(_said(value)[0].partition("\n\n")[0].split())
        for name, value in {**CLASSES, **FUNCTIONS}.items()
    }
    assert len(first) > 250
    assert {
        n: s for n, s in first.items() if not s.endswith(".") or re.search(r"\w[)`]*\. [A-Z`]", s)
    } == {}


def test_functions_of_arrays_tell_their_axes():
    arrays = [name for name, value in FUNCTIONS.items() if ARRAY.search(_annotated(value))]
    assert len(arrays) > 60
    silent = [name for name in arrays if not AXES.search(_said(FUNCTIONS[name])[0])]
    called = {n: k.__call__ for n, k in CLASSES.items() if inspect.isfunction(k.__call__)}
    for name, call in called.items():
        if ARRAY.search(_annotated(call)):
            told = _said(CLASSES[name])[0] + _said(call)[0]
            silent += [name] * (not AXES.search(told))
    assert silent == []


def test_what_computes_has_an_example():
    computing = {n: v for n, v in FUNCTIONS.items() if NUMBERS.search(_annotated(v, "return"))}
    computing.pop("stpatch_jax.runs.explain")  # of a trained run: the pages have one
    assert len(computing) > 60
    assert [name for name, value in computing.items() if not _said(value)[1]] == []


def test_what_refuses_says_so():
    """Of a class the refusals of its settings may be told by a class that it comes from."""
    silent = [n for n, v in FUNCTIONS.items() if _raises(v) and "Raises:" not in _said(v)[0]]
    for name, kind in CLASSES.items():
        told = any("Raises:" in (base.__doc__ or "") for base in kind.__mro__)
        silent += [name for made in _made_by(kind) if _raises(made) and not told]
    assert silent == []
