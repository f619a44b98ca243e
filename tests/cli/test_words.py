"""What a message advises in words of Python can be done by who reads it: with flags, on the line.

All literal messages of the package are read off its source.
"""

import ast
import functools
import inspect
import re
from pathlib import Path

import pytest

import stpatch_jax
from stpatch_jax import cli
from stpatch_jax.cli.commands import _Predict, _reading, in_words_of
from stpatch_jax.cli.words import in_flags
from stpatch_jax.data import DataConfig, FileConfig
from stpatch_jax.data.readers import open_field
from stpatch_jax.recipes import RECIPES, recipe

PACKAGE = Path(stpatch_jax.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))
READING = {name for kind in (FileConfig, *DataConfig.__subclasses__()) for name in kind.reading}
# What a person at a command line cannot call.
FUNCTIONS = ("read_", "open_field", "convert_calendar")


@functools.cache
def parsed():
    """Every node of the package, with its file."""
    return [(file, node) for file in FILES for node in ast.walk(ast.parse(file.read_text()))]


@functools.cache
def messages():
    """Every literal message: its file, and its text with `{}` for what is filled in."""
    found = []
    for file, node in parsed():
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name)):
            continue
        at = {"InputError": 0, "require": 1}.get(node.func.id)
        if at is not None and len(node.args) > at:
            parts = getattr(node.args[at], "values", [node.args[at]])
            text = "".join(
                str(part.value) if isinstance(part, ast.Constant) else "{}" for part in parts
            )
            found.append((file.relative_to(PACKAGE).as_posix(), text))
    return found


def public_arguments():
    """Names of the arguments of all functions and classes of the package."""
    names = set()
    for _, node in parsed():
        if isinstance(node, ast.arguments):
            names |= {a.arg for a in (*node.posonlyargs, *node.args, *node.kwonlyargs)}
        elif isinstance(node, ast.ClassDef):
            fields = (n.target for n in node.body if isinstance(n, ast.AnnAssign))
            names |= {ast.unparse(target) for target in fields}
    return names


ADVICE = re.compile(r"(?<![\w.{-])([a-z][a-z_]*)=(?!=)")


def test_what_messages_name_is_an_argument():
    assert len(messages()) > 400
    known = public_arguments() | {"level"}  # of an example of NAME=VALUE
    named = {name: text for _, text in messages() for name in ADVICE.findall(text)}
    assert {"time", "dims", "format"} <= named.keys()
    assert {name: text for name, text in named.items() if name not in known} == {}


@pytest.mark.parametrize("room", ["data", "recipes", "runs", "training"])
def test_messages_are_in_words_of_python_and_call_nothing(room):
    wrong = [
        (file, text)
        for file, text in messages()
        if file.startswith(f"{room}/")
        and (
            re.search(r"(?<![\w-])--[a-z]", text)
            or any(name in text.partition("; ")[2] for name in FUNCTIONS)
        )
    ]
    assert wrong == []


def test_what_a_reader_can_be_told_has_a_flag(capsys):
    """In `patches`, and in `train` and `predict` where the data set is read so."""
    told = {*inspect.signature(open_field).parameters} - {"path", "chunks", "options"}
    assert told <= set(FileConfig.reading)
    for command in (
        ["patches", "--help"],
        ["train", "weather", "--help-all"],
        ["predict", "--help"],
    ):
        with pytest.raises(SystemExit):
            cli.main(command)
        text = capsys.readouterr().out
        for name in FileConfig.reading:
            assert f"--data.{name.replace('_', '-')} " in text, (command, name)


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_settings_of_reading_are_fields(name):
    data = recipe(name).data
    assert all(hasattr(data, setting) for setting in data.reading)


def test_advice_for_readers_becomes_flags():
    for file, text in messages():
        flags = in_flags(text)
        for name in ADVICE.findall(text):
            if file.startswith("data/readers") and name in {*READING, "labels", "classes"}:
                assert f"{name}=" not in flags.replace(f"--data.{name.replace('_', '-')}", "")


@pytest.mark.parametrize(
    ("python", "flags"),
    [
        ("name it with time=", "name it with --data.time"),
        ("name both with items= and labels=,", "name both with --data.items and --data.labels,"),
        ('use padding="SAME"', 'use padding="SAME"'),
        ('give dims=("time", "y")', "give --data.dims time y"),
        ("give missing_values=(-999,) or", "give --data.missing-values -999 or"),
        ('choose with select={"level": 500}', "choose with --data.select level=500"),
        ("use encoding='latin-1'.", "use --data.encoding latin-1."),
        ("correct coords= or dims=", "correct --data.coords or --data.dims"),
        ("data.train_share must be 1", "--data.train-share must be 1"),
        ("lower train.optimizer.learning_rate", "lower --train.optimizer.learning-rate"),
        ("task.quantiles must hold", "--task.quantiles must hold"),
        ("give every= 1", "give --every 1"),
        ("or model.spec.padding=('SAME', 'VALID')", "or --model.spec.padding SAME VALID"),
        # Places, content and what has no flag stay.
        ("there must be a file at data.csv", "there must be a file at data.csv"),
        ("a file at time=2020/model.npz", "a file at time=2020/model.npz"),
        ("/runs/train.steps must", "/runs/train.steps must"),
        ('use lowering="auto"', 'use lowering="auto"'),
        ("give model.patch_kernel_size=3,5", "give model.patch_kernel_size=3,5"),
        ("x=dims(time=3)", "x=dims(time=3)"),
    ],
)
def test_words(python, flags):
    assert in_flags(python, own=["every"]) == flags


def test_a_command_without_a_run_still_lists_how_files_are_read():
    assert vars(_reading(["--help"])).keys() == set(FileConfig.reading)
    assert in_words_of("predict", "give every= too") == "give --every too"
    assert {"run", "input", "output"} <= {*_Predict.__dataclass_fields__}
