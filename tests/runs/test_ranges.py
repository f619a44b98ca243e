"""Every number of a configuration has a range, in which it lies before any data are read."""

import dataclasses
import functools
import math
import typing
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_panel import flags, write_table

from stpatch_jax.cli import main
from stpatch_jax.errors import MOST, MOST_SEED, InputError
from stpatch_jax.recipes import RECIPES, recipe
from stpatch_jax.runs.explaining import ExplainConfig
from stpatch_jax.runs.predicting import predict
from stpatch_jax.runs.searching import LogUniform, with_values
from stpatch_jax.runs.searching.space import candidates

HOSTILE = (-1, 0, 1, MOST, MOST + 1, MOST_SEED, 2**32, 2**63, -(2**63), 1e30, -1e30, 1e308, 0.5)
HOSTILE += (math.nan, math.inf, -math.inf, 1e-308)
# Numbers that stand for values of a file, or for no bound at all.
ANY = {"missing_values", "fill_value", "select"}
UNBOUNDED = {"clip_norm", "hampel_threshold"}


def numbers(config, path=()):
    """Paths, types and values of the fields of a configuration that hold numbers."""
    hints = typing.get_type_hints(type(config))
    for field in dataclasses.fields(config):
        value, where = getattr(config, field.name), (*path, field.name)
        if dataclasses.is_dataclass(value):
            yield from numbers(value, where)
        elif kinds := {int, float} & set(leaf_types(hints[field.name])):
            yield where, kinds, value, hints[field.name]


def leaf_types(kind):
    arguments = typing.get_args(kind)
    if typing.get_origin(kind) is typing.Literal or not arguments:
        return [kind]
    return [leaf for argument in arguments for leaf in leaf_types(argument)]


def shaped(hint, value, number):
    """A number in the place of those that a field holds."""
    if isinstance(value, tuple) and value and isinstance(value[0], tuple):
        return tuple(tuple(number for _ in row) for row in value)
    kinds = {*typing.get_args(hint)} if typing.get_origin(hint) is not tuple else set()
    if "tuple" in str(hint) and not {int, float} & kinds:
        return (number,) * max(len(value or ()) if value != "auto" else 1, 1)
    return {"level": number} if "Mapping" in str(hint) else number


def replaced(config, path, value):
    if len(path) > 1:
        value = replaced(getattr(config, path[0]), path[1:], value)
    return dataclasses.replace(config, **{path[0]: value})


@functools.cache
def fields() -> list[Any]:
    """One field of each class and name."""
    found: dict[Any, Any] = {}
    for name in sorted(RECIPES):
        config = recipe(name)
        for path, kinds, value, hint in numbers(config):
            owner = functools.reduce(getattr, path[:-1], config)
            found.setdefault((type(owner), path[-1]), (name, path, kinds, value, hint))
    return list(found.values())


def refusal(make):
    """The sentence by which something is refused, None where it is accepted."""
    try:
        make()
    except InputError as error:
        return str(error)
    return None


def check(field, number):
    name, path, kinds, value, hint = field
    said = refusal(lambda: replaced(recipe(name), path, shaped(hint, value, number)))
    if said is not None:
        assert " must " in said
        assert len(said) < 400
    elif kinds == {int}:
        assert isinstance(number, int), path
        most = {"seed": MOST_SEED, "most_bytes": 2**63 - 1}.get(path[-1], MOST)
        # The values of masks may be any.
        least = -MOST if path[-1] == "ignored" else -1
        assert least <= number <= most, path
    elif path[-1] not in ANY:
        assert math.isfinite(number) or (path[-1] in UNBOUNDED and number > 0), path


@pytest.mark.parametrize("number", HOSTILE)
def test_hostile_numbers_are_refused_or_accepted(number):
    for field in fields():
        check(field, number)


@given(number=st.integers() | st.floats(), data=st.data())
def test_any_number_is_refused_or_accepted(number, data):
    check(data.draw(st.sampled_from(fields())), number)


@pytest.mark.parametrize("number", HOSTILE)
def test_searches_take_no_hostile_number(number):
    for field in ("train.batch_size", "train.seed", "train.optimizer.learning_rate"):
        said = refusal(lambda field=field: with_values(recipe("stocks"), {field: number}))
        assert said is None or field.rpartition(".")[2] in said
    space = {"train.batch_size": [8, 16]}
    said = refusal(lambda: candidates(space, number, 0))
    assert said is None if number == 1 else "trials=" in str(said)
    said = refusal(lambda: candidates(space, 1, number))
    seeds = isinstance(number, int) and 0 <= number <= MOST_SEED
    assert said is None if seeds else "seed=" in str(said)


def test_spaces_are_no_larger_than_can_be_drawn():
    huge = {f"f{at}": list(range(100)) for at in range(20)}
    for trials in (None, 3):
        with pytest.raises(InputError, match="number of combinations of space= must be in"):
            candidates(huge, trials, 0)
    with pytest.raises(InputError, match=r"trials= must be in \[1, 10000\], got 2147483648"):
        candidates({"rate": LogUniform(1e-4, 1e-2)}, 2**31, 0)


@pytest.mark.parametrize("number", [n for n in HOSTILE if n != 1])
def test_predictions_and_explanations_are_refused_before_the_run_is_opened(number, tmp_path):
    sizes = isinstance(number, int) and 0 < number <= MOST
    given_: list[Any] = [{"every": number}, {"process_count": number, "process_index": 0}]
    for options in given_:
        said = refusal(
            lambda options=options: predict(tmp_path, "a.csv", tmp_path / "b", **options)
        )
        assert ("must be a run directory" if sizes else next(iter(options))) in str(said)
    said = refusal(lambda: ExplainConfig(tmp_path, seed=number))
    seeds = isinstance(number, int) and 0 <= number <= MOST_SEED
    assert said is None if seeds else "seed=" in str(said)


def test_a_batch_beyond_the_memory_is_refused_before_training(tmp_path, capsys):
    table = write_table(tmp_path / "prices.csv")
    command = flags(table, tmp_path / "run")
    command[command.index("--train.batch-size") + 1] = str(2**30)
    assert main(command) == 2
    told = capsys.readouterr().err.splitlines()
    assert told[-1].startswith("--train.batch-size must be at most ")
    assert "of memory, which 5 batches share, got 1073741824 examples of" in told[-1]
    assert not (tmp_path / "run").exists()
