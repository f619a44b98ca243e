"""Explanations of a finished run: which part of an example its answer came from."""

import contextlib
import dataclasses
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import jax
import numpy as np
import xarray as xr
from jax.tree_util import Partial

from stpatch_jax import explain as methods
from stpatch_jax.data import Data
from stpatch_jax.data.times import time_text
from stpatch_jax.errors import check_choice, require
from stpatch_jax.explain.score import scores
from stpatch_jax.files import replaced, usable
from stpatch_jax.flops import count_flops
from stpatch_jax.patches.windows import WindowSpec
from stpatch_jax.runs.config import InMemory
from stpatch_jax.runs.explaining.config import ExplainConfig, Method
from stpatch_jax.runs.explaining.pictures import draw_maps, draw_scores
from stpatch_jax.runs.judging.judge import judges
from stpatch_jax.runs.judging.question import MOST_EXAMPLES, Asked, Question, backbone_of
from stpatch_jax.runs.judging.tables import document, markdown_table, pictures
from stpatch_jax.runs.lock import held
from stpatch_jax.runs.pages import write_told
from stpatch_jax.runs.trained import TrainedRun, load_run
from stpatch_jax.training import make_mesh

_MOST_WINDOWS = 1024
# What all methods together may compute, a minute or two of a CPU core, and a call of the score.
_MOST_FLOPS, _CALL_FLOPS = 2.5e12, 2e10
_DPI = 100
_SHOWN = 5
_REPEATS = 5  # of each permutation
_PICTURES = {
    "explanation.png": "What counts, by method",
    "explanation_scores.png": "How the answer falls and rises as cells are taken away or put in",
}


@usable()
def explain_run(config: ExplainConfig) -> str:
    """Explains one answer as `explain` does, writes it and returns what `explanation.md` holds.

    Raises:
        InputError: The run, its data or a flag cannot be used; nothing was written.
    """
    run = load_run(config.run)
    explanation = _explanation(run, config, None)
    question, text = explanation.question, _markdown(run, explanation)
    title, place = question.title, question.place
    with held(config.run):
        with contextlib.ExitStack() as stack:
            data, maps, scores = (
                stack.enter_context(replaced(config.run / name))
                for name in ("explanation.nc", *_PICTURES)
            )
            explanation.dataset(run).to_netcdf(data)
            figure = draw_maps(question.shown, explanation.maps, title=title, place=place)
            figure.savefig(maps, dpi=_DPI)
            figure = draw_scores(explanation.curves, explanation.tables, title=title)
            figure.savefig(scores, dpi=_DPI)
        write_told(config.run / "explanation.md", text)
    return text


@usable()
def explain(
    run: TrainedRun | str | Path,
    *,
    data: Data | InMemory | None = None,
    method: Method | tuple[Method, ...] = (),
    split: str = "test",
    example: int = -1,
    target: str | None = None,
    lead: int | None = None,
    window: tuple[int, ...] | None = None,
    seed: int = 0,
) -> xr.Dataset:
    """Explains one answer of a run by every method that fits, and judges each explanation.

    What the forecast is added to (persistence) is held as it is: what is explained is what the
    model makes of its input. Hidden values are 0: the mean of the training rows, black in frames
    that are not scaled, or the token 0, which stands before a text. Token ids have no gradients:
    texts of them are explained by occlusion only. A class of a text that is given as the evidence
    of its windows of words is explained by those that end with each word.

    `run` is a run or its directory, `data` as in `train`, for a run that was trained on data in
    memory; all others are the fields of `ExplainConfig`, of which one method may be given alone.

    Returns:
        The `input` (time, *space, channel) and, by the name of each method, what its cells count;
        `channel_importance` and `neighborhood_weights` where they are known. Attributes of a map
        are its unit, and `faithfulness` and `correlation` with that of random weights.

    Raises:
        InputError: The run, its data or an argument cannot be used.
    """
    trained = run if isinstance(run, TrainedRun) else load_run(run)
    names = (method,) if isinstance(method, str) else tuple(method)
    path = trained.directory.path
    config = ExplainConfig(path, names, split, example, target, lead, window, seed)
    return _explanation(trained, config, data).dataset(trained)


