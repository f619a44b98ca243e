"""What is not finite: a report stays JSON, says where and why, and ends no run in a traceback."""

import dataclasses
import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stpatch_jax.data import FieldConfig, LabelledSeriesConfig, batch_iterator
from stpatch_jax.errors import InputError
from stpatch_jax.files import to_json
from stpatch_jax.nn import PatchCNNConfig
from stpatch_jax.patches.windows import WindowSpec
from stpatch_jax.recipes.customers.judging import CustomerForecasts, customer_lines, customer_report
from stpatch_jax.recipes.risk.judging import Tails
from stpatch_jax.runs import RunConfig, evaluate
from stpatch_jax.runs.explaining import explain
from stpatch_jax.runs.judging.judge import Judge, Judged
from stpatch_jax.runs.judging.tables import markdown_table
from stpatch_jax.runs.judging.undefined import without_undefined
from stpatch_jax.runs.run import train
from stpatch_jax.runs.searching import search
from stpatch_jax.runs.values import plain
from stpatch_jax.tasks import ClassifyConfig, ForecastConfig
from stpatch_jax.training import TrainConfig, fitting

TRAIN = TrainConfig(steps=4, batch_size=8, checkpoint_every=2, evaluate_every=2)
FIELD = RunConfig(
    data=FieldConfig(context=4, horizon=2),
    model=PatchCNNConfig(WindowSpec((4,)), features=(2,)),
    task=ForecastConfig(),
    train=TRAIN,
)
CLASSES = RunConfig(
    data=LabelledSeriesConfig(),
    model=PatchCNNConfig(WindowSpec((4,)), features=(2,)),
    task=ClassifyConfig(hidden=()),
    train=TRAIN,
)


def series() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(80, 2)).astype(np.float32)


def labelled() -> tuple[np.ndarray, np.ndarray]:
    labels = np.arange(40) % 2
    values = np.random.default_rng(0).normal(size=(40, 8, 1)) + labels[:, None, None]
    return values.astype(np.float32), labels


def spoil(monkeypatch, *steps):
    """Makes the targets of some steps NaN, and so the loss."""

    def spoiled(source, *, start_step, **settings):
        batches = batch_iterator(source, start_step=start_step, **settings)
        for step, batch in enumerate(batches, start_step + 1):
            yield {**batch, "target": batch["target"] * (math.nan if step in steps else 1)}

    monkeypatch.setattr(fitting, "batch_iterator", spoiled)


def report_of(folder):
    def refuse(constant):
        raise AssertionError(constant)

    return json.loads((folder / "report.json").read_text(), parse_constant=refuse)


@pytest.mark.parametrize(
    ("config", "data"),
    [(FIELD, series), pytest.param(CLASSES, labelled, marks=pytest.mark.slow)],
    ids=["field", "classes"],
)
def test_answers_that_are_no_numbers_are_told(tmp_path, monkeypatch, config, data):
    whole = Judge.placed_outputs

    def outputs(*given):
        return jax.tree.map(lambda x: x * jnp.float32(math.nan), whole(*given))

    monkeypatch.setattr(Judge, "placed_outputs", outputs)
    text = train(config, data=data(), workdir=tmp_path, progress=False).report
    report = report_of(tmp_path)
    assert set(report["validation"].values()) == {None}
    why = report["not_finite"]
    test = report["test"].get("windows") or report["test"]["examples"]
    assert why["test answers"] == f"{test} of {test} are not finite"
    assert "answers that are not finite" in why["validation"]
    assert f"to the test split {test} of {test} are not finite: figures made of them mean" in text
    assert "## Not a number\n" in text
    # Of a search it is no candidate, however few classes there are to guess.
    assert math.isinf(searched(config, data(), tmp_path).loss)


def searched(config, data, folder):
    name = "train.optimizer.learning_rate"
    trials = search(config, {name: [1e-3]}, workdir=folder / "s", data=data, progress=False)
    assert trials is not None
    return trials[0]


def test_steps_that_were_left_out_are_told(tmp_path, monkeypatch):
    config = dataclasses.replace(FIELD, train=dataclasses.replace(TRAIN, on_nonfinite="skip"))
    spoil(monkeypatch, 2)
    text = train(config, data=series(), workdir=tmp_path, progress=False).report
    assert "1 of 4 steps were left out, as loss or gradient was not finite." in text
    report = report_of(tmp_path)
    assert (report["skipped"], report["rollbacks"], report["not_finite"]) == (1, 0, {})
    assert evaluate(tmp_path, data=series()) == text


