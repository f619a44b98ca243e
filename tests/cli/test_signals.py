"""SIGTERM and Ctrl-C from the first second on: an exit code, one sentence, and what was saved."""

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from small_panel import write_table

from stpatch_jax.cli import signals
from stpatch_jax.cli.signals import Ended, ending, ends_at_signals

SCRIPT = Path(__file__).with_name("signal_moments.py")
ROOT = Path(__file__).parents[2]
ENDED, STOPPED = ending(signal.SIGTERM), "stopped by SIGTERM; the same command goes on"


def test_sigterm_ends_a_block_and_gives_the_signal_back():
    before = signal.getsignal(signal.SIGTERM), signal.set_wakeup_fd(-1)
    signal.set_wakeup_fd(before[1])
    with pytest.raises(Ended) as ended, ends_at_signals():
        signal.raise_signal(signal.SIGTERM)
    assert ended.value.code == 143
    assert before == (signal.getsignal(signal.SIGTERM), signal.set_wakeup_fd(before[1]))
    assert "signals" not in [thread.name for thread in threading.enumerate()]


def test_who_takes_the_signal_on_himself_is_left_alone(monkeypatch):
    monkeypatch.setattr(signals, "GRACE", 0)
    heard = []
    with ends_at_signals():
        taken = signal.signal(signal.SIGTERM, lambda *_: heard.append(1))
        signal.raise_signal(signal.SIGTERM)
        signal.signal(signal.SIGTERM, taken)
    assert heard == [1]


def moments(tmp_path, *hard):
    env = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")])}
    table = write_table(tmp_path / "prices.csv")
    return subprocess.run(
        [sys.executable, str(SCRIPT), str(table), str(tmp_path / "runs"), *hard],
        env=env | {"JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )


@pytest.mark.slow
def test_every_command_ends_at_a_signal_and_goes_on(tmp_path):
    done = moments(tmp_path)
    assert done.returncode == 0, done.stderr
    codes = [json.loads(line) for line in done.stdout.splitlines() if line.startswith('["')]
    assert codes == [
        ["train", "loads", 143],
        ["train", "compiles", 143],
        ["train", "steps", 0],
        ["train", "reports", 143],
        ["train", "loads", 130],
        ["train", "again", 0],
        ["evaluate", "judges", 143],
        ["explain", "restores", 143],
        ["predict", "restores", 143],
        ["search", "loads", 143],
        ["search", "compiles", 143],
        ["search", "steps", 0],
        ["predict", "again", 0],
    ]
    told = [part.splitlines() for part in done.stderr.split("-- ")[1:]]
    for code, part in zip([c for c in codes if c[1] != "again"], told, strict=True):
        sentence = {143: ENDED, 0: STOPPED, 130: ending(signal.SIGINT)}[code[2]]
        assert any(line.startswith(sentence) for line in part), (code, part)
        assert not any("Traceback" in line for line in part), part
    assert (tmp_path / "runs" / "run" / "report.json").exists()
    assert not list((tmp_path / "runs").rglob("*.lock"))


@pytest.mark.slow
@pytest.mark.parametrize(("moment", "name"), [("compiles", "SIGTERM"), ("loads", "SIGINT")])
def test_a_command_that_is_stuck_outside_of_python_ends_too(tmp_path, moment, name):
    done = moments(tmp_path, moment, name)
    number = signal.Signals[name]
    assert done.returncode == 128 + number, done.stderr
    assert ending(number) in done.stderr
