"""The command line.

    stpatch recipes [NAME]               what can be trained
    stpatch train RECIPE [--flags]       train (or resume) a recipe or a FILE.py, then report
    stpatch search RECIPE [--flags]      try settings, judged on validation
    stpatch backtest RECIPE [--flags]    score forecasts at rolling origins
    stpatch evaluate RUN                 report on a run directory anew
    stpatch predict RUN INPUT OUTPUT     forecast or classify another file
    stpatch explain RUN [--flags]        what an answer of a run came from
    stpatch plan RECIPE --on v5e:16x16   what training costs on chips that are not here
    stpatch patches FILE --window ...    what a window spec makes of a file
    stpatch --version                    which version this is

`stpatch train forecast --data.path FILE` forecasts a file of your own. `stpatch train RECIPE
--help` lists the flags that people use, `--help-all` every one; `eval "$(stpatch --completion)"`
completes them in bash and zsh. Mistakes are one sentence on stderr, with exit code 2.
"""

import contextlib
import gc
import importlib
import inspect
import os
import re
import signal
import sys
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import stpatch_jax
from stpatch_jax.cli.completion import completion
from stpatch_jax.cli.first import answered
from stpatch_jax.cli.recipes import HELP, of_recipe, recipes
from stpatch_jax.cli.signals import Ended, ending, ends_at_signals
from stpatch_jax.errors import InputError, check_choice
from stpatch_jax.escapes import printable
from stpatch_jax.files import require_run, usable

COMMANDS: tuple[str, ...] = (
    "recipes",
    "train",
    "search",
    "backtest",
    "evaluate",
    "predict",
    "explain",
    "plan",
    "patches",
)
OF_RECIPES = ("train", "search", "backtest", "plan")
"""Those that begin with the name of a recipe."""


# An argument or a setting by its name in Python.
_IN_PYTHON = re.compile(r"[a-z]=|(?<![\w./-])(data|model|task|train)\.[a-z]")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; returns the exit code: 0, 2 for a mistake, 130 or 143 for a signal."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    # A terminal that lacks a sign gets its number; others are no streams of bytes.
    with contextlib.suppress(AttributeError):
        sys.stdout.reconfigure(errors="backslashreplace")  # pyright: ignore[reportAttributeAccessIssue]

    said: set[str] = set()

    def print_warning(message: Warning | str, *_: Any, **__: Any) -> None:
        text = f"warning: {_worded(message, arguments)}"
        if text not in said:  # A folder may be read twice.
            said.add(text)
            print(text, file=sys.stderr)

    try:
        with usable(), warnings.catch_warnings():
            warnings.showwarning = print_warning
            code = _answer(arguments)
            return _run(*arguments) if code is None else code
    except InputError as error:
        print(_worded(error, arguments), file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(ending(signal.SIGINT), file=sys.stderr)
        return 128 + signal.SIGINT
    except Ended:
        print(ending(signal.SIGTERM), file=sys.stderr)
        return 128 + signal.SIGTERM
    except BrokenPipeError:
        # Whoever read the output has left; keep the interpreter from flushing into nothing.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _answer(arguments: list[str]) -> int | None:
    """Answers what computes nothing, and returns the exit code; None where a command is to run."""
    if not arguments or arguments[0] in HELP:
        print(inspect.cleandoc(__doc__ or ""))
        return 0 if arguments else 2
    command, *rest = arguments
    if command == "--version":
        print(f"stpatch_jax {stpatch_jax.__version__}")
        return 0
    if command == "--completion":
        print(completion(*COMMANDS))
        return 0
    check_choice("the command", command, COMMANDS)
    if command == "recipes":
        print(printable(recipes(rest), keep="\n"))
        return 0
    if command in ("evaluate", "predict") and rest and not rest[0].startswith("-"):
        require_run(rest[0])
    if command in OF_RECIPES and (usage := of_recipe(command, rest)):
        print(usage)
        return 0
    return answered(command, rest, lambda error: _worded(error, arguments))


def _run(command: str, *arguments: str) -> int:
    if sys.stderr.isatty():
        print("loading JAX ...", file=sys.stderr, flush=True)
    with ends_at_signals(), _rare_collections():
        text = _commands().run(command, list(arguments))
    if text is not None:
        print(printable(text, keep="\n"))
    return 0


@contextlib.contextmanager
def _rare_collections() -> Iterator[None]:
    """Has Python look for garbage less often: most of what JAX traces is kept."""
    usual = gc.get_threshold()
    gc.set_threshold(50_000, 20, 50)
    try:
        yield
    finally:
        gc.set_threshold(*usual)


def _commands() -> Any:
    """What a command needs takes seconds to import, which help and mistakes need not wait for."""
    return importlib.import_module("stpatch_jax.cli.commands")


def _worded(message: Warning | Exception | str, arguments: Sequence[str]) -> str:
    """A message in the flags of the command it is about."""
    text, command = printable(message), next(iter(arguments), "")
    said = command in COMMANDS and _IN_PYTHON.search(text)
    return _commands().in_words_of(command, text) if said else text
