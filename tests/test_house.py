"""House rules, read off the source: floors, documentation, signatures, sizes, what is imported."""

import ast
import doctest
import functools
import importlib
import inspect
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import pytest

import stpatch_jax
from stpatch_jax import patches

PACKAGE = Path(stpatch_jax.__file__).parent
ROOT = PACKAGE.parent
# A module imports from lower floors only; files of one folder may import each other.
FLOORS = {
    "escapes": 0,
    "errors": 0,
    "on_demand": 0,
    "files": 0,
    "flops": 0,
    "chips": 1,
    "patches": 1,
    "losses": 1,
    "metrics": 1,
    "testing": 2,
    "data": 2,
    "nn": 2,
    "inference": 3,
    "explain": 3,
    "plotting": 3,
    "tasks": 3,
    "training": 3,
    "runs": 4,
    "recipes": 5,
    "cli": 6,
    "__main__": 7,
}
# Floors 0 and 1 are flat at the top of the package: what `import stpatch_jax` itself gives.
TOP = 1
FILES = sorted(PACKAGE.rglob("*.py"))
NAMES = [path.relative_to(PACKAGE).as_posix() for path in FILES]
MODULES = sorted(
    module.name
    for module in pkgutil.walk_packages(stpatch_jax.__path__, "stpatch_jax.")
    if not module.name.endswith("__main__")
)


@functools.cache
def parsed(name):
    """A file of the package by its name, or any other by its path."""
    return ast.parse((PACKAGE / name).read_text(encoding="utf-8"))


@pytest.fixture(scope="module", autouse=True)
def _trees_go():
    yield
    parsed.cache_clear()


def part(module):
    """The part of the house that a dotted module name inside the package belongs to."""
    return module.split(".")[0]


