"""The commands, each a function of the words behind its name that returns what is printed."""

import contextlib
import dataclasses
import inspect
import io
import re
import sys
from collections.abc import Callable, Mapping
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar, get_origin, get_type_hints

import tyro

from stpatch_jax.cli.help import HELP_ALL, in_one_sentence, short_help
from stpatch_jax.cli.main import COMMANDS, OF_RECIPES
from stpatch_jax.cli.recipes import HELP
from stpatch_jax.errors import InputError, require
from stpatch_jax.nn.sharding import ShardConfig
from stpatch_jax.recipes import found
from stpatch_jax.recipes.registry import import_again
from stpatch_jax.runs.backtesting.folds import Over
from stpatch_jax.runs.config import RecipeFile, RunConfig, config_of
from stpatch_jax.runs.directory import RunDirectory
from stpatch_jax.runs.explaining import ExplainConfig
from stpatch_jax.runs.values import from_values

if TYPE_CHECKING:
    from stpatch_jax.cli.patches import PatchesConfig

Flags = TypeVar("Flags")
_BOOL = ("True", "False")
_BARE = ("--refit", "--fit")
"""The switches that people give without a value."""


@dataclasses.dataclass(frozen=True)
class _Train:
    """Flags of `stpatch train RECIPE`.

    Attributes:
        config: The configuration.
        model: Another backbone than the recipe's, NAME or NAME:SIZE of size tiny, base, large or
            one that was published, such as unet:large or patch_transformer:vit_l; the other flags
            `--model.*` are then its own, and its windows those that suit the data unless they were
            published too. `model:NAME` is the same.
        workdir: The run directory, by default runs/RECIPE. The same command on the same directory
            resumes; on a finished run it prints the report.
        coordinator: Where several processes are one run: HOST:PORT of process 0, or auto where JAX
            finds it (SLURM, Open MPI, Cloud TPU). The port has no authentication, and whoever
            reaches it can end the run or pass for a process of it: choose a HOST of a network of
            your own, which is then the only address that listens (with auto, all do).
        process_count: How many they are; not with auto.
        process_index: Which of them this is, from 0; not with auto.
    """

    config: Annotated[RunConfig, tyro.conf.arg(name="")]
    model: str | None = None
    workdir: Path | None = None
    coordinator: str | None = None
    process_count: int | None = None
    process_index: int | None = None


def _train(flags: _Train) -> str | None:
    import jax

    from stpatch_jax.runs.run import Stopped, train
    from stpatch_jax.training import processes

    count, index = flags.process_count, flags.process_index
    directory = flags.workdir or Path("runs") / flags.config.recipe
    _import_recipe_of(directory)
    with processes(flags.coordinator, process_count=count, process_index=index):
        try:
            text = train(flags.config, workdir=directory).report
        except Stopped:
            return None
        told = f"{text}\nreport and plots: {directory / 'report.html'}"
        return None if jax.process_index() else told


@dataclasses.dataclass(frozen=True)
class _Search:
    """Flags of `stpatch search RECIPE`.

    Attributes:
        config: What holds for every trial.
        model: Another backbone than the recipe's, as of `stpatch train`.
        space: What is tried: FIELD=VALUE,VALUE or FIELD=log_uniform(LOW,HIGH), fields by the names
            of the flags, or a JSON file of FIELD: [VALUE, ...].
        trials: Number of random trials; without it the whole grid is tried.
        seed: Of the random trials.
        workdir: The directory of the search, by default runs/RECIPE-search. The same command on the
            same directory resumes.
    """

    config: Annotated[RunConfig, tyro.conf.arg(name="")]
    model: str | None = None
    space: tuple[str, ...] = ()
    trials: int | None = None
    seed: int = 0
    workdir: Path | None = None


def _search(flags: _Search) -> str | None:
    from stpatch_jax.runs.run import stopped_text
    from stpatch_jax.runs.searching import read_space, search, table

    directory = flags.workdir or Path("runs") / f"{flags.config.recipe}-search"
    space = read_space(flags.space)
    trials = search(flags.config, space, workdir=directory, trials=flags.trials, seed=flags.seed)
    if trials is None:
        print(stopped_text(directory), file=sys.stderr)
        return None
    return f"{table(trials, directory)}\ntable: {directory / 'search.md'}"


