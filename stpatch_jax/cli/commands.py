"""The command line.

    stpatch recipes                      what can be trained
    stpatch train RECIPE [--flags]       train (or resume) a recipe, then report
    stpatch search RECIPE [--flags]      try settings, judged on validation
    stpatch evaluate RUN                 report on a run directory anew
    stpatch predict RUN INPUT OUTPUT     forecast or classify another file
    stpatch explain RUN [--flags]        what an answer of a run came from
    stpatch patches FILE --window ...    what a window spec makes of a file

`stpatch train RECIPE --help` lists every flag of a recipe. Mistakes are told in one sentence on
stderr, with exit code 2.
"""

import contextlib
import dataclasses
import inspect
import io
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar

import jax
import tyro

from stpatch_jax.cli.patches import PatchesConfig, inspect_patches
from stpatch_jax.errors import InputError
from stpatch_jax.nn import ShardConfig
from stpatch_jax.recipes import RECIPES, recipe
from stpatch_jax.runs.explaining.explanation import ExplainConfig, explain_run
from stpatch_jax.runs.predicting import predict
from stpatch_jax.runs.run import RunConfig, evaluate, train
from stpatch_jax.runs.searching import read_space, search, table
from stpatch_jax.training import processes

Command = TypeVar("Command")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; returns the exit code: 0, 2 for a mistake of the user, 130 for Ctrl-C."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    warnings.showwarning = _tell_warning
    try:
        return _run(arguments)
    except InputError as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted; the same command goes on from the last checkpoint", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # Whoever read the output has left; keep the interpreter from flushing into nothing.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _run(arguments: list[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help"):
        print(inspect.cleandoc(__doc__ or ""))
        return 0 if arguments else 2
    if arguments[0] not in _COMMANDS:
        raise InputError(
            f"the command must be one of {', '.join(_COMMANDS)}, got {arguments[0]!r}; "
            "`stpatch --help` describes them"
        )
    return _COMMANDS[arguments[0]](arguments[1:])


def _tell_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    print(f"warning: {message}", file=sys.stderr)


def _recipes(arguments: list[str]) -> int:
    if arguments and arguments[0] not in ("-h", "--help"):
        raise InputError(
            f"`stpatch recipes` takes no arguments, got {arguments[0]!r}; leave it out"
        )
    for name, build in sorted(RECIPES.items()):
        print(f"{name}: {inspect.getdoc(build)}\n")
    return 0


@dataclasses.dataclass(frozen=True)
class _Train:
    """Flags of `stpatch train RECIPE`.

    Attributes:
        config: The configuration.
        workdir: The run directory, by default runs/RECIPE. The same command on the same directory
            resumes; on a finished run it prints the report.
        coordinator: Where several processes are one run: HOST:PORT of process 0, or auto where JAX
            finds it (SLURM, Open MPI, Cloud TPU).
        process_count: How many they are; not with auto.
        process_index: Which of them this is, from 0; not with auto.
    """

    config: Annotated[RunConfig, tyro.conf.arg(name="")]
    workdir: Path | None = None
    coordinator: str | None = None
    process_count: int | None = None
    process_index: int | None = None


@dataclasses.dataclass(frozen=True)
class _Search:
    """Flags of `stpatch search RECIPE`.

    Attributes:
        config: What holds for every trial.
        space: What is tried: FIELD=VALUE,VALUE or FIELD=log_uniform(LOW,HIGH), fields by the names
            of the flags, or a JSON file of FIELD: [VALUE, ...].
        trials: Number of random trials; without it the whole grid is tried.
        seed: Of the random trials.
        workdir: The directory of the search, by default runs/RECIPE-search. The same command on the
            same directory resumes.
    """

    config: Annotated[RunConfig, tyro.conf.arg(name="")]
    space: tuple[str, ...] = ()
    trials: int | None = None
    seed: int = 0
    workdir: Path | None = None


def _recipe_first(command: str, arguments: list[str]) -> tuple[str, list[str]] | None:
    """Splits the recipe's name off the flags; None where help was asked for, and given."""
    if arguments and not arguments[0].startswith("-"):
        return arguments[0], arguments[1:]
    known = ", ".join(sorted(RECIPES))
    if arguments and arguments[0] in ("-h", "--help"):
        print(f"usage: stpatch {command} RECIPE [--flags]\n\nrecipes: {known}")
        return None
    raise InputError(
        f"`stpatch {command}` needs a recipe first, one of {known}; `stpatch recipes` describes "
        "them"
    )


