"""Search: what is tried, that it resumes, and that nobody opens the test split."""

import dataclasses
import json
import math
import os
import shutil
import socket
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from descriptors import COUNTED, LARGEST, counted, grown
from hypothesis import given
from hypothesis import strategies as st
from small_fields import small_field
from small_panel import FLAT, flags, write_table

from stpatch_jax import cli
from stpatch_jax.data import FieldConfig, PanelData
from stpatch_jax.errors import InputError
from stpatch_jax.files import LOCK
from stpatch_jax.nn import ConvRecurrentConfig, FlatPatchesConfig
from stpatch_jax.patches import WindowSpec
from stpatch_jax.recipes import recipe
from stpatch_jax.runs.run import Run, RunConfig
from stpatch_jax.runs.searching import LogUniform, read_space, search, with_values
from stpatch_jax.runs.searching.space import candidates
from stpatch_jax.tasks import ForecastConfig
from stpatch_jax.training import TrainConfig

RATE = "train.optimizer.learning_rate"
WIDTH = "model.patch_features"


def config(table: Path, **values: Any) -> RunConfig:
    """The run of `small_panel.flags`."""
    small = {
        "model.spec.window": [4, 1],
        "model.spec.stride": [4, 1],
        "model.patch_features": [4],
        "model.grid_features": 4,
        "model.recurrent_features": 4,
        "train.steps": 2,
        "train.batch_size": 8,
        "data.context": 8,
        **values,
    }
    base = recipe("stocks")
    data = dataclasses.replace(base.data, path=str(table), horizon=2)
    return with_values(dataclasses.replace(base, data=data), small)


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_table(tmp_path_factory.mktemp("table") / "prices.csv")


class Unread:
    """A split of which nothing but its length may be asked."""

    def __init__(self, length: int):
        self.length = length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, i: int) -> Any:
        raise AssertionError("an example of the test split was read")


def guarded(patch: pytest.MonkeyPatch) -> None:
    """Lets every look at an example or a value of the test split fail."""
    source = PanelData.source

    def guard(self: PanelData, split: str) -> Any:
        found = source(self, split)
        return Unread(len(found)) if split == "test" else found

    values = PanelData.values

    def guard_values(self: PanelData, rows: slice) -> Any:
        assert rows.stop <= self.splits["test"].start
        return values(self, rows)

    patch.setattr(PanelData, "source", guard)
    patch.setattr(PanelData, "values", guard_values)