@dataclasses.dataclass(frozen=True)
class _Backtest:
    """Flags of `stpatch backtest RECIPE`.

    Attributes:
        config: The configuration.
        model: Another backbone than the recipe's, as of `stpatch train`.
        folds: Into how many spans of equal length the second half of the rows is cut.
        refit: Whether a model is trained for each fold on what came before it; without it one is
            trained before the first.
        over: Whether the training span is cut (train), so that the test span stays unseen, or all
            rows (all).
        workdir: The directory of the backtest, by default runs/RECIPE-backtest. The same command on
            the same directory resumes.
    """

    config: Annotated[RunConfig, tyro.conf.arg(name="")]
    model: str | None = None
    folds: int = 8
    refit: bool = False
    over: Over = "train"
    workdir: Path | None = None


def _backtest(flags: _Backtest) -> str | None:
    from stpatch_jax.runs.backtesting import backtest
    from stpatch_jax.runs.run import Stopped

    directory = flags.workdir or Path("runs") / f"{flags.config.recipe}-backtest"
    asked: dict[str, Any] = {"folds": flags.folds, "refit": flags.refit, "over": flags.over}
    try:
        text = backtest(flags.config, workdir=directory, **asked).report
    except Stopped:
        return None
    return f"{text}\nreport, table and plot: {directory}"


@dataclasses.dataclass(frozen=True)
class _Plan:
    """Flags of `stpatch plan RECIPE`.

    Attributes:
        config: The configuration.
        model: Another backbone than the recipe's, as of `stpatch train`.
        on: The chips it is planned for: v5e:16x16, v5p:4x4x8 or 2*v6e:16x16 are slices of TPUs by
            their sides, h100:8 a host of GPUs and h100:8x32 32 of them, cpu:8 devices of a CPU.
        fit: Whether to search the largest batch that fits, over the fewest devices that need share
            one copy of the weights, in place of batch and mesh of the configuration.
        changes: Whether to try, one by one, other settings that may help.
        workdir: Where plan.json and plan.html are written; without it nowhere.
    """

    config: Annotated[RunConfig, tyro.conf.arg(name="")]
    model: str | None = None
    on: str | None = None
    fit: bool = False
    changes: bool = True
    workdir: Path | None = None


def _plan(flags: _Plan) -> str:
    import jax

    from stpatch_jax.runs.planning import plan

    # Nothing runs but what makes the data; the compilers need no device.
    jax.config.update("jax_platforms", "cpu")
    options = {name: getattr(flags, name) for name in ("on", "fit", "changes", "workdir")}
    return plan(flags.config, **options).report


def _of_recipe(
    kind: Callable[[RunConfig, str | None], Flags], command: str, arguments: list[str]
) -> Flags:
    """The flags that follow the name of a recipe."""
    name, *flags = arguments
    build, (model, flags) = found(name), _named_model(flags)
    bare = [word in _BARE and then not in _BOOL for word, then in pairwise([*flags, ""])]
    flags = [f"{word}=True" if alone else word for word, alone in zip(flags, bare, strict=True)]
    config = build()
    if model is not None:
        from stpatch_jax.nn.costs import backbone_by_name

        config = config.of_model(backbone_by_name(model))
    default = kind(config, model)
    description = inspect.getdoc(build) or ""
    if any(word in HELP for word in flags):
        print(short_help(f"{command} {name}", default, description))
        raise SystemExit(0)
    flags = ["--help" if word == HELP_ALL else word for word in flags]
    options = {"default": default, "description": description}
    return _parsed(type(default), f"{command} {name}", flags, **options)


def _named_model(arguments: list[str]) -> tuple[str | None, list[str]]:
    """The backbone that is named, if one is, and the other arguments: its flags are its own.

    >>> _named_model(["--model", "unet:tiny", "--train.steps", "3"])
    ('unet:tiny', ['--train.steps', '3'])
    """
    model, others, words = None, [], iter(arguments)
    for word in words:
        if word == "--model" or word.startswith(("--model=", "model:")):
            model = next(words, "") if word == "--model" else re.split("[=:]", word, maxsplit=1)[1]
        else:
            others.append(word)
    return model, others


