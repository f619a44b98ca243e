"""The benchmark scripts run, and the README shows what the results files say."""

import json
import os
import runpy
import subprocess
import sys
from pathlib import Path

import jax
import pytest
from flax import nnx

from benchmarks.device.networks import video_transformer, vit_flops
from stpatch_jax.flops import gradient_flops

ROOT = Path(__file__).parents[2]


def run_module(name, *arguments):
    """The script as it is started by hand, in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", f"benchmarks.{name}", *arguments],
        cwd=ROOT,
        env={**os.environ, "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def run(monkeypatch):
    """Runs a script in this process, which has imported what it needs."""

    def run(name, *arguments):
        monkeypatch.setattr(sys, "argv", [name, *arguments])
        monkeypatch.delitem(sys.modules, f"benchmarks.{name}", raising=False)
        runpy.run_module(f"benchmarks.{name}", run_name="__main__")

    return run


def test_the_readme_shows_the_results():
    checked = run_module("tables", "--check")
    assert checked.returncode == 0, checked.stderr


FUNCTIONS = {
    "extract_patches": {
        "forward": {"auto", "conv", "blocks", "gather", "raw lax", "numpy", "copy"},
        "gradient": {"auto", "raw lax", "copy"},
    },
    "fold_patches": {
        "fold": {"sum", "mean", "hann mean", "lax gradient", "conv_transpose", "copy"},
    },
}


@pytest.mark.parametrize("script", FUNCTIONS)
def test_a_small_run_measures_checks_and_writes(tmp_path, run, script):
    run(
        script,
        *("video", "--small", "--dtypes", "float32", "--repeats", "1"),
        *("--results", str(tmp_path)),
    )
    (path,) = tmp_path.iterdir()
    assert path.name.startswith(f"{script}-cpu-")
    results = json.loads(path.read_text())
    for what, functions in FUNCTIONS[script].items():
        timings = results[what]["float32"]["video"]["ms"]
        assert functions <= set(timings)
        assert all(timing["ms"] > 0 for timing in timings.values())
        assert results["summary"][f"{what} float32"]


@pytest.mark.slow
def test_a_small_run_of_the_backbones_measures_and_writes(tmp_path):
    # As users start it: what it measures is a process that has done nothing else.
    done = run_module(
        "backbones",
        *("neighborhood", "--small", "--dtypes", "float32", "--repeats", "1"),
        *("--results", str(tmp_path)),
    )
    assert done.returncode == 0, done.stderr
    (path,) = tmp_path.iterdir()
    results = json.loads(path.read_text())
    answer = results["networks"]["float32"]["neighborhood"]
    assert min(answer["ms"][kind]["ms"] for kind in ("forward", "step")) > 0
    assert answer["parameters"] > 0
    assert answer["flops"]["step"] > answer["flops"]["forward"] > 0
    assert answer["memory_bytes"] > 0
    assert results["peak_flop_per_s"]["float32"] > 0


@pytest.mark.slow
def test_a_small_run_of_the_training_step_measures_and_writes(tmp_path):
    # As users start it: on one device.
    done = run_module("train_step", "--small", "--repeats", "1", "--results", str(tmp_path))
    assert done.returncode == 0, done.stderr
    (path,) = tmp_path.iterdir()
    results = json.loads(path.read_text())
    answer = results["networks"]["neighborhood"]
    assert min(answer["ms"][kind]["ms"] for kind in ("bare", "loop", "save")) > 0
    assert answer["state_bytes"] > 3 * 4 * answer["parameters"]
    (step,) = results["weak_scaling"]
    assert step["ms"] > 0
    # Every weight has a gradient that is reduced, and nothing is gathered.
    assert step["collectives"].keys() == {"all-reduce"}
    assert step["collectives"]["all-reduce"]["bytes"] >= 4 * step["parameters"]


@pytest.mark.slow
def test_a_small_study_of_windows_is_written_and_drawn(tmp_path, run):
    arguments = ("map", "--small", "--seeds", "1", "--results", str(tmp_path))
    run("window_study", *arguments)
    (path,) = tmp_path.glob("window_study-cpu-*.json")
    found = json.loads(path.read_text())["studies"]["map"]
    # 33 x 49 cells, covered: 5 x 7 windows of 8 cells, 9 x 13 of 4.
    tokens = {name: answer["tokens"] for name, answer in found.items()}
    assert tokens == {"8 x 8 cells, 12 h": 35, "4 x 4 cells": 117}
    assert all(answer["error"] > 0 and answer["ms"] > 0 for answer in found.values())
    assert (tmp_path / "window_study.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("script", "arguments", "message"),
    [
        ("window_study", ("sound",), "NAME must be known, got 'sound'; choose from map, video"),
        ("extract_patches", ("video",), "NAME must be a case of this run, got video; choose from"),
        ("pretraining", ("--small",), "--results must be a folder beside --small, got none"),
    ],
)
def test_a_wrong_argument_is_told_before_anything_runs(run, capsys, script, arguments, message):
    with pytest.raises(SystemExit) as exit_:
        run(script, *arguments)
    assert exit_.value.code == 2
    assert message in capsys.readouterr().err


@pytest.mark.slow
def test_a_small_run_of_pretraining_compares_with_random_weights(data_dir, tmp_path, run):
    run(
        "pretraining",
        *("pretrain-movement", "--small", "--seeds", "1", "--results", str(tmp_path)),
    )
    (path,) = tmp_path.iterdir()
    rows = {(row["dataset"], row["metric"]): row for row in json.loads(path.read_text())}
    dataset = "ACL18, 10 % of labels"
    assert {found for found, _ in rows} == {dataset}
    tuned, gain = rows[dataset, "accuracy"], rows[dataset, "accuracy_gain"]
    scratch = tuned["naive"]["random weights"]
    assert 0.4 < scratch < 0.6
    assert gain["value"] == pytest.approx(tuned["value"] - scratch, abs=1e-12)
    assert gain["interval"][0] <= gain["value"] <= gain["interval"][1]


@pytest.mark.slow
def test_a_small_run_of_tiled_prediction_measures_and_writes(tmp_path, run):
    run(
        "sliding_window",
        *("constant", "--small", "--repeats", "1", "--gigabytes", "0.01"),
        *("--results", str(tmp_path)),
    )
    (path,) = tmp_path.iterdir()
    results = json.loads(path.read_text())
    answer = results["volumes"]["constant"]
    assert min(answer["ms"][name]["ms"] for name in ("ours", "ours, copy")) > 0
    assert answer["planned_bytes"] > 24**3 * 8
    assert results["file"]["peak_bytes"] > 0


@pytest.mark.slow
def test_a_part_of_the_device_measures_and_writes(tmp_path, run):
    # Parts are processes of their own, and this one is ended long before its last measurement.
    run(*("device", "exactness", "--small", "--minutes", "0.4", "--results", str(tmp_path)))
    (path,) = tmp_path.glob("device-cpu-*.json")
    part = json.loads(path.read_text())["parts"]["exactness"]
    assert not any(part["copies, float32"]["different"].values())


def test_flops_of_the_video_transformer_are_those_of_its_program():
    network = video_transformer(8, small=True)
    model = nnx.eval_shape(lambda: network.create("float32", nnx.Rngs(0)))
    batch = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), network.batch())
    assert vit_flops(network) == gradient_flops(network.task.loss, model, batch)
