"""Commands that a signal meets at a moment: `python signal_moments.py TABLE FOLDER [HARD NAME]`.

Prints a line of JSON for each command. With HARD, a moment, and NAME, a signal, the process is
stuck outside of Python then, as in a long compilation, and is ended there.
"""

import ctypes
import importlib
import json
import os
import signal
import sys
import threading
from pathlib import Path
from unittest import mock

from small_panel import flags

from stpatch_jax.cli import main

MOMENTS = {
    "loads": "stpatch_jax.runs.run:data_of",
    "compiles": "stpatch_jax.training.loop:make_train_step",
    "steps": "stpatch_jax.training.log:MetricsLog.write",
    "reports": "stpatch_jax.runs.run:draw_plots",
    "judges": "stpatch_jax.runs.judging.judge:sequential_batches",
    "restores": "stpatch_jax.runs.trained:restore_state",
}


def at(moment, number, *, stuck=False):
    """Sends a signal when something is first called; stuck, that call stays in C."""
    module, _, name = MOMENTS[moment].partition(":")
    owner = importlib.import_module(module)
    *path, last = name.split(".")
    for each in path:
        owner = getattr(owner, each)
    real, sent = getattr(owner, last), []

    def called(*args, **options):
        if not sent:
            sent.append(number)
            if stuck:
                # Another thread has to take the signal, or it would end the call.
                signal.pthread_sigmask(signal.SIG_BLOCK, [number])
                threading.Timer(0.5, os.kill, (os.getpid(), number)).start()
                ctypes.CDLL(None).sleep(600)
            os.kill(os.getpid(), number)
        return real(*args, **options)

    return mock.patch.object(owner, last, called)


def run(command, moment, number=signal.SIGTERM, **options):
    print(f"-- {command[0]} {moment}", file=sys.stderr, flush=True)
    with at(moment, number, **options):
        code = main(command)
    print(json.dumps([command[0], moment, code]), flush=True)


def commands(table, folder):
    train = flags(Path(table), folder / "run", steps=4)
    search = ["search", *train[1:], "--space", "model.dropout=0,0.1"]
    search[search.index("--workdir") + 1] = str(folder / "search")
    trained = str(folder / "run")
    return {
        "train": train,
        "search": search,
        "evaluate": ["evaluate", trained],
        "predict": ["predict", trained, str(table), str(folder / "out.csv")],
        "explain": ["explain", trained, "--method", "occlusion"],
    }


if __name__ == "__main__":
    TABLE, FOLDER, *HARD = sys.argv[1:]
    # A process in the background of a shell begins without.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    known = commands(TABLE, Path(FOLDER))
    if HARD:
        run(known["train"], HARD[0], signal.Signals[HARD[1]], stuck=True)
        sys.exit("it went on")
    for moment in ("loads", "compiles", "steps", "reports"):
        run(known["train"], moment)
    run(known["train"], "loads", signal.SIGINT)
    print(json.dumps(["train", "again", main(known["train"])]), flush=True)
    for name in ("evaluate", "explain"):
        run(known[name], "judges" if name == "evaluate" else "restores")
    run(known["predict"], "restores")
    for moment in ("loads", "compiles", "steps"):
        run(known["search"], moment)
    print(json.dumps(["predict", "again", main(known["predict"])]), flush=True)