def _parsed(kind: type[Flags], command: str, arguments: list[str], **options: Any) -> Flags:
    """Reads flags; what a config refuses leaves as the sentence it said.

    tyro wraps such a sentence in a box of its own and exits; what it refuses itself is taken out of
    that box.
    """
    held = io.StringIO()
    options |= {"prog": f"stpatch {command}", "config": (tyro.conf.FlagConversionOff,)}
    try:
        with contextlib.redirect_stderr(held), _flag_kinds():
            return tyro.cli(kind, args=arguments, **options)
    except SystemExit as exit_:
        error: BaseException | None = exit_
        while error is not None and not isinstance(error, InputError):
            error = error.__cause__ or error.__context__
        if error is not None:
            raise InputError(_by_flag(str(error), arguments)) from None
        if exit_.code:
            raise InputError(in_one_sentence(held.getvalue(), command)) from None
        raise


def _by_flag(sentence: str, arguments: list[str]) -> str:
    """A sentence about a field of a configuration, by the flag that gave the field, if one did.

    >>> _by_flag("stride must be at least 1, got 0; use one", ["--model.spec.stride", "0"])
    '--model.spec.stride must be at least 1, got 0; use one'
    """
    name, _, rest = sentence.partition(" ")
    name = re.sub(r"^[A-Z]\w*Config\.", "", name)
    given = {word.partition("=")[0] for word in arguments if word.startswith("--")}
    flags = [x for x in given if x.strip("-").rpartition(".")[2].replace("-", "_") == name]
    return f"{flags[0]} {rest}" if len(flags) == 1 else sentence


def _flag_kinds() -> tyro.constructors.ConstructorRegistry:
    """Hides shardings, which are no flags, and reads settings by name as NAME=VALUE."""
    registry = tyro.constructors.ConstructorRegistry()

    @registry.struct_rule
    def _(info: tyro.constructors.StructTypeInfo) -> tyro.constructors.StructConstructorSpec | None:
        shard = info.default
        if not isinstance(shard, ShardConfig):
            return None
        return tyro.constructors.StructConstructorSpec(instantiate=lambda: shard, fields=())

    @registry.primitive_rule
    def _(
        info: tyro.constructors.PrimitiveTypeInfo,
    ) -> tyro.constructors.PrimitiveConstructorSpec | None:
        if get_origin(info.type) is not Mapping:
            return None
        return tyro.constructors.PrimitiveConstructorSpec(
            nargs="*",
            metavar="[NAME=VALUE [NAME=VALUE ...]]",
            instance_from_str=_by_name,
            is_instance=lambda value: isinstance(value, Mapping),
            str_from_instance=lambda value: [f"{name}={of}" for name, of in value.items()],
        )

    return registry


def _by_name(words: list[str]) -> dict[str, str]:
    """Settings out of NAME=VALUE."""
    for word in words:
        require(
            "=" in word.strip("="),
            f"a setting by name must be NAME=VALUE, got {word!r}; write for example level=500",
        )
    return dict(word.split("=", 1) for word in words)


@dataclasses.dataclass(frozen=True)
class _Evaluate:
    """Reports on a run anew, from its latest checkpoint.

    Attributes:
        run: Directory of the run.
    """

    run: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="RUN")]


def _evaluate(flags: _Evaluate) -> str:
    from stpatch_jax.runs.run import evaluate

    _import_recipe_of(flags.run)
    return evaluate(flags.run)


def _import_recipe_of(run: str | Path) -> None:
    """Imports the file of one's own that the recipe of a run came from, if there is a run."""
    if (file := _recipe_file(run)) is not None:
        import_again(file)


def _recipe_file(run: str | Path) -> RecipeFile | None:
    with contextlib.suppress(InputError):
        values = RunDirectory(run).config().get("recipe_file")
        return from_values(RecipeFile | None, values)  # pyright: ignore[reportArgumentType]
    return None


@dataclasses.dataclass(frozen=True)
class _Predict:
    """Predicts a file with the model of a run.

    Attributes:
        run: Directory of a run.
        input: The file, folder or URL to predict, of the same kind as the run's data.
        output: The file to make: .csv or .csv.gz; of a field also .zarr, written region by region,
            which the same command goes on with, or .nc; of arrays .npz, .npy or .nc; of boxes and
            frames also .mp4 or .png; of texts .txt.
        data: How this file is read; by default as those of the run.
        future: A file of the covariates of data.known over the horizon; without it they stand in
            the rows of the input behind its last target.
        every: Forecast at every so many rows; without it once, what follows the last row.
        length: Of a run that writes text how many characters to add, 200 by default.
        process_count: How many processes share a .zarr output, each with this command.
        process_index: Which of them this is, from 0.
    """

    run: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="RUN")]
    input: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="INPUT")]
    output: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="OUTPUT")]
    data: Any
    future: str | None = None
    every: int | None = None
    length: int | None = None
    process_count: int | None = None
    process_index: int | None = None