@pytest.mark.parametrize("mode", ["skip", pytest.param("rollback", marks=pytest.mark.slow)])
def test_a_run_that_left_out_every_step_is_none(tmp_path, monkeypatch, mode):
    two = dataclasses.replace(TRAIN, steps=2, on_nonfinite=mode)
    config = dataclasses.replace(FIELD, train=two)
    spoil(monkeypatch, 1, 2)
    told = r"must have made a step, got 2 of which loss or gradient were not finite .*; lower"
    for _ in range(2):  # The same command again is no way round it.
        with pytest.raises(InputError, match=told):
            train(config, data=series(), workdir=tmp_path, progress=False)
    for use in (evaluate, explain):
        with pytest.raises(InputError, match=told):
            use(tmp_path, data=series())
    assert not (tmp_path / "report.json").exists()
    assert not (tmp_path / "report.md").exists()
    assert told.partition(",")[0] in str(searched(config, series(), tmp_path).error)


def test_a_part_without_any_number_is_named_as_one():
    report = {
        "patches": None,
        "data": {"share": math.inf},
        "validation": {"mae": math.nan},
        "test": {"unit": "K", "model": {"mae": [1.0, math.nan], "auc": None}, "of": {"a": [None]}},
    }
    judged = {
        "validation": Judged("validation", 4, {}, {}, {}, 3),
        "test": Judged("test", 1, {}, {}, {}),
    }
    found = without_undefined(report, judged)
    assert found["patches"] is None
    assert found["test"]["model"] == {"mae": [1.0, None], "auc": None}
    assert found["not_finite"] == {
        "validation answers": "3 of 4 are not finite",
        "data": "beyond all numbers",
        "validation": "made of answers that are not finite, or not defined for these examples",
        "test.model.mae.1": "not defined for these examples",
        "test.model.auc": "not defined for these examples",
        "test.of": "not defined for these examples",
    }


TREES = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=3),
    lambda of: st.lists(of, max_size=3) | st.dictionaries(st.text(max_size=3), of, max_size=3),
    max_leaves=12,
)


def numbers(tree):
    if isinstance(tree, dict | list):
        for value in tree.values() if isinstance(tree, dict) else tree:
            yield from numbers(value)
    else:
        yield tree


@given(st.dictionaries(st.text(max_size=3), TREES, max_size=3), st.booleans())
def test_every_report_becomes_json_and_keeps_what_is_finite(report, measured):
    found = without_undefined(
        report, {name: Judged(name, 1, {}, {}, {}) for name in report if measured}
    )
    to_json(found)
    why = found.pop("not_finite")
    lost = 0
    for before, after in zip(numbers(report), numbers(found), strict=True):
        finite = not isinstance(before, float) or math.isfinite(before)
        assert after == before if finite else after is None
        lost += not finite
    assert bool(lost) <= bool(why)


def test_what_is_saved_with_a_run_must_be_finite():
    assert plain({"a": [np.float32("nan")]}, where="report", finite=False)["a"] != [0]
    with pytest.raises(InputError, match=r"task.facts.a\[0\] must be a finite number, got nan"):
        plain({"a": [np.float32("nan")]}, where="task.facts")


def test_customers_of_whom_nothing_is_known_are_told():
    values = np.full((12, 2), math.nan)
    forecasts = CustomerForecasts({"model": values}, values, np.ones((12, 2)), np.arange(12))
    test = without_undefined(
        {"test": plain(customer_report(forecasts), where="", finite=False)}, {}
    )["test"]
    spans = {"test": {"first_target": "a", "last_target": "b"}}
    counts = dict.fromkeys(("purchases", "amounts_missing", "amounts_clipped", "amount_limit"), 1)
    text = "\n".join(customer_lines({"test": test, "data": {"splits": spans, **counts}}))
    assert "| model | - | - | - | - | - | - |" in text


def test_a_quantile_without_any_return_is_undefined():
    tails = Tails(0.05, {"model": np.full((3, 1), math.nan)}, np.full((3, 1), math.nan))
    assert all(map(math.isnan, tails.metrics("model").values()))


def test_a_table_has_a_dash_for_what_is_no_number():
    assert markdown_table(["", "a", "b"], [("x", math.nan, math.inf)])[-1] == "| x | - | - |"
