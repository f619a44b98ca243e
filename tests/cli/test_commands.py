"""The command line: every mistake is one sentence on stderr, exit code 2, nothing written."""

import gc
import inspect
import json
import os
import re
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import pandas as pd
import pytest
from small_panel import flags, write_table

import stpatch_jax
from stpatch_jax import cli, recipes
from stpatch_jax.cli import commands
from stpatch_jax.cli.first import RIGHT
from stpatch_jax.errors import InputError
from stpatch_jax.recipes import RECIPES
from stpatch_jax.recipes.described import described


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    return write_table(tmp_path_factory.mktemp("table") / "prices.csv")


def long_table(path: Path, **columns: object) -> Path:
    """A long table of one company, with columns replaced, or left out where None."""
    rows = 60
    values: dict = {
        "Date": pd.date_range("2000-01-01", periods=rows).strftime("%Y-%m-%d"),
        "ticker": "AAA",
        **{name: range(10, 10 + rows) for name in ("Open", "High", "Low", "Close", "Adj Close")},
        "Volume": 1000,
    }
    kept = {name: value for name, value in (values | columns).items() if value is not None}
    frame = pd.DataFrame(kept)
    frame.to_csv(path, index=False)
    return path


def refused(arguments: list[str], capsys, *words: str) -> None:
    """The command must fail with one sentence that holds the words."""
    assert cli.main(arguments) == 2
    captured = capsys.readouterr()
    lines = [line for line in captured.err.splitlines() if not line.startswith("warning: ")]
    assert len(lines) == 1, captured.err
    assert all(word in lines[0] for word in words), lines[0]
    assert captured.out == ""


def test_recipes_are_described(capsys):
    assert cli.main(["recipes"]) == 0
    out = capsys.readouterr().out
    assert "\nstocks  " in out
    assert "Forecasts hourly series, 336 hours in, 96 out, in the protocol of ETTh1. Data: " in out
    assert len(out.splitlines()) == len(RECIPES) + 2
    # What is read off the files is what they register.
    told = described()
    assert {name: inspect.getdoc(build) for name, build in RECIPES.items()} == {
        name: text for name, (_, text, _) in told.items()
    }
    assert cli.main(["recipes", "etth1"]) == 0
    out = capsys.readouterr().out
    assert re.search(r"\n\nData: ETTh1, fetched \(2.6 MB\)\. Time: \d+ (s|min) of CPU\.\n$", out)
    # Measured are those with data of their own.
    times = json.loads((Path(recipes.__file__).parent / "times.json").read_text(encoding="utf-8"))
    own = {name for name, (_, _, data) in told.items() if data.startswith("your own")}
    assert not own & times.keys()
    assert times.keys() <= RECIPES.keys()
    refused(["recipes", "etth2"], capsys, "the recipe must be 'etth1'", "'etth2'")
    refused(["recipes", "all", "of", "them"], capsys, "must have one name at most", "'all of them'")


def test_help_is_given(capsys):
    for arguments in (["--help"], ["train", "--help"]):
        assert cli.main(arguments) == 0
        assert "stpatch" in capsys.readouterr().out
    with pytest.raises(SystemExit) as exit_:
        cli.main(["train", "weather", "--help"])
    assert exit_.value.code == 0
    text = capsys.readouterr().out
    assert "  --data.horizon                  Number of predicted time steps (default: 24)" in text
    assert 15 < text.count("\n  --") < 25
    with pytest.raises(SystemExit) as exit_:
        cli.main(["train", "stocks", "--help-all"])
    assert exit_.value.code == 0
    text = capsys.readouterr().out
    for flag in ("--workdir", "--data.path", "--train.steps", "--model.spec.padding"):
        assert flag in text
    assert "--recipe" not in text


def in_new_process(program: str) -> str:
    """What a program prints that has imported nothing of this one."""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    told = {"env": environment, "capture_output": True, "text": True, "check": True}
    return subprocess.run([sys.executable, "-c", program], **told).stdout