@dataclass(frozen=True)
class Budget:
    """How much is computed for an explanation: less for an answer that costs much.

    Attributes:
        flops: The arithmetic of one answer.
        windows: Most windows that occlusion hides.
        points: Points of integrated gradients.
        samples: Samples of SmoothGrad.
        batch_size: Fields in a call of the score.
    """

    flops: int
    windows: int
    points: int = 64
    samples: int = 32
    batch_size: int = 32

    @classmethod
    def of(cls, question: Question, *, windows: int) -> "Budget":
        """The budget of a question with so many windows; all there is where its answer is cheap."""
        field = jax.ShapeDtypeStruct((1, *question.field.shape), np.float32)
        flops = max(count_flops(question.score, field), 1)
        most = cls(flops, windows)
        # Each map is made of the model and of three random ones; a gradient is three answers.
        answers = 4 * (most.windows + 3 * most.points + 3 * most.samples)
        share = _MOST_FLOPS / (answers * flops)
        if share >= 1:
            return most
        # So few that a map is still one.
        named = {"windows": 64, "points": 16, "samples": 8}
        counts = {
            key: min(getattr(most, key), max(least, int(share * getattr(most, key))))
            for key, least in named.items()
        }
        size = min(most.batch_size, max(1, int(_CALL_FLOPS / flops)))
        return cls(flops, **counts, batch_size=size)

    def allows(self, answers: int) -> bool:
        """Whether so many answers more are not too many."""
        return answers * self.flops <= _MOST_FLOPS

    @property
    def told(self) -> str:
        """What was done without, for people; empty where nothing was."""
        if self.points == Budget.points:
            return ""
        return (
            f"An answer takes {self.flops:.2g} FLOP: occlusion hides at most {self.windows} windows"
            f", gradients are of {self.points} points and {self.samples} samples."
        )


@dataclass(frozen=True, eq=False)
class _Explanation:
    """The maps of a question by method, how good each is, and what is known of channels."""

    question: Question
    maps: Mapping[str, xr.DataArray]
    curves: Mapping[str, xr.Dataset]
    tests: Mapping[str, methods.Randomization]
    tables: Mapping[str, xr.DataArray]
    budget: Budget

    def dataset(self, run: TrainedRun) -> xr.Dataset:
        maps = {}
        for name, values in self.maps.items():
            told = {"faithfulness": self.curves[name].attrs["faithfulness"]}
            maps[name] = values.assign_attrs(**told, correlation=self.tests[name].correlation)
            if (masked := self.question.masked) is not None:
                shown = xr.DataArray(~masked, dims=self.question.field.dims[:-1])
                maps[name] = maps[name].where(shown)
        attrs = {**run.identity, "explained": self.question.title}
        return xr.Dataset({"input": self.question.shown, **maps, **self.tables}, attrs=attrs)


def _explanation(
    run: TrainedRun, config: ExplainConfig, data: Data | InMemory | None
) -> _Explanation:
    asked: Any = {name: getattr(config, name) for name in ("split", "example", "target", "lead")}
    question = ask(run, data=data, **asked)
    spec = hidden_windows(config.window, question)
    windows = math.prod(spec.grid_shape(question.field.shape[:-1]))
    budget = Budget.of(question, windows=windows)
    spec = hidden_windows(config.window, question, most=budget.windows)
    key = jax.random.key(config.seed)
    maps, curves, tests = {}, {}, {}
    for name in _fitting(config.method, question):
        make = _maker(name, question, spec, key, budget)
        maps[name] = make(question.score)
        curves[name] = methods.deletion_insertion(
            question.score,
            question.field,
            maps[name],
            unit=question.unit,
            batch_size=budget.batch_size,
        )
        tests[name] = methods.randomization_test(
            lambda state, make=make: make(question.with_weights(state)), question.weights, key=key
        )
    return _Explanation(question, maps, curves, tests, _tables(question, key, budget), budget)


