"""The command line.

    stpatch recipes                      what can be trained
    stpatch train RECIPE [--flags]       train (or resume) a recipe, then report
    stpatch evaluate RUN                 report on a run directory anew

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
from typing import Annotated, Any

import tyro

from stpatch_jax.canonical import PaddingMode, PaddingName
from stpatch_jax.errors import InputError
from stpatch_jax.recipes import RECIPES, recipe
from stpatch_jax.running import RunConfig, evaluate, train
from stpatch_jax.windows import WindowSpec


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
    """

    config: Annotated[RunConfig, tyro.conf.arg(name="")]
    workdir: Path | None = None


def _train(arguments: list[str]) -> int:
    if not arguments or arguments[0].startswith("-"):
        if arguments and arguments[0] in ("-h", "--help"):
            print(f"usage: stpatch train RECIPE [--flags]\n\nrecipes: {', '.join(sorted(RECIPES))}")
            return 0
        raise InputError(
            f"`stpatch train` needs a recipe first, one of {', '.join(sorted(RECIPES))}; "
            "`stpatch recipes` describes them"
        )
    name, *flags = arguments
    command = _parse(name, flags)
    text = train(command.config, workdir=command.workdir)
    directory = command.workdir or Path("runs") / name
    if text is None:
        print(f"stopped by SIGTERM; the same command goes on from {directory}", file=sys.stderr)
    else:
        print(f"{text}\nreport and plots: {directory}")
    return 0


def _parse(name: str, flags: list[str]) -> _Train:
    """Reads the flags of a recipe; what a config refuses leaves as the sentence it said.

    tyro wraps such a sentence in a box of its own and exits, so what it prints is held back until
    it is known whether one of ours stands behind the exit.
    """
    held = io.StringIO()
    try:
        with contextlib.redirect_stderr(held), _registry():
            return tyro.cli(
                _Train,
                default=_Train(recipe(name)),
                args=flags,
                prog=f"stpatch train {name}",
                description=inspect.getdoc(RECIPES[name]),
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


def _registry() -> tyro.constructors.ConstructorRegistry:
    """Teaches tyro the flags of a `WindowSpec`, which is no dataclass."""
    registry = tyro.constructors.ConstructorRegistry()

    @registry.struct_rule
    def _(info: tyro.constructors.StructTypeInfo) -> tyro.constructors.StructConstructorSpec | None:
        spec = info.default
        if info.type is not WindowSpec or not isinstance(spec, WindowSpec):
            return None
        types: dict[str, Any] = {
            "window": tuple[int | None, ...],
            "stride": tuple[int | None, ...],
            "dilation": tuple[int, ...],
            "padding": tuple[PaddingName, ...],
            "padding_mode": tuple[PaddingMode, ...],
        }
        fields = tuple(
            tyro.constructors.StructFieldSpec(name, kind, default=getattr(spec, name))
            for name, kind in types.items()
        )
        return tyro.constructors.StructConstructorSpec(instantiate=spec.replace, fields=fields)

    return registry


_COMMANDS: dict[str, Callable[[list[str]], int]] = {
    "recipes": _recipes,
    "train": _train,
    "evaluate": _evaluate,
}
