"""What the operating system refuses: one sentence with path and reason, exit code 2, no traces."""

import errno
import io
import itertools
import json
import os
import shutil
from pathlib import Path

import pytest
from format_runs import FORMATS, KINDS, field
from small_panel import flags, write_table

from stpatch_jax import cli
from stpatch_jax.data import FieldConfig, open_field
from stpatch_jax.errors import InputError
from stpatch_jax.files import refusal, replaced, usable
from stpatch_jax.runs import evaluate, load_run
from stpatch_jax.runs.explaining import explain
from stpatch_jax.runs.predicting import predict
from stpatch_jax.runs.run import train
from stpatch_jax.runs.searching import search

REFUSED = (
    *(errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.ENAMETOOLONG),
    *(errno.ENOTDIR, errno.ELOOP, errno.EMFILE, errno.EIO),
)
LONG = "x" * 300


@pytest.fixture
def run(tmp_path):
    """A finished run of a field that lies in a file beside it."""
    field().to_netcdf(tmp_path / "field.nc")
    folder = Path(shutil.copytree(FORMATS / "format-1-field", tmp_path / "run"))
    config = json.loads((folder / "config.json").read_text())
    config["data"]["path"] = str(tmp_path / "field.nc")
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def refuse(monkeypatch, number, *, name, calls):
    """Lets calls fail on every path that holds a name."""
    for module, call in calls:
        real = getattr(module, call)

        def hooked(path, *arguments, real=real, **settings):
            if name in str(path):
                raise OSError(number, os.strerror(number), str(path))
            return real(path, *arguments, **settings)

        monkeypatch.setattr(module, call, hooked)


def files_in(folder):
    return {path: path.is_file() and path.read_bytes() for path in folder.rglob("*")}


COMMANDS = {
    "train": (["workdir"], [(os, "mkdir"), (os, "open")]),
    "search": (["workdir"], [(os, "mkdir"), (os, "open")]),
    "predict": ([".stpatch-part.out.csv"], [(io, "open"), (os, "replace")]),
    "evaluate": (["config.json"], [(io, "open")]),
    "explain": (["_CHECKPOINT_METADATA"], [(io, "open")]),
    "patches": ([".stpatch-part.a.png"], [(io, "open"), (os, "replace")]),
}


# What is told of an error is decided in one place, so each command meets one or two of them.
@pytest.mark.parametrize(
    ("command", "number"),
    [*zip(itertools.cycle(COMMANDS), REFUSED, strict=False)],
    ids=lambda x: errno.errorcode.get(x, x),
)
def test_a_refused_file_is_one_sentence_and_the_state_before(
    command, number, run, tmp_path, capsys, monkeypatch
):
    source = str(tmp_path / "field.nc")
    table = write_table(tmp_path / "prices.csv")
    arguments = {
        "train": flags(table, tmp_path / "workdir"),
        "search": [
            *("search", *flags(table, tmp_path / "workdir")[1:]),
            *("--space", "train.seed=1,2"),
        ],
        "predict": ["predict", str(run), source, str(tmp_path / "out.csv")],
        "evaluate": ["evaluate", str(run)],
        "explain": ["explain", str(run)],
        "patches": [
            "patches",
            source,
            "--window",
            "4",
            "2",
            "2",
            "--output",
            str(tmp_path / "a.png"),
        ],
    }[command]
    (name,), calls = COMMANDS[command]
    before = files_in(tmp_path)
    with monkeypatch.context() as patch:
        refuse(patch, number, name=name, calls=calls)
        assert cli.main(arguments) == 2
    said = [x for x in capsys.readouterr().err.splitlines() if not x.startswith("warning: ")]
    assert len(said) == 1, said
    assert os.strerror(number) in said[0]
    assert " must be " in said[0]
    if number == errno.EMFILE and command != "evaluate":
        assert "`ulimit -n 4096`" in said[0]
    assert files_in(tmp_path) == before


