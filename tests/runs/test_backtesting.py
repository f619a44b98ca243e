"""Backtests: where folds lie, that nothing later is seen, what is told, and that they resume."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from flax import nnx
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import ttest_1samp
from small_fields import small_field
from small_panel import flags, write_table

from stpatch_jax import cli
from stpatch_jax.data import FieldConfig
from stpatch_jax.data.digests import digest_of
from stpatch_jax.errors import InputError
from stpatch_jax.nn import FlatPatchesConfig
from stpatch_jax.patches import WindowSpec
from stpatch_jax.runs import RunConfig, Stopped, backtest, load_run
from stpatch_jax.runs.backtesting import Backtest, rolling_folds
from stpatch_jax.runs.backtesting.scoring import FoldJudge
from stpatch_jax.runs.run import Run, evaluate
from stpatch_jax.tasks import ForecastConfig
from stpatch_jax.training import TrainConfig

ROWS, FOLDS, HORIZON, SEASON = 80, 3, 3, 24
CONFIG = RunConfig(
    FieldConfig(context=6, horizon=HORIZON, season=SEASON),
    FlatPatchesConfig(WindowSpec((None,))),
    ForecastConfig(quantiles=(0.1, 0.5, 0.9)),
    TrainConfig(steps=2, batch_size=8),
    recipe="own",
)
FIELD = small_field((ROWS,))


@given(
    rows=st.integers(40, 400),
    folds=st.integers(1, 8),
    horizon=st.integers(1, 3),
    share=st.floats(0.05, 0.5),
)
def test_folds_follow_each_other_to_the_end(
    rows: int, folds: int, horizon: int, share: float
) -> None:
    found = rolling_folds(rows, folds, horizon=horizon, validation_share=share)
    spans = [row for fold in found for row in range(fold.origin, fold.stop)]
    assert [fold.number for fold in found] == list(range(1, folds + 1))
    assert spans == list(range(found[0].origin, rows))
    assert rows // 2 <= found[0].origin < rows // 2 + folds
    assert len({fold.stop - fold.origin for fold in found}) == 1
    for fold in found:
        assert fold.stop - fold.origin >= horizon
        assert 0 < fold.validation <= fold.origin - horizon


def test_a_fold_trains_on_a_season_at_least() -> None:
    asked: dict[str, Any] = {"horizon": 4, "validation_share": 0.1}
    assert rolling_folds(80, 2, season=35, **asked)
    with pytest.raises(InputError, match="more rows than a season of 36, got 36 of the 40 rows"):
        rolling_folds(80, 2, season=36, **asked)


def run(workdir: Path, field: Any = FIELD, **changes: Any) -> Backtest:
    asked: dict[str, Any] = {"folds": FOLDS, "over": "all", "progress": False, **changes}
    return backtest(CONFIG, data=field, workdir=workdir, **asked)


@pytest.fixture(scope="module")
def scored(tmp_path_factory: pytest.TempPathFactory) -> Backtest:
    return run(tmp_path_factory.mktemp("backtest") / "b")


def test_errors_of_rules_are_those_of_numpy(scored: Backtest) -> None:
    values = FIELD.values.astype(float)
    first, length = scored.metrics["folds"][0]["origin"], (ROWS - ROWS // 2) // FOLDS
    assert first == ROWS - FOLDS * length
    train = values[: first - max(HORIZON, round(first / 8))]
    scale = np.abs(train[SEASON:] - train[:-SEASON]).mean(axis=0)
    for number, fold in enumerate(scored.metrics["folds"]):
        origin = first + number * length
        assert fold["origin"] == origin
        starts = np.arange(origin, origin + length - HORIZON + 1)
        assert fold["splits"]["test"]["windows"] == len(starts)
        rows = starts[:, None] + np.arange(HORIZON)
        rules = {"persistence": values[starts - 1][:, None], "season": values[rows - SEASON]}
        for name, forecast in rules.items():
            error = np.abs(forecast - values[rows])
            told = fold["metrics"][name]
            np.testing.assert_allclose(
                told["mase"]["per_lead"], (error / scale).mean(axis=(0, 2)), rtol=1e-5
            )
            size = np.abs(forecast) + np.abs(values[rows])
            np.testing.assert_allclose(told["smape"]["all"], (2 * error / size).mean(), rtol=1e-5)


def test_what_is_told_holds_together(scored: Backtest) -> None:
    folder, told = scored.directory, json.loads((scored.directory / "backtest.json").read_text())
    assert told == scored.metrics
    model, folds = told["mean"]["model"], told["folds"]
    intervals = {"coverage 0.1 to 0.9"}
    # Of fields in several units errors are in scaled ones, and there is no WQL over all.
    assert {*model} == {"mase", "mae", "rmse", "smape", "crps"} | intervals
    for metric, of in model.items():
        each = [fold["metrics"]["model"][metric] for fold in folds]
        assert of["all"] == pytest.approx(np.mean([x["all"] for x in each]))
        np.testing.assert_allclose(of["per_lead"], np.mean([x["per_lead"] for x in each], axis=0))
    verdict, means = told["verdict"], {k: of["mase"]["all"] for k, of in told["mean"].items()}
    own = [fold["metrics"]["model"]["mase"]["all"] for fold in folds]
    other = [fold["metrics"][verdict["rule"]]["mase"]["all"] for fold in folds]
    gains = 1 - np.divide(own, other)
    assert verdict["gains"] == pytest.approx(gains)
    assert means[verdict["rule"]] == min(of for name, of in means.items() if name != "model")
    expected = ttest_1samp(gains, 0).confidence_interval(0.95)
    assert verdict["interval"] == pytest.approx([expected.low, expected.high])
    assert verdict["won"] == (gains > 0).sum()
    text = (folder / "backtest.md").read_text()
    assert text == scored.report
    assert f"**{verdict['text']}**" in text.splitlines()[2]
    assert (folder / "plots/folds.png").exists()
    table = pd.read_csv(folder / "backtest.csv")
    pd.testing.assert_frame_equal(table, scored.table)
    part = table.query("fold == 2 and method == 'season' and metric == 'mae'")
    assert part["value"].tolist() == folds[1]["metrics"]["season"]["mae"]["per_lead"]
    assert len(table) == FOLDS * HORIZON * len(means) * len(model)


def files(folder: Path) -> dict[str, bytes]:
    """Every file of a backtest but those of checkpoints and of the machine."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.parent in (folder, folder / "plots")
    }