def test_what_computes_nothing_imports_nothing_that_does():
    """Help, the version and mistakes come at once: JAX alone takes longer to import."""
    commands = {
        0: ("--help", "--version", "recipes", "train --help", "train forecast --help"),
        2: ("fly", "train socks", "train stocks --train.epochs 3", "predict nowhere a.csv b.csv"),
    }
    program = f"""import sys; from stpatch_jax.cli import main
for code, lines in {commands}.items():
    assert [main(line.split()) for line in lines] == [code] * len(lines)
print('jax' in sys.modules, 'numpy' in sys.modules)"""
    printed = in_new_process(program)
    assert printed.endswith("\nFalse False\n")
    assert f"stpatch_jax {stpatch_jax.__version__}\n" in printed
    assert "\n  --train.steps " in printed


# Read by stand-ins of JAX and the other libraries, and by the libraries.
READ = [
    *(["train", name, "--help"] for name in sorted(RECIPES)),
    ["train", "forecast", "--model", "patch_transformer:tiny", "--help"],
    ["train", "exchange", "--model.dtype", "bfloat16", "--train.steps", "3"],
    ["train", "stock-risk", "--data.horizon", "0"],
    ["train", "video-detection", "--task.weights", "1"],
    ["search", "classify", "--trials", "many"],
    ["patches", "a.nc", "--windw", "3"],
    ["explain", "run", "--seed", "-1"],
    ["predict", "run", "a.csv"],
]


def test_flags_that_are_read_first_are_read_as_by_the_libraries(capsys):
    program = f"""import contextlib, io, json, sys
from stpatch_jax.cli import first
def read(command, *arguments):
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(out):
        return first.read(command, list(arguments), str), out.getvalue()
print(json.dumps([read(*arguments) for arguments in {READ}]))"""
    first = json.loads(in_new_process(program))
    for (command, *arguments), (code, text) in zip(READ, first, strict=True):
        said = ""
        try:
            commands.check(command, arguments)
            expected = RIGHT
        except SystemExit:
            expected = 0
        except InputError as error:
            expected, said = 2, f"{error}\n"
        assert (code, text) == (expected, capsys.readouterr().out + said)


def test_unknown_names_list_the_known(capsys):
    refused(["fly"], capsys, "'recipes', 'train', 'search', 'backtest', 'evaluate'", "'fly'")
    refused(["train", "socks"], capsys, "must be 'stocks' or one of", "others", "'socks'")
    refused(["train", "my-data"], capsys, "must be 'classify', 'clip',", "'my-data'")
    refused(["train", "--train.steps", "3"], capsys, "must have a recipe first, one of classify,")


def test_a_command_leaves_warnings_as_they_were(capsys):
    before = warnings.showwarning
    assert cli.main(["recipes"]) == 0
    assert cli.main(["fly"]) == 2
    assert warnings.showwarning is before


def test_a_warning_is_printed_once(capsys, monkeypatch):
    def warned(*_):
        for at in range(4):
            warnings.warn(f"left out {at // 2}", stacklevel=at + 1)

    module = sys.modules["stpatch_jax.cli.main"]
    monkeypatch.setattr(module, "_answer", warned)
    monkeypatch.setattr(module, "_run", lambda *_: 0)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        assert cli.main(["train"]) == 0
    assert capsys.readouterr().err.splitlines() == ["warning: left out 0", "warning: left out 1"]


@pytest.mark.parametrize("words", [["--model", "unet:tiny"], ["--model=unet"], ["model:unet"]])
def test_another_backbone_has_its_own_flags(capsys, words):
    with pytest.raises(SystemExit) as exit_:
        cli.main(["train", "exchange", *words, "--help-all"])
    assert exit_.value.code == 0
    text = capsys.readouterr().out
    assert "--model.kernel-size" in text
    refused(["train", "exchange", "--model", "unett"], capsys, "the model must be", "'unett'")