def ask(
    run: TrainedRun,
    *,
    data: Data | InMemory | None = None,
    split: str,
    example: int,
    target: str | None = None,
    lead: int | None = None,
) -> Question:
    """Asks a run about one example of its data; what, its judge says.

    The arguments are those of `explain`.

    Raises:
        InputError: The data of the run have changed, or there is no such example, target or lead.
    """
    known = run.data(values=data)
    count = len(known.source(split))
    require(
        -count <= example < count,
        f"example must be one of the {count} of the {split} split, from {-count} to {count - 1}, "
        f"got {example}; choose one of them",
    )
    train = run.config.train
    mesh = make_mesh(**dataclasses.asdict(train.mesh))
    judge = judges.of(run.task, known)(run.task, known, mesh, batch_size=train.examples)
    return judge.question(
        Asked(run.model, run.task, known, split, example % count, target=target, lead=lead)
    )


def hidden_windows(
    window: tuple[int, ...] | None, question: Question, *, most: int = _MOST_WINDOWS
) -> WindowSpec:
    """The windows that occlusion hides; they cover every cell, and are not too many to try.

    `window` counts cells along (time, *space); None takes the windows of the backbone, grown until
    there are at `most` so many.
    """
    shape = question.field.shape[:-1]
    if window is not None:
        spec = WindowSpec(window, padding="COVER")
        spec.grid_shape(shape)
        return spec
    backbone = question.backbone
    natural = question.patches or (None if backbone is None else backbone.spec)
    own = [1] * len(shape) if natural is None else natural.window_shape(shape)
    strides = own if natural is None else natural.stride
    cells = [
        length if length < size else -(-size // 16) for length, size in zip(own, shape, strict=True)
    ]
    steps = [
        step if length == before and step is not None and step <= length else length
        for length, before, step in zip(cells, own, strides, strict=True)
    ]
    spec = WindowSpec(cells, stride=steps, padding="COVER")
    while np.prod(grid := spec.grid_shape(shape)) > most:
        at = int(np.argmax(grid))
        if steps[at] == cells[at]:
            cells[at] = min(2 * cells[at], shape[at])
        steps[at] = cells[at]
        spec = WindowSpec(cells, stride=steps, padding="COVER")
    return spec


def _fitting(wanted: tuple[Method, ...], question: Question) -> tuple[Method, ...]:
    """The methods that are asked for, by default all that fit the answer and its model."""
    unfit = dict(question.unfit)
    if not isinstance(question.backbone, methods.AttentionModel):
        kind = type(question.backbone).__name__
        unfit.setdefault("attention_rollout", ("a backbone that tells its attention", kind))
    fit = tuple(method for method in get_args(Method) if method not in unfit)
    for method in wanted:
        check_choice("method", method, get_args(Method))
        need, there = unfit.get(method, ("", ""))
        require(method in fit, f"{method} must have {need}, got {there}; use {', '.join(fit)}")
    return wanted or fit


def _maker(
    name: Method, question: Question, spec: WindowSpec, key: jax.Array, budget: Budget
) -> Callable[[Partial], xr.DataArray]:
    """What makes one explanation of a score, be it of random weights."""
    field = question.field
    options: dict[str, Any] = {"unit": question.unit, "batch_size": budget.batch_size}

    def make(score: Partial) -> xr.DataArray:
        if name == "occlusion":
            return methods.occlusion(score, field, spec, **options)
        if name == "integrated_gradients":
            exact = {"points": budget.points, "tolerance": np.inf}
            return methods.integrated_gradients(score, field, **exact, **options)
        if name == "smooth_grad":
            samples = budget.samples
            return methods.smooth_grad(score, field, key=key, samples=samples, **options)
        return methods.attention_rollout(backbone_of(score), field, time=question.reads)

    return make


def _tables(question: Question, key: jax.Array, budget: Budget) -> dict[str, xr.DataArray]:
    """What is known of channels, lags and neighbours rather than of cells."""
    tables = {}
    quality, fields, channels = question.quality, question.fields, question.field.shape[-1]
    affordable = budget.allows(MOST_EXAMPLES * (1 + _REPEATS * channels))
    if quality is not None and fields is not None and channels > 1 and affordable:
        tables["channel_importance"] = methods.permutation_importance(
            quality, fields, key=key, repeats=_REPEATS, unit=question.loss
        )
    backbone = question.backbone
    if isinstance(backbone, methods.NeighborModel):
        tables["neighborhood_weights"] = methods.neighborhood_weights(backbone, question.field)
    return tables


def _markdown(run: TrainedRun, explanation: _Explanation) -> str:
    question, tests, tables = explanation.question, explanation.tests, explanation.tables
    maps, curves = explanation.maps, explanation.curves
    field = question.field.values
    answer, nothing = np.asarray(scores(question.score, np.stack([field, np.zeros_like(field)])))
    faithful = {name: float(curves[name].attrs["faithfulness"]) for name in maps}
    unit = question.unit
    heads = ["method", f"faithfulness ({unit})", "correlation with random weights", "test"]
    rows = ([name, value, *_passed(tests[name])] for name, value in faithful.items())
    lines = [
        f"# {run.config.recipe}: one answer explained",
        "",
        f"Step {run.step}, {question.title}: {answer:.4g} {unit}, and {nothing:.4g} where "
        f"nothing is known ({question.zero} in place of every input).",
        "",
        *markdown_table(heads, rows),
        "",
        f"From a correlation of {next(iter(tests.values())).limit:g} on, a map shows the input, "
        "not the model: failed.",
    ]
    if "integrated_gradients" in maps:
        attrs = maps["integrated_gradients"].attrs
        gain, gap = f"{attrs['score_gain']:.4g}", f"{attrs['completeness_gap']:.2g}"
        lines += ["", f"Integrated gradients miss the gain of {gain} by {gap}."]
    best = max(maps, key=lambda name: curves[name].attrs["faithfulness"])
    lines += ["", f"What counts most, by {best}:", "", *_largest(maps[best])]
    if "channel_importance" in tables:
        worth = tables["channel_importance"].mean("repeat", keep_attrs=True)
        order = np.argsort(-worth.values)[:_SHOWN]
        lines += ["", f"Loss without a channel ({worth.attrs['units']}):", ""]
        lines += [f"- {worth.channel.values[at]}: {worth.values[at]:.4g}" for at in order]
    elif question.fields is not None and len(question.field.channel) > 1:
        lines += ["", "What each channel is worth was left out: it takes too many answers."]
    if explanation.budget.told:
        lines += ["", explanation.budget.told]
    return document([*lines, "", *pictures(_PICTURES)])


def _passed(test: methods.Randomization) -> tuple[float | None, str]:
    if np.isnan(test.correlation):
        return None, "too few cells"
    return float(f"{test.correlation:.3g}"), "passed" if test.passed else "failed"


def _largest(values: xr.DataArray) -> list[str]:
    order = np.argsort(-np.abs(values.values), axis=None)[:_SHOWN]
    lines = []
    for at in order:
        place = dict(zip(values.dims, np.unravel_index(at, values.shape), strict=True))
        named = [
            f"{dim} {time_text(values[dim].values[n]) if dim in values.coords else n}"
            for dim, n in place.items()
        ]
        if "word" in values.coords:
            named.append(f"word {values.word.values[place['time']]}")
        lines.append(f"- {', '.join(named)}: {values.values.flat[at]:.4g}")
    return lines
