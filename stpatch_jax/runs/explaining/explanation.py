"""Explanations of a finished run: which part of an example its answer came from."""

import contextlib
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import jax
import numpy as np
import tyro
import xarray as xr

from stpatch_jax import explain as methods
from stpatch_jax.errors import InputError, require
from stpatch_jax.explain.common import scores
from stpatch_jax.nn import NeighborhoodOperator, PatchTransformer
from stpatch_jax.patches.windows import WindowSpec
from stpatch_jax.runs.explaining.asking import ask
from stpatch_jax.runs.explaining.pictures import draw_maps, draw_scores
from stpatch_jax.runs.explaining.question import Question, backbone_of, told_place, with_coordinates
from stpatch_jax.runs.predicting import TrainedRun

Method = Literal["occlusion", "integrated_gradients", "smooth_grad", "attention_rollout"]
_MOST_WINDOWS = 1024
_DPI = 100
_SHOWN = 5


@dataclass(frozen=True)
class ExplainConfig:
    """Explains one answer of a run.

    That is a forecast, a class, an object (the confidence of what is detected in one window), the
    token that comes next, or the mean of a hidden patch.

    Attributes:
        run: The run directory; explanation.nc, .png, .md and explanation_scores.png go there.
        method: Which methods; all that fit the model by default.
        split: Split of the example: train, validation or test.
        example: Its number in the split, from the end where negative.
        target: Name of the series to explain the forecast of, by default the first; of the class,
            by default the one the model gives; of the object's class, by default that of the surest
            object; or the character, by default the one that comes.
        lead: Lead time of the forecast, in time steps, by default the last; the number of the
            object's frame, by default that of the surest object; or of the character, by default
            the last.
        window: Cells hidden at a time along time and each space axis; by default the window of the
            backbone or of the task, or a sixteenth of an axis where that is all of it.
        seed: Of noise, permutations and random weights.
    """

    run: tyro.conf.Positional[Path]
    method: tuple[Method, ...] = ()
    split: str = "test"
    example: int = -1
    target: str | None = None
    lead: int | None = None
    window: tuple[int, ...] | None = None
    seed: int = 0


def explain_run(config: ExplainConfig) -> str:
    """Explains one answer, judges each explanation and writes them into the run directory.

    What the forecast is added to (persistence) is held as it is: what is explained is what the
    model makes of its input. Hidden values are 0: the mean of the training rows, black in frames
    that are not scaled, or the token 0, which stands before a text. Token ids have no gradients:
    texts of them are explained by occlusion only. A class of a text that is given as the evidence
    of its windows of words is explained by those that end with each word.

    Returns:
        What `explanation.md` holds.

    Raises:
        InputError: The run, its data or a flag cannot be used; nothing was written.
    """
    run = TrainedRun(config.run)
    question = ask(
        run, split=config.split, example=config.example, target=config.target, lead=config.lead
    )
    spec = hidden_windows(config.window, question)
    key = jax.random.key(config.seed)
    maps, curves, tests = {}, {}, {}
    for name in _chosen(config.method, question):
        make = _maker(name, question, spec, key)
        maps[name] = make(question.score)
        curves[name] = methods.deletion_insertion(
            question.score, question.field, maps[name], unit=question.unit
        )
        tests[name] = methods.randomization_test(
            lambda state, make=make: make(question.with_weights(state)), question.weights, key=key
        )
    tables = _tables(question, key)
    told = _told(run, question, maps, curves, tests, tables)
    attrs = {**run.identity, "explained": question.told}
    dataset = xr.Dataset({"input": question.shown, **maps, **tables}, attrs=attrs)
    with _written(config.run) as folder:
        dataset.to_netcdf(folder / "explanation.nc")
        draw_maps(question.shown, maps, title=question.told, place=question.place).savefig(
            folder / "explanation.png", dpi=_DPI
        )
        draw_scores(curves, tables, title=question.told).savefig(
            folder / "explanation_scores.png", dpi=_DPI
        )
        (folder / "explanation.md").write_text(told + "\n")
    return told