@pytest.mark.parametrize(
    "arguments",
    [
        ["train", "stocks", "--workdir", LONG],
        ["train", "stocks", "--data.path", LONG],
        ["train", "stocks", "--start-from", LONG],
        ["search", "stocks", "--space", "train.seed=1,2", "--workdir", LONG],
        ["search", "stocks", "--space", LONG],
        ["evaluate", LONG],
        ["explain", LONG],
        ["predict", LONG, "field.nc", "out.csv"],
        ["predict", "run", LONG, "out.csv"],
        ["predict", "run", "field.nc", f"{LONG}.csv"],
        ["predict", "run", "field.nc", f"{LONG}.zarr"],
        ["patches", LONG, "--window", "4"],
        ["patches", "field.nc", "--window", "4", "2", "2", "--output", f"{LONG}.png"],
    ],
    ids=lambda arguments: " ".join(arguments).replace(LONG, "LONG"),
)
@pytest.mark.usefixtures("run")
@pytest.mark.filterwarnings("ignore:1 of 10 companies dropped")
def test_a_name_too_long_is_one_sentence(arguments, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = files_in(tmp_path)
    assert cli.main(arguments) == 2
    said = [x for x in capsys.readouterr().err.splitlines() if not x.startswith("warning: ")]
    assert len(said) == 1, said
    assert " must be " in said[0]
    assert "ile name too long" in said[0]
    assert files_in(tmp_path) == before


def test_in_python_it_is_an_input_error(run, tmp_path):
    config, make = KINDS["field"]
    asked = [
        lambda: train(config, data=make(), workdir=LONG, progress=False),
        lambda: search(config, {"train.seed": [1]}, data=make(), workdir=LONG, progress=False),
        lambda: evaluate(LONG),
        lambda: load_run(LONG),
        lambda: explain(LONG),
        lambda: predict(run, LONG, tmp_path / "a.csv", progress=False),
        lambda: predict(run, str(tmp_path / "field.nc"), f"{LONG}.csv", progress=False),
        lambda: open_field(LONG),
        lambda: FieldConfig(path=LONG).load(),
        lambda: FieldConfig(path=f"{tmp_path}/loop").load(),
    ]
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    for ask in asked:
        with pytest.raises(InputError, match=r" must be .*(too long|Too many levels)"):
            ask()


@pytest.mark.parametrize("number", REFUSED, ids=errno.errorcode.get)
def test_what_was_there_stays_where_a_file_is_refused(tmp_path, number):
    path = tmp_path / "a.txt"
    path.write_text("before")

    def fail():
        with replaced(path) as part:
            part.write_text("half")
            raise OSError(number, os.strerror(number))

    with pytest.raises(InputError, match=rf"a\.txt must be writable, got {os.strerror(number)}; "):
        fail()
    assert files_in(tmp_path) == {path: b"before"}


def test_what_libraries_make_of_an_error_is_told_alike():
    full = ValueError("INTERNAL: Error writing: No space left on device [tensorstore]")
    assert "got No space left on device; make room" in str(refusal(full, path="a"))
    wrapped = RuntimeError("failed")
    wrapped.__cause__ = OSError(errno.EMFILE, os.strerror(errno.EMFILE))
    assert "`ulimit -n 4096`" in str(refusal(wrapped, path="a"))
    assert str(refusal(OSError())) == "a file must be usable, got OSError; choose another"

    @usable()
    def piped():
        raise BrokenPipeError

    with pytest.raises(BrokenPipeError):
        piped()


@pytest.mark.filterwarnings("ignore:the run in .* kept no digest")
def test_a_finished_run_that_is_read_only_prints_its_report(run, monkeypatch):
    config, make = KINDS["field"]
    shutil.copy(FORMATS / "format-1-field/config.json", run)
    for path in ((run / "report.md"), None):
        if path is None:
            (run / "report.md").unlink()
        before = files_in(run)
        with monkeypatch.context() as patch:
            patch.setattr(os, "access", lambda *_: False)
            calls = [(os, "replace"), (os, "mkdir"), (os, "open"), (os, "unlink")]
            refuse(patch, errno.EROFS, name="/run/", calls=calls)
            text = train(config, data=make(), workdir=run, progress=False).report
        assert text
        assert path is None or text == path.read_text()
        assert files_in(run) == before
