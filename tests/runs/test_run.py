"""One run from configuration to report: figures against NumPy, resume, evaluate, growth."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import mean_absolute_error, root_mean_squared_error
from small_panel import COMPANIES, flags, write_table

from stpatch_jax import cli


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A finished small run and its table."""
    folder = tmp_path_factory.mktemp("trained")
    table = write_table(folder / "prices.csv")
    assert cli.main(flags(table, folder / "run")) == 0
    return folder / "run", table


def read(run: Path) -> dict:
    return json.loads((run / "report.json").read_text())


def without_machine(run: Path) -> dict:
    return {name: value for name, value in read(run).items() if name != "machine"}


def test_the_run_directory_holds_what_the_design_says(trained):
    run, _ = trained
    names = {path.name for path in run.iterdir()}
    expected = {"config.json", "metrics.jsonl", "checkpoints", "report.json", "report.md", "plots"}
    assert names == expected | {"report.html"}
    plots = {path.name for path in (run / "plots").iterdir()}
    assert plots == {"forecasts.png", "errors.png", "learning.png"}
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in (run / "plots").iterdir())
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2, 3, 4, 5, 6]
    assert [line["step"] for line in lines if "validation/mae" in line] == [3, 6]
    report = read(run)
    assert report["step"] == 6
    assert report["machine"]["devices"] == 8
    assert "steps_per_second" not in json.dumps(without_machine(run))


def test_persistence_in_the_report_is_what_pandas_says(trained):
    """The naive row, recomputed from the file with nothing of ours."""
    run, table = trained
    report = read(run)
    prices = pd.read_csv(table, index_col="Date", parse_dates=True)
    first = int(prices.index.searchsorted(report["data"]["splits"]["test"]["first_target"]))
    last = prices.ffill()
    truth, naive = [], []
    for origin in range(first, len(prices) - 1):  # windows of two target rows, stride 1
        truth.append(prices.to_numpy()[origin : origin + 2])
        naive.append(np.repeat(last.to_numpy()[origin - 1 : origin], 2, axis=0))
    truth, naive = np.stack(truth), np.stack(naive)
    real = np.isfinite(truth)
    assert report["test"]["windows"] == len(truth)
    assert report["test"]["targets"] == real.sum()
    price = report["test"]["original"]["persistence"]
    for lead in range(2):
        t, n = truth[:, lead][real[:, lead]], naive[:, lead][real[:, lead]]
        assert price["mae"]["per_lead"][lead] == pytest.approx(mean_absolute_error(t, n), rel=1e-6)
        rmse = root_mean_squared_error(t, n)
        assert price["rmse"]["per_lead"][lead] == pytest.approx(rmse, rel=1e-6)
    assert price["mae"]["all"] == pytest.approx(
        mean_absolute_error(truth[real], naive[real]), rel=1e-6
    )
    for at, company in enumerate(COMPANIES):
        error = np.abs(truth - naive)[:, :, at][real[:, :, at]].mean()
        assert report["test"]["series"][company]["persistence"] == pytest.approx(error, rel=1e-6)


def test_skill_is_one_minus_the_ratio_of_errors(trained):
    run, _ = trained
    for unit in ("original", "scaled"):
        figures = read(run)["test"][unit]
        for metric in ("mae", "mse", "rmse"):
            for at in range(2):
                ratio = (
                    figures["model"][metric]["per_lead"][at]
                    / figures["persistence"][metric]["per_lead"][at]
                )
                assert figures["skill"][metric]["per_lead"][at] == pytest.approx(1 - ratio)


def test_the_summary_stands_beside_the_naive_row(trained):
    run, _ = trained
    text = (run / "report.md").read_text()
    assert "| lead (rows) | MAE model | MAE persistence | skill |" in text
    # Weights, two moments of Adam and the batch at the least; the report's text stays the same on
    # any machine.
    assert read(run)["machine"]["step_memory_bytes"] > 12 * read(run)["parameters"]
    all_leads = [line for line in text.splitlines() if line.startswith("| all |")]
    figures = read(run)["test"]
    for line, name in zip(all_leads, ("scaled", "original"), strict=False):
        assert f"{figures[name]['model']['mae']['all']:.4g}" in line
    plots = [line.split("](")[1].rstrip(")") for line in text.splitlines() if line[:2] == "!["]
    assert plots == [f"plots/{name}.png" for name in ("errors", "forecasts", "learning")]
    assert all((run / plot).exists() for plot in plots)
    page = (run / "report.html").read_text()
    assert page.count("<img ") == len(plots)
    assert page.count("<tr>") == len([line for line in text.splitlines() if line[:2] == "| "])