def no_fit(*_: Any, **__: Any) -> None:
    raise AssertionError("nothing was to be trained")


def test_finished_folds_are_not_done_again(
    scored: Backtest, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = scored.directory
    before = files(folder)
    with monkeypatch.context() as patch:
        patch.setattr(Run, "fit", no_fit)
        run(folder)
        assert files(folder) == before
        with pytest.raises(InputError, match=r"must go on with backtest\.folds = 3, got 2; repeat"):
            run(folder, folds=2)
        other = FIELD + 1
        other.attrs = FIELD.attrs
        with pytest.raises(InputError, match="must be what it was trained on, got"):
            run(folder, other)
        assert files(folder) == before
    with pytest.raises(InputError, match="run directory, got that of a backtest; give one in it"):
        load_run(folder)
    # Killed before the second fold was written: the model is there, and scored to the same bits.
    for name in "fold-2.json", "fold-3.json", "backtest.json":
        (folder / name).unlink()
    scores: list[str] = []
    judge = FoldJudge.__call__

    def counted(self: FoldJudge, model: Any, split: str, **told: Any) -> Any:
        scores.append(split)
        return judge(self, model, split, **told)

    monkeypatch.setattr(FoldJudge, "__call__", counted)
    run(folder)
    assert files(folder) == before
    assert scores == ["validation", "fold-2", "fold-3"]


@pytest.mark.parametrize(
    ("flags_", "told"),
    [
        (["forecast", "--folds", "0"], "--folds must be a whole number >= 1, got 0"),
        (["forecast", "--folds", "9"], "--folds must be at most 7 for horizons of 4 in the sec"),
        (
            ["reconstruct"],
            "a backtest must be of a forecast of a series, a map or a panel, got Recon",
        ),
    ],
)
def test_what_cannot_be_is_one_sentence_and_writes_nothing(
    flags_: list[str], told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table, folder = write_table(tmp_path / "prices.csv"), tmp_path / "b"
    size = ["--data.path", str(table), "--data.horizon", "4", "--data.context", "4"]
    assert cli.main(["backtest", flags_[0], "--workdir", str(folder), *size, *flags_[1:]]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert told in error
    assert not folder.exists()


@pytest.mark.slow
def test_no_fold_knows_what_comes_at_its_origin_or_after(tmp_path: Path) -> None:
    """With a model for each fold; killed in the second one, it ends as if it had not been."""
    asked: dict[str, Any] = {"folds": 2, "refit": True}
    found = run(tmp_path / "a", **asked)
    origin = found.metrics["folds"][1]["origin"]
    later = FIELD.copy()
    later[origin:] = later[origin:] * 2 - 9
    fit = Run.fit

    def killed(self: Run, directory: Any, **told: Any) -> Any:
        result = fit(self, directory, **told)
        stopped = directory.path.name == "fold-2"
        return dataclasses.replace(result, interrupted=stopped)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Run, "fit", killed)
        with pytest.raises(Stopped):
            run(tmp_path / "b", later, **asked)
    assert not (tmp_path / "b/fold-2.json").exists()
    assert not (tmp_path / "b/backtest.json").exists()
    run(tmp_path / "b", later, **asked)
    run(tmp_path / "c", later, **asked)
    first, killed_, whole = (files(tmp_path / name) for name in "abc")
    assert killed_ == whole
    assert first["fold-1.json"] == whole["fold-1.json"]
    assert first["fold-2.json"] != whole["fold-2.json"]
    for name in "fold-1", "fold-2":
        models = (load_run(tmp_path / of / name).model for of in "ac")
        one, other = (nnx.state(of, nnx.Param) for of in models)
        assert digest_of(nnx.to_pure_dict(one)) == digest_of(nnx.to_pure_dict(other))


@pytest.mark.slow
def test_a_panel_is_backtested_by_the_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table, folder = write_table(tmp_path / "prices.csv", rows=120), tmp_path / "b"
    command = ["backtest", *flags(table, folder, steps=2)[1:], "--folds", "2", "--refit"]
    assert cli.main([*command, "--over", "all"]) == 0
    told = capsys.readouterr().out
    assert (folder / "backtest.md").read_text() in told
    for fold in json.loads((folder / "backtest.json").read_text())["folds"]:
        directory = folder / f"fold-{fold['fold']}"
        # The judge of a run tells the same errors of the same rows.
        evaluate(directory)
        test = json.loads((directory / "report.json").read_text())["test"]
        for method, of in fold["metrics"].items():
            assert of["rmse"] == test["original"][method]["rmse"]