def imported(name):
    """Dotted names, below `stpatch_jax`, of what a file imports from the package."""
    for node in ast.walk(parsed(name)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if part(alias.name) == "stpatch_jax":
                    yield alias.name.removeprefix("stpatch_jax").lstrip(".")
        elif isinstance(node, ast.ImportFrom):
            assert node.module, f"{name} has a relative import"
            if part(node.module) == "stpatch_jax":
                inside = node.module.removeprefix("stpatch_jax").lstrip(".")
                for alias in node.names:
                    yield f"{inside}.{alias.name}".lstrip(".")


def by_file(wrong):
    """What is wrong in which file of the package, by a function of the file's name."""
    return {name: found for name in NAMES if (found := list(wrong(name)))}


def test_imports_lower_floors_only():
    def wrong(name):
        own = part(name.removesuffix(".py").replace("/", "."))
        assert own in FLOORS or own == "__init__", f"{name} needs a floor"
        floor = FLOORS.get(own, TOP)
        for module in imported(name):
            # A flat name such as WindowSpec, or one of the package's own files.
            other = FLOORS.get(part(module), TOP)
            same_room = part(module) == own or max(other, floor) <= TOP
            if not (other < floor or (other == floor and same_room)):
                yield f"floor {floor} imports {module} (floor {other})"

    assert not by_file(wrong)


def test_imports_make_no_circle():
    modules = {
        name.removesuffix(".py").removesuffix("/__init__").replace("/", "."): name
        for name in NAMES
        if name != "__init__.py"
    }
    needs = {
        module: {
            found
            for target in imported(name)
            # A file of a room, or a name that its face gives.
            for found in [target if target in modules else target.rpartition(".")[0]]
            if found in modules and found != module
        }
        for module, name in modules.items()
    }
    while free := {module for module, others in needs.items() if not others & needs.keys()}:
        needs = {module: others for module, others in needs.items() if module not in free}
    # What is left are packages that gather their own files, or a circle.
    left = {
        module: {other for other in others & needs.keys() if not other.startswith(f"{module}.")}
        for module, others in needs.items()
    }
    assert not any(left.values()), left


# What tells kinds of problems apart stands here alone.
REGISTRY = "runs/judging/registry.py"
KIND = re.compile(r"\b(task|data)\b")


def _classes(room):
    """Names of the classes that the files of a room define."""
    return {
        node.name
        for name in NAMES
        if name.startswith(room)
        for node in parsed(name).body
        if isinstance(node, ast.ClassDef)
    }


def _ladders(tree, kinds):
    """Places that tell apart which task or data there are, as source text."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Match) and KIND.search(ast.unparse(node.subject)):
            yield ast.unparse(node.subject)
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            asks = node.func.id in ("isinstance", "hasattr") or (
                (node.func.id == "getattr" and len(node.args) == 3)
                or (node.func.id == "type" and len(node.args) == 1)
            )
            if asks and KIND.search(ast.unparse(node.args[0])):
                yield ast.unparse(node)
        # Names in quotes are annotations, but where they are compared or looked up.
        elif isinstance(node, ast.Compare | ast.Dict):
            keys = node.keys if isinstance(node, ast.Dict) else [node.left, *node.comparators]
            yield from (k.value for k in keys if isinstance(k, ast.Constant) and k.value in kinds)


def test_what_kind_of_problem_there_is_is_asked_of_the_registry_alone():
    kinds = _classes("tasks/") | _classes("data/") | _classes("recipes/")
    assert {"Forecast", "FieldData"} <= kinds
    ladders = {
        str(name): found
        for name in [*NAMES, *_benchmarks()]
        if name != REGISTRY and (found := list(_ladders(parsed(name), kinds)))
    }
    assert not ladders


def _benchmarks():
    return sorted((ROOT / "benchmarks").glob("*.py"))


@pytest.mark.parametrize(
    "source",
    [
        "isinstance(run.data, FieldData)",
        "hasattr(data, 'series')",
        "getattr(self.task, 'point', None)",
        "type(task) is Forecast",
        "report['kind'] == 'FieldData'",
        "{'FieldData': 1}",
        "match data:\n    case 1: pass",
    ],
)
def test_a_ladder_is_seen(source):
    assert list(_ladders(ast.parse(source), {"FieldData"}))


def _messages(tree):
    """The text of every literal message of an InputError, `{}` for what is filled in."""
    for node in ast.walk(tree):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name)):
            continue
        at = {"InputError": 0, "require": 1}.get(node.func.id)
        if at is None or len(node.args) <= at:
            continue
        message = node.args[at]
        if isinstance(message, ast.Constant):
            yield str(message.value)
        elif isinstance(message, ast.JoinedStr):
            parts = message.values
            yield "".join(str(p.value) if isinstance(p, ast.Constant) else "{}" for p in parts)


def test_messages_say_what_must_hold_what_came_and_what_to_do():
    sentence = re.compile(r".+ must .+, got .+; .+", re.DOTALL)
    assert not by_file(
        lambda name: (text for text in _messages(parsed(name)) if not sentence.fullmatch(text))
    )


def public(body, prefix=""):
    """The public functions and classes of a module or class body, with dotted names."""
    for node in body:
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            yield prefix + node.name, node
            yield from public(node.body, f"{prefix}{node.name}.")
        elif isinstance(node, ast.FunctionDef):
            magic = node.name.startswith("__") and bool(prefix)
            if magic or not node.name.startswith("_"):
                yield prefix + node.name, node


def functions(name):
    for dotted, node in public(parsed(name).body):
        if isinstance(node, ast.FunctionDef):
            yield dotted, node


def test_public_names_are_documented():
    def missing(name):
        if not ast.get_docstring(parsed(name)):
            yield "the file"
        for dotted, node in public(parsed(name).body):
            if not node.name.startswith("__") and not ast.get_docstring(node):
                yield dotted

    assert not by_file(missing)


def test_classes_that_docstrings_speak_of_exist():
    trees = [parsed(name) for name in NAMES]
    known = {"ConvGeneralDilated"}  # an operation of XLA
    for node in (node for tree in trees for node in ast.walk(tree)):
        if isinstance(node, ast.ClassDef | ast.alias):
            known.add(node.name)
        known |= {n for n in (getattr(node, "id", None), getattr(node, "attr", None)) if n}
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef)
    spoken_of = {
        word
        for tree in trees
        for node in ast.walk(tree)
        if isinstance(node, documented)
        for word in re.findall(r"`([A-Z]\w*[a-z]\w*)[.(`]", ast.get_docstring(node) or "")
    }
    assert "WindowSpec" in spoken_of
    assert sorted(spoken_of - known) == []


def test_public_functions_are_annotated():
    def missing(name):
        for dotted, node in functions(name):
            arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
            arguments += [extra for extra in (node.args.vararg, node.args.kwarg) if extra]
            method = "." in dotted and not any(
                isinstance(decorator, ast.Name) and decorator.id == "staticmethod"
                for decorator in node.decorator_list
            )
            bare = [a.arg for a in arguments[int(method) :] if a.annotation is None]
            returns = node.returns is not None or node.name == "__init__"
            if bare or not returns:
                yield f"{dotted}: {bare or 'returns'}"

    assert not by_file(missing)


def test_options_are_keyword_only():
    # The arguments of a command's `main` are an option only for those who call it from Python.
    positional = by_file(
        lambda name: (
            dotted for dotted, node in functions(name) if node.args.defaults and dotted != "main"
        )
    )
    assert not positional, "an argument with a default is an option: put it behind *"


def test_random_keys_are_named_key_and_nothing_is_a_pmap():
    other = {"rng", "rng_key", "prng", "prng_key", "random_key", "random_state"}

    def wrong(name):
        for node in ast.walk(parsed(name)):
            if isinstance(node, ast.arg) and node.arg in other:
                yield node.arg
            if "pmap" in (getattr(node, kind, None) for kind in ("attr", "id", "name")):
                yield "pmap"

    assert not by_file(wrong)


def test_what_is_compiled_for_is_not_asked_of_the_machine():
    """`platform_dependent`, or the mesh or array of a call, says it: a program may go elsewhere."""

    first = re.compile(r"\bdefault_backend\(|\b(local_)?devices\(\)\[0\]")
    assert not by_file(lambda name: first.findall((PACKAGE / name).read_text("utf-8")))


def _calls(name):
    """The calls in a file: what is called, by its last name, and the node."""
    for node in ast.walk(parsed(name)):
        if isinstance(node, ast.Call):
            yield getattr(node.func, "attr", None) or getattr(node.func, "id", None), node


def _of_text(name, node):
    """Whether a call reads or writes text, whose encoding the machine decides unless it is told."""
    words = [a.value for a in node.args if isinstance(a, ast.Constant) and isinstance(a.value, str)]
    told = {key.arg: key.value for key in node.keywords}
    words += [told["mode"].value] if isinstance(told.get("mode"), ast.Constant) else []
    modes = [word for word in words if re.fullmatch(r"[rwax]\+?[bt]?\+?", word)]
    if name in ("open", "fdopen", "NamedTemporaryFile", "TemporaryFile"):
        bare = isinstance(node.func, ast.Name) or (name == "open" and not (node.args or told))
        return not any("b" in mode for mode in modes) and bool(modes or bare)
    # Of a path; what has a method of that name takes the file as well.
    of_path = name in ("read_text", "write_text") and len(node.args) < 2
    return of_path or name == "TextIOWrapper" or (name == "run" and "text" in told)


def test_every_text_is_utf8_whatever_the_machine_takes():
    bare = [
        f"{path}:{node.lineno}"
        for path in [*NAMES, *_benchmarks(), *(ROOT / ".ci").glob("*.py")]
        for name, node in _calls(path)
        if _of_text(name, node) and "encoding" not in {key.arg for key in node.keywords}
    ]
    assert not bare


@pytest.mark.parametrize(
    "source",
    [
        "open(p)",
        "p.open('w')",
        "p.open()",
        "open(p, mode='r+')",
        "p.read_text()",
        "p.write_text('a')",
        "os.fdopen(h, 'w')",
        "subprocess.run(c, text=True)",
    ],
)
def test_a_text_without_its_encoding_is_seen(source, tmp_path):
    (tmp_path / "a.py").write_text(source, encoding="utf-8")
    ((name, node),) = _calls(tmp_path / "a.py")
    assert _of_text(name, node)


def test_names_leave_by_one_way():
    ways = {"warnings.warn": "errors.py", "to_csv": "data/fields/writers.py"}
    for name in NAMES:
        for called, node in _calls(name):
            text = ast.unparse(node.func)
            for way, where in ways.items():
                assert way not in (text, called) or name == where, f"{name}:{node.lineno}"


def test_pickled_data_are_never_read():
    for name in NAMES:
        for called, node in _calls(name):
            told = {key.arg: key.value for key in node.keywords}
            if called == "load" and ast.unparse(node.func).startswith(("np.", "numpy.")):
                assert ast.unparse(told["allow_pickle"]) == "False", f"{name}:{node.lineno}"
            assert called not in ("read_pickle", "Unpickler"), f"{name}:{node.lineno}"
        modules = {
            alias.name
            for node in ast.walk(parsed(name))
            if isinstance(node, ast.Import)
            for alias in node.names
        }
        pickles = modules & {"pickle", "joblib", "shelve", "dill", "cloudpickle", "marshal"}
        assert not pickles, name


def _house_files():
    for folder in ("stpatch_jax", "tests", "benchmarks"):
        yield from sorted((ROOT / folder).rglob("*.py"))


def test_files_stay_short():
    lines = {path: len(path.read_text().splitlines()) for path in _house_files()}
    assert not {str(path): count for path, count in lines.items() if count > 600}


def test_no_two_files_of_tests_have_one_name():
    names = [path.name for path in _house_files() if path.is_relative_to(ROOT / "tests")]
    assert sorted({name for name in names if names.count(name) > 1} - {"conftest.py"}) == []


def test_import_loads_only_jax_and_numpy():
    program = (
        "import sys, jax, jax.numpy, numpy; before = set(sys.modules); import stpatch_jax; "
        "print(*{name.split('.')[0] for name in set(sys.modules) - before})"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT
    )
    loaded = set(done.stdout.split()) - sys.stdlib_module_names
    # What jax and numpy load late is theirs.
    assert loaded <= {"stpatch_jax", "jax", "jaxlib", "numpy", "ml_dtypes"}
    assert "stpatch_jax" in loaded
    program = (
        "import sys, stpatch_jax; names = 'flax orbax grain xarray pandas matplotlib optax "
        "sklearn scipy.signal tyro tqdm'; print(*[n for n in names.split() if n in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert not done.stdout.split()


def test_flat_names_are_documented_and_come_from_floors_0_and_1():
    """The operators of the room patches, and what they raise."""
    flat = set(stpatch_jax.__all__) - {"__version__"}
    assert flat == {*patches.__all__, "InputError"} - {"PaddingMode", "PaddingName"}
    given: dict[str, object] = {}
    exec("from stpatch_jax import *", given)
    assert flat < given.keys()
    for name in flat:
        value = getattr(stpatch_jax, name)
        assert inspect.getdoc(value), name
        assert FLOORS[part(value.__module__.removeprefix("stpatch_jax."))] <= TOP
        assert name in dir(stpatch_jax)


@pytest.mark.parametrize("module", MODULES)
def test_doctests(module):
    assert doctest.testmod(importlib.import_module(module)).failed == 0