@pytest.fixture(scope="module")
def searched(table: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """A search of two trials on the command line, and the lines of its table."""
    folder = tmp_path_factory.mktemp("searched")
    with pytest.MonkeyPatch.context() as patch:
        guarded(patch)
        assert cli.main(command(table, folder)) == 0
    return folder, json.loads((folder / "search.json").read_text())


def command(table: Path, folder: Path, *space: str, network: Sequence[str] = FLAT) -> list[str]:
    arguments = [*flags(table, folder, steps=2, network=network), "--train.mesh.fsdp", "2"]
    return ["search", *arguments[1:], "--space", *(space or (f"{RATE}=1e-3,1e-2",))]


def no_fit(*_: Any, **__: Any) -> None:
    raise AssertionError("nothing was to be trained")


def test_the_table_holds_every_trial_by_its_validation_error(searched, table, capsys) -> None:
    folder, rows = searched
    assert sorted(row["values"][RATE] for row in rows) == [1e-3, 1e-2]
    assert rows[0]["validation"]["mae"] <= rows[1]["validation"]["mae"]
    for row in rows:
        assert row["error"] is None
        logged = (folder / row["name"] / "metrics.jsonl").read_text().splitlines()[-1]
        assert json.loads(logged)["validation/mae"] == row["validation"]["mae"]
        assert not (folder / row["name"] / "report.json").exists()
    text = (folder / "search.md").read_text().splitlines()
    assert text[0] == f"| trial | {RATE} | mae | rmse | skill |"
    assert [line.split(" | ")[0] for line in text[2:4]] == [f"| {row['name']}" for row in rows]
    best = rows[0]
    assert text[-1] == (
        f"Best is {best['name']} with {RATE} = {json.dumps(best['values'][RATE])}; stpatch "
        f"evaluate {folder / best['name']} reports it on the test split."
    )


def test_the_same_call_trains_nothing_twice(searched, table, tmp_path, monkeypatch, capsys) -> None:
    folder, rows = searched
    monkeypatch.setattr(Run, "fit", no_fit)
    monkeypatch.setattr(Run, "__init__", no_fit)
    assert cli.main(command(table, folder)) == 0
    assert json.loads((folder / "search.json").read_text()) == rows
    captured = capsys.readouterr()
    assert (folder / "search.md").read_text() in captured.out
    assert captured.err == ""
    # A search that was killed at the very end of a trial.
    (lock := folder / rows[0]["name"] / LOCK).write_text(
        json.dumps({"host": socket.gethostname(), "pid": os.getpid(), "started": "0"})
    )
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        assert cli.main(command(table, folder)) == 0
    assert capsys.readouterr().err.startswith(f"warning: went on in {lock.parent}, which")
    assert not lock.exists()
    # Another space reuses what it shares.
    assert cli.main(command(table, folder, f"{RATE}=1e-2")) == 0
    with pytest.raises(AssertionError, match="nothing was to be trained"):
        cli.main(command(table, folder, f"{RATE}=1e-2,1e-1"))


def test_trials_that_are_there_must_be_of_the_same_data(
    searched, table, tmp_path, monkeypatch, capsys
) -> None:
    folder = Path(shutil.copytree(searched[0], tmp_path / "searched"))
    whole = table.read_text()
    monkeypatch.setattr(Run, "__init__", no_fit)
    before = (folder / "search.md").read_bytes()
    try:
        table.write_text(whole.rstrip("\n") + "1\n")
        for space in (), (f"{RATE}=1e-2,1e-1",):
            assert cli.main(command(table, folder, *space)) == 2
            assert "got another test split; give" in capsys.readouterr().err
    finally:
        table.write_text(whole)
    assert (folder / "search.md").read_bytes() == before


@pytest.mark.slow
def test_the_best_trial_is_evaluated_on_other_devices(searched, tmp_path, capsys) -> None:
    """The trials were trained with fsdp = 2; here the devices are too few for what it says."""
    folder, rows = searched
    best = Path(shutil.copytree(folder / rows[0]["name"], tmp_path / "best"))
    config = json.loads((best / "config.json").read_text())
    assert config["train"]["mesh"]["fsdp"] == 2
    config["train"]["mesh"]["fsdp"] = 16
    (best / "config.json").write_text(json.dumps(config))
    assert cli.main(["evaluate", str(best)]) == 0
    report = json.loads((best / "report.json").read_text())
    assert report["validation"] == pytest.approx(rows[0]["validation"], rel=1e-4, abs=1e-6)
    assert report["test"]["windows"] > 0


def test_a_stopped_search_goes_on_and_failures_are_told(
    table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Training itself is replaced here: it is interrupted, fails or succeeds by the rate."""
    space = {RATE: [1e-3, 1e-2, 1e-1]}
    tried: list[float] = []

    @dataclasses.dataclass
    class Result:
        model: float
        interrupted: bool

    def fit(self: Run, *_: Any, **__: Any) -> Result:
        rate = self.config.train.optimizer.learning_rate
        tried.append(rate)
        if rate == 1e-2:
            raise InputError("the loss must be finite, but it is not; lower it")
        return Result(rate, interrupted=rate == 1e-1 and tried.count(rate) == 1)

    def validate(_: Run, model: float) -> dict[str, float]:
        return {"mae": 1 - model, "rmse": model, "skill": 0.0}

    monkeypatch.setattr(Run, "fit", fit)
    monkeypatch.setattr(Run, "validate", validate)
    options: dict[str, Any] = {"workdir": tmp_path / "s", "progress": False}
    assert search(config(table), space, **options) is None
    rows = json.loads((tmp_path / "s/search.json").read_text())
    assert [row["values"][RATE] for row in rows] == [1e-3, 1e-2]
    trials = search(config(table), space, **options)
    assert trials is not None
    assert [trial.values[RATE] for trial in trials] == [1e-1, 1e-3, 1e-2]
    assert trials[2].validation is None
    assert trials[2].error == "the loss must be finite, but it is not; lower it"
    assert "failed: the loss must be finite" in (tmp_path / "s/search.md").read_text()
    # The finished trial was left alone, the failed and the stopped one were not.
    assert tried == [1e-3, 1e-2, 1e-1, 1e-2, 1e-1]
    with pytest.raises(InputError, match=r"must go on with model\.dropout = 0\.2, got 0\.1"):
        search(config(table, **{"model.dropout": 0.1}), space, **options)


@COUNTED
@pytest.mark.slow
def test_trials_leave_neither_threads_nor_descriptors(
    table: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
    capsys: pytest.CaptureFixture[str],
) -> None:
    many = 50 if request.config.getoption("--many") else 8
    fit, before = Run.fit, []

    def counting(self: Run, *given: Any, **named: Any) -> Any:
        before.append(counted())
        return fit(self, *given, **named)

    monkeypatch.setattr(Run, "fit", counting)
    space = {RATE: LogUniform(1e-4, 1e-2)}
    # Nothing of a network counts here: the smallest there is, for many trials.
    model = FlatPatchesConfig(WindowSpec((4, 1)))
    small = dataclasses.replace(config(table), model=model)
    search(small, space, workdir=tmp_path / "s", trials=many, progress=False)
    assert len(before) == many
    # The first ones fill the pools of threads.
    with capsys.disabled():
        print(f"\nfiles and threads before trial 4: {before[3]}, after {many}: {counted()}")
    assert grown(before[3]) <= LARGEST
    assert counted()[0] <= before[3][0]


@given(seed=st.integers(0, 2**32 - 1), trials=st.integers(1, 6))
def test_random_trials_differ_repeat_and_extend(seed: int, trials: int) -> None:
    space = {"a": [1, 2, 3], "b": ["x", "y"]}
    rows = candidates(space, trials, seed)
    assert rows == candidates(space, trials, seed)
    assert candidates(space, 6, seed)[:trials] == rows
    assert len({tuple(row.values()) for row in rows}) == trials
    mixed = {"a": [1, 2, 3], "r": LogUniform(1e-4, 1e-1)}
    rows = candidates(mixed, trials, seed)
    assert candidates(mixed, 2 * trials, seed)[:trials] == rows
    assert all(1e-4 <= row["r"] <= 1e-1 for row in rows)


def test_draws_are_even_on_a_logarithmic_scale() -> None:
    rows = candidates({"r": LogUniform(1e-4, 1.0)}, 2000, 0)
    counts, _ = np.histogram([math.log10(row["r"]) for row in rows], bins=4, range=(-4, 0))
    assert counts.min() > 430


def test_the_grid_covers_all_once() -> None:
    rows = candidates({"a": [1, 2], "b": ["x", "y", "z"]}, None, 0)
    assert [tuple(row.values()) for row in rows] == [(a, b) for a in (1, 2) for b in "xyz"]


def test_a_space_is_read_from_words_and_files(tmp_path: Path) -> None:
    file = tmp_path / "space.json"
    file.write_text('{"model.dropout": [0.0, 0.5], "r": "log_uniform(1e-4, 1e-2)"}')
    words = ["train.batch-size=8,16", "task.loss=mse,huber", "q=log_uniform(1,2)", str(file)]
    assert read_space(words) == {
        "train.batch_size": [8, 16],
        "task.loss": ["mse", "huber"],
        "q": LogUniform(1, 2),
        "model.dropout": [0.0, 0.5],
        "r": LogUniform(1e-4, 1e-2),
    }


def test_values_reach_every_kind_of_field(table: Path) -> None:
    changed = config(
        table,
        **{
            "model.spec.window": [2, 1],
            WIDTH: [4, 8],
            RATE: 1,
            "train.optimizer.clip_norm": None,
            "model.cell": "gru",
            "model.causal": True,
        },
    )
    assert isinstance(changed.model, ConvRecurrentConfig)
    assert changed.model.spec.window == (2, 1)
    assert changed.model.patch_features == (4, 8)
    assert isinstance(changed.train.optimizer.learning_rate, float)
    assert changed.train.optimizer.clip_norm is None
    assert (changed.model.cell, changed.model.causal) == ("gru", True)


@pytest.mark.parametrize(
    ("space", "words"),
    [
        (
            ["model.patch_kernal_size=3,5"],
            "'model.patch_kernal_size'; write one of it, such as --model.patch-kernel",
        ),
        (["model=1"], "fields of model, task and train, or --data.context, got model"),
        (["data.horizon=1,2"], "got --data.horizon; errors on other data cannot be compared"),
        (["model.patch_kernel_size=3,4"], "kernel_size must be 3 or 5, got 4"),
        (["model.patch_kernel_size=3.0"], "--model.patch-kernel-size must be int, got 3.0"),
        (
            ["train.batch_size=true"],
            "--train.batch-size must be Union[int, Literal",
        ),
        (["model.patch_features=4"], "--model.patch-features must be tuple[int, ...], got 4"),
        (["model.cell=lstm,rnn"], "model.cell must be Literal['lstm', 'gru'], got 'rnn'"),
        (["model.spec.window=[9,1]"], "window must be no longer than the input"),
        (["model.spec.window=[4,1],4"], "window"),
        ([f"{RATE}=-1"], "learning-rate must be above 0, got -1"),
        ([f"{RATE}=log_uniform(1,2)"], "a grid must have a list of values"),
        ([f"{RATE}=log_uniform(2,1)"], "two numbers 0 < low < high, got 2.0 and 1.0"),
        ([f"{RATE}=log_uniform(a,1)"], "two numbers 0 < low < high, got 'a' and 1.0"),
        ([f"{RATE}="], "give at least one value"),
        ([], "must name a field with its values, got none"),
        (["nowhere.json"], "got 'nowhere.json', which cannot be read"),
        ([f"{RATE}=1e-3", "--trials", "2"], "--trials must be in [1, 1], got 2"),
        ([f"{RATE}=1e-3", "--trials", "0"], "--trials must be in [1, 1], got 0"),
    ],
)
def test_bad_spaces_are_one_sentence_and_write_nothing(
    table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], space: list[str], words: str
) -> None:
    recurrent = ("--model.spec.window", "4", "1", "--model.spec.stride", "4", "1")
    arguments = command(table, tmp_path / "s", "x", network=recurrent)[:-1] + space
    assert cli.main(arguments) == 2
    error = capsys.readouterr().err
    assert words in error
    assert len(error.splitlines()) == 1
    assert not (tmp_path / "s").exists()


def test_trials_on_a_field_share_its_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = FieldConfig(context=4, horizon=2)
    model = FlatPatchesConfig(WindowSpec((None, None, None)))
    base = RunConfig(data, model, ForecastConfig(), TrainConfig(steps=1, batch_size=8))
    asked = []

    def told(_: Run, *__: Any, **___: Any) -> None:
        raise InputError("it must be tried, got as far as that; look no further")

    def loaded(config: FieldConfig, field: Any) -> Any:
        asked.append(config.context)
        return of(config, field)

    of = FieldConfig.of
    monkeypatch.setattr(Run, "fit", told)
    monkeypatch.setattr(FieldConfig, "of", loaded)
    space = {RATE: [1e-2, 1e-3], "data.context": [4, 6]}
    trials = search(base, space, workdir=tmp_path, data=small_field((60, 3, 2)), progress=False)
    assert [trial.error is None for trial in trials or ()] == [False] * 4
    assert sorted(asked) == [4, 6]


def test_search_needs_a_recipe(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["search"]) == 2
    assert "`stpatch search` must have a recipe first, one of classify," in capsys.readouterr().err
    assert cli.main(["search", "--help"]) == 0
    assert "usage: stpatch search RECIPE" in capsys.readouterr().out
