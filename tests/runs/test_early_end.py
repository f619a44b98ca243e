"""A run that `train.patience` ends: its report, its weights, and the same command again."""

import json

import numpy as np
import pytest
from small_panel import flags, write_table

import stpatch_jax as st
from stpatch_jax import cli
from stpatch_jax.errors import InputError
from stpatch_jax.runs import evaluate
from stpatch_jax.runs.run import train


@pytest.mark.slow
def test_a_run_that_ends_early_says_so_and_is_finished(tmp_path, capsys):
    run = tmp_path / "run"
    command = [*flags(write_table(tmp_path / "prices.csv"), run, steps=30)]
    command += ["--train.keep-best", "min:mae", "--train.patience", "2"]
    command += ["--train.checkpoint-every", "3", "--train.evaluate-every", "1"]
    command += ["--train.optimizer.learning-rate", "1"]
    assert cli.main(command) == 0
    report = json.loads((run / "report.json").read_text())
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    errors = [record["validation/mae"] for record in records]
    best, step = report["ended_early"]["best"], report["step"]
    assert step == len(records) == best + 2 < 30
    assert best == 1 + np.argmin(errors)
    # The figures are those of the weights that are left.
    assert report["validation"]["mae"] == pytest.approx(errors[best - 1], rel=1e-6)
    text = (run / "report.md").read_text()
    told = f"with the weights of step {best}: min:mae was no better in the 2 validations since."
    assert f"Training ended early, {told}" in text
    kept = st.load_run(run)
    assert kept.step == step

    def no_step(step, metrics):
        raise AssertionError(step)

    # The same command, or a longer one, prints the report; evaluating makes the same.
    capsys.readouterr()
    assert cli.main([*command, "--train.steps", "40"]) == 0
    assert "Training ended early" in capsys.readouterr().out
    again = train(kept.config, workdir=run, progress=False, on_step=no_step)
    assert again.report == text
    assert evaluate(run) == text


def test_what_is_no_callback_is_refused_before_anything_is_read(tmp_path):
    with pytest.raises(InputError, match="on_step= must be a function of a step"):
        st.train("stocks", workdir=tmp_path / "run", on_step=3)
    assert not (tmp_path / "run").exists()