@pytest.mark.parametrize(
    ("extra", "words"),
    [
        (["--train.epochs", "3"], ("got unrecognized options: --train.epochs, 3; near are --tr",)),
        (["--train.steps", "many"], ("got error parsing --train.steps:", "'many'", "--help")),
        (["--task.loss", "l1"], ("invalid choice 'l1' for argument '--task.loss'",)),
        (["--train.seed"], ("got missing value for argument '--train.seed'",)),
    ],
)
def test_a_flag_that_is_none_is_one_sentence(tmp_path, capsys, extra, words):
    refused(["train", "stocks", *extra, "--workdir", str(tmp_path / "run")], capsys, *words)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("extra", "words"),
    [
        (["--data.path", "nowhere.csv"], ("nowhere.csv",)),
        (
            ["--model.spec.window", "9", "1"],
            (
                "--model.spec.window must be no longer than the input (8, 3) along time, got",
                "use a shorter --model.spec.window or --model.spec.padding SAME VALID",
            ),
        ),
        (["--data.context", "70"], ("80", "rows")),
        (["--data.horizon", "0"], ("horizon", ">= 1")),
        (["--data.minimum-share", "1.5"], ("--data.minimum-share must", "1.5")),
        (["--data.target-channel", "open"], ("--data.target-channel must", "price")),
        (["--model.spec.window", "0", "1"], ("--model.spec.window along time", "at least 1", "0")),
        (["--model.spec.padding", "SAME"], ("--model.spec.padding must have one entry per", "1")),
        (["--model.dropout=2"], ("--model.dropout must", "2")),
        (["--train.batch-size", "12"], ("batch size", "12", "8 devices")),
        (["--train.optimizer.learning-rate", "-1"], ("learning-rate", "-1")),
    ],
)
def test_bad_settings_are_one_sentence_and_write_nothing(table, tmp_path, capsys, extra, words):
    refused([*flags(table, tmp_path / "run"), *extra], capsys, *words)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"Close": None}, ("close",)),
        ({"Low": ["x"] * 60}, ("'Low'", "line 2", "'x'")),
        ({"ticker": None}, ("ticker",)),
        ({"Date": ["2000-01-01"] * 60}, ("AAA", "2000-01-01")),
    ],
)
def test_bad_tables_are_one_sentence_and_write_nothing(tmp_path, capsys, columns, words):
    path = long_table(tmp_path / "prices.csv", **columns)
    refused(flags(path, tmp_path / "run"), capsys, *words)
    assert not (tmp_path / "run").exists()


def test_no_company_with_enough_data(tmp_path, capsys):
    late = [float("nan")] * 55 + [1.0] * 5
    path = long_table(tmp_path / "prices.csv", **{"Adj Close": late})
    refused(flags(path, tmp_path / "run"), capsys, "at least one company", "AAA")
    assert not (tmp_path / "run").exists()


def test_a_directory_of_another_run_is_left_as_it_was(table, tmp_path, capsys):
    run = tmp_path / "run"
    run.mkdir()
    (run / "config.json").write_text('{"format": 1, "recipe": "other", "train": {"steps": 1}}')
    refused(flags(table, run), capsys, "must go on with data = None")
    assert [p.name for p in run.iterdir()] == ["config.json"]
    refused(["evaluate", str(run)], capsys, "config must have the entries")


def test_evaluate_needs_a_run(tmp_path, capsys):
    refused(["evaluate"], capsys, "got no RUN (directory of the run)")
    refused(["evaluate", str(tmp_path)], capsys, "must be a run directory")
    refused(["evaluate", str(tmp_path / "none")], capsys, "must be a run directory")
    assert not any(tmp_path.iterdir())


def test_the_module_is_the_command(tmp_path):
    """A real process: one sentence on stderr, exit code 2, no traceback."""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(
        [sys.executable, "-m", "stpatch_jax", "evaluate", str(tmp_path)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stdout == ""
    # grain logs a line of its own on jaxlib 0.10.0.
    lines = [x for x in done.stderr.splitlines() if not x.startswith("WARNING:absl:Grain")]
    assert len(lines) == 1
    assert lines[0].startswith(f"{tmp_path} must be a run directory")


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_a_shell_completes_commands_recipes_and_flags():
    program = f"""stpatch() {{ '{sys.executable}' -m stpatch_jax "$@"; }}
eval "$(stpatch --completion)"
try() {{ COMP_WORDS=(stpatch "$@"); COMP_CWORD=$#; _stpatch; echo "${{COMPREPLY[@]}}"; }}
try ev; try train et; try train forecast --data.ta; try predict --fut"""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(["bash", "-c", program], env=environment, capture_output=True, check=True)
    assert done.stdout.split() == [b"evaluate", b"etth1", b"--data.targets", b"--future"]


def test_garbage_is_looked_for_less_often_while_a_command_runs(monkeypatch):
    usual, seen = gc.get_threshold(), []
    monkeypatch.setattr(commands, "run", lambda *_: seen.append(gc.get_threshold()))
    assert cli.main(["train", "stocks", "--train.steps", "1"]) == 0
    assert seen[0][0] > usual[0]
    assert gc.get_threshold() == usual