def _predict(flags: _Predict) -> str:
    from stpatch_jax.runs.predicting import predict

    options = {**vars(flags)}
    run, source, target, told = (options.pop(name) for name in ("run", "input", "output", "data"))
    return predict(run, source, target, told=told, **options)


def _for_prediction(arguments: list[str]) -> _Predict:
    known = _reading(arguments)
    start = _Predict(tyro.MISSING, tyro.MISSING, tyro.MISSING, known)
    flags = _parsed(_Predict, "predict", arguments, default=start)
    told = {name: of for name, of in vars(flags.data).items() if of != getattr(known, name)}
    return dataclasses.replace(flags, data=told)


def _reading(arguments: list[str]) -> Any:
    """The settings of a run that tell how a file is read, as a dataclass of these alone.

    Where the arguments name no run, which is refused later, they are those of any file.
    """
    from stpatch_jax.data.file_config import FileConfig

    config: Any = FileConfig()
    with contextlib.suppress(InputError, StopIteration):
        run = next(word for word in arguments if not word.startswith("-"))
        _import_recipe_of(run)
        config = config_of(RunDirectory(run)).data
    hints, bases = get_type_hints(type(config)), type(config).__mro__
    fields = [(name, hints[name], getattr(config, name)) for name in config.reading]
    kind = dataclasses.make_dataclass("Reading", [field[:2] for field in fields], frozen=True)
    told = ((inspect.getdoc(base) or "").partition("Attributes:\n")[2] for base in bases)
    kind.__doc__ = "Settings.\n\nAttributes:\n" + "\n".join(of.partition("\n\n")[0] for of in told)
    return kind(**{name: value for name, _, value in fields})


def _explain(config: ExplainConfig) -> str:
    from stpatch_jax.runs.explaining.explanation import explain_run

    _import_recipe_of(config.run)
    return f"{explain_run(config)}\nmaps and figures: {config.run / 'explanation.nc'}, .html"


def _patches(config: "PatchesConfig") -> str:
    from stpatch_jax.cli.patches import inspect_patches

    return inspect_patches(config)


_EACH = (_train, _search, _backtest, _evaluate, _predict, _explain, _plan, _patches)


def run(command: str, arguments: list[str]) -> str | None:
    """Runs a command; returns what is to be printed."""
    return dict(zip(COMMANDS[1:], _EACH, strict=True))[command](_read(command, arguments))


def check(command: str, arguments: list[str]) -> None:
    """Reads the flags of a command, and refuses them as `run` does, but imports no other file.

    Those are a recipe file, and what the recipe of a run came from.

    Raises:
        InputError: The flags cannot be used.
        SystemExit: They asked for help, which is printed.
    """
    first = next(iter(arguments), "")
    own = ".py" in first if command in OF_RECIPES else _recipe_file(first)
    if not own:
        _read(command, arguments)


def _read(command: str, arguments: list[str]) -> Any:
    """The flags of a command."""
    if command in OF_RECIPES:
        return _of_recipe(_flags_of(command), command, arguments)
    if command == "predict":
        return _for_prediction(arguments)
    return _parsed(_flags_of(command), command, arguments)


def in_words_of(command: str, message: str) -> str:
    """A message in the flags of a command: those of a configuration, and its own."""
    from stpatch_jax.cli.words import in_flags

    return in_flags(message, own=[field.name for field in dataclasses.fields(_flags_of(command))])


def _flags_of(command: str) -> Any:
    """The dataclass of a command's flags."""
    if command == "patches":
        from stpatch_jax.cli.patches import PatchesConfig

        return PatchesConfig
    kinds = (_Train, _Search, _Backtest, _Evaluate, _Predict, ExplainConfig, _Plan)
    return dict(zip(COMMANDS[1:], kinds, strict=False))[command]