def _train(arguments: list[str]) -> int:
    split = _recipe_first("train", arguments)
    if split is None:
        return 0
    name, flags = split
    command = _parse(_Train(recipe(name)), f"train {name}", flags)
    with processes(
        command.coordinator,
        process_count=command.process_count,
        process_index=command.process_index,
    ):
        text = train(command.config, workdir=command.workdir)
        if jax.process_index() > 0:
            return 0
    directory = command.workdir or Path("runs") / name
    if text is None:
        print(f"stopped by SIGTERM; the same command goes on from {directory}", file=sys.stderr)
    else:
        print(f"{text}\nreport and plots: {directory}")
    return 0


def _search(arguments: list[str]) -> int:
    split = _recipe_first("search", arguments)
    if split is None:
        return 0
    name, flags = split
    command = _parse(_Search(recipe(name)), f"search {name}", flags)
    directory = command.workdir or Path("runs") / f"{name}-search"
    trials = search(
        command.config,
        read_space(command.space),
        workdir=directory,
        trials=command.trials,
        seed=command.seed,
    )
    if trials is None:
        print(f"stopped by SIGTERM; the same command goes on from {directory}", file=sys.stderr)
    else:
        print(f"{table(trials, directory)}\ntable: {directory / 'search.md'}")
    return 0


def _parse(default: Command, name: str, flags: list[str]) -> Command:
    """Reads the flags of a recipe; what a config refuses leaves as the sentence it said.

    tyro wraps such a sentence in a box of its own and exits, so what it prints is held back until
    it is known whether one of ours stands behind the exit.
    """
    held = io.StringIO()
    try:
        with contextlib.redirect_stderr(held), _registry():
            return tyro.cli(
                type(default),
                default=default,
                args=flags,
                prog=f"stpatch {name}",
                description=inspect.getdoc(RECIPES[name.split()[1]]),
                config=(tyro.conf.FlagConversionOff,),
            )
    except SystemExit as exit_:
        cause: BaseException | None = exit_
        while cause is not None:
            if isinstance(cause, InputError):
                raise cause from None
            cause = cause.__cause__ or cause.__context__
        sys.stderr.write(held.getvalue())
        raise


def _evaluate(arguments: list[str]) -> int:
    if len(arguments) != 1 or arguments[0] in ("-h", "--help"):
        if arguments and arguments[0] in ("-h", "--help"):
            print("usage: stpatch evaluate RUN\n\nRUN is the directory of a run.")
            return 0
        raise InputError(
            f"`stpatch evaluate` needs one run directory, got {len(arguments)} arguments; give "
            "the --workdir of `stpatch train`"
        )
    print(evaluate(arguments[0]))
    return 0


def _explain(arguments: list[str]) -> int:
    config = tyro.cli(ExplainConfig, args=arguments, prog="stpatch explain")
    print(f"{explain_run(config)}\n\nmaps and figures: {config.run / 'explanation.nc'}, .png")
    return 0


def _patches(arguments: list[str]) -> int:
    print(inspect_patches(tyro.cli(PatchesConfig, args=arguments, prog="stpatch patches")))
    return 0


@dataclasses.dataclass(frozen=True)
class _Predict:
    """Predicts a file with the model of a run.

    Attributes:
        run: Directory of a run that forecasts fields or prices, or classifies items.
        input: The file, folder or URL to predict, of the same kind as the run's data.
        output: The .csv or .csv.gz to make; of a field also .zarr, written region by region, which
            the same command goes on with, or .nc.
        every: Forecast at every so many rows; without it once, what follows the last row.
        process_count: How many processes share a .zarr output, each with this command.
        process_index: Which of them this is, from 0.
    """

    run: tyro.conf.Positional[Path]
    input: tyro.conf.Positional[str]
    output: tyro.conf.Positional[Path]
    every: int | None = None
    process_count: int | None = None
    process_index: int | None = None


def _predict(arguments: list[str]) -> int:
    command = tyro.cli(_Predict, args=arguments, prog="stpatch predict")
    told = predict(
        command.run,
        command.input,
        command.output,
        every=command.every,
        process_index=command.process_index,
        process_count=command.process_count,
    )
    print(told)
    return 0


def _registry() -> tyro.constructors.ConstructorRegistry:
    """Hides shardings, which are no flags."""
    registry = tyro.constructors.ConstructorRegistry()

    @registry.struct_rule
    def _(info: tyro.constructors.StructTypeInfo) -> tyro.constructors.StructConstructorSpec | None:
        shard = info.default
        if not isinstance(shard, ShardConfig):
            return None
        return tyro.constructors.StructConstructorSpec(instantiate=lambda: shard, fields=())

    return registry


_COMMANDS: dict[str, Callable[[list[str]], int]] = {
    "recipes": _recipes,
    "train": _train,
    "search": _search,
    "evaluate": _evaluate,
    "predict": _predict,
    "explain": _explain,
    "patches": _patches,
}