def hidden_windows(window: tuple[int, ...] | None, question: Question) -> WindowSpec:
    """The windows that occlusion hides; they cover every cell, and are not too many to try.

    Args:
        window: Cells along (time, *space), None for those of the backbone.
        question: What is explained.
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
    while np.prod(grid := spec.grid_shape(shape)) > _MOST_WINDOWS:
        at = int(np.argmax(grid))
        if steps[at] == cells[at]:
            cells[at] = min(2 * cells[at], shape[at])
        steps[at] = cells[at]
        spec = WindowSpec(cells, stride=steps, padding="COVER")
    return spec


def _chosen(wanted: tuple[Method, ...], question: Question) -> tuple[Method, ...]:
    unfit = dict(question.unfit)
    if not isinstance(question.backbone, PatchTransformer):
        unfit.setdefault(
            "attention_rollout",
            "needs a PatchTransformer, but the backbone of the run is "
            f"{type(question.backbone).__name__}",
        )
    fit = tuple(method for method in get_args(Method) if method not in unfit)
    for method in wanted:
        require(method in fit, f"{method} {unfit.get(method)}; use {', '.join(fit)}")
    return wanted or fit


def _maker(
    name: Method, question: Question, spec: WindowSpec, key: jax.Array
) -> Callable[[Any], xr.DataArray]:
    """What makes one explanation of a score."""
    field, unit = question.field, question.unit
    return {
        "occlusion": lambda score: methods.occlusion(score, field, spec, unit=unit),
        "integrated_gradients": lambda score: methods.integrated_gradients(
            score, field, points=64, tolerance=np.inf, unit=unit
        ),
        "smooth_grad": lambda score: methods.smooth_grad(score, field, key=key, unit=unit),
        "attention_rollout": lambda score: methods.attention_rollout(
            backbone_of(score), field, time=question.reads
        ),
    }[name]


def _tables(question: Question, key: jax.Array) -> dict[str, xr.DataArray]:
    """What is told of channels, lags and neighbours rather than of cells."""
    tables = {}
    if (
        question.quality is not None
        and question.fields is not None
        and question.field.shape[-1] > 1
    ):
        tables["channel_importance"] = methods.permutation_importance(
            question.quality, question.fields, key=key, unit=question.loss
        )
    backbone = question.backbone
    if isinstance(backbone, NeighborhoodOperator):
        tables["neighborhood_weights"] = methods.neighborhood_weights(backbone, question.field)
    return tables


def _told(
    run: TrainedRun,
    question: Question,
    maps: Mapping[str, xr.DataArray],
    curves: Mapping[str, xr.Dataset],
    tests: Mapping[str, methods.Randomization],
    tables: Mapping[str, xr.DataArray],
) -> str:
    """The explanations as a few lines of Markdown."""
    field = question.field.values
    given, empty = np.asarray(scores(question.score, np.stack([field, np.zeros_like(field)])))
    lines = [
        f"# {run.config.recipe}: one answer explained",
        "",
        f"Step {run.step}, {question.told}: {given:.4g} {question.unit}, and {empty:.4g} where "
        f"nothing is known ({question.empty} in place of every input).",
        "",
        f"| method | faithfulness ({question.unit}) | correlation with random weights | test |",
        "|---|---:|---:|---|",
    ]
    for name in maps:
        test = tests[name]
        found = f"{test.correlation:.3g} | {'passed' if test.passed else 'failed'}"
        found = "- | too few cells" if np.isnan(test.correlation) else found
        lines.append(f"| {name} | {curves[name].attrs['faithfulness']:.4g} | {found} |")
    limit = next(iter(tests.values())).limit
    lines += [
        "",
        f"From a correlation of {limit:g} on, a map shows the input, not the model: failed.",
    ]
    if "integrated_gradients" in maps:
        attrs = maps["integrated_gradients"].attrs
        lines += [
            "",
            f"Integrated gradients miss the gain of {attrs['score_gain']:.4g} by "
            f"{attrs['completeness_gap']:.2g}.",
        ]
    best = max(maps, key=lambda name: curves[name].attrs["faithfulness"])
    lines += ["", f"What counts most, by {best}:", "", *_largest(maps[best])]
    if "channel_importance" in tables:
        worth = tables["channel_importance"].mean("repeat", keep_attrs=True)
        order = np.argsort(-worth.values)[:_SHOWN]
        lines += ["", f"Loss without a channel ({worth.attrs['units']}):", ""]
        lines += [f"- {worth.channel.values[at]}: {worth.values[at]:.4g}" for at in order]
    return "\n".join(lines)


def _largest(values: xr.DataArray) -> list[str]:
    """The cells that count most, with their coordinates."""
    order = np.argsort(-np.abs(values.values), axis=None)[:_SHOWN]
    lines = []
    for at in order:
        place = dict(zip(values.dims, np.unravel_index(at, values.shape), strict=True))
        named = [
            f"{dim} {told_place(values[dim].values[n]) if dim in values.coords else n}"
            for dim, n in place.items()
        ]
        if "word" in values.coords:
            named.append(f"word {values.word.values[place['time']]}")
        lines.append(f"- {', '.join(named)}: {values.values.flat[at]:.4g}")
    return lines


@contextlib.contextmanager
def _written(run: Path) -> Any:
    """A folder whose files appear in the run directory when all of them are whole."""
    try:
        with tempfile.TemporaryDirectory(dir=run, prefix=".explanation") as folder:
            yield Path(folder)
            for file in Path(folder).iterdir():
                file.replace(run / file.name)
    except OSError as error:
        raise InputError(
            f"the run directory {run} must be writable, but it is not ({error}); free it or copy "
            "the run"
        ) from error


__all__ = ["ExplainConfig", "Question", "ask", "explain_run", "hidden_windows", "with_coordinates"]