def test_a_finished_run_prints_its_report_and_changes_nothing(trained, capsys):
    run, table = trained
    before = {path: path.stat().st_mtime_ns for path in (run, *run.rglob("*"))}
    assert cli.main(flags(table, run)) == 0
    assert (run / "report.md").read_text() in capsys.readouterr().out
    assert before == {path: path.stat().st_mtime_ns for path in before}


@pytest.mark.parametrize("lost", [("report.md", "report.html"), ("plots/errors.png",)])
def test_what_a_finished_run_lost_is_made_again_without_training(trained, tmp_path, capsys, lost):
    run, table = trained
    copy = Path(shutil.copytree(run, tmp_path / "copy"))
    for name in lost:
        (copy / name).unlink()
    kept = {path: path.stat().st_mtime_ns for path in copy.glob("checkpoints/**/*")}
    assert cli.main(flags(table, copy)) == 0
    assert (run / "report.md").read_text() in capsys.readouterr().out
    assert all((copy / name).read_bytes() == (run / name).read_bytes() for name in lost)
    assert read(copy) == read(run)
    assert kept == {path: path.stat().st_mtime_ns for path in copy.glob("checkpoints/**/*")}


def test_a_finished_run_that_cannot_be_written_prints_its_report(
    trained, tmp_path, capsys, monkeypatch
):
    run, table = trained
    copy = Path(shutil.copytree(run, tmp_path / "copy"))
    (copy / "report.md").unlink()
    (copy / "plots/errors.png").unlink()
    before = {path: path.stat().st_mtime_ns for path in (copy, *copy.rglob("*"))}
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert cli.main(flags(table, copy)) == 0
    assert (run / "report.md").read_text() in capsys.readouterr().out
    assert before == {path: path.stat().st_mtime_ns for path in (copy, *copy.rglob("*"))}


def test_evaluate_computes_the_same_figures_anew(trained, tmp_path, capsys):
    run, _ = trained
    copy = Path(shutil.copytree(run, tmp_path / "copy"))
    (copy / "report.json").unlink()
    assert cli.main(["evaluate", str(copy)]) == 0
    assert (run / "report.md").read_text() in capsys.readouterr().out
    assert without_machine(copy) == without_machine(run)


@pytest.mark.slow  # quick for the training loop
def test_steps_may_grow_and_the_longer_run_equals_one_that_never_stopped(trained, tmp_path):
    run, table = trained
    copy = Path(shutil.copytree(run, tmp_path / "copy"))
    assert cli.main(flags(table, copy, steps=9)) == 0
    assert cli.main(flags(table, tmp_path / "straight", steps=9)) == 0
    assert without_machine(copy) == without_machine(tmp_path / "straight")


def test_changed_data_under_a_run_is_refused(trained, tmp_path, capsys):
    run, table = trained
    copy = Path(shutil.copytree(run, tmp_path / "copy"))
    moved = write_table(tmp_path / "other.csv", rows=81)
    config = json.loads((copy / "config.json").read_text())
    config["data"]["path"] = str(moved)
    (copy / "config.json").write_text(json.dumps(config))
    before = (copy / "report.json").read_bytes()
    assert cli.main(["evaluate", str(copy)]) == 2
    assert "must be what it was trained on" in capsys.readouterr().err
    assert (copy / "report.json").read_bytes() == before
    assert table.exists()


@pytest.mark.parametrize("split", ["validation", "test"])
def test_a_changed_value_is_noticed_by_every_command(trained, tmp_path, capsys, split):
    run, table = trained
    lines = table.read_text().splitlines()
    at = {"validation": 60, "test": len(lines) - 1}[split]
    date, first, *rest = lines[at].split(",")
    other = tmp_path / table.name
    lines[at] = ",".join([date, f"1{first}", *rest])
    other.write_text("\n".join(lines))
    copy = Path(shutil.copytree(run, tmp_path / "copy"))
    config = (copy / "config.json").read_text()
    (copy / "config.json").write_text(config.replace(str(table), str(other)))
    before = {path: path.read_bytes() for path in copy.rglob("*") if path.is_file()}
    for command in (
        flags(other, copy),
        flags(other, copy, steps=9),
        ["evaluate", str(copy)],
        ["explain", str(copy)],
    ):
        assert cli.main(command) == 2
        error = capsys.readouterr().err
        assert f"got another {split} split; give the data as they were" in error
        assert len(error.splitlines()) == 1
    assert before == {path: path.read_bytes() for path in copy.rglob("*") if path.is_file()}
    # A copy of the file is the same data.
    other.write_bytes(table.read_bytes())
    assert cli.main(flags(other, copy)) == 0
