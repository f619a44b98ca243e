"""Processes of one run that differ are refused, all of them, before the first step."""

from pathlib import Path

import pandas as pd
import pytest
from served import Server, free_port
from small_panel import flags, write_table

from stpatch_jax.training.distributed import of_every_process, require_alike


def test_one_process_alone_is_alike():
    require_alike({"train": {"seed": 0}, "loss": float("nan")})
    assert of_every_process(b"own") == [b"own"]


@pytest.fixture
def server(tmp_path):
    server = Server(tmp_path, tmp_path / "cache")
    yield server
    server.close()


def refused(server, name, commands, *told):
    """The sentence that all processes of one run say, alike."""
    meet = ["--coordinator", f"127.0.0.1:{free_port()}", "--process-count", str(len(commands))]
    numbered = [[*of, *meet, "--process-index", str(index)] for index, of in enumerate(commands)]
    started = server.start(name, numbered, told)
    codes, said = started.codes(), started.said("err")
    assert codes == [2] * len(commands), said
    last = [[line for line in text.splitlines() if "must" in line] for text in said]
    assert last[0] == last[1], said
    assert len(last[0]) == 1
    assert not (server.folder / "run").exists()
    return last[0][0]


@pytest.mark.slow
def test_processes_that_differ_are_all_refused(server, tmp_path):
    table, workdir = write_table(tmp_path / "prices.csv"), tmp_path / "run"
    command = flags(table, workdir, steps=2)
    other = [*command, "--train.seed", "3", "--model.dropout", "0.5"]
    told = refused(server, "settings", [command, other], {}, {"version": "0.0.9"})
    assert told.startswith(
        "all processes must have the same --model.dropout, --train.seed, version of stpatch_jax, "
        "got 0.2 in process 0 and 0.5 in process 1; start all"
    )

    # The same words, another file: as on hosts with disks of their own.
    folders = [tmp_path / "one", tmp_path / "two"]
    for at, folder in enumerate(folders):
        folder.mkdir()
        values = pd.read_csv(table)
        values.iloc[5, 1] += at
        values.to_csv(folder / "prices.csv", index=False)
    relative = flags(Path("prices.csv"), workdir, steps=2)
    where = [{"where": str(folder)} for folder in folders]
    assert "split of the data" in refused(server, "values", [relative] * 2, *where)
    (folders[1] / "prices.csv").unlink()
    told = refused(server, "none", [relative] * 2, *where)
    assert "must have the same data," in told
    assert "prices.csv" in told
